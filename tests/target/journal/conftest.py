"""Checkpoints that keep everything, and one that was begun."""

import numpy as np
import pytest
from checkpoints import CutOffError, stopping

import infimum
from infimum.target.journal import journal


@pytest.fixture
def keeping_all(monkeypatch):
    """Keep what takes no time as well."""
    monkeypatch.setattr(journal, "SECONDS_WORTH_KEEPING", 0.0)
    monkeypatch.setattr(journal, "BYTES_PER_SECOND", np.inf)


@pytest.fixture
def begun(skewed, tmp_path, keeping_all):
    """A checkpoint of a fit that was cut off."""
    folder = tmp_path / "begun"
    with pytest.raises(CutOffError):
        infimum.fit(skewed, "meanfield", checkpoint=folder, callback=stopping(4))
    return folder
