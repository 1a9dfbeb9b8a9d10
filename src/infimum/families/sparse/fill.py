"""Size and cost of a sparse matrix's factor, from its pattern alone.

The order is by minimum degree, on the graph without rows that couple nearly everything, which come
last (both as in Amestoy, Davis & Duff 1996). SciPy computes this order for an incomplete factor of
which everything is dropped. Entries are then counted row by row along the elimination tree (Liu
1990).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from infimum.gaussian.kernels import compile_on_call

CROWDED_FACTOR = 10.0
"""Times √d others that a row must couple to be ordered last."""


class Fill(NamedTuple):
    """Size and cost of a factor L.

    Attributes
    ----------
    entries
        Entries below the diagonal, within a few per cent: the factor will use a similar order.
    flops
        Multiplications that form it.
    complete
        Whether all entries were counted; if not, counting ended at the most.
    """

    entries: int
    flops: float
    complete: bool


def fill(dim: int, edges: np.ndarray, most: int) -> Fill:
    """Count the entries of L in P A Pᵀ = L D Lᵀ, up to `most`.

    Parameters
    ----------
    edges
        Rows and columns of the entries of A below the diagonal, shape (2, n).
    """
    place = np.empty(dim, np.int64)
    place[_order(dim, edges)] = np.arange(dim)
    at = place[edges]
    lower = scipy.sparse.csr_array(
        (np.ones(edges.shape[1]), (at.max(axis=0), at.min(axis=0))), shape=(dim, dim)
    )
    counts, complete = _counted(lower.indptr.astype(np.int64), lower.indices.astype(np.int64), most)
    return Fill(int(counts.sum()), float((counts.astype(float) ** 2).sum()), bool(complete))


def _order(dim: int, edges: np.ndarray) -> np.ndarray:
    """Coordinates in the order of elimination."""
    degree = np.bincount(edges.ravel(), minlength=dim)
    crowded = degree > CROWDED_FACTOR * np.sqrt(dim)
    rest, last = np.flatnonzero(~crowded), np.flatnonzero(crowded)
    n = len(rest)
    if n == 0:
        return last
    place = np.empty(dim, np.int64)
    place[rest] = np.arange(n)
    row, column = place[edges[:, ~crowded[edges].any(axis=0)]]
    lower = scipy.sparse.coo_array((np.ones(len(row)), (row, column)), shape=(n, n))
    dominant = scipy.sparse.diags_array(2.0 + degree[rest])
    incomplete = scipy.sparse.linalg.spilu(
        scipy.sparse.csc_matrix(lower + lower.T + dominant),
        drop_tol=1.0,
        fill_factor=1.0,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.concatenate([rest[np.argsort(incomplete.perm_c)], last])


@compile_on_call
def _counted(starts: Any, columns: Any, most: int) -> Any:  # pragma: no cover
    """Count the entries of each column of L: row i has those on the paths from its columns to i."""
    d = len(starts) - 1
    parent = np.full(d, -1, np.int64)
    visited = np.full(d, -1, np.int64)
    counts = np.zeros(d, np.int64)
    total = 0
    for i in range(d):
        visited[i] = i
        for k in range(starts[i], starts[i + 1]):
            j = columns[k]
            while visited[j] != i:
                if parent[j] == -1:
                    parent[j] = i
                visited[j] = i
                counts[j] += 1
                total += 1
                j = parent[j]
        if total > most:
            return counts, False
    return counts, True
