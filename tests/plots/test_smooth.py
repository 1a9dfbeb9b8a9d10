"""Curves of p* by reweighting, against known densities."""

import numpy as np
import pytest
import scipy.stats

from infimum.plots.smooth import reweighted

NODES = np.linspace(-6.0, 6.0, 128)

KINDS = {
    "normal": (scipy.stats.norm(0.3, 1.0), scipy.stats.norm(0.0, 1.2)),
    "skewed": (scipy.stats.skewnorm(4.0, -0.8, 1.4), scipy.stats.norm(0.2, 1.0)),
    "heavy": (scipy.stats.t(4.0), scipy.stats.norm(0.0, 1.1)),
    "two modes": (None, scipy.stats.norm(0.0, 2.0)),
    "slow to the left": (scipy.stats.gumbel_l(0.8, 1.0), scipy.stats.norm(0.6, 0.9)),
}


def density(p, x):
    if p is not None:
        return p.pdf(x)
    return 0.5 * (scipy.stats.norm.pdf(x, -1.5, 0.6) + scipy.stats.norm.pdf(x, 1.5, 0.6))


@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_is_near_the_density_wherever_it_says_that_it_knows(kind):
    p, q = KINDS[kind]
    for seed in range(4):
        x = q.rvs(4096, random_state=seed)
        w = density(p, x) / q.pdf(x)
        mass, known = reweighted(x[:, None], w / w.sum(), NODES[None])
        curve = mass / mass.sum() / (NODES[1] - NODES[0])
        true = density(p, NODES)
        assert known[true > 0.2 * true.max()].all()
        assert np.abs(curve - true)[known].max() < 0.16 * true.max()


def test_a_few_heavy_weights_make_no_needle():
    """Six draws of 4096 hold a twelfth of the mass, where the density is flat."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(1.0, 0.7, 4090), rng.uniform(-3.0, -2.0, 6)])
    w = np.concatenate([np.full(4090, 1.0), np.full(6, 60.0)])
    mass, known = reweighted(x[:, None], w / w.sum(), NODES[None])
    left = (NODES > -3.0) & (NODES < -2.0)
    assert not known[left].any()
    assert mass[left].max() < 0.25 * mass.max()
    assert known[(NODES > 0.0) & (NODES < 2.0)].all()


def test_pairs_are_smoothed_alike():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((6000, 2)) * [1.0, 1.3]
    true = scipy.stats.multivariate_normal([0.3, -0.2], [[0.9, 0.4], [0.4, 0.9]])
    w = true.pdf(z) / scipy.stats.multivariate_normal([0, 0], np.diag([1.0, 1.69])).pdf(z)
    nodes = np.tile(np.linspace(-4.0, 4.0, 64), (2, 1))
    mass, known = reweighted(z, w / w.sum(), nodes)
    grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    exact = true.pdf(grid)
    curve = mass / mass.sum() * exact.sum()
    assert known[exact > 0.2 * exact.max()].all()
    assert np.abs(curve - exact)[known].max() < 0.2 * exact.max()
