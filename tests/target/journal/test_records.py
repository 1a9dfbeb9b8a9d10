"""The records of a checkpoint: what they hold, and a tail that a kill has torn."""

import os

import numpy as np
import pytest
from checkpoints import CutOffError, bits, stopping

import infimum
from infimum.target.journal.records import Record, Records, WholePart, digest, same_bits


def record(*arrays, note=None):
    return Record([np.asarray(array) for array in arrays], note)


RECORDS = {
    b"a" * 16: record(np.arange(6.0).reshape(2, 3), [True, False], note=[2, "ValueError: no"]),
    b"b" * 16: record(np.array(np.nan), np.zeros((0, 4), np.float32), note=[0, None]),
    b"c" * 16: record(),
}


def test_records_are_read_back_bit_for_bit(tmp_path):
    with (tmp_path / "evaluations.bin").open("w+b") as file:
        records = Records(tmp_path, file, WholePart())
        for key, value in RECORDS.items():
            records.add(key, value)
        again = Records(tmp_path, file, records.whole)
        assert again.first == b"a" * 16
        assert b"d" * 16 not in again
        for key, value in RECORDS.items():
            assert same_bits(again.read(key), value)
            assert again.read(key).note == value.note


def test_a_record_that_changes_while_it_is_open_is_noticed(tmp_path):
    with (tmp_path / "evaluations.bin").open("w+b") as file:
        records = Records(tmp_path, file, WholePart())
        records.add(b"a" * 16, RECORDS[b"a" * 16])
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
        with pytest.raises(infimum.CheckpointError, match="a record of evaluations"):
            records.read(b"a" * 16)


def test_digests_tell_kinds_shapes_dtypes_and_bits_apart():
    zero, x = np.zeros(2), np.ones(4)
    questions = [
        *(("a", x), ("b", x), ("a", x.reshape(2, 2)), ("a", x.astype(np.float32))),
        *(("a", zero), ("a", -zero), ("a", (zero, x)), ("a", [])),
    ]
    assert len({digest(*question) for question in questions}) == len(questions)
    assert digest("a", {"z": x, "b": zero}) == digest("a", (zero, x))  # leaves in their order


def test_a_torn_tail_is_dropped(skewed, begun):
    whole = infimum.fit(skewed, "meanfield")
    path = begun / "evaluations.bin"
    for more, tail in enumerate((b"\0", path.read_bytes()[:50], os.urandom(3000))):
        kept = path.read_bytes()
        path.write_bytes(kept + tail)
        with pytest.raises(CutOffError):
            infimum.fit(skewed, "meanfield", checkpoint=begun, callback=stopping(6 + more))
        assert path.read_bytes()[: len(kept)] == kept
    assert bits(infimum.fit(skewed, "meanfield", checkpoint=begun)) == bits(whole)
