"""The contract of corrections: what every function of corrections/ does, and what it returns."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import corrections
from infimum.corrections._corrected import Corrected


class TestHeavyTails:
    """Of 2,000 normal draws whose variance one or more quantities owe to a single one of them."""

    def made(self, n_heavy):
        target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(5))
        fit = infimum.fit(target, "fullrank", starts=1)
        z = np.random.default_rng(0).standard_normal((2000, 5))
        z[7, :n_heavy] = 30.0
        return Corrected(fit, "made", z, lambda x: x.std(axis=0) / np.sqrt(len(x)), why="Tried.")

    def test_a_quantity_whose_sd_one_draw_decides_is_not_good(self):
        made = self.made(1)
        assert list(made.summary()["verdict"]) == ["unreliable", *["good"] * 4]
        assert made.verdict == "good"
        assert "Tried. Few draws decide the sd of z[0], of 1 in all." in str(made)

    def test_draws_of_which_many_quantities_are_so_are_not_good(self):
        assert self.made(0).verdict == "good"
        assert self.made(2).verdict == "unreliable"


# ---- every function of the folder ----------------------------------------------------------------

SMALL = {
    "annealing": {"n": 256},
    "blocks": {"n": 100},
    "importance": {"n": 200},
    "linear_response": {},
    "mcmc": {"n": 50},
}
"""Arguments with which a correction is quick."""


@pytest.fixture
def fit_for(skewed_fit, intercepts):
    """The fit that a correction is for."""
    return lambda name: intercepts[0] if name == "blocks" else skewed_fit


def test_the_folder_is_the_list():
    assert set(SMALL) == set(corrections.__all__)
    folder = Path(corrections.__file__).parent
    members = {path.stem for path in folder.iterdir() if not path.name.startswith("_")}
    assert members == set(corrections.__all__)


@pytest.mark.parametrize("name", corrections.__all__)
def test_each_says_what_it_requires(name):
    assert "Requires:" in getattr(corrections, name).__doc__


@pytest.mark.parametrize("name", corrections.__all__)
def test_each_answers_alike_for_one_seed(name, fit_for):
    correction = getattr(corrections, name)
    one, same, other = (correction(fit_for(name), **SMALL[name], seed=seed) for seed in (0, 0, 1))
    assert isinstance(one, infimum.Fit if name == "linear_response" else Corrected)
    first, again, different = (
        np.asarray(x.points(20) if isinstance(x, infimum.Fit) else x.z) for x in (one, same, other)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, different)
    assert one.verdict in ("good", "reweight", "unreliable")
    assert len(one.summary()) == len(fit_for(name).space.names)


@pytest.mark.parametrize("name", corrections.__all__)
def test_each_needs_the_target(name, fit_for):
    loaded = dataclasses.replace(fit_for(name), target=None)
    with pytest.raises(ValueError, match="loaded from disk"):
        getattr(corrections, name)(loaded)


def test_old_names_work_and_warn(skewed_fit):
    made = corrections.importance(skewed_fit, 50)
    with pytest.warns(DeprecationWarning, match="Corrected.numbers"):
        assert made.told is made.numbers
    with pytest.warns(DeprecationWarning, match="Corrected.attempts"):
        assert made.tried is made.attempts
