"""Code outside JAX: errors in mid-run are counted and shown, and Ctrl-C ends the fit."""

import numpy as np
import pytest

import infimum
from infimum.solvers import StochasticGradient
from infimum.solvers._solver import Reason


def normal(z):
    """log Z = log 2 at d = 3, with its gradient."""
    return np.log(2) - 1.5 * np.log(2 * np.pi) - 0.5 * z @ z, -z


def test_an_error_inside_a_compiled_loop_is_survived_too():
    def picky(z):
        if z[0] > 1.5:
            raise ZeroDivisionError
        return -0.5 * np.sum(z**2), -z

    fit = infimum.fit(
        infimum.from_numpy(picky, 2),
        "meanfield",
        solver=StochasticGradient(max_steps=1),
        draws=400,
        starts=1,
    )
    assert fit.work.n_undefined > 0
    assert "ZeroDivisionError" in fit.work.first_failure
    assert fit.verdict == "unreliable"


@pytest.mark.parametrize("batched", [False, True])
def test_an_error_at_a_point_is_survived_counted_and_shown(batched):
    def picky(z):
        if np.any(z[..., 0] > 1.5):
            raise np.linalg.LinAlgError("matrix is singular")
        return -0.5 * np.sum(z**2, axis=-1), -z

    fit = infimum.fit(infimum.from_numpy(picky, 2, batched=batched), "meanfield", draws=400)
    assert fit.work.n_failed > 0
    assert "LinAlgError: matrix is singular" in " ".join(str(fit).split())
    assert fit.verdict == "unreliable"
    assert np.isnan(fit.elbo.value)


def test_errors_of_an_earlier_fit_are_not_counted_again():
    fail = [True]

    def sometimes(z):
        if fail[0] and z[0] > 0.5:
            raise ZeroDivisionError
        return normal(z)

    target = infimum.from_numpy(sometimes, 3)
    assert infimum.fit(target, "meanfield", draws=200).work.n_failed > 0
    fail[0] = False
    assert infimum.fit(target, "meanfield", draws=200).work.n_failed == 0


@pytest.mark.parametrize("solver", [None, StochasticGradient(max_steps=2)])
def test_ctrl_c_in_the_users_code_returns_the_best_so_far(solver):
    """Also where the code runs inside a compiled loop."""
    calls = [0]

    def interrupting(z):
        calls[0] += 1
        if calls[0] == (400 if solver is None else 3000):
            raise KeyboardInterrupt
        return np.sum(3 * z - np.exp(z)), 3 - np.exp(z)

    target = infimum.from_numpy(interrupting, 3)
    fit = infimum.fit(target, "meanfield", solver=solver, starts=1)
    assert fit.reason is Reason.INTERRUPTED
    assert fit.advice.startswith("Interrupted")
    assert np.isfinite(fit.sample(5)).all()
