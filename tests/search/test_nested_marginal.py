"""The marginal of the scales: its mode from anywhere, and a lattice that ends or says that not."""

import numpy as np
import pytest

import infimum
from infimum.search.nested.field import Field
from infimum.search.nested.lattice import Lattice, lattice_around, table_of
from infimum.search.nested.marginal import Marginal

K = 30
Y = np.random.default_rng(2).normal(0, np.hypot(0.8, 0.5), K)


def value_and_gradient(z):
    """Effects u_j ~ N(0, e^τ), Y_j ~ N(u_j, 0.5), and τ ~ N(0, 1), without constants."""
    tau, u = z[:, :1], z[:, 1:]
    precision = np.exp(-2 * tau)
    value = (-0.5 * u**2 * precision - tau - 2 * (Y - u) ** 2).sum(1) - 0.5 * tau[:, 0] ** 2
    gradient = np.empty(z.shape)
    gradient[:, 0] = (u**2 * precision - 1).sum(1) - tau[:, 0]
    gradient[:, 1:] = -u * precision + 4 * (Y - u)
    return value, gradient


def exact(tau):
    """log ∫ p̂ over the effects."""
    precision = np.exp(-2 * tau)[:, None] + 4
    terms = 8 * Y**2 / precision - 2 * Y**2 - 0.5 * np.log(precision / (2 * np.pi))
    return terms.sum(axis=1) - K * tau - 0.5 * tau**2


@pytest.fixture
def field():
    target = infimum.from_numpy(value_and_gradient, K + 1, batched=True)
    return Field(target, np.array([0]), np.arange(1, K + 1), np.zeros((2, 0), int), np.full(K, 0.4))


def marginal(field, tau):
    return Marginal(field, np.array([tau]), np.zeros(K), np.zeros((K, 1)))


def test_values_are_exact_for_gaussian_effects(field):
    tau = np.array([[-2.0], [-0.5], [1.0]])
    at = marginal(field, 0.0)
    got = at.values(at.modes(tau, np.eye(1)))
    np.testing.assert_allclose(got, exact(tau[:, 0]), atol=1e-4)


@pytest.mark.parametrize("start", [-6.0, -0.5, 3.0])
def test_the_mode_is_reached_from_far_away(field, start):
    centre, root = marginal(field, start).summit(np.full((1, 1), 0.01))
    grid = np.linspace(-4, 2, 6001)
    best = grid[np.argmax(exact(grid))]
    assert abs(centre[0] - best) < 0.3 * root[0, 0]
    assert 0.1 < root[0, 0] < 0.6


def test_the_table_is_the_marginal(field):
    at = marginal(field, -0.5)
    lattice = lattice_around(at, *at.summit(np.full((1, 1), 0.3)))
    assert lattice.closed
    assert lattice.roughness < 0.1
    table = table_of(lattice)
    tau = table.draw(np.random.default_rng(0), 2000)
    grid = np.linspace(-8, 4, 20001)
    density = np.exp(exact(grid) - exact(grid).max())
    log_z = exact(grid).max() + np.log(np.trapezoid(density, grid))
    weights = np.exp(exact(tau[:, 0]) - log_z - table.log_density(tau))
    np.testing.assert_allclose(weights.mean(), 1.0, atol=0.01)
    assert weights.sum() ** 2 / (weights**2).sum() > 0.98 * len(weights)


def test_slopes_are_those_of_the_values(field):
    """Against the exact derivative; the mode of x is left a little off, which must not matter."""
    tau, step = np.array([[-2.0], [-0.5], [0.7]]), 1e-4
    at = marginal(field, 0.0)
    sloped = at.sloped(at.modes(tau, np.eye(1)))
    exact_slope = (exact(tau[:, 0] + step) - exact(tau[:, 0] - step)) / (2 * step)
    np.testing.assert_allclose(sloped.slopes[:, 0], exact_slope, rtol=1e-4)
    np.testing.assert_allclose(sloped.values, exact(tau[:, 0]), atol=1e-6)


def test_values_that_jump_are_rough():
    u = np.arange(-3.0, 4.0)[:, None]
    smooth = -0.5 * u[:, 0] ** 2
    jumps = smooth + np.where(np.arange(7) % 2, 2.0, 0.0)
    for values, rough in ((smooth, False), (jumps, True)):
        lattice = Lattice(np.zeros(1), np.eye(1), u, values, None, True)
        assert (lattice.roughness > 0.8) == rough
