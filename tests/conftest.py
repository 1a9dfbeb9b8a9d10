"""Targets with known answers, shared by the tests; log Z is never zero. No figure is left open."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from corrections import targets

import infimum


@dataclass(frozen=True)
class Known:
    """A Gaussian target with its mean, precision and log Z."""

    target: infimum.Target
    mean: np.ndarray
    precision: np.ndarray
    log_z: float

    def kl_from(self, q) -> float:
        """KL[q ‖ p*] of a Gaussian q, exactly; of a mixture of one component as well."""
        if hasattr(q, "spread"):
            root = np.asarray(q.spread(np.eye(q.dim)))
            shape = self.precision @ root.T @ root
        else:
            shape = self.precision @ q.covariance()
        offset = np.asarray(q.mean) - self.mean
        trace = np.trace(shape) - len(self.mean) - np.linalg.slogdet(shape)[1]
        return 0.5 * float(trace + offset @ self.precision @ offset)


def gaussian(dim: int, condition: float = 10.0, scale: float = 1.0, log_z: float = 3.0) -> Known:
    """A Gaussian target with eigenvalues of its precision spread evenly in their logarithm."""
    rng = np.random.default_rng(dim)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    precision = (basis * np.geomspace(1, condition, dim)) @ basis.T / scale**2
    precision = 0.5 * (precision + precision.T)
    mean = scale * rng.standard_normal(dim)
    constant = log_z - 0.5 * dim * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(precision)[1]

    def log_density(z):
        return constant - 0.5 * (z - mean) @ (precision @ (z - mean))

    return Known(infimum.Target(log_density, np.zeros(dim)), mean, precision, log_z)


@pytest.fixture
def make_gaussian() -> Callable[..., Known]:
    return gaussian


@pytest.fixture(scope="session")
def skewed() -> infimum.Target:
    """exp(-e^a + 3a), a Gamma(3) on the log scale, beside a positive Gamma(2); log Z = log 2."""

    def log_density(params):
        return 3 * params["a"] - jnp.exp(params["a"]) + jnp.log(params["b"]) - params["b"]

    return infimum.Target(log_density, {"a": 0.0, "b": 1.0}, {"b": "positive"}, name="skewed")


@pytest.fixture(scope="session")
def skewed_fit(skewed) -> infimum.Fit:
    return infimum.fit(skewed, "fullrank")


@pytest.fixture(autouse=True)
def closed_figures():
    """Pyplot keeps every figure, and warns of too many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def two_modes():
    """A full-rank fit of one of two modes; the other is known."""
    return infimum.fit(targets.two_modes(), "fullrank", progress=False)


@pytest.fixture(scope="session")
def intercepts():
    """A sparse fit of a hierarchy, and its data."""
    target, y = targets.intercepts()
    return infimum.fit(target, "sparse", progress=False), y
