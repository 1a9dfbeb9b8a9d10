"""The verb `correct`: the cheapest correction that can be believed."""

import dataclasses

import numpy as np
import pytest

import infimum
from infimum.answer.assessment import Assessment


def test_the_cheapest_that_can_be_believed(skewed_fit, two_modes, intercepts):
    assert infimum.correct(skewed_fit).method == "importance"
    log_p = np.where(np.arange(len(two_modes.log_p)) == 5, 50.0, two_modes.log_p)
    draws = dataclasses.replace(two_modes.weighed, log_p=log_p)
    assessment = Assessment(draws, two_modes.reason)
    lonely = dataclasses.replace(two_modes, assessment=assessment)
    assert lonely.verdict == "unreliable"
    made = infimum.correct(lonely, 4096)
    assert made.method == "annealing"
    assert made.verdict == "good"
    assert "draws in" in str(made)
    assert made.attempts == ()
    with pytest.warns(DeprecationWarning, match="Corrected.attempts"):
        assert made.tried == made.attempts
