"""The pattern of a Hessian, read or probed, and the Hessian on it."""

import jax
import numpy as np
import pytest
from sparse_models import dense, logistic

import infimum
from infimum.structure import pattern
from infimum.structure.hessian import hessian_on
from infimum.structure.probe import probe


@pytest.mark.parametrize("kind", ["chain", "hubs", "blocks"])
def test_probing_finds_every_entry(kind):
    dim, rng = 400, np.random.default_rng(0)
    rows, columns = {
        "chain": (np.arange(1, dim), np.arange(dim - 1)),
        "hubs": (np.repeat([397, 398, 399], 397), np.tile(np.arange(397), 3)),
        "blocks": (np.arange(dim) // 8 * 8, np.arange(dim)),
    }[kind]
    matrix = np.diag(rng.uniform(1, 2, dim))
    matrix[rows, columns] = 10.0 ** rng.uniform(-4, 4, len(rows))
    matrix += np.tril(matrix, -1).T + np.triu(matrix, 1).T
    asked = []

    def times(v):
        asked.append(len(v))
        return v @ matrix

    found = probe(times, dim, rng)
    np.testing.assert_array_equal(np.unique(found[0] * dim + found[1]), np.flatnonzero(matrix))
    assert sum(asked) < dim / 2


def test_a_matrix_of_millions_of_entries_is_given_up():
    """One of rank one, which has no zeros: to name its pairs would take all its columns."""
    rng, n_products = np.random.default_rng(0), []
    a = rng.normal(size=5000)

    def times(v):
        n_products.append(len(v))
        return (v @ a)[:, None] * a

    assert probe(times, 5000, rng) is None
    assert sum(n_products) < 0.6 * 5000 * 9


def test_reading_and_probing_agree_and_hubs_have_colours_of_their_own():
    target, rng = logistic(300, 4), np.random.default_rng(0)
    read = pattern._read(target)
    z = rng.uniform(-1, 1, target.dim)
    np.testing.assert_array_equal(read, pattern._probe(target, z, rng))
    assert hessian_on(target, read).n_colours == 4


def test_the_hessian_on_the_pattern_is_that_of_jax():
    target = logistic(6, 3)
    edges = pattern.find_edges(target, np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((4, target.dim))
    got = hessian_on(target, edges)(z, 2).values
    with jax.enable_x64(True):
        exact = np.stack([jax.jacfwd(lambda x: target.program.function()(x)[1])(x) for x in z])
    for values, matrix in zip(got, exact.reshape(2, 2, *exact.shape[1:]).sum(axis=1), strict=True):
        np.testing.assert_allclose(dense(target.dim, edges, values), matrix, atol=1e-10)


def from_gradients(target):
    """The same target as code outside JAX, and how many gradients it has given."""
    asked = []

    def density(z):
        asked.append(len(z))
        return target.value_and_gradient(z)

    return infimum.from_numpy(density, target.dim, batched=True), asked


def test_differences_of_few_gradients_find_the_pattern_that_jax_reads():
    target = logistic(300, 4)
    read = pattern.find_edges(target, np.random.default_rng(0))
    foreign, asked = from_gradients(target)
    asked.clear()
    np.testing.assert_array_equal(pattern.find_edges(foreign, np.random.default_rng(0)), read)
    assert sum(asked) < target.dim


def test_a_hessian_from_differences_takes_a_gradient_for_each_colour():
    target = logistic(6, 3)
    edges = pattern.find_edges(target, np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((4, target.dim))
    exact = hessian_on(target, edges)(z, 4).values
    foreign, asked = from_gradients(target)
    asked.clear()
    hessian = hessian_on(foreign, edges)
    got = hessian(z, 4, np.ones(target.dim)).values
    assert sum(asked) == len(z) * (1 + hessian.n_colours)
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_an_entry_that_is_missing_shows_in_differences_too():
    foreign, _ = from_gradients(logistic(30, 4))
    edges = pattern.find_edges(foreign, np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((1, foreign.dim))
    assert not pattern.incomplete_rows(foreign, edges, z, np.random.default_rng(2))[0].size
    missing = pattern.incomplete_rows(foreign, edges[:, 1:], z, np.random.default_rng(2))[0]
    assert set(edges[:, 0]) <= set(missing.tolist())


def test_a_pattern_is_widened_where_it_lacks_entries():
    """By differences of gradients, in coordinates of very different sizes."""
    dim, rng = 30, np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-3, 3, dim)
    matrix = 2 * np.eye(dim) - 0.5 * np.eye(dim, k=1) - 0.5 * np.eye(dim, k=-1)
    precision = matrix / np.outer(scale, scale)
    target = infimum.from_numpy(
        lambda z: (-0.5 * ((z @ precision) * z).sum(axis=1), -z @ precision), dim, batched=True
    )
    every = np.stack([np.arange(1, dim), np.arange(dim - 1)])
    point = scale * rng.standard_normal(dim)
    for edges in (every, every[:, ::2]):
        wide = pattern.widened(target, edges, point, scale, rng)
        np.testing.assert_array_equal(wide, every)
