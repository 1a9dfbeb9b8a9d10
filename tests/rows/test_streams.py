"""Streams of blocks: read ahead, and cut to another size."""

import numpy as np
import pytest

from infimum.rows import streams


def test_reading_ahead_gives_the_same_blocks_and_stops_when_left():
    blocks = [np.full(3, i) for i in range(7)]
    assert np.array_equal(
        np.concatenate(list(streams.read_ahead(iter(blocks)))), np.repeat(range(7), 3)
    )
    reader = streams.read_ahead(iter(blocks))
    next(reader)
    reader.close()

    def broken():
        yield np.zeros(2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(streams.read_ahead(broken()))


@pytest.mark.parametrize("size", [1, 3, 4, 10, 50])
def test_resized_blocks_have_the_same_rows(size):
    parts = [{"x": part} for part in np.split(np.arange(23), [2, 2, 9, 20])]
    sizes = [len(block["x"]) for block in streams.resize(parts, size)]
    assert sizes == [size] * (23 // size) + [23 % size] * (23 % size > 0)
    rows = np.concatenate([block["x"] for block in streams.resize(parts, size)])
    np.testing.assert_array_equal(rows, np.arange(23))
    index = np.array([0, 1, 9, 22])
    np.testing.assert_array_equal(streams.rows_by_number(parts, index)["x"], index)
