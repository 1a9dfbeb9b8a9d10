"""Mixtures grow while that pays, give up superfluous components, and find their weights."""

import jax.numpy as jnp
import numpy as np
from solver_runs import run

import infimum
from infimum import families
from infimum.gaussian.stack import normalised
from infimum.solvers import Reason, StratifiedDraws
from infimum.solvers.stratified_draws.missing_mass import balanced, find_missing, look_draws


def test_superfluous_components_are_removed(make_gaussian):
    """Two alike, one without weight, one that has collapsed far away: one is left."""
    known = make_gaussian(2)
    factor = np.linalg.cholesky(np.linalg.inv(known.precision))
    means = np.array([known.mean, known.mean + 0.01, known.mean + 30, known.mean])
    factors = np.array([factor, factor, factor, 1e-8 * factor])
    start = normalised(means, factors, np.log([0.5, 0.5, 1e-9, 1e-9]))
    q = families.Mixture().init(np.zeros(2), np.ones(2)).restacked(start)
    state = run(StratifiedDraws(), q, known.target)
    assert state.reason is Reason.CONVERGED
    assert len(state.q.weights) == 1
    assert known.kl_from(state.q) < 1e-3


def two_modes():
    """Round Gaussians at 0 and 8, of weights 0.7 and 0.3, with log Z = 2."""
    means, log_w = np.array([[0.0, 0.0], [8.0, 0.0]]), np.log([0.7, 0.3])

    def log_density(z):
        parts = log_w - 0.5 * jnp.sum((z - means) ** 2, axis=1) - np.log(2 * np.pi)
        return 2.0 + jnp.logaddexp(*parts)

    return infimum.Target(log_density, np.zeros(2)), means


def test_missing_mass_is_found_where_it_is():
    """One component at the first mode, and a wide one that sees the second."""
    target, means = two_modes()
    factors = np.array([np.eye(2), 4 * np.eye(2)])
    stack = normalised(means, factors, np.log([0.9, 0.1]))
    rng = np.random.default_rng(0)
    look = look_draws(stack, rng)
    places = find_missing(look, target.values(look.z), stack, 1, rng)
    assert np.linalg.norm(places[0].z - means[1]) < 2.5
    assert places[0].parent == 1
    assert 0.05 < places[0].mass < 0.3


def test_weights_are_balanced_by_importance_weights():
    target, means = two_modes()
    stack = normalised(means, np.array([np.eye(2)] * 2), np.log([0.5, 0.5]))
    look = look_draws(stack, np.random.default_rng(0))
    other = balanced(look, target.values(look.z), stack)
    np.testing.assert_allclose(other.weights, [0.7, 0.3], atol=0.02)


def test_exact_weights_stay_as_they_are():
    target, means = two_modes()
    stack = normalised(means, np.array([np.eye(2)] * 2), np.log([0.7, 0.3]))
    look = look_draws(stack, np.random.default_rng(0))
    same = balanced(look, target.values(look.z), stack)
    np.testing.assert_allclose(same.weights, stack.weights, rtol=1e-6)


def test_a_climb_of_one_exact_component_ends_at_once(make_gaussian):
    known = make_gaussian(2)
    factor = np.linalg.cholesky(np.linalg.inv(known.precision))
    dense = families.FullRank().init(np.zeros(2), np.ones(2)).of(known.mean, factor)
    state = run(StratifiedDraws(), families.Mixture().start_from(dense), known.target, kind="climb")
    assert state.reason is Reason.CONVERGED
    assert len(state.q.weights) == 1
    assert state.steps <= 3
