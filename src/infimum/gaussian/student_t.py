"""Multivariate Student t: its log density in two parts, radii of its draws, and one around a point.

With ν degrees of freedom and scale s² L Lᵀ in d dimensions, x = L⁻¹(z - m),

    log t(z) = log Γ((ν + d)/2) - log Γ(ν/2) - d/2 log(νπs²) - log |det L|     `log_height`
               - (ν + d)/2 log(1 + |x|²/(νs²))                                  `log_decay`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from jaxtyping import Float

from infimum.gaussian.factor import Factor, factor_beside

FEWEST_FREEDOM = 2.0
"""Fewest degrees of freedom of a wide proposal: its tails are heavier than any with a variance.
Its radius varies by 1/√(2ν), so ν = d/2 in high dimensions keeps it near the shell of q."""


def freedom_for(dim: int) -> float:
    """Degrees of freedom of a wide proposal in this many dimensions."""
    return max(FEWEST_FREEDOM, dim / 2)


def log_height(dim: int, freedom: float, log_det: float = 0.0, scale: float = 1.0) -> float:
    """Log density at the centre."""
    gammas = scipy.special.gammaln((freedom + dim) / 2) - scipy.special.gammaln(freedom / 2)
    return float(gammas - (0.5 * dim * np.log(freedom * np.pi * scale**2) + log_det))


def log_decay(squares: Any, dim: int, freedom: float, scale: float = 1.0) -> Any:
    """Log density at points |x|² from the centre, less that at the centre; for NumPy and JAX."""
    xp = squares.__array_namespace__()
    return -0.5 * (freedom + dim) * xp.log1p(squares / (freedom * scale**2))


def random_radii(rng: np.random.Generator, freedom: float, shape: tuple[int, ...]) -> np.ndarray:
    """Factors √(ν/χ²) that turn standard normal draws into draws of the t."""
    return np.asarray(np.sqrt(freedom / rng.chisquare(freedom, shape)))


@dataclass(frozen=True)
class StudentT:
    """The multivariate t with a mean, a factor L and ν degrees of freedom.

    Attributes
    ----------
    factor
        Lower triangular, shape (d, d); or the diagonal alone, shape (d,).
    """

    mean: Float[np.ndarray, " d"]
    factor: np.ndarray
    freedom: float

    @property
    def spread(self) -> Factor:
        """The factor with its verbs."""
        return factor_beside(self.mean, self.factor)

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """n draws."""
        eps = rng.standard_normal((n, len(self.mean)))
        eps *= random_radii(rng, self.freedom, (n, 1))
        return np.asarray(self.mean + self.spread.times(eps))

    def log_prob(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Log density at each row."""
        d, nu, spread = len(self.mean), self.freedom, self.spread
        squares = (spread.solve(z - self.mean) ** 2).sum(axis=1)
        return np.asarray(log_height(d, nu, spread.log_det()) + log_decay(squares, d, nu))
