"""Sparse symmetric matrices: their LDLᵀ factors, and entries of their inverses.

A pattern is analysed once: an order of little fill (approximate minimum degree, Amestoy, Davis &
Duff 1996), and where the factor's entries stand. A factor of any values on the pattern is then
numbers in those places. Factorisation is QDLDL's (Stellato et al. 2020).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from infimum.base.extras import required
from infimum.gaussian.kernels import find_places, inverse_columns


class Layout(NamedTuple):
    """Places of the entries of L, column by column; I + L is unit lower triangular.

    Attributes
    ----------
    order
        Coordinate i of L is coordinate order[i] of the matrix, shape (d,).
    starts
        Entries starts[j] to starts[j + 1] are those of column j, shape (d + 1,).
    rows
        Row of each entry, ascending within a column, shape (n,).
    """

    order: Any
    starts: Any
    rows: Any


class SparseFactor(NamedTuple):
    """P A Pᵀ = (I + L) diag(pivots) (I + L)ᵀ.

    Attributes
    ----------
    below
        Entries of L in the order of its `Layout`, shape (n,).
    pivots
        Shape (d,).
    """

    below: np.ndarray
    pivots: np.ndarray


class Analysis:
    """The order and the places of the factor, for all symmetric matrices with one pattern.

    The values of a matrix are one vector: its diagonal (d,), then an entry for each edge.

    Parameters
    ----------
    dim
        d.
    edges
        Rows and columns of the entries below the diagonal, row > column, shape (2, n).
    """

    def __init__(self, dim: int, edges: np.ndarray) -> None:
        self.dim = dim
        self.edges = edges
        row, column = edges
        rows = np.concatenate([np.arange(dim), column])
        columns = np.concatenate([np.arange(dim), row])
        self._sorted = np.lexsort((rows, columns))
        starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=dim))])
        self._upper = (rows[self._sorted].astype(np.int32), starts.astype(np.int32))
        # Any positive definite matrix with the pattern will do for the analysis.
        degree = np.bincount(edges.ravel(), minlength=dim) if edges.size else np.zeros(dim)
        dominant = np.concatenate([1.0 + degree, np.ones(edges.shape[1])])
        self._solver = required("qdldl", "sparse").Solver(self._triangle(dominant), True)
        lower, _, order = self._solver.factors()
        self.layout = Layout(
            np.asarray(order, np.int64),
            lower.indptr.astype(np.int64),
            lower.indices.astype(np.int64),
        )
        place = np.empty(dim, np.int64)
        place[self.layout.order] = np.arange(dim)
        at = place[edges]
        self._edge_places = find_places(
            self.layout.starts, self.layout.rows, at.min(axis=0), at.max(axis=0)
        )

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def _of(dim: int, edges: bytes) -> Analysis:
        return Analysis(dim, np.frombuffer(edges, np.int64).reshape(2, -1))

    @classmethod
    def of(cls, dim: int, edges: np.ndarray) -> Analysis:
        """The analysis of this pattern; the last four are kept."""
        return cls._of(dim, np.ascontiguousarray(edges, np.int64).tobytes())

    def _triangle(self, values: np.ndarray) -> scipy.sparse.csc_matrix:
        """The upper triangle of the matrix, as QDLDL takes it."""
        rows, starts = self._upper
        return scipy.sparse.csc_matrix(
            (values[self._sorted], rows, starts), shape=(self.dim, self.dim)
        )

    def factor(self, values: np.ndarray) -> SparseFactor | None:
        """LDLᵀ of the matrix with these values; None if a pivot is zero or not finite.

        Pivots of an indefinite matrix have both signs.
        """
        if not np.isfinite(values).all():
            return None
        try:
            self._solver.update(self._triangle(values), True)
        except (RuntimeError, ValueError):
            return None
        lower, pivots, _ = self._solver.factors()
        if not (np.isfinite(pivots).all() and np.all(pivots) and np.isfinite(lower.data).all()):
            return None
        return SparseFactor(np.asarray(lower.data), np.asarray(pivots))

    def times(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A x for x of shape (n, d)."""
        row, column = self.edges
        lower = scipy.sparse.coo_matrix(
            (values[self.dim :], (row, column)), shape=(self.dim, self.dim)
        ).tocsr()
        return np.asarray(x * values[: self.dim] + (lower @ x.T).T + (lower.T @ x.T).T)

    def inverse(self, factor: SparseFactor) -> np.ndarray:
        """Entries of A⁻¹ on the pattern, in the order of values: diagonal, then edges."""
        diagonal, below = inverse_entries(self.layout, factor.below, factor.pivots)
        out = np.empty(self.dim + self.edges.shape[1])
        out[self.layout.order] = diagonal
        out[self.dim :] = below[self._edge_places]
        return out

    def trace(self, values: np.ndarray, other: np.ndarray) -> float:
        """Trace of the product of two matrices with these values."""
        diagonal, edges = slice(self.dim), slice(self.dim, None)
        return float(values[diagonal] @ other[diagonal] + 2 * (values[edges] @ other[edges]))


def inverse_entries(
    layout: Layout, below: np.ndarray, pivots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of ((I + L) D (I + L)ᵀ)⁻¹: its diagonal (d,), and those in the places of L (n,).

    Takahashi, Fagan & Chen (1973): columns from the last to the first, each from those after it.
    """
    return inverse_columns(
        np.ascontiguousarray(layout.starts, np.int64),
        np.ascontiguousarray(layout.rows, np.int64),
        np.ascontiguousarray(below, np.float64),
        np.ascontiguousarray(pivots, np.float64),
    )
