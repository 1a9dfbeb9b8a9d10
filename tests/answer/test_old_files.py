"""Fits that version 0.1.0 saved still load, and say the same."""

from pathlib import Path

import jax
import numpy as np
import pytest

import infimum

FOLDER = Path(__file__).parents[1] / "data"

SAVED = {
    "small-meanfield": ("meanfield", "unreliable", 2.7626463311316423, 3.1566113824405013),
    "small-flow": ("flow", "good", 3.1045092587864795, 3.10490425678367),
    "small-mixture": ("mixture", "reweight", 3.084416863264142, 3.1058102463170867),
    "schools-auto": ("flow", "good", -31.042995717784112, -31.03959261496255),
}
"""Family, verdict, ELBO and log Z, as 0.1.0 printed them."""

FIRST = {"small-meanfield": 0.0582502685616503, "schools-auto": 6.778597978717507}
"""The first number of `sample(3, seed=1)`, as 0.1.0 drew it."""


@pytest.mark.parametrize("name", SAVED)
def test_an_old_fit_says_what_it_said(name):
    fit = infimum.load(FOLDER / f"{name}.zip")
    family, verdict, elbo, log_z = SAVED[name]
    assert (fit.family.name, fit.verdict) == (family, verdict)
    np.testing.assert_allclose([fit.elbo.value, fit.log_evidence.value], [elbo, log_z], rtol=1e-12)


@pytest.mark.parametrize("name", FIRST)
def test_an_old_fit_draws_what_it_drew(name):
    draws = infimum.load(FOLDER / f"{name}.zip").sample(3, seed=1)
    first = np.ravel(jax.tree_util.tree_leaves(draws)[0])[0]
    np.testing.assert_allclose(first, FIRST[name], rtol=1e-9)


def test_an_old_fit_is_saved_again_as_it_was(tmp_path):
    fit = infimum.load(FOLDER / "schools-auto.zip")
    again = infimum.load(fit.save(tmp_path / "again.zip"))
    assert again.route == fit.route
    assert again.unseen_mass == fit.unseen_mass
    np.testing.assert_array_equal(again.log_weights, fit.log_weights)
