"""Gradients by differences of values."""

import numpy as np

import infimum


def test_differences_are_the_gradient():
    def values(z):
        return -0.5 * (z**2 / np.array([1.0, 100.0])).sum(-1) + np.sin(z[:, 0])

    target = infimum.from_numpy(values, 2, batched=True)
    assert not target.differentiable
    differenced = target.by_differences(np.array([1.0, 10.0]))
    assert differenced.differentiable
    z = np.random.default_rng(0).standard_normal((5, 2)) * [1.0, 10.0]
    log_p, gradient = differenced.value_and_gradient(z)
    np.testing.assert_array_equal(log_p, values(z))
    exact = np.stack([np.cos(z[:, 0]) - z[:, 0], -z[:, 1] / 100], axis=1)
    np.testing.assert_allclose(gradient, exact, atol=1e-7)
    np.testing.assert_array_equal(differenced.values(z), target.values(z))


def test_what_is_undefined_beside_a_point_is_nan():
    target = infimum.from_numpy(lambda z: np.where(z[:, 0] > 0, 0.0, np.nan), 1, batched=True)
    log_p, gradient = target.by_differences(np.ones(1)).value_and_gradient(np.array([[5e-5], [1]]))
    assert np.isfinite(log_p).all()
    assert np.isnan(gradient[0, 0])
    assert gradient[1, 0] == 0
