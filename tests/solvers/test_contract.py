"""The contract of a solver, held by every file in solvers/."""

import importlib
import pkgutil

import numpy as np
import pytest
from solver_runs import placed, run

import infimum
from infimum import families, solvers
from infimum.families._family import Searched
from infimum.solvers import (
    FixedDraws,
    NaturalGradient,
    Reason,
    Solver,
    StochasticGradient,
    SubspaceNewton,
)
from infimum.solvers._registry import RENAMED

HELPERS = {"Info", "Reason", "Solver", "State", "members", "plan"}
"""What `infimum.solvers` exports besides its members."""


def served(solver):
    """The classic families, if it moves them; else the ones that it is for."""
    able = [
        name
        for name, family in families.members().items()
        if not issubclass(family, Searched)
        and solver().accepts(placed(name, np.zeros(2), np.ones(2)))
    ]
    return [name for name in ("meanfield", "fullrank") if name in able] or able


PAIRS = [(solver.__name__, family) for solver in solvers.members() for family in served(solver)]


def test_all_lists_the_helpers_and_the_members():
    """Members are found by the file system; `__all__` lists them for readers and for tools."""
    assert set(solvers.__all__) == HELPERS | {solver.__name__ for solver in solvers.members()}
    assert set(dir(solvers)) == set(solvers.__all__)


def test_each_file_holds_one_solver():
    files = [file.name for file in pkgutil.iter_modules(solvers.__path__)]
    modules = [f"infimum.solvers.{name}" for name in files if not name.startswith("_")]
    homes = [solver.__module__ for solver in solvers.members()]
    assert sorted(home.rpartition(".")[0] if home not in modules else home for home in homes) == (
        sorted(modules)
    )
    assert all(importlib.import_module(name).__doc__ for name in modules)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_works_and_names_the_new_one(old, new):
    with pytest.warns(DeprecationWarning, match=rf"solvers\.{old} is now called .*\.{new}; .*W103"):
        assert getattr(solvers, old) is getattr(solvers, new)


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'Newton'"):
        solvers.Newton  # noqa: B018


def test_every_solver_serves_a_family():
    assert {name for name, _ in PAIRS} == {solver.__name__ for solver in solvers.members()}


@pytest.mark.parametrize(("name", "family"), PAIRS)
class TestContract:
    def test_says_what_it_requires(self, name, family):
        solver = getattr(solvers, name)
        assert "Requires: " in solver.__doc__
        assert solver().max_steps > 0

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
