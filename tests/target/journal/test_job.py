"""The job of a checkpoint: arguments in words, and what counts as the same job."""

import numpy as np

import infimum
from infimum.target.journal.job import SAME_STEPS, described, first_difference

RENAMED = {"Natural": "NaturalGradient"}
JOB = {"family": "FullRank()", "solver": "[NaturalGradient(max_steps=40)]", "infimum": "0.2.0"}


def difference(**changes):
    return first_difference({**JOB, **changes}, JOB, RENAMED)


def test_this_version_takes_the_steps_of_those_it_names():
    assert infimum.__version__ in SAME_STEPS
    assert difference() is None
    assert difference(infimum="0.1.0") is None
    assert difference(infimum="0.0.9") == "infimum"


def test_solvers_may_have_their_old_names_and_nothing_else():
    assert difference(solver="[Natural(max_steps=40)]") is None
    assert difference(solver="[Natural(max_steps=41)]") == "solver"
    assert difference(solver="[Unnatural(max_steps=40)]") == "solver"
    assert difference(family="MeanField()") == "family"


def test_an_argument_that_is_missing_is_another_one():
    assert first_difference(JOB, {**JOB, "budget": "None"}, RENAMED) == "budget"
    assert first_difference({**JOB, "budget": "None"}, JOB, RENAMED) == "budget"


def test_words_are_the_same_in_every_process_and_tell_arrays_apart():
    assert described(test_words_are_the_same_in_every_process_and_tell_arrays_apart).endswith(
        "tell_arrays_apart>"
    )
    assert described(None) == "None"
    wide = np.zeros(5000), np.eye(1, 5000, 2500)[0]  # both are printed with dots
    assert described(wide[0]) != described(wide[1])
