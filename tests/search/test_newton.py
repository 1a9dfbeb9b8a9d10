"""Full-rank Gaussians by Newton steps on the pattern: few gradients, and the optimum of all."""

import numpy as np
import pytest

import infimum
from infimum.base.seeds import generator
from infimum.search.leaps import leap
from infimum.solvers import FixedDraws, Info, NaturalGradient, State

GROUPS = 30


def hierarchy(groups=GROUPS, sd=1.0, seed=0):
    """Centred effects u_i of mean μ and log scale τ, each seen once with noise; z is (τ, μ, u)."""
    y = 2.0 + sd * np.random.default_rng(seed).standard_normal(groups)

    def value_and_gradient(z):
        tau, mu, u = z[:, :1], z[:, 1:2], z[:, 2:]
        precision, away = np.exp(-2 * tau), u - mu
        value = (-0.5 * away**2 * precision - tau - 2.0 * (y - u) ** 2).sum(axis=1)
        gradient = np.empty(z.shape)
        gradient[:, 0] = (away**2 * precision - 1).sum(axis=1) - tau[:, 0]
        gradient[:, 1] = (away * precision).sum(axis=1) - 0.1 * mu[:, 0]
        gradient[:, 2:] = -away * precision + 4.0 * (y - u)
        return value - 0.5 * tau[:, 0] ** 2 - 0.05 * mu[:, 0] ** 2, gradient

    return infimum.from_numpy(value_and_gradient, 2 + groups, batched=True)


@pytest.fixture(scope="module")
def classical():
    """What natural gradients and fixed draws find."""
    solvers = [NaturalGradient(), FixedDraws()]
    return infimum.fit(hierarchy(), "fullrank", solver=solvers, progress=False)


@pytest.mark.parametrize("seed", range(3))
def test_a_hierarchy_takes_a_tenth_of_the_gradients(classical, seed):
    fit = infimum.fit(hierarchy(), "fullrank", seed=seed, progress=False)
    assert fit.reason.converged
    assert type(fit.q).__name__ == "DenseGaussian"
    assert fit.elbo.value > classical.elbo.value - 0.3
    assert fit.work.n_gradients < min(2_000, 0.1 * classical.work.n_gradients)


def test_a_seed_gives_one_answer():
    one, other = (infimum.fit(hierarchy(), "fullrank", seed=3, progress=False) for _ in range(2))
    np.testing.assert_array_equal(one.q.mean, other.q.mean)
    assert one.work.n_gradients == other.work.n_gradients


def test_full_rank_and_sparse_are_the_same_gaussian():
    dense, sparse = (
        infimum.fit(hierarchy(), family, progress=False) for family in ("fullrank", "sparse")
    )
    assert dense.elbo.value == pytest.approx(sparse.elbo.value, abs=0.2)


def test_the_users_start_comes_first():
    fit = infimum.fit(hierarchy(), "fullrank", start=np.full(2 + GROUPS, 0.5), progress=False)
    assert [start.kind for start in fit.starts].count("start") == 1


def test_a_callback_stops_it_with_the_best_so_far():
    fit = infimum.fit(hierarchy(), "fullrank", callback=lambda progress: True, progress=False)
    assert not fit.reason.converged
    assert np.isfinite(fit.elbo.value)


def test_a_dense_hessian_is_left_to_other_solvers():
    root = np.random.default_rng(0).standard_normal((12, 12)) + 4 * np.eye(12)
    precision = root @ root.T
    target = infimum.from_numpy(
        lambda z: (-0.5 * ((z @ precision) * z).sum(axis=1), -z @ precision), 12, batched=True
    )
    fit = infimum.fit(target, "fullrank", progress=False)
    assert len(fit.starts) > 2
    np.testing.assert_allclose(fit.q.covariance(), np.linalg.inv(precision), atol=1e-5)


def test_two_modes_are_both_reported():
    """Two Gaussians far apart: each is an optimum, and the mass beyond one is noticed."""
    where = np.full(12, 6.0)

    def value_and_gradient(z):
        near, far = -0.5 * ((z - where) ** 2).sum(axis=1), -0.5 * ((z + where) ** 2).sum(axis=1)
        share = 1 / (1 + np.exp(np.clip(far - near, -500, 500)))[:, None]
        return np.logaddexp(near, far), -(z - where) * share - (z + where) * (1 - share)

    target = infimum.from_numpy(value_and_gradient, 12, batched=True)
    fit = infimum.fit(target, "fullrank", progress=False)
    assert fit.verdict != "good"


def test_a_scale_that_is_nearly_zero_leaps_to_where_it_belongs():
    """Plain Newton steps creep there: what a scale spreads holds it fast."""
    target = hierarchy()
    edges = np.stack([np.arange(2, 2 + GROUPS), np.zeros(GROUPS, int)])
    edges = np.concatenate([edges, edges + np.array([[0], [1]]), [[1], [0]]], axis=1)
    sparse = infimum.families.Sparse.on(target.dim, edges[:, np.lexsort(edges)])
    mean = np.concatenate([[-3.0], np.full(1 + GROUPS, 2.0)])
    sd = np.concatenate([[0.13, 0.1], np.full(GROUPS, np.exp(-3.0))])
    state = State(q=sparse.init(mean, sd), info=Info("start"))
    leap(target, state, generator(0))
    assert state.q.mean[0] > -1.5
    assert state.info.n_gradients < 1_500
