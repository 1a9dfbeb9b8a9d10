"""The replay: a resumed run gets the answers of the clock that earlier runs got."""

import numpy as np
import pytest

from infimum.target.journal.replay import Replay
from infimum.target.journal.state import NEW_STATE


def state(**changes):
    return {**NEW_STATE, **changes}


def never():
    raise AssertionError("the clock must not be asked")


def test_decisions_are_taken_once():
    replay = Replay(state(decisions=["flow", 3]))
    assert replay.decide(never) == ("flow", True)
    assert replay.decide(never) == (3, True)
    assert not replay.changed
    assert replay.decide(lambda: ("lowrank", 2.0)) == (["lowrank", 2.0], False)  # as JSON has it
    assert replay.changed
    assert replay.written(0, 0, 0)["decisions"] == ["flow", 3, ["lowrank", 2.0]]


def test_looks_of_earlier_runs_are_not_asked_again():
    replay = Replay(state(looks=3, seconds=10.0))
    assert [replay.time_is_up(never) for _ in range(3)] == [False] * 3
    assert replay.follows
    assert not replay.changed
    assert not replay.time_is_up(lambda: False)
    assert replay.changed
    assert not replay.follows
    assert replay.time_is_up(lambda: True)
    assert replay.time_is_up(never)
    assert replay.seconds == pytest.approx(10.0, abs=0.5)
    assert {"looks": 4, "over": 5}.items() <= replay.written(0, 0, 0).items()


def test_time_that_was_up_stays_up():
    replay = Replay(state(looks=2, over=3))
    assert [replay.time_is_up(never) for _ in range(5)] == [False, False, True, True, True]
    assert not replay.changed
    assert {"looks": 2, "over": 3}.items() <= replay.written(0, 0, 0).items()


def test_processes_follow_the_time_that_was_up_as_far_as_all_can(monkeypatch):
    """One of two was killed eight looks after what the other one had written down."""

    def answers(here, there):
        monkeypatch.setattr(
            "infimum.base.processes.gathered",
            lambda array: np.stack([array, [there[0], there[1] or 0]]),
        )
        replay = Replay(state(looks=here[0], over=here[1]), shared=True)
        clock = iter([False] * 3 + [True])
        return [replay.time_is_up(lambda: next(clock)) for _ in range(30)]

    assert answers((20, 21), (20, 21)) == [False] * 20 + [True] * 10
    assert answers((20, 21), (12, None)) == [False] * 15 + [True] * 15
