"""Newton on a sparse pattern: exact on Gaussians, at the optimum of full-rank, robust in tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_runs import run
from sparse_models import chain, logistic

import infimum
from infimum import families
from infimum.solvers import Info, Reason, SparseNewton
from infimum.solvers.sparse_newton.acceleration import Acceleration, MeanPrecision
from infimum.solvers.sparse_newton.averaging import Averaging
from infimum.solvers.sparse_newton.expected_hessian import GROUPS, stratified_draws


def test_nothing_is_left_for_full_rank_to_gain():
    """At the optimum over fixed draws, dense natural gradients predict no decrease."""
    target = logistic(12, 5)
    solver = SparseNewton(tolerance=5e-4, draws=512)
    family = families.Sparse().adapted(target, np.random.default_rng(0))
    start = family.init(np.zeros(target.dim), np.full(target.dim, 0.3))
    state = run(solver, start, target)
    assert state.reason.converged
    z = state.q.push(state.eps)
    with jax.enable_x64(True):
        function = target.program.function()
        hessian = jax.jit(jax.vmap(jax.jacfwd(lambda x: function(x)[1])))
        curvature = -np.asarray(hessian(z)).mean(axis=0)
    root = np.asarray(state.q.spread(np.eye(target.dim)))
    whitened = np.linalg.eigvalsh(root @ curvature @ root.T)
    pull = root @ target.value_and_gradient(z)[1].mean(axis=0)
    left = 0.5 * (pull @ pull) + 0.5 * np.sum(whitened - 1 - np.log(whitened))
    assert left < 1e-6


def test_a_start_far_out_in_a_tail_does_not_pass_for_the_best():
    """There log p̂ falls like exp(-exp(x)), and few draws say anything of its mean."""

    def log_density(z):
        step = z[1:] - 0.8 * z[:-1]
        return (2.0 * step - jnp.exp(step)).sum() + 2.0 * z[0] - jnp.exp(z[0])

    target = infimum.Target(log_density, np.zeros(100))
    sparse = infimum.fit(target, "sparse", starts=1, progress=False)
    dense = infimum.fit(target, "fullrank", starts=1, progress=False)
    assert sparse.reason.converged
    assert sparse.elbo.value == pytest.approx(dense.elbo.value, abs=0.3)


def test_a_gaussian_takes_a_few_steps_with_eight_draws():
    target, mean, precision = chain(30)
    q = families.Sparse().adapted(target, np.random.default_rng(0)).init(np.zeros(30), np.ones(30))
    state = run(SparseNewton(), q, target)
    assert state.reason is Reason.CONVERGED
    assert state.n_draws == 8
    assert state.steps < 8
    np.testing.assert_allclose(state.q.mean, mean, atol=1e-7)
    np.testing.assert_allclose(state.q.variance(), np.diag(np.linalg.inv(precision)), rtol=1e-7)


def test_averages_of_fresh_draws_reach_the_optimum():
    """An average of few draws a step is as near as many fixed draws, and says when it is enough."""
    target = logistic(12, 5)
    start = families.Sparse().adapted(target, np.random.default_rng(0))
    start = start.init(np.zeros(target.dim), np.full(target.dim, 0.3))
    fixed = run(SparseNewton(draws=2048, tolerance=1e-3), start, target)
    averaged = run(SparseNewton(end="average", tolerance=0.02), start, target)
    assert averaged.reason is Reason.CONVERGED
    assert averaged.error <= 0.02
    apart = np.asarray(fixed.q.pull_back(np.asarray(averaged.q.mean)))
    assert 0.5 * (apart**2).sum() < 0.1
    np.testing.assert_allclose(averaged.q.variance() / fixed.q.variance(), 1.0, atol=0.25)
    before = averaged.n_draws
    assert SparseNewton(end="average", tolerance=0.02).grow(averaged)
    assert averaged.average.factor == 0.5
    assert averaged.n_draws == before


def test_a_search_may_stop_where_the_first_draws_end():
    target = logistic(12, 5)
    start = families.Sparse().adapted(target, np.random.default_rng(0))
    start = start.init(np.zeros(target.dim), np.full(target.dim, 0.3))
    state = run(SparseNewton(end="stop"), start, target)
    assert state.reason is Reason.DRAWS
    assert state.n_draws == 8


def test_an_average_that_drifts_is_noticed():
    average = Averaging()
    point = MeanPrecision(np.zeros(1), np.ones(1))
    for loss in np.linspace(20.0, 0.0, 8):
        average.add(point, float(loss), 0.1, 0.1, 8)
    assert average.drifts
    still = Averaging()
    for loss in (1.1, 0.9, 1.0, 1.0, 1.1, 0.9, 1.0, 1.0):
        still.add(point, loss, 0.8, 1.6, 8)
    assert not still.drifts
    assert still.error == pytest.approx(0.8 / 8 * 4 / 3)
    assert still.total == pytest.approx(2 * still.error)


def test_draws_are_stratified_in_groups():
    eps = stratified_draws(np.random.default_rng(0), 32, 3)
    assert eps.shape == (32, 3)
    for group in eps.reshape(GROUPS, 8, 3):
        np.testing.assert_array_equal(group[:4], -group[4:])
    assert abs((eps**2).mean() - 1) < 0.2


def test_a_start_hopelessly_behind_is_outrun():
    """Of two starts advanced together, one sits in a second optimum that is far below."""

    def log_density(z):
        away = z - 20, z + 20
        near, far = (-0.5 * x @ x + 0.3 * x[0] * x[1] for x in away)
        return jnp.logaddexp(near, far - 500)

    target = infimum.Target(log_density, np.zeros(2))
    family = families.Sparse(np.array([[1], [0]]))
    solver = SparseNewton()
    states = [
        solver.init(
            family.init(np.full(2, at), np.full(2, 0.5)), Info("cold"), np.random.default_rng(0)
        )
        for at in (20.0, -20.0)
    ]
    solver.step(states, target)
    assert states[0].reason is None
    assert states[1].reason is Reason.OUTRUN


def test_acceleration_solves_a_linear_step():
    """If the whole step is linear in the point, enough remembered steps say where it vanishes."""
    last = np.array([0.1, -0.3])
    q = families.Sparse(np.zeros((2, 0), int)).init(last, np.ones(2))
    matrix, root = np.array([[0.3, 0.1], [0.1, 0.2]]), np.array([1.0, -0.5])
    precision = np.ones(2)
    acceleration = Acceleration()
    for mean in np.array([[0.0, 0.0], [0.2, 0.1], last]):
        goal = mean - matrix @ (mean - root)
        acceleration.remember(MeanPrecision(mean, precision), MeanPrecision(goal, precision))
    point, candidate = acceleration.trial(q)
    np.testing.assert_allclose(point.mean, root, atol=1e-10)
    np.testing.assert_allclose(candidate.mean, root, atol=1e-10)
    acceleration.in_use = True
    acceleration.fail()
    assert acceleration.trial(q) is None


@pytest.mark.parametrize("edge", [1e4, -1e4])
def test_a_start_without_density_is_lost(edge):
    target = infimum.Target(
        lambda z: jnp.where(z[0] / edge > 1, -0.5 * z @ z, -jnp.inf), np.zeros(2)
    )
    q = families.Sparse(np.array([[1], [0]])).init(np.zeros(2), np.ones(2))
    state = run(SparseNewton(), q, target)
    assert state.reason is Reason.LOST
    assert state.narrowings > 20
