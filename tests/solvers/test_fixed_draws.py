"""Fixed draws grow while they are too few, and their error predicts what they lose."""

import jax.numpy as jnp
import numpy as np
import pytest
from solver_runs import placed, run

import infimum
from infimum import families
from infimum.solvers import FixedDraws, Reason


def test_fixed_draws_grow_while_they_are_too_few(skewed):
    q = families.named("fullrank").init(np.zeros(2), np.ones(2))
    loose = run(FixedDraws(tolerance=1.0), q, skewed)
    tight = run(FixedDraws(tolerance=0.001), q, skewed)
    assert loose.n_draws == 64 < tight.n_draws
    assert tight.error <= 0.001 < loose.error
    assert tight.reason is loose.reason is Reason.CONVERGED


def test_sampling_error_predicts_the_loss_of_few_draws(skewed):
    """The estimated error of 64 draws against what they truly lose, on average over seeds."""
    best = infimum.fit(skewed, "fullrank", tolerance=1e-4)
    q = families.named("fullrank").init(np.zeros(2), np.ones(2))
    eps = np.random.default_rng(9).standard_normal((20_000, 2))

    def elbo(q):
        return np.mean(skewed.values(q.push(eps)) - q.log_prob_base(eps))

    states = [run(FixedDraws(tolerance=1.0), q, skewed, seed) for seed in range(20)]
    lost = np.mean([elbo(best.q) - elbo(state.q) for state in states])
    told = np.mean([state.error for state in states])
    assert 0.3 < lost / told < 3


def test_draws_end_at_the_most_that_a_solver_takes(skewed, monkeypatch):
    monkeypatch.setattr("infimum.solvers.fixed_draws.MOST_DRAWS", 128)
    state = run(FixedDraws(tolerance=1e-9), placed("fullrank", np.zeros(2), np.ones(2)), skewed)
    assert state.reason is Reason.DRAWS
    assert state.n_draws == 128
    assert not FixedDraws(tolerance=1e-9).grow(state)


def test_a_start_without_density_is_lost():
    target = infimum.Target(lambda z: jnp.where(z[0] > 1e4, -0.5 * z @ z, -jnp.inf), np.zeros(2))
    state = run(FixedDraws(), placed("fullrank", np.zeros(2), np.ones(2)), target)
    assert state.reason is Reason.LOST
    assert state.info.n_zero == state.info.n_gradients == 64


@pytest.mark.parametrize("dim", [1, 5])
def test_a_gaussian_target_is_exact_to_rounding(dim, make_gaussian):
    known = make_gaussian(dim)
    state = run(FixedDraws(), placed("fullrank", np.zeros(dim), np.full(dim, 0.5)), known.target)
    assert state.reason.converged
    assert known.kl_from(state.q) < 1e-10
    assert state.error < 1e-10
