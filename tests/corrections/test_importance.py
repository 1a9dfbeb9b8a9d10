"""Importance resampling: right moments, distinct draws if wanted, and named misuse."""

import dataclasses

import numpy as np
import pytest

from infimum import corrections


def test_exactly_n_draws_with_the_right_moments(skewed_fit):
    """exp(a) ~ Gamma(3), b ~ Gamma(2)."""
    made = corrections.importance(skewed_fit, 4000)
    assert len(made) == len(made.sample()["b"]) == 4000
    assert made.verdict == "good"
    assert made.numbers["unique"] > 2000
    table = made.summary()
    assert abs(table.loc["b", "mean"] - 2) < 4 * table.loc["b", "mcse"]
    assert abs(made.log_evidence.value - np.log(2)) < 4 * made.log_evidence.se


def test_without_replacement_all_are_distinct(skewed_fit):
    made = corrections.importance(skewed_fit, 500, replace=False)
    assert made.numbers["unique"] == 500
    assert len(np.unique(made.z[:, 0])) == 500


def test_seeds_decide(skewed_fit):
    one, same, other = (corrections.importance(skewed_fit, 50, seed=s).z for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_wrong_use(skewed_fit):
    with pytest.raises(ValueError, match="positive number"):
        corrections.importance(skewed_fit, 0)
    with pytest.raises(ValueError, match="loaded from disk"):
        corrections.importance(dataclasses.replace(skewed_fit, target=None))
    with pytest.raises(ValueError, match="this correction made 50"):
        corrections.importance(skewed_fit, 50).sample(51)
