"""The time limit of a fit of one family."""

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum.solvers import StochasticGradient
from infimum.solvers._solver import Reason


@pytest.mark.parametrize("family", ["meanfield", "fullrank", "flow"])
def test_a_fit_of_one_family_ends_when_its_budget_is_spent(family, skewed):
    fit = infimum.fit(skewed, family, budget=1e-3)
    assert fit.reason is Reason.INTERRUPTED
    assert np.isfinite(fit.elbo.value)
    assert fit.advice.startswith("Interrupted")


def test_enough_is_no_limit(skewed, skewed_fit):
    fit = infimum.fit(skewed, "fullrank", budget=1000.0)
    assert fit.elbo == skewed_fit.elbo
    with pytest.raises(ValueError, match="budget is -1, expected a positive number of seconds"):
        infimum.fit(skewed, "fullrank", budget=-1)


def test_a_budget_is_repeated_from_a_checkpoint(skewed, tmp_path):
    options = {"checkpoint": tmp_path / "job", "budget": 1e-3}
    first = infimum.fit(skewed, "fullrank", **options)
    again = infimum.fit(skewed, "fullrank", **options)
    assert again.elbo == first.elbo
    assert again.reason is Reason.INTERRUPTED


def test_a_family_with_a_search_of_its_own_takes_no_solver():
    target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(12))
    with pytest.raises(ValueError, match=r"'nested' has a search of its own.*E310"):
        infimum.fit(target, "nested", solver=StochasticGradient())
    fit = infimum.fit(target, solver=StochasticGradient(max_steps=5))
    assert "nested" in [name for name, _ in fit.route.skipped]
