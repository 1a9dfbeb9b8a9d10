"""The surrogate for a target of many rows: the density of a part of them, corrected near q.

S(z) = log p(z) + N/m Σ_part log p(x_n | z) costs as much as m rows instead of N. The difference
D = log p̂ - S is smooth near q. After each search one pass over all rows, at structured draws from
q, gives the gradients of D. Stein's identity makes of them the quadratic nearest to D under q, and
this quadratic is added to S. Then only the third derivatives of D are left, so that the error of
q's mean falls quadratically from search to search.

Jordan, Lee & Yang (2019) for surrogates by part of the data; the second order and the draws are
this project's.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infimum.base.seeds import Seed, generator
from infimum.families._distribution import LARGEST_DENSE, Gaussian
from infimum.objective.draws import structured_draws
from infimum.solvers._solver import FEWEST_DRAWS, TOLERANCE
from infimum.target.target import Target

MOST_PASSES = 12
"""Corrections after which the search goes on with the target itself."""

REACH_FACTOR = 4.0
"""Distance from q's mean beyond which a correction stays constant, in units of the distance that is
expected between the optimum of a part and that of all rows, sqrt(d N/m) sds of q. Farther out the
quadratic says nothing about D."""


class Surrogate:
    """A cheaper target that agrees with the exact one near q.

    Parameters
    ----------
    exact
        The target of all rows.
    seed, stream
        They choose the rows of the part.

    Attributes
    ----------
    part
        S, without corrections.
    target
        S with the last correction.
    passes
        How many passes over all rows were made.
    """

    def __init__(self, exact: Target, seed: Seed, stream: int) -> None:
        assert exact.large is not None
        self.exact = exact
        self.seed, self.stream = seed, stream
        self.part: Target = exact.large.part(generator(seed, stream))
        self.target = self.part
        self.passes = 0

    def correct(self, q: Gaussian) -> bool:
        """Correct S by the quadratic that is nearest to D under q, from one pass over all rows.

        Returns
        -------
        Whether q was the optimum already, because the last correction was right to `TOLERANCE`
        nats. Also true if the density is undefined at a draw: then S can't be corrected, and the
        check of the finished fit will say so.
        """
        d = q.dim
        dense = d <= LARGEST_DENSE
        n = max(FEWEST_DRAWS, 2 * (d + 2) if dense else 0)
        eps = structured_draws(generator(self.seed, self.stream, 1, self.passes), n, d)
        z = q.push(eps)
        gradient = self.exact.value_and_gradient(z)[1]
        self.passes += 1
        difference = q.whiten(gradient - self.part.value_and_gradient(z)[1])
        left = q.whiten(gradient - self.target.value_and_gradient(z)[1])
        if not np.isfinite(difference).all():
            return True
        slope, curvature = _moments(eps, difference, dense)
        self.target = self.part.plus(_quadratic(q, slope, curvature, self._reach(d)))
        # KL that one Newton step would gain: ½|slope|² for the mean, ¼|curvature|² for the scale.
        slope, curvature = _moments(eps, left, dense)
        return bool(0.5 * (slope @ slope) + 0.25 * (curvature**2).sum() <= TOLERANCE)

    def _reach(self, dim: int) -> float:
        """Distance from q's mean, in sds of q, beyond which the correction stays constant."""
        assert self.exact.large is not None
        scale = self.exact.large.n_rows / self.exact.large.n_part
        return float(REACH_FACTOR * np.sqrt(dim * (1 + scale)))


def _moments(
    eps: Float[np.ndarray, "n d"], gradient: Float[np.ndarray, "n d"], dense: bool
) -> tuple[Float[np.ndarray, " d"], np.ndarray]:
    """Mean slope and curvature of a function of ε, from its gradients at standard normal draws.

    The mean curvature is E[g εᵀ], by Stein's identity; only its diagonal is formed unless dense.

    Parameters
    ----------
    eps, gradient
        Draws and the gradients there, both of shape (n, d).
    """
    slope = gradient.mean(axis=0)
    if dense:
        curvature = gradient.T @ eps / len(eps)
        return slope, 0.5 * (curvature + curvature.T)
    return slope, (gradient * eps).mean(axis=0)


def _quadratic(
    q: Gaussian, slope: np.ndarray, curvature: np.ndarray, reach: float
) -> Callable[[Array], Array]:
    """The quadratic in ε = L⁻¹(z - mean), constant along each ray beyond `reach`."""
    mean = np.asarray(q.mean, np.float64)
    dense = curvature.ndim == 2
    if dense:
        inverse = np.asarray(q.pull_back(mean + np.eye(q.dim)))
    else:
        inverse = np.asarray(q.variance()) ** -0.5
    # The arrays that the function closes over become data of the compiled program, so that one
    # compilation serves every correction.
    arrays = [jnp.asarray(x) for x in (mean, inverse, slope, curvature)]
    limit = jnp.full(1, reach)

    def quadratic(z: Array) -> Array:
        mean, inverse, slope, curvature = arrays
        eps = (z - mean) @ inverse if dense else (z - mean) * inverse
        eps = eps * jnp.minimum(1.0, limit[0] / jnp.sqrt((eps**2).sum() + 1e-300))
        return slope @ eps + 0.5 * (eps @ curvature @ eps if dense else curvature @ eps**2)

    return quadratic
