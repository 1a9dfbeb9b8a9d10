"""A checkpoint that version 0.1.0 made is opened, and all of its answers are read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from infimum import CheckpointError
from infimum.target.journal import journal
from infimum.target.journal.journal import Journal

OLD = Path(__file__).parents[2] / "data" / "checkpoint"
STATE = json.loads((OLD / "checkpoint.json").read_text())
RECORDED = ("infimum", "jax", "numpy", "devices")
"""The entries of a job that say on what it was made."""


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def opened(folder, monkeypatch, **changes):
    versions = {name: STATE["job"][name] for name in RECORDED}
    monkeypatch.setattr(journal, "versions", lambda: {**versions, **changes})
    return Journal.open(folder, {k: v for k, v in STATE["job"].items() if k not in RECORDED})


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_it_is_opened_and_read(folder, monkeypatch, version):
    old = opened(folder, monkeypatch, infimum=version)
    records = old._records
    kept = [records.read(key) for key in records._extents]
    assert len(kept) == records.whole.n_records == STATE["records"]
    assert records.whole.n_bytes == (folder / "evaluations.bin").stat().st_size
    shapes = [[array.shape for array in record.arrays] for record in kept]
    assert shapes == [[(17,), (17, 10)], [(512,)]]  # gradients of the starts, and a check's values
    assert all(np.isfinite(array).all() for record in kept for array in record.arrays)
    assert [record.note for record in kept] == [[0, None]] * len(kept)
    old.close()
    assert (folder / "checkpoint.json").read_bytes() == (OLD / "checkpoint.json").read_bytes()


def test_its_first_answer_must_be_given_again(folder, monkeypatch):
    old = opened(folder, monkeypatch, infimum="0.2.0")
    first, kept = old._records.first, old._records.read(old._records.first)
    other = kept._replace(arrays=[kept.arrays[0] + 1e-9, *kept.arrays[1:]])
    with pytest.raises(CheckpointError, match="other data or another density"):
        old.recall(first, lambda: other)
    assert old.recall(first, lambda: kept).note == kept.note
    old.close()


def test_a_version_that_takes_other_steps_is_refused(folder, monkeypatch):
    with pytest.raises(CheckpointError, match=r"its infimum is 0\.1\.0, that of this call is 9\.9"):
        opened(folder, monkeypatch, infimum="9.9")
