"""Low-rank: Gaussians whose precision is a diagonal and few directions, for large d."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
import scipy.linalg

from infimum.base.errors import coded_error
from infimum.families._distribution import (
    LARGEST_DENSE,
    LEAST_CURVATURE,
    Distribution,
    Gaussian,
    Rows,
    bounded,
)
from infimum.families._family import Family, Growing, Left, Measured, Promise
from infimum.families._sketch import (
    Sketch,
    SketchedGaussian,
    diagonal_of,
    frame_of,
    gains,
    gram,
    inverted,
)

LEAST_GAIN = 0.01
"""Nats that a direction must gain to be worth d more numbers, if the user gives no rank. It is what
the draws of a fit may cost in all."""

WAITING_PART = 1e-3
"""Part of the gain of a step below which a direction waits. Far from the optimum the diagonal is
wrong, and hundreds of directions would correct it that are of no use once it is right."""

BASIS_NUMBERS = 2**22
"""Most numbers in the directions that a fit chooses by itself: 32 MB, 41 directions at d = 100,000.
A rank that the user gives may be larger."""

MOST_PASSES = 10
"""Most units tried for a precision, if not every direction of it is kept."""

SETTLED_CHANGE = 1e-4
"""Relative change of the units below which they have settled; later steps of a fit do the rest."""

LARGEST_SKIPPED_DIM = 500
"""Largest d at which a climb leaves this family out, because a dense covariance is as quick."""


class LowRank(Growing, Measured):
    """Q = {N(m, S T² S)}: S diagonal, T = I + U diag(exp(a) - 1) Uᵀ with d×r orthonormal U.

    Variances are free, and so are r directions across the coordinates, in which the posterior may
    be narrower (a < 0) or wider (a > 0). Covariance and precision are both a diagonal plus rank r,
    which is exact for a factor model, and for a regression with few data. At the optimum the
    whitened curvature H has diag H = 1 and H U = U. Memory and time are O(d·r).

    Requires: nothing of the target. It starts from a diagonal Gaussian, or from any Gaussian in up
    to 2,000 dimensions.

    Parameters
    ----------
    rank
        Largest r. None lets the fit choose: every direction that gains at least 0.01 nats.
    """

    name: ClassVar[str] = "lowrank"
    correlations: ClassVar[Any] = "some"
    rank: int | None = None

    def __check_init__(self) -> None:
        whole = isinstance(self.rank, int | np.integer) and not isinstance(self.rank, bool)
        if self.rank is not None and not (whole and self.rank >= 1):
            raise coded_error(
                ValueError,
                "E203",
                f"rank is {self.rank!r}, expected a number of directions of at least 1, or "
                "None to choose by gain; without any direction the family is meanfield",
            )

    def init(self, mean: np.ndarray, scale: np.ndarray) -> LowRankGaussian:
        """N(mean, diag(scale²)); the directions of a given rank are there, and stretch nothing."""
        mean, scale = np.asarray(mean, float), np.asarray(scale, float)
        d = len(mean)
        r = 0 if self.rank is None else self._fits(d)
        wave = np.cos(np.pi * np.outer(np.arange(d) + 0.5, np.arange(1, r + 1)) / d)
        return LowRankGaussian(mean, np.log(scale), wave * np.sqrt(2 / d), np.zeros(r), self._most)

    def start_from(self, q: Distribution) -> LowRankGaussian:
        """The nearest member to q, a Gaussian that is diagonal or has a dense covariance."""
        if isinstance(q, LowRankGaussian):
            self._fits(q.dim)
            return q.limited(self._most)
        if not isinstance(q, Gaussian):
            raise coded_error(
                TypeError,
                "E202",
                f"low-rank can start from a Gaussian, not from {type(q).__name__}: begin with init",
            )
        scale = np.asarray(q.spread(np.ones(q.dim)))
        sign = np.where(np.random.default_rng(0).random(q.dim) < 0.5, -1.0, 1.0)
        if np.allclose(q.spread(sign), sign * scale, rtol=1e-12, atol=0):
            return self.init(np.asarray(q.mean), scale)
        if q.dim > LARGEST_DENSE:
            raise coded_error(
                TypeError,
                "E202",
                f"low-rank can start from a diagonal Gaussian, or in up to {LARGEST_DENSE} "
                f"dimensions from any; {type(q).__name__} here has {q.dim}: begin with init",
            )
        root = np.asarray(q.spread(np.eye(q.dim)))
        precision = np.linalg.inv(root.T @ root)
        scale = 1 / np.sqrt(np.diag(precision))
        whitened = scale[:, None] * precision * scale
        core = whitened - np.eye(q.dim)
        start = self.init(np.asarray(q.mean), scale)
        return start.of_precision(start.mean, np.ones(q.dim), np.eye(q.dim), core)

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> LowRankGaussian:
        """From `mean`, `log_scale` (d,), `basis` (d, r) and `log_stretch` (r,)."""
        basis, stretch = arrays["basis"], arrays["log_stretch"]
        return LowRankGaussian(arrays["mean"], arrays["log_scale"], basis, stretch, self._most)

    def n_parameters(self, dim: int) -> int:
        """2d, and for each direction d less what orthogonality to the others takes."""
        r = self.rank or 0
        return 2 * dim + r * dim - r * (r - 1) // 2

    def n_bytes(self, dim: int) -> int:
        """Bytes for the rank, or for the largest rank that a fit chooses.

        Measured: 0.37 GB at d = 20,000 and rank 0, 0.59 GB at d = 100,000 and rank 20.
        """
        r = self.rank or max(1, min(dim - 1, BASIS_NUMBERS // dim))
        return int(3.5e8 + dim * (1600 + 80 * r))

    def promise(self, left: Left, dim: int) -> Promise:
        """Half of the correlation, in some ten steps of 250 gradients with O(d) arithmetic.

        Nothing if a dense covariance is as quick: for a dense Gaussian of d = 100 it took 50,000
        gradients instead of 2,800.
        """
        gain = 0.5 * left.correlation if dim > LARGEST_SKIPPED_DIM else 0.0
        return Promise(gain, 2500.0, 0.1 + 3e-4 * dim)

    def settled(self, q: Distribution) -> Family:
        """The family with the rank that the fit chose."""
        assert isinstance(q, LowRankGaussian)
        return LowRank(q.rank) if q.rank else LowRank()

    def _fits(self, dim: int) -> int:
        """The rank, 0 if none is given; an error if there are not more dimensions."""
        if self.rank is not None and self.rank >= dim:
            raise coded_error(
                ValueError,
                "E203",
                f"rank is {self.rank}, and the target has {dim} "
                f"dimension{'s' if dim > 1 else ''}: give a smaller rank, or use fullrank",
            )
        return self.rank or 0

    @property
    def _most(self) -> int:
        return 0 if self.rank is None else int(self.rank)


class LowRankGaussian(SketchedGaussian):
    """N(mean, S T² S), S = diag(exp(log_scale)); U spans the columns of `basis`.

    U = basis·R⁻ᵀ with basisᵀ·basis = R Rᵀ; T = I + U diag(exp(log_stretch) - 1) Uᵀ is symmetric.
    """

    mean: Any
    log_scale: Any
    basis: Any
    log_stretch: Any
    user_rank: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.mean.shape[-1])

    @property
    def rank(self) -> int:
        """How many directions there are, r."""
        return int(self.log_stretch.shape[-1])

    @property
    def max_directions(self) -> int:
        """The user's rank; without one, as many directions as `BASIS_NUMBERS` hold."""
        return self.user_rank or min(self.dim - 1, max(1, BASIS_NUMBERS // self.dim))

    @property
    def scale(self) -> Any:
        """The diagonal of S, shape (d,)."""
        return self.log_scale.__array_namespace__().exp(self.log_scale)

    @property
    def directions(self) -> np.ndarray:
        """U, shape (d, r)."""
        gram = np.linalg.cholesky(self.basis.T @ self.basis)
        return np.asarray(scipy.linalg.solve_triangular(gram, self.basis.T, lower=True).T)

    def _bent(self, rows: Rows, sign: int) -> Rows:
        """T x, or for sign -1 T⁻¹ x, for x of shape (..., d)."""
        if not self.rank:
            return rows
        xp = self.basis.__array_namespace__()
        linalg = scipy.linalg if isinstance(self.basis, np.ndarray) else jax.scipy.linalg
        gram = xp.linalg.cholesky(self.basis.T @ self.basis)
        inverse = linalg.solve_triangular(gram, xp.eye(self.rank), lower=True)
        core = (inverse.T * xp.expm1(sign * self.log_stretch)) @ inverse
        return rows + ((rows @ self.basis) @ core) @ self.basis.T

    def spread(self, eps: Rows) -> Rows:
        """S T ε."""
        return self.scale * self._bent(eps, 1)

    def pull_back(self, z: Rows) -> Rows:
        """ε = T⁻¹ S⁻¹ (z - mean)."""
        return self._bent((z - self.mean) / self.scale, -1)

    def log_det(self) -> Any:
        """Sum of the log scales and of the log stretches."""
        return self.log_scale.sum() + self.log_stretch.sum()

    def whiten(self, score: np.ndarray) -> np.ndarray:
        """T S s."""
        return np.asarray(self._bent(score * self.scale, 1))

    def variance(self) -> np.ndarray:
        """scale²·(1 + Σ_k U²·(exp(2a) - 1))."""
        return np.asarray(self.scale**2 * (1 + self.directions**2 @ np.expm1(2 * self.log_stretch)))

    def limited(self, user_rank: int) -> LowRankGaussian:
        """The same with another largest rank; the directions that gain most are kept."""
        kept = np.sort(_order(-2 * self.log_stretch)[: user_rank or self.rank])
        basis, stretch = self.basis, self.log_stretch
        if len(kept) < self.rank:
            basis, stretch = self.directions[:, kept], stretch[kept]
        return LowRankGaussian(self.mean, self.log_scale, basis, stretch, user_rank)

    def stretched(self, factor: float) -> LowRankGaussian:
        """All scales times the factor."""
        log_scale = self.log_scale + np.log(factor)
        return LowRankGaussian(self.mean, log_scale, self.basis, self.log_stretch, self.user_rank)

    def of_precision(
        self,
        mean: np.ndarray,
        diagonal: np.ndarray,
        basis: np.ndarray,
        core: np.ndarray,
        worth: float = LEAST_GAIN,
    ) -> LowRankGaussian:
        """Nearest member to N(mean, Λ⁻¹), Λ = S⁻¹(diag(diagonal) + basis·core·basisᵀ)S⁻¹.

        In units D of the precision, to keep an eigenvalue λ of D^-½ Λ D^-½ gains ½(λ - 1 - log λ)
        nats. The largest gains are kept; what they leave of the diagonal is the next D, as in
        principal-factor analysis. If all directions are kept, the first D is the last.

        Parameters
        ----------
        diagonal
            Positive, shape (d,).
        basis, core
            Any columns, shape (d, k), and a symmetric matrix (k, k).
        worth
            Nats that a direction must gain, unless the user gave a rank.
        """
        total = diagonal + diagonal_of(basis, core)
        unit = diagonal
        for _ in range(MOST_PASSES):
            frame, turn = frame_of(gram(basis, 1 / unit))
            beside = frame.T @ gram(basis, (diagonal / unit - 1) / unit) @ frame
            values, vectors = np.linalg.eigh(turn @ core @ turn.T + beside)
            values = np.maximum(1 + values, LEAST_CURVATURE * max(1.0, 1 + values.max(initial=0.0)))
            log_values = np.log(values)
            chosen = _order(log_values)[: self.max_directions]
            if not self.user_rank:
                chosen = chosen[gains(log_values[chosen]) >= worth]
            directions = basis @ (frame @ vectors[:, chosen]) / np.sqrt(unit)[:, None]
            if not self.user_rank:
                own = _beyond_diagonal(directions, log_values[chosen]) >= worth
                chosen, directions = chosen[own], directions[:, own]
            left = total / unit - directions**2 @ (values[chosen] - 1)
            used, unit = unit, unit * bounded(left)
            if np.abs(unit / used - 1).max() <= SETTLED_CHANGE:
                break
        log_scale = self.log_scale - 0.5 * np.log(used)
        return LowRankGaussian(
            mean, log_scale, directions, -0.5 * log_values[chosen], self.user_rank
        )

    def towards(self, sketch: Sketch) -> LowRankGaussian:
        """Precision (ST)⁻ᵀ·H·(ST)⁻¹ and mean + S T H⁻¹·pull, H within `LARGEST_CHANGE` of I."""
        h, core, step, gain = inverted(sketch)
        u, n = self.directions, np.expm1(-self.log_stretch)
        k, r = sketch.basis.shape[1], self.rank
        # T⁻¹ diag(h) T⁻¹ = diag(h) + 2·U n Uᵀ + U n (Uᵀ h U) n Uᵀ + (h - 1)U n Uᵀ + U n Uᵀ(h - 1)
        basis = np.empty((self.dim, k + 2 * r))
        basis[:, :k] = np.asarray(self._bent(sketch.basis.T, -1)).T
        basis[:, k : k + r], basis[:, k + r :] = u, (h - 1)[:, None] * u
        whole = np.zeros((k + 2 * r, k + 2 * r))
        whole[:k, :k] = core
        whole[k : k + r, k : k + r] = 2 * np.diag(n) + n[:, None] * gram(u, h) * n
        whole[k : k + r, k + r :] = whole[k + r :, k : k + r] = np.diag(n)
        worth = max(LEAST_GAIN, WAITING_PART * gain)
        return self.of_precision(self.push(step), h, basis, whole, worth)

    def between(self, other: LowRankGaussian, rho: float) -> LowRankGaussian:
        """Precision (1 - ρ)Λ + ρΛ', mean m + ρ(m' - m)."""
        if rho == 1:
            return other
        ratio = np.exp(self.log_scale - other.log_scale)
        basis = np.concatenate([self.directions, ratio[:, None] * other.directions], axis=1)
        mine = (1 - rho) * np.expm1(-2 * self.log_stretch)
        core = np.diag(np.concatenate([mine, rho * np.expm1(-2 * other.log_stretch)]))
        mean = self.mean + rho * (other.mean - self.mean)
        return self.of_precision(mean, 1 - rho + rho * ratio**2, basis, core)

    def divergence(self, other: LowRankGaussian) -> float:
        """½(tr Σ'⁻¹Σ - d + |L'⁻¹(m - m')|²) + log |L'| - log |L|."""
        square = np.exp(2 * (self.log_scale - other.log_scale))
        u, v = self.directions, other.directions
        wide, narrow = np.expm1(2 * self.log_stretch), np.expm1(-2 * other.log_stretch)
        mixed = u.T @ (np.sqrt(square)[:, None] * v)
        trace = square.sum() + (square @ u**2) @ wide + (square @ v**2) @ narrow
        trace += wide @ mixed**2 @ narrow
        offset = np.sum(other.pull_back(self.mean) ** 2)
        log_ratio = other.log_det() - self.log_det()
        return float(0.5 * (trace - self.dim + offset) + log_ratio)


def _beyond_diagonal(directions: np.ndarray, log_values: np.ndarray) -> np.ndarray:
    """½(Σ_j log(1 + (λ - 1)U_j²) - log λ): nats that a precision λ along U gains over any diagonal.

    At most its gain over none; zero if U is a coordinate.
    """
    along = np.log1p(np.expm1(log_values) * directions**2).sum(axis=0)
    return np.asarray(0.5 * (along - log_values))


def _order(log_values: np.ndarray) -> np.ndarray:
    """Directions by their gain, the largest first."""
    return np.argsort(-gains(log_values), kind="stable")
