"""Full-rank: Gaussians with a dense covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from infimum.families._dense import (
    FactorChart,
    decrement,
    factor_error,
    factor_of,
    mean_and_factor,
    natural_step,
    raw_of,
    solve,
)
from infimum.families._distribution import Chart, Distribution, NaturalGaussian, Rows
from infimum.families._family import Left, Measured, Promise


class FullRank(Measured):
    """Q = {N(m, LLᵀ)}, L lower triangular with a positive diagonal.

    Exact for a Gaussian target; it follows every correlation and no skew.

    Requires: memory for d×d matrices. It starts from any Gaussian.
    """

    name: ClassVar[str] = "fullrank"

    def init(self, mean: np.ndarray, scale: np.ndarray) -> DenseGaussian:
        """N(mean, diag(scale²))."""
        return DenseGaussian.of(np.asarray(mean, float), np.diag(np.asarray(scale, float)))

    def start_from(self, q: Distribution) -> DenseGaussian:
        """The Gaussian q itself, with its covariance as a dense matrix."""
        mean, factor = mean_and_factor(q, "full-rank")
        return DenseGaussian.of(mean, factor)

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> DenseGaussian:
        """From `mean` (d,) and `raw` (d, d)."""
        return DenseGaussian(arrays["mean"], arrays["raw"])

    def n_parameters(self, dim: int) -> int:
        """d + d(d + 1)/2."""
        return dim + dim * (dim + 1) // 2

    def n_bytes(self, dim: int) -> int:
        """Measured: 0.14 GB at d = 300, 0.33 GB at 600, 0.86 GB at 1,000."""
        return int(760 * dim**2 + 1e5 * dim)

    def promise(self, left: Left, dim: int) -> Promise:
        """All of the correlation, in some 15 batches of 4(d + 2) draws with an O(d³) step each."""
        return Promise(left.correlation, 60.0 * (dim + 2), 0.05 + 1e-7 * dim**3)


class DenseGaussian(NaturalGaussian):
    """N(mean, LLᵀ): L is strictly-lower `raw` with exp(diag `raw`) on the diagonal."""

    mean: Any
    raw: Any

    @classmethod
    def of(cls, mean: np.ndarray, factor: np.ndarray) -> DenseGaussian:
        """The member with this Cholesky factor."""
        return cls(mean, raw_of(factor))

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.mean.shape[-1])

    @property
    def factor(self) -> Any:
        """L, shape (d, d)."""
        return factor_of(self.raw)

    def spread(self, eps: Rows) -> Rows:
        """L ε."""
        return eps @ self.factor.T

    def pull_back(self, z: Rows) -> Rows:
        """ε = L⁻¹(z - mean)."""
        return solve(self.factor, z - self.mean)

    def log_det(self) -> Any:
        """Sum of the log diagonal of L."""
        return self.raw.__array_namespace__().diag(self.raw).sum()

    def variance(self) -> np.ndarray:
        """Squared lengths of the rows of L."""
        return (np.asarray(self.factor) ** 2).sum(axis=1)

    def covariance(self) -> np.ndarray:
        """LLᵀ."""
        factor = np.asarray(self.factor)
        return factor @ factor.T

    def whiten(self, score: np.ndarray) -> np.ndarray:
        """Lᵀ s."""
        return score @ self.factor

    def natural_step(self, pull: np.ndarray, curvature: np.ndarray, rho: float) -> DenseGaussian:
        """The step of `_dense.natural_step`."""
        moved = natural_step(self.mean, self.factor, pull, curvature, rho)
        return DenseGaussian.of(*moved)

    def decrement(self, pull: np.ndarray, curvature: np.ndarray) -> float:
        """Nats by the eigenvalues of the curvature."""
        return decrement(pull, curvature)

    def chart(self, curvature: np.ndarray | None) -> Chart:
        """Whitened coordinates: near the optimum the curvature is I there."""
        return _DenseChart(self)

    def sampling_error(self, eps: np.ndarray, score: np.ndarray) -> float:
        """Error of the mean (even part of the residual) and of the factor (odd part)."""
        whitened = self.whiten(score)
        return factor_error(eps, whitened, whitened)


class _DenseChart(Chart):
    """Coordinates of mean and factor."""

    def __init__(self, q: DenseGaussian) -> None:
        self.coordinates = FactorChart(q.mean, q.factor)
        self.size = self.coordinates.size

    def move(self, theta: np.ndarray) -> DenseGaussian:
        return DenseGaussian.of(*self.coordinates.move(theta))

    def pull(self, theta: np.ndarray, eps: np.ndarray, score: np.ndarray) -> np.ndarray:
        return self.coordinates.pull(theta, eps, score, score)
