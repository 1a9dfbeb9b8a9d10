"""The quadratic nearest to log p̂: exact for a quadratic, with its noise for what is not one."""

import numpy as np

from infimum.objective.quadratic import n_coefficients, quadratic


def test_a_quadratic_is_found_exactly():
    rng = np.random.default_rng(0)
    slope, curvature = rng.standard_normal(3), rng.standard_normal((3, 3))
    curvature = curvature + curvature.T
    eps = rng.standard_normal((20, 3))
    log_p = 2.0 + eps @ slope + 0.5 * np.einsum("ni,ij,nj->n", eps, curvature, eps)
    fitted = quadratic(eps, log_p)
    np.testing.assert_allclose(fitted.slope, slope, atol=1e-12)
    np.testing.assert_allclose(fitted.curvature, curvature, atol=1e-12)
    assert fitted.noise < 1e-20
    assert n_coefficients(3) == 10


def test_expectations_of_what_is_not_quadratic():
    """E[∇ sin ε] = E[cos ε] = exp(-1/2), E[∇² sin ε] = 0; the noise is what is left at a draw."""
    eps = np.random.default_rng(0).standard_normal((200_000, 1))
    fitted = quadratic(eps, np.sin(eps[:, 0]))
    np.testing.assert_allclose(fitted.slope, np.exp(-0.5), atol=0.01)
    np.testing.assert_allclose(fitted.curvature, 0, atol=0.02)
    variance = 0.5 * (1 - np.exp(-2)) - np.exp(-1)
    np.testing.assert_allclose(fitted.noise, variance, rtol=0.05)
