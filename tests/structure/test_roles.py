"""Roles: what moves the curvature of the others is a scale, and a mean is none."""

import numpy as np

from infimum.structure.roles import LEAST_ROLE, log_det_slopes, marks, own_slopes

TAU, MU, FIRST, D = 0, 1, 2, 22


def gradients_at(z):
    """Of Σ_j -½ (u_j - μ)² e^(-2 τ) - τ - ½ u_j² - ½ μ² - ½ τ², τ and μ first."""
    tau, mu, u = z[:, :1], z[:, 1:2], z[:, FIRST:]
    away, precision = u - mu, np.exp(-2 * tau)
    out = np.empty(z.shape)
    out[:, FIRST:] = -away * precision - u
    out[:, MU] = (away * precision).sum(axis=1) - mu[:, 0]
    out[:, TAU] = (away**2 * precision - 1).sum(axis=1) - tau[:, 0]
    return out


def curvature(z):
    """Minus the Hessian at one point, by differences."""
    step = 1e-5 * np.eye(D)
    return -(gradients_at(z + step) - gradients_at(z - step)) / 2e-5


def test_slopes_are_those_of_the_trace():
    z = 0.3 * np.random.default_rng(0).standard_normal(D)
    root = np.diag(np.linspace(0.5, 1.0, D))
    got = log_det_slopes(gradients_at, z[None], root[None])[0]
    step = 1e-4 * np.eye(D)
    squares = np.diag(root) ** 2
    expected = [
        squares @ np.diag(curvature(z + move) - curvature(z - move)) / 2e-4 for move in step
    ]
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_a_coordinate_that_is_only_skewed_is_no_scale():
    """-e^x: its own third derivative is all of its slope."""

    def gradients(z):
        return 3.0 - np.exp(z)

    z, sd = np.full(3, np.log(3.0)), np.full(3, 3**-0.5)
    slope = log_det_slopes(gradients, z[None], (sd * np.eye(3))[None])[0]
    own = own_slopes(gradients, z, sd, np.zeros(3, int))
    np.testing.assert_allclose(slope, sd**2 * 3.0, rtol=1e-3)
    assert np.all(marks(slope - own, slope - own, sd) < 1e-3)


def test_the_scale_is_marked_and_nothing_else():
    z = np.zeros(D)
    z[FIRST:] = np.random.default_rng(1).standard_normal(D - FIRST)
    precision = curvature(z) + 0.5 * np.eye(D)
    covariance = np.linalg.inv(0.5 * (precision + precision.T))
    root = np.linalg.cholesky(covariance)
    sd = np.sqrt(np.diag(covariance))
    slope = log_det_slopes(gradients_at, z[None], root.T[None])[0]
    colours = np.where(np.arange(D) < FIRST, np.arange(D), FIRST)
    slope = slope - own_slopes(gradients_at, z, sd, colours)
    marked = marks(slope, covariance @ slope, sd) > LEAST_ROLE
    np.testing.assert_array_equal(np.flatnonzero(marked), [TAU])
