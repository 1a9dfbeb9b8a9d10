"""The path of an ascent: the mode of a Gaussian, and the mass of a funnel on the way to its end."""

import jax.numpy as jnp
import numpy as np

import infimum
from infimum.search.path import best_on_path, raised_start

NONE = np.zeros((2, 0), int)


def test_the_end_of_the_path_of_a_gaussian_is_its_mode():
    mean, sd = np.array([1.0, -2.0, 3.0]), np.array([0.5, 1.0, 2.0])
    target = infimum.from_numpy(
        lambda z: (-0.5 * (((z - mean) / sd) ** 2).sum(1), -(z - mean) / sd**2), 3, batched=True
    )
    local = best_on_path(target, NONE, np.zeros(3), np.random.default_rng(0))
    np.testing.assert_allclose(local.mean, mean, atol=0.05)
    np.testing.assert_allclose(np.log(local.scale / sd), 0.0, atol=1.0)
    assert local.n_gradients > 0


def test_the_mass_of_a_hierarchy_is_met_before_the_end():
    """log p̂ grows without a bound as τ falls, where all effects are equal; the mass is at τ = 1."""
    y = np.random.default_rng(0).standard_normal(40)

    def value_and_gradient(z):
        tau, u = z[:, :1], z[:, 1:]
        precision = np.exp(-2 * tau)
        value = (-0.5 * u**2 * precision - tau - 0.5 * (y - u) ** 2 / 0.25).sum(1)
        value = value - 0.5 * tau[:, 0] ** 2
        gradient = np.empty(z.shape)
        gradient[:, 0] = (u**2 * precision - 1).sum(1) - tau[:, 0]
        gradient[:, 1:] = -u * precision + (y - u) / 0.25
        return value, gradient

    target = infimum.from_numpy(value_and_gradient, 41, batched=True)
    rng = np.random.default_rng(1)
    hubs = np.stack([np.arange(1, 41), np.zeros(40, int)])
    local = best_on_path(target, hubs, rng.uniform(-1, 1, 41), rng)
    assert -2.0 < local.mean[0] < 1.0


def test_a_raised_start_lets_effects_follow_the_data():
    """The scale and the mean are held; without effects that share a colour nothing moves."""
    y = np.random.default_rng(0).standard_normal(40)

    def value_and_gradient(z):
        tau, u = z[:, :1], z[:, 1:]
        value = (-0.5 * u**2 * np.exp(-2 * tau) - tau - 0.5 * (y - u) ** 2 / 0.25).sum(1)
        slope = ((u**2 * np.exp(-2 * tau)) - 1).sum(1, keepdims=True)
        return value, np.concatenate([slope, -u * np.exp(-2 * tau) + (y - u) / 0.25], axis=1)

    target = infimum.from_numpy(value_and_gradient, 41, batched=True)
    hubs = np.stack([np.arange(1, 41), np.zeros(40, int)])
    start = np.concatenate([[0.5], np.zeros(40)])
    raised = raised_start(target, hubs, start)
    assert raised[0] == 0.5
    np.testing.assert_allclose(raised[1:], y / (1 + 0.25 * np.exp(-1.0)), atol=0.02)
    every = np.array(np.tril_indices(41, -1))
    np.testing.assert_array_equal(raised_start(target, every, start), start)


def test_a_start_without_density_says_so():
    def log_density(z):
        return jnp.where(jnp.sum(z) > -100.0, -0.5 * jnp.sum(z**2), -jnp.inf)

    target = infimum.Target(log_density, np.zeros(2))
    local = best_on_path(target, NONE, np.full(2, -200.0), np.random.default_rng(0))
    assert local.elbo == -np.inf
