"""The picture of a calibration: lines leave its band where ranks are not uniform."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import infimum
from infimum.trust.ranked import RANKED_DRAWS

LEVELS = RANKED_DRAWS + 1


def made_of(ranks, **changes):
    """A calibration with these ranks."""
    names = tuple(f"x[{i}]" for i in range(ranks.shape[1]))
    facts = {"verdicts": ("good",) * len(ranks), "failures": (), "seconds": 1.0}
    facts |= {"n_data_sets": len(ranks), "name": "made", "family": "fullrank", "weighted": True}
    return infimum.Calibration(ranks, RANKED_DRAWS, names, **{**facts, **changes})


# ---- pipelines that are right, and wrong ones ----------------------------------------------------


def test_lines_leave_the_band_of_the_picture_where_ranks_are_not_uniform():
    ranks = np.random.default_rng(0).integers(0, LEVELS, (100, 3))
    ranks[:, 1] //= 2
    panel = made_of(ranks).plot()
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["uniform ranks", "x[1]"]
    assert "failed" in panel.get_title(loc="left")
    given = plt.figure().add_subplot()
    assert made_of(ranks).plot(names=["x[0]", "x[2]"], axes=given) is given
    assert [text.get_text() for text in given.get_legend().get_texts()] == ["uniform ranks"]
    with pytest.raises(ValueError, match="no quantity 'y'"):
        made_of(ranks).plot(names=["y"])
