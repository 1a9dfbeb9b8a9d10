"""Coordinates of q: a map z = T(ε) that makes q of N(0, I), and p* of something near it.

Samplers move in ε. The density log p̂(T(ε)) + log |det T'(ε)| has its mass where N(0, I) has it, so
that no sampler has to learn scales and correlations that q knows; if T is a flow, not even bends
(Hoffman et al. 2019).
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from infimum.answer.resampling import some_points
from infimum.base.errors import coded_error
from infimum.families._distribution import (
    LARGEST_DENSE,
    Apart,
    Gaussian,
    Pushforward,
    SparseGaussian,
)
from infimum.fitting.fit import Fit
from infimum.gaussian.factor import Diagonal, Factor, Triangular
from infimum.gaussian.stack import LOG_2PI

SHRINK = 1e-9
"""Part of its trace that is added to a covariance from draws, so that it is positive definite."""


class Coordinates(eqx.Module):
    """A bijection z = T(ε) of R^d; its arrays are data of a compiled program."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Dimension d of z and of ε."""

    @abc.abstractmethod
    def push(self, eps: Float[Array, " d"]) -> tuple[Float[Array, " d"], Scalar]:
        """z = T(ε) and log |det T'(ε)| at one point, by JAX."""

    @abc.abstractmethod
    def points(self, eps: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """z = T(ε) of each row, by NumPy."""

    @abc.abstractmethod
    def pull_back(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """ε = T⁻¹(z) of each row, by NumPy."""


class OwnMap(Coordinates):
    """The map by which q itself is a pushforward of N(0, I)."""

    q: Pushforward

    @property
    def dim(self) -> int:
        """Dimension of q."""
        return self.q.dim

    def push(self, eps: Float[Array, " d"]) -> tuple[Float[Array, " d"], Scalar]:
        """z, and log |det T'| as the difference between the log densities of N(0, I) and q."""
        log_base = -0.5 * jnp.sum(eps**2) - 0.5 * eps.shape[-1] * LOG_2PI
        return self.q.push(eps), log_base - self.q.log_prob_base(eps)

    def points(self, eps: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """The points that q makes of base draws ε."""
        return np.asarray(self.q.push(eps))

    def pull_back(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """The base draws ε that q makes these points of."""
        return np.asarray(self.q.pull_back(z))


class Affine(Coordinates):
    """z = mean + L ε with a triangular or diagonal factor L.

    Attributes
    ----------
    mean
        Shape (d,).
    factor, inverse
        L and its inverse.
    log_det
        log |det L|.
    """

    mean: Float[np.ndarray | Array, " d"]
    factor: Factor
    inverse: Factor
    log_det: Any

    @property
    def dim(self) -> int:
        """Length of the mean."""
        return int(self.mean.shape[-1])

    def push(self, eps: Float[Array, " d"]) -> tuple[Float[Array, " d"], Any]:
        """z, and log |det L|."""
        return self.mean + self.factor.times(eps), self.log_det

    def points(self, eps: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """mean + L ε of each row."""
        return np.asarray(self.mean + self.factor.times(eps))

    def pull_back(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """L⁻¹(z - mean) of each row."""
        return np.asarray(self.inverse.times(z - self.mean))


def _affine(mean: np.ndarray, covariance: np.ndarray) -> Affine:
    """The affine map of a mean and a covariance matrix, or of variances (1-d)."""
    if covariance.ndim == 1:
        scale = np.sqrt(covariance)
        return Affine(mean, Diagonal(scale), Diagonal(1 / scale), np.log(scale).sum())
    try:
        factor = Triangular(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError as error:
        raise coded_error(
            ValueError,
            "E805",
            "the covariance of q is singular in double precision: q has run away along a direction "
            "of the posterior, or collapsed. Look at fit.advice",
        ) from error
    return Affine(mean, factor, Triangular(np.linalg.inv(factor.entries)), factor.log_det())


def coordinates(fit: Fit) -> Coordinates:
    """The coordinates of q: an affine map for a Gaussian, its own map for another `Pushforward`.

    If q has no map that can be compiled, it is the affine map of q's mean and covariance; above
    `LARGEST_DENSE` dimensions that of its mean and variances.
    """
    q = fit.q
    large = q.dim > LARGEST_DENSE
    if isinstance(q, Gaussian):
        dense = not large and fit.family.correlations != "none"
        return _affine(np.asarray(q.mean), fit.inverse_mass_matrix(dense))
    sparse = isinstance(q, Apart) and isinstance(q.base, SparseGaussian)
    if isinstance(q, Pushforward) and not sparse and not large:
        return OwnMap(q)
    n = 512 if large else max(4096, 4 * q.dim)
    z = some_points(fit.weighed, fit.target, n, seed=0)
    if large:
        return _affine(z.mean(axis=0), z.var(axis=0))
    covariance = np.atleast_2d(np.cov(z.T))
    covariance += SHRINK * np.trace(covariance) * np.eye(q.dim)
    return _affine(z.mean(axis=0), covariance)
