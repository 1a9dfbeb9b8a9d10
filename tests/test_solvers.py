"""The contract of a solver, held by every file in solvers/; and what each is exact at."""

import numpy as np
import pytest

import infimum
from infimum import families
from infimum import solvers
from infimum.solvers._solver import Info
from infimum.solvers._solver import Reason
from infimum.solvers._solver import Solver
from infimum.solvers import FixedDraws
from infimum.solvers import NaturalGradient
from infimum.solvers import StochasticGradient
from infimum.solvers import SubspaceNewton


def placed(family, mean, scale):
    """A member of the family; sparse is given every pair, and is then full-rank."""
    if family == "sparse":
        edges = np.array(np.tril_indices(len(mean), -1))
        return families.Sparse(edges).init(mean, scale)
    return families.named(family).init(mean, scale)


def run(solver, q, target, seed=0):
    """One start to its end."""
    state = solver.init(q, Info("cold"), np.random.default_rng(seed))
    while state.reason is None:
        solver.step([state], target)
    return state


def served(solver):
    """The classic families, if it moves them; else the ones that it is for."""
    able = [
        name
        for name in families.members()
        if solver().accepts(placed(name, np.zeros(2), np.ones(2)))
    ]
    return [name for name in ("meanfield", "fullrank") if name in able] or able


PAIRS = [(solver.__name__, family) for solver in solvers.members() for family in served(solver)]


def test_every_solver_serves_a_family():
    assert {name for name, _ in PAIRS} == {solver.__name__ for solver in solvers.members()}


@pytest.mark.parametrize(("name", "family"), PAIRS)
class TestContract:
    def test_improves_a_start_and_says_why_it_stopped(self, name, family, make_gaussian):
        known = make_gaussian(3)
        solver = getattr(solvers, name)()
        q = placed(family, np.zeros(3), np.full(3, 0.3))
        assert isinstance(solver, Solver)
        state = run(solver, q, known.target)
        assert isinstance(state.reason, Reason)
        assert state.reason.converged
        precision = np.diag(known.precision)
        left = 0.5 * (np.log(precision).sum() - np.linalg.slogdet(known.precision)[1])
        best = known.log_z - (left if family == "meanfield" else 0.0)
        assert abs(-state.loss - best) < 0.06
        assert type(state.q) is type(q)
        assert state.info.n_gradients > 0
        if family in ("fullrank", "mixture"):
            assert known.kl_from(state.q) < 0.06

    def test_same_generator_same_answer(self, name, family, make_gaussian):
        known = make_gaussian(2)
        q = placed(family, np.zeros(2), np.ones(2))
        a, b = (run(getattr(solvers, name)(), q, known.target, seed=5) for _ in range(2))
        for key, leaf in a.q.arrays().items():
            np.testing.assert_array_equal(leaf, b.q.arrays()[key])
        assert a.loss == b.loss

    def test_stops_at_its_limit_of_steps(self, name, family, skewed):
        q = placed(family, np.full(2, 4.0), np.full(2, 0.01))
        state = run(getattr(solvers, name)(max_steps=1), q, skewed)
        assert state.reason is Reason.STEPS


def test_plan_takes_the_best_and_falls_back_to_the_general():
    q = families.named("fullrank").init(np.zeros(2), np.ones(2))
    assert [type(solver) for solver in solvers.plan(q)] == [NaturalGradient, FixedDraws]
    large = families.named("meanfield").init(np.zeros(5000), np.ones(5000))
    assert [type(solver) for solver in solvers.plan(large)] == [SubspaceNewton]
    assert [type(solver) for solver in solvers.plan(object())] == [StochasticGradient]


@pytest.mark.parametrize(
    ("dim", "condition", "scale"),
    [(1, 1, 1.0), (2, 1e8, 1.0), (10, 1e8, 1e-4), (40, 1e4, 1e4), (200, 1e8, 1.0)],
)
class TestGaussianTarget:
    def test_fullrank_is_exact(self, dim, condition, scale, make_gaussian):
        known = make_gaussian(dim, condition, scale)
        fit = infimum.fit(known.target, "fullrank")
        assert abs(known.kl_from(fit.q)) < 1e-6
        assert abs(fit.log_evidence.value - known.log_z) < 1e-8 * abs(known.log_z)
        assert fit.kl.value < 1e-6
        assert fit.verdict == "good"

    def test_meanfield_meets_its_closed_form(self, dim, condition, scale, make_gaussian):
        known = make_gaussian(dim, condition, scale)
        q = infimum.fit(known.target, "meanfield").q
        precision = np.diag(known.precision)
        np.testing.assert_allclose((q.mean - known.mean) * np.sqrt(precision), 0, atol=1e-6)
        np.testing.assert_allclose(q.scale**2 * precision, 1, rtol=1e-6)


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


def test_stochastic_takes_any_optax_optimiser(make_gaussian):
    import optax

    known = make_gaussian(2)
    solver = StochasticGradient(optax.sgd(0.05))
    fit = infimum.fit(known.target, "fullrank", solver=solver, starts=1)
    assert known.kl_from(fit.q) < 0.05


def test_zero_density_is_survived_and_counted():
    import jax.numpy as jnp

    target = infimum.Target(
        lambda z: jnp.where(z[0] > -1.0, -0.5 * z[0] ** 2, -jnp.inf), np.zeros(1)
    )
    fit = infimum.fit(target, "fullrank")
    truth = 0.5 * np.log(2 * np.pi) + np.log(0.8413447)
    assert fit.work.n_zero > 0
    assert fit.zero_fraction < 0.2
    assert abs(fit.log_evidence.value - truth) < 5 * fit.log_evidence.se + 1e-3
    assert fit.elbo.value < truth
    assert "zero density" in str(fit)
    assert np.all(fit.sample(500, weighted=True) > -1)


def test_undefined_density_is_survived_counted_and_shown():
    import jax.numpy as jnp

    target = infimum.Target(lambda p: -10 * (p["a"] - 1.0) ** 2 + jnp.log(p["a"]), {"a": 0.5})
    fit = infimum.fit(target, "fullrank")
    assert np.isfinite(fit.q.mean).all()
    assert fit.work.n_undefined > 0
    assert "a = -" in fit.work.first_undefined
    if not np.isfinite(fit.elbo.value):
        assert fit.verdict == "unreliable"
        assert "undefined" in fit.advice
