"""The field of the nested family: moves along it, and exact shapes of its coordinates."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special

import infimum
from infimum.families.nested.shapes import Shapes
from infimum.search.nested.cells import cells_at
from infimum.search.nested.field import Field
from infimum.search.nested.lattice import lattice_around
from infimum.search.nested.marginal import Marginal
from infimum.search.nested.modes import Precision
from infimum.search.nested.shaped import Shaped
from infimum.search.nested.skew import Skewed


class Quadratic:
    """A stand-in for a target whose density is not asked for."""

    dim = 13


@pytest.mark.parametrize("kind", ["none", "arrow", "pairs"])
def test_moves_add_up_to_the_inverse_where_the_field_couples(kind):
    k = 12
    pairs = {
        "none": [],
        "arrow": [(i, 0) for i in range(1, k)],
        "pairs": [(i + 1, i) for i in range(0, k, 2)],
    }[kind]
    edges = np.array(pairs, int).reshape(-1, 2).T
    field = Field(Quadratic, np.array([k]), np.arange(k), edges, np.ones(k))
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(k, 9.0), rng.normal(size=edges.shape[1])])
    precision = field.factors(values[None])
    rows = [0] * len(field.probes)
    same = Precision(*(part[rows] for part in precision))
    moves = field.spread(same, field.probes)
    matrix = np.diag(values[:k])
    matrix[edges[0], edges[1]] = matrix[edges[1], edges[0]] = values[k:]
    inverse = np.linalg.inv(matrix)
    outer = moves.T @ moves
    np.testing.assert_allclose(np.diag(outer), np.diag(inverse), rtol=1e-12)
    np.testing.assert_allclose(outer[edges[0], edges[1]], inverse[edges[0], edges[1]], rtol=1e-10)


def test_shapes_of_single_coordinates_are_those_of_quadrature():
    """exp(2 x - 3 log(1 + eˣ) - x²/2): the log integral, and a density that adds up to 1."""

    def value_and_gradient(z):
        x = z[:, 1:]
        log_p = (2 * x - 3 * np.logaddexp(0, x) - 0.5 * x**2).sum(axis=1)
        gradient = np.zeros(z.shape)
        gradient[:, 1:] = 2 - 3 * scipy.special.expit(x) - x
        return log_p, gradient

    target = infimum.from_numpy(value_and_gradient, 4, batched=True)
    field = Field(target, np.array([0]), np.arange(1, 4), np.zeros((2, 0), int), np.ones(3))
    at = Marginal(field, np.zeros(1), np.zeros(3), np.zeros((3, 1)))
    modes = at.modes(np.zeros((1, 1)), np.eye(1))
    cells = cells_at(field, modes)
    exact = scipy.integrate.quad(
        lambda x: np.exp(2 * x - 3 * np.logaddexp(0, x) - 0.5 * x**2), -12, 12, epsabs=1e-13
    )[0]
    np.testing.assert_allclose(cells.log_integral, 3 * np.log(exact), atol=2e-5)
    rng = np.random.default_rng(0)
    shapes = Shapes.of(field.groups.rule, cells.slopes.reshape(3, -1))
    for _ in range(200):
        t, log_q = shapes.draw(rng)
        np.testing.assert_allclose(shapes.log_density(t), log_q, rtol=1e-9)


def poisson_field(k=60):
    """u_j ~ N(0, e^τ), counts of mean exp u_j, and τ ~ N(0, 1): skewed, independent given τ."""
    count = np.random.default_rng(0).poisson(np.exp(0.8 * np.random.default_rng(1).normal(size=k)))

    def value_and_gradient(z):
        tau, u = z[:, :1], z[:, 1:]
        precision = np.exp(-2 * tau)
        value = (count * u - np.exp(u) - 0.5 * u**2 * precision - tau).sum(axis=1)
        gradient = np.empty(z.shape)
        gradient[:, 0] = (u**2 * precision - 1).sum(axis=1) - tau[:, 0]
        gradient[:, 1:] = count - np.exp(u) - u * precision
        return value - 0.5 * tau[:, 0] ** 2, gradient

    target = infimum.from_numpy(value_and_gradient, k + 1, batched=True)
    rest = np.arange(1, k + 1)
    return Field(target, np.array([0]), rest, np.zeros((2, 0), int), np.full(k, 0.5))


def test_further_terms_make_up_for_what_laplace_lacks():
    """Against exact integrals over each coordinate."""
    field = poisson_field()
    k = len(field.rest)
    at = Marginal(field, np.array([-0.3]), np.zeros(k), np.zeros((k, 1)))
    lattice = lattice_around(at, *at.summit(np.full((1, 1), 0.2)))
    near = lattice.values > lattice.values.max() - 4
    modes = lattice.modes.of(near)
    exact = Shaped(at, np.eye(1)).values(modes)
    better = Skewed(at).values(modes)
    laplace_off, off = exact - lattice.values[near], exact - better
    assert np.abs(laplace_off).max() > 0.2
    assert np.abs(off).max() < 0.25 * np.abs(laplace_off).max()
    assert np.ptp(off) < 0.5 * np.ptp(laplace_off)


def test_slopes_of_exact_integrals_are_those_of_differences():
    field = poisson_field()
    k = len(field.rest)
    at = Marginal(field, np.array([-0.3]), np.zeros(k), np.zeros((k, 1)))
    exact = Shaped(at, np.full((1, 1), 0.2))
    there = exact.sloped(exact.modes(np.array([[-0.5], [-0.3], [0.1]]), np.eye(1)))
    step = 1e-3
    sides = [exact.modes(there.modes.z[:, :1] + side * step, np.eye(1)) for side in (1, -1)]
    ahead, behind = (Shaped(at, np.eye(1)).values(side) for side in sides)
    np.testing.assert_allclose(there.slopes[:, 0], (ahead - behind) / (2 * step), atol=1e-3)
