"""What families with a dense triangular factor share: its numbers, its steps, its coordinates."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.linalg

from infimum.base.errors import coded_error
from infimum.families._distribution import (
    LARGEST_DENSE,
    Distribution,
    Gaussian,
    NaturalGaussian,
    Rows,
    bounded,
)
from infimum.gaussian.factor import lower_factor


def raw_of(factor: np.ndarray) -> np.ndarray:
    """Unconstrained numbers of a Cholesky factor: its diagonal by its logarithm."""
    raw = np.tril(factor, -1)
    np.fill_diagonal(raw, np.log(np.diag(factor)))
    return raw


def factor_of(raw: Any) -> Any:
    """The factor L of these numbers, shape (d, d), for NumPy and JAX."""
    xp = raw.__array_namespace__()
    return xp.tril(raw, -1) + xp.diag(xp.exp(xp.diag(raw)))


def solve(factor: Any, rows: Rows) -> Rows:
    """L⁻¹ x for x of shape (..., d) with at most one leading axis, for NumPy and JAX."""
    if isinstance(rows, np.ndarray):
        # LAPACK's dtrtrs, which scipy.linalg.solve_triangular calls, uses all threads even for the
        # smallest systems: with d = 10 it took 7 times as long, 25 times beside another process.
        upper, columns = np.asarray(factor).T, np.atleast_2d(rows).T
        solved = scipy.linalg.blas.dtrsm(1.0, upper, columns, lower=0, trans_a=1)
        return solved.T.reshape(rows.shape)
    return jax.scipy.linalg.solve_triangular(factor, rows.T, lower=True).T


def natural_step(
    mean: np.ndarray, factor: np.ndarray, pull: np.ndarray, curvature: np.ndarray, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and factor after a step of size ρ.

    In the whitened coordinates of q the precision becomes (1 - ρ)I + ρ·curvature, and the mean
    moves by ρ·precision⁻¹·pull.

    Opper & Archambeau (2009), eq. 12-13, as a damped step.
    """
    values, vectors = np.linalg.eigh(_mirrored(curvature))
    precision = bounded(1 + rho * (values - 1))
    step = vectors @ (rho * (vectors.T @ pull) / precision)
    turn = np.linalg.cholesky((vectors / precision) @ vectors.T)
    return mean + step @ factor.T, factor @ turn


def decrement(pull: np.ndarray, curvature: np.ndarray) -> float:
    """½ pullᵀ curvature⁻¹ pull + ½ Σ (λ - 1 - log λ): what a whole step gains, in nats.

    λ are the eigenvalues of the curvature.
    """
    values, vectors = np.linalg.eigh(_mirrored(curvature))
    values = bounded(values)
    mean = np.sum((vectors.T @ pull) ** 2 / values)
    return float(0.5 * mean + 0.5 * np.sum(values - 1 - np.log(values)))


def _mirrored(curvature: np.ndarray) -> np.ndarray:
    """The symmetric matrix with the lower triangle of the curvature.

    Its distance from I is the gradient of the loss in a triangular factor. So a fixed point of the
    natural gradient is a stationary point of the loss over the fixed draws.
    """
    return np.tril(curvature) + np.tril(curvature, -1).T


class FactorChart:
    """Coordinates θ = (u, v, w) of mean + L u and factor L·B, B_ii = exp(v_i/√2), w below in B.

    In these coordinates the KL of a Gaussian from its optimum has the Hessian I.
    """

    def __init__(self, mean: np.ndarray, factor: np.ndarray) -> None:
        self.mean = np.asarray(mean)
        self.factor = np.asarray(factor)
        self.dim = len(self.mean)
        self.below = np.tril_indices(self.dim, -1)
        self.size = 2 * self.dim + len(self.below[0])

    def move(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and factor at θ."""
        u, v, w = np.split(theta, [self.dim, 2 * self.dim])
        turn = np.diag(np.exp(v / np.sqrt(2)))
        turn[self.below] = w
        return self.mean + self.factor @ u, self.factor @ turn

    def pull(
        self, theta: np.ndarray, eps: np.ndarray, of_mean: np.ndarray, of_spread: np.ndarray
    ) -> np.ndarray:
        """Gradient of the loss in θ.

        Parameters
        ----------
        eps
            Base draws, shape (n, d).
        of_mean, of_spread
            Minus the gradient of the loss's integrand in the mean and in L ε, at each draw, shape
            (n, d). Both are the score for a Gaussian.
        """
        d = self.dim
        moments = -((of_spread @ self.factor).T @ eps) / len(eps)
        diagonal = (np.diag(moments) * np.exp(theta[d : 2 * d] / np.sqrt(2)) - 1) / np.sqrt(2)
        mean = -(of_mean @ self.factor).mean(axis=0)
        return np.concatenate([mean, diagonal, moments[self.below]])


def factor_error(eps: np.ndarray, of_mean: np.ndarray, of_spread: np.ndarray) -> float:
    """Half the trace of the variance of `FactorChart.pull` over antithetic pairs of whitened draws.

    Parameters
    ----------
    of_mean, of_spread
        As for `pull`, times L.
    """
    half = len(eps) // 2

    def residual(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=0)
        return np.asarray(centred - eps @ (eps.T @ centred / len(eps)))

    mean, spread = residual(of_mean), residual(of_spread)
    even = 0.5 * (mean[:half] + mean[half:])
    odd = 0.5 * (spread[:half] - spread[half:])
    moments = (odd**2).T @ eps[:half] ** 2 / half
    factor = 0.5 * np.tril(moments, -1).sum() + 0.25 * np.trace(moments)
    return float((0.5 * even.var(axis=0).sum() + factor) / half)


def mean_and_factor(q: Distribution, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and lower Cholesky factor of a Gaussian, for a family to start from.

    Parameters
    ----------
    name
        The family's name in the error message.

    Raises
    ------
    TypeError
        If q is not a Gaussian, or is too large for a dense factor.
    """
    if isinstance(q, NaturalGaussian):
        return np.asarray(q.mean), np.linalg.cholesky(q.covariance())
    if not isinstance(q, Gaussian) or q.dim > LARGEST_DENSE:
        raise coded_error(
            TypeError,
            "E202",
            f"{name} can start from a Gaussian, not from {type(q).__name__}: begin with init",
        )
    return np.asarray(q.mean), lower_factor(np.asarray(q.spread(np.eye(q.dim))).T)
