"""Stopping: one exception for what ends early, caught in one place."""

import pytest

from infimum.base.stopping import Stop, Stopped


@pytest.mark.parametrize("exception", [Stopped, KeyboardInterrupt])
def test_work_that_may_be_cut_short_is_left_where_it_is(exception):
    stop, done = Stop(), []
    with stop.cut_short():
        done.append("before")
        raise exception
    assert done == ["before"]
    assert stop.requested


def test_after_a_stop_nothing_else_begins():
    stop = Stop()
    stop.check()
    with stop.cut_short():
        raise Stopped
    with pytest.raises(Stopped):
        stop.check()


def test_other_errors_pass():
    stop = Stop()
    with pytest.raises(ValueError, match="own"), stop.cut_short():
        raise ValueError("own")
    assert not stop.requested


def test_a_density_guarded_against_errors_lets_a_stop_pass():
    assert not issubclass(Stopped, Exception)
