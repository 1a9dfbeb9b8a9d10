"""Stochastic gradients take any optimiser, undo steps that are not finite, and end without gain."""

import jax.numpy as jnp
import numpy as np
import optax
from solver_runs import placed, run

import infimum
from infimum.solvers import Reason, StochasticGradient


def test_stochastic_takes_any_optax_optimiser(make_gaussian):
    known = make_gaussian(2)
    solver = StochasticGradient(optax.sgd(0.05))
    fit = infimum.fit(known.target, "fullrank", solver=solver, starts=1)
    assert known.kl_from(fit.q) < 0.05


def test_adam_finds_its_own_step_size(make_gaussian):
    known = make_gaussian(2)
    state = run(StochasticGradient(), placed("fullrank", np.zeros(2), np.ones(2)), known.target)
    assert state.reason is Reason.CONVERGED
    assert known.kl_from(state.q) < 0.01
    assert state.info.n_steps > state.steps  # the first epoch is tried with several step sizes


def test_steps_without_a_finite_gradient_are_undone():
    def half(z):
        return jnp.sqrt(2.0 - z[0]) - 0.5 * z @ z

    target = infimum.Target(half, np.zeros(2))
    q = placed("meanfield", np.zeros(2), np.full(2, 0.7))
    state = run(StochasticGradient(max_steps=2), q, target)
    assert state.info.n_undefined > 0
    assert np.isfinite(state.q.mean).all()


def test_it_never_grows(make_gaussian):
    state = run(
        StochasticGradient(max_steps=1),
        placed("meanfield", np.zeros(2), np.ones(2)),
        make_gaussian(2).target,
    )
    assert state.reason is Reason.STEPS
    assert not StochasticGradient().grow(state)
