"""Size and cost of a factor, from its pattern alone."""

import numpy as np
import pytest
from sparse_models import chain, random_edges

from infimum import families
from infimum.base import memory
from infimum.base.errors import UnsuitableError
from infimum.families.sparse.fill import fill
from infimum.gaussian.sparse import Analysis


@pytest.mark.parametrize(("dim", "share"), [(1, 0.0), (6, 1.0), (60, 0.05), (200, 0.01)])
def test_it_is_near_what_the_factor_has(dim, share):
    edges = random_edges(dim, share, np.random.default_rng(dim))
    told = fill(dim, edges, 10**6)
    held = len(Analysis.of(dim, edges).layout.rows)
    assert told.complete
    assert abs(told.entries - held) <= 0.1 * held


def test_rows_that_couple_everything_come_last():
    row, column = np.tril_indices(2000, -1)
    edges = np.stack([row, column])[:, column < 2]
    assert fill(2000, edges, 10**6).entries == edges.shape[1]


def test_counting_ends_at_the_most():
    told = fill(300, np.array(np.tril_indices(300, -1)), 1000)
    assert not told.complete
    assert 1000 < told.entries < 1400


def test_a_factor_larger_than_memory_is_refused_before_it_is_formed(monkeypatch):
    target, _, _ = chain(50)
    monkeypatch.setattr("infimum.families.sparse.sparse.total", lambda: 4000)
    monkeypatch.setattr(memory, "total", lambda: 4000)
    with pytest.raises(UnsuitableError, match=r"more than 4\d entries at d = 50.*lowrank"):
        families.Sparse().adapted(target, np.random.default_rng(0))


def test_a_factor_that_takes_minutes_is_refused(monkeypatch):
    monkeypatch.setattr("infimum.families.sparse.sparse.MOST_FLOPS", 10)
    with pytest.raises(UnsuitableError, match=r"s to form, several times a step.*lowrank"):
        families.Sparse().adapted(chain(50)[0], np.random.default_rng(0))
