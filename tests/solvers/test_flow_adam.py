"""Adam in rounds: one flow for one seed, no step if nothing is left, none into NaN."""

import jax.numpy as jnp
import numpy as np
import pytest
from solver_runs import run

import infimum
from infimum import families
from infimum.solvers import FlowAdam, Reason


def banana(z):
    """A bent normal: x ~ N(0, 1), y ~ N(x², 1), with log Z = log 2π + 3."""
    return 3.0 - 0.5 * z[0] ** 2 - 0.5 * (z[1] - z[0] ** 2) ** 2


def test_the_same_seed_gives_the_same_flow():
    target = infimum.Target(banana, np.zeros(2))
    solver = FlowAdam(max_steps=3)
    q = families.Flow().init(np.zeros(2), np.ones(2))
    ends = [run(solver, q, target, seed=4) for _ in range(2)]
    assert ends[0].loss == ends[1].loss
    assert ends[0].reason is Reason.STEPS


def test_nothing_is_learned_where_nothing_is_left():
    """The look before the first step sees that q is near: no gradient is spent."""
    target = infimum.Target(lambda z: 2.0 - 0.5 * jnp.sum(z**2), np.zeros(3))
    fit = infimum.climb(target, ["fullrank", "flow"], tol=0).fits[-1]
    assert fit.starts[0].n_steps == 1
    assert fit.kl.value < 1e-9


def test_undefined_draws_are_rejected_and_named():
    """NaN beyond 3: steps that meet it are undone, and the answer is not called good."""

    def half(p):
        return jnp.where(
            p["a"] > 3, jnp.nan, -0.5 * p["a"] ** 2 - 0.5 * (p["b"] - p["a"] ** 2) ** 2
        )

    target = infimum.Target(half, {"a": 0.0, "b": 0.0})
    q = families.Flow().init(np.zeros(2), np.ones(2))
    state = run(FlowAdam(max_steps=2), q, target)
    assert state.info.n_undefined > 0
    assert state.info.first_undefined[0] > 3


def test_it_moves_flows_only():
    q = families.FullRank().init(np.zeros(2), np.ones(2))
    assert not FlowAdam().accepts(q)
    assert FlowAdam().accepts(families.Flow().start_from(q))


@pytest.mark.parametrize("base", ["fullrank", "sparse"])
def test_a_base_on_the_host_learns_as_a_compiled_one_does(base):
    """A sparse base stays on the host, where the target's gradient pulls on the flow's draws."""
    target = infimum.Target(banana, np.zeros(2))
    family = families.Sparse(np.array([[1], [0]])) if base == "sparse" else families.FullRank()
    start = family.init(np.array([0.0, 0.7]), np.array([0.7, 0.9]))
    q = families.Flow(base, layers=2, width=8).start_from(start)
    state = run(FlowAdam(max_steps=2), q, target)
    before = np.mean(start.log_prob_base(state.look) - target.values(start.push(state.look)))
    assert state.loss < before - 0.1
    assert state.q.base is start
