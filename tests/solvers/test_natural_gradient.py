"""Natural gradients on few draws: one step for a Gaussian, and a hand-over with noise to come."""

import jax.numpy as jnp
import numpy as np
import pytest
from solver_runs import placed, run

import infimum
from infimum.solvers import NaturalGradient, Reason


@pytest.mark.parametrize("family", ["fullrank", "meanfield"])
def test_a_gaussian_near_by_takes_one_step(family, make_gaussian):
    """Whitened draws integrate its curvature exactly."""
    known = make_gaussian(4)
    scale = 1 / np.sqrt(np.diag(known.precision))
    q = placed(family, known.mean + 0.5 * scale, scale)
    state = run(NaturalGradient(), q, known.target)
    assert state.reason is Reason.CONVERGED
    assert state.steps <= 3
    np.testing.assert_allclose(state.q.mean, known.mean, atol=1e-8)
    if family == "fullrank":
        assert known.kl_from(state.q) < 1e-10


def test_it_hands_over_near_the_optimum(skewed):
    state = run(NaturalGradient(), placed("fullrank", np.full(2, 2.0), np.full(2, 0.2)), skewed)
    assert state.reason is Reason.CONVERGED
    best = infimum.fit(skewed, "fullrank")
    rng = np.random.default_rng(1)
    eps = rng.standard_normal((20_000, 2))
    gap = [np.mean(q.log_prob_base(eps) - skewed.values(q.push(eps))) for q in (state.q, best.q)]
    assert gap[0] - gap[1] < 0.5
    assert not NaturalGradient().grow(state)


def test_a_wide_start_is_narrowed_until_its_draws_have_a_density():
    """Outside a unit ball the density is undefined: a start of sd 50 is halved into it."""
    target = infimum.Target(lambda z: jnp.where(z @ z < 1, -200 * z @ z, jnp.nan), np.full(2, 0.01))
    state = run(NaturalGradient(), placed("fullrank", np.zeros(2), np.full(2, 50.0)), target)
    assert state.reason is Reason.CONVERGED
    assert state.info.n_undefined > 3
    np.testing.assert_allclose(state.q.variance(), 1 / 400, rtol=0.01)


def test_a_start_without_density_is_lost():
    target = infimum.Target(lambda z: jnp.where(z[0] > 1e4, -0.5 * z @ z, -jnp.inf), np.zeros(2))
    state = run(NaturalGradient(), placed("fullrank", np.zeros(2), np.ones(2)), target)
    assert state.reason is Reason.LOST
