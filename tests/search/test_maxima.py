"""Which optima are modes: a shoulder and the side of a ridge are none."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

import infimum
from infimum.families.fullrank import FullRank
from infimum.search.maxima import count_modes


def normals(centres, scales, weights):
    place, width = jnp.array(centres), jnp.array(scales)
    part = jnp.log(jnp.array(weights)) - place.shape[1] * jnp.log(width)

    def log_density(z):
        return logsumexp(part - 0.5 * jnp.sum((z - place) ** 2, axis=1) / width**2)

    return infimum.Target(log_density, np.zeros(place.shape[1]))


def gaussians(*means):
    return [FullRank().init(np.array(mean), np.ones(len(mean))) for mean in means]


CASES = {
    "two modes": (normals([[0.0, 0], [8, 0]], [1.0, 1], [0.6, 0.4]), [(8.0, 0)], 2),
    "two modes, one of them twice": (
        normals([[0.0, 0], [8, 0]], [1.0, 1], [0.6, 0.4]),
        [(7.0, 0), (8.5, 0.5), (0.5, 0)],
        2,
    ),
    "three modes": (
        normals([[0.0, 0], [8, 0], [0, 9]], [1.0, 1, 0.5], [0.4, 0.3, 0.3]),
        [(8.0, 0), (0, 8)],
        3,
    ),
    "a shoulder": (normals([[0.0, 0], [1.8, 0]], [1.0, 1], [0.6, 0.4]), [(2.5, 0)], 1),
    "a ridge": (
        infimum.Target(lambda z: -0.5 * (z[0] / 20) ** 2 - 0.5 * z[1] ** 2, np.zeros(2)),
        [(30.0, 0)],
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_modes_are_counted_by_maxima(name):
    target, places, n = CASES[name]
    q, *others = gaussians((0.0, 0), *places)
    found, spent = count_modes(target, q, others, np.random.default_rng(0))
    assert found == n
    assert 0 < spent < 500


def test_without_a_gradient_paths_decide():
    def values(z):
        return np.logaddexp(-0.5 * (z**2).sum(), -0.5 * ((z - 8.0) ** 2).sum())

    target = infimum.from_numpy(values, 2)
    q, other = gaussians((0.0, 0), (8.0, 8))
    assert count_modes(target, q, [other], np.random.default_rng(0))[0] == 2
    assert count_modes(target, q, gaussians((1.0, 0)), np.random.default_rng(0))[0] == 1
    assert count_modes(target, q, [], np.random.default_rng(0)) == (1, 0)


def test_the_eight_schools_have_one_mode():
    effect = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    error = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])

    def log_density(p):
        residual = (effect - p["mu"] - p["tau"] * p["t"]) / error
        prior = (p["mu"] / 5) ** 2 + 2 * jnp.log1p((p["tau"] / 5) ** 2) + jnp.sum(p["t"] ** 2)
        return -0.5 * (jnp.sum(residual**2) + prior)

    example = {"mu": 0.0, "tau": 1.0, "t": np.zeros(8)}
    supports = {"tau": infimum.supports.positive}
    fit = infimum.fit(infimum.Target(log_density, example, supports), "fullrank")
    assert fit.work.n_modes == 1
    assert "modes" not in fit.advice
