"""Moves of a scale with all that hangs on it."""

import jax.numpy as jnp
import numpy as np
import scipy.stats

import infimum
from infimum.corrections._together import find_scales, moved_together

D = 6


def funnel(dim=D, width=3.0):
    """z_0 ~ N(0, width²), and the others N(0, e^z_0) given it."""
    return infimum.Target(
        lambda z: (
            -0.5 * (z[0] / width) ** 2
            - 0.5 * jnp.sum(z[1:] ** 2) * jnp.exp(-z[0])
            - 0.5 * (dim - 1) * z[0]
        ),
        np.zeros(dim),
    )


def draws(rng, n):
    z0 = 3.0 * rng.standard_normal(n)
    rest = np.exp(0.5 * z0)[:, None] * rng.standard_normal((n, D - 1))
    return np.concatenate([z0[:, None], rest], axis=1)


def test_the_scale_is_found_and_how_the_others_follow_it():
    scales = find_scales(draws(np.random.default_rng(0), 4000))
    assert scales[0].place == 0
    np.testing.assert_allclose(scales[0].slopes[1:], 1.5, atol=0.1)  # half of its sd of 3
    assert scales[0].slopes[0] == 0.0


def test_where_nothing_hangs_on_anything_nothing_is_moved():
    z = np.random.default_rng(0).standard_normal((4000, 5)) @ np.diag([1.0, 2.0, 3.0, 0.1, 1.0])
    assert find_scales(z) == []


def test_the_steps_leave_the_density_as_it_is():
    rng = np.random.default_rng(1)
    z = draws(rng, 6000)
    after = z
    for _ in range(5):
        after = moved_together(funnel(), after, find_scales(after), rng)
    moved = np.mean(after[:, 0] != z[:, 0])
    assert moved > 0.9
    assert scipy.stats.kstest(after[:, 0], scipy.stats.norm(0.0, 3.0).cdf).pvalue > 1e-3
    residual = after[:, 1] * np.exp(-0.5 * after[:, 0])
    assert scipy.stats.kstest(residual, scipy.stats.norm().cdf).pvalue > 1e-3


def test_they_enter_a_neck_that_has_no_particle():
    rng = np.random.default_rng(2)
    z = draws(rng, 12_000)
    z = z[z[:, 0] > -3.0][:6000]
    for _ in range(5):
        z = moved_together(funnel(), z, find_scales(z), rng)
    right = scipy.stats.norm.cdf(-2.0)
    assert abs(np.mean(z[:, 0] < -6.0) - right) < 0.3 * right
