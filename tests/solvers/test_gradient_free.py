"""Without gradients: exact for a quadratic, more draws for what is not one."""

import jax.numpy as jnp
import numpy as np
import pytest
from solver_runs import placed, run

import infimum
from infimum.solvers import GradientFree, Reason


@pytest.mark.parametrize("family", ["fullrank", "meanfield"])
def test_a_gaussian_is_exact(family, make_gaussian):
    known = make_gaussian(3)
    q = placed(family, known.mean + 0.3, 1 / np.sqrt(np.diag(known.precision)))
    state = run(GradientFree(), q, known.target)
    assert state.reason is Reason.CONVERGED
    assert state.error < 1e-9
    np.testing.assert_allclose(state.q.mean, known.mean, atol=1e-5)
    if family == "fullrank":
        assert known.kl_from(state.q) < 1e-9


def test_draws_are_multiplied_for_what_is_no_quadratic(skewed):
    q = placed("fullrank", np.full(2, 0.5), np.full(2, 0.5))
    loose, tight = (run(GradientFree(tolerance=t), q, skewed) for t in (1.0, 0.001))
    assert loose.n_draws < tight.n_draws
    assert tight.reason is Reason.CONVERGED
    assert tight.error <= 0.001 < loose.error


def test_it_asks_for_no_gradient():
    target = infimum.Target(lambda z: -0.5 * jnp.sum((z - 1) ** 2), np.zeros(2))
    calls = []
    target.value_and_gradient = lambda z: calls.append(z)
    state = run(GradientFree(), placed("fullrank", np.zeros(2), np.ones(2)), target)
    assert state.reason is Reason.CONVERGED
    assert not calls


def test_too_many_dimensions_for_a_quadratic_are_refused():
    assert GradientFree().accepts(placed("fullrank", np.zeros(50), np.ones(50)))
    assert not GradientFree().accepts(placed("fullrank", np.zeros(100), np.ones(100)))
