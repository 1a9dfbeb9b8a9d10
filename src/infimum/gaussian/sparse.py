"""Sparse symmetric matrices: their LDLᵀ factor, solves with it, and entries of the inverse.

A pattern is analysed once: an order of little fill (approximate minimum degree, Amestoy, Davis &
Duff 1996), and where the factor's entries stand. Factors of any values on the pattern are then
numbers in those places. Factorisation is QDLDL's (Stellato et al. 2020).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from infimum.base.extras import required


class Layout(NamedTuple):
    """Where the entries of a unit lower triangular L stand, column by column.

    Attributes
    ----------
    order
        Coordinate i of L is coordinate order[i] of the matrix, shape (d,).
    starts
        Entries starts[j] to starts[j + 1] are those below the diagonal in column j, shape (d + 1,).
    rows
        Their rows, rising within a column, shape (n,).
    """

    order: Any
    starts: Any
    rows: Any


class Factor(NamedTuple):
    """P A Pᵀ = (I + L) diag(pivots) (I + L)ᵀ with `below` the entries of L."""

    below: np.ndarray
    pivots: np.ndarray


class Analysis:
    """What is known of every symmetric matrix with one pattern.

    Values of a matrix are one vector: its diagonal (d,), then an entry for each edge.

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
        self._edge_places = _find(
            self.layout.starts, self.layout.rows, at.min(axis=0), at.max(axis=0)
        )

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def _of(dim: int, edges: bytes) -> Analysis:
        return Analysis(dim, np.frombuffer(edges, np.int64).reshape(2, -1))

    @classmethod
    def of(cls, dim: int, edges: np.ndarray) -> Analysis:
        """The analysis of this pattern; the last few are kept."""
        return cls._of(dim, np.ascontiguousarray(edges, np.int64).tobytes())

    def _triangle(self, values: np.ndarray) -> Any:
        rows, starts = self._upper
        return scipy.sparse.csc_matrix(
            (values[self._sorted], rows, starts), shape=(self.dim, self.dim)
        )

    def factor(self, values: np.ndarray) -> Factor | None:
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
        return Factor(np.asarray(lower.data), np.asarray(pivots))

    def times(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A x for x of shape (n, d)."""
        row, column = self.edges
        lower = scipy.sparse.coo_matrix(
            (values[self.dim :], (row, column)), shape=(self.dim, self.dim)
        ).tocsr()
        return np.asarray(x * values[: self.dim] + (lower @ x.T).T + (lower.T @ x.T).T)

    def inverse(self, factor: Factor) -> np.ndarray:
        """Entries of A⁻¹ on the pattern, in the order of values: its diagonal, then its edges."""
        diagonal, below = inverse_entries(self.layout, factor.below, factor.pivots)
        out = np.empty(self.dim + self.edges.shape[1])
        out[self.layout.order] = diagonal
        out[self.dim :] = below[self._edge_places]
        return out

    def trace(self, values: np.ndarray, other: np.ndarray) -> float:
        """Trace of the product of two matrices with these values."""
        diagonal, edges = slice(self.dim), slice(self.dim, None)
        return float(values[diagonal] @ other[diagonal] + 2 * (values[edges] @ other[edges]))


def solve(layout: Layout, below: Any, x: Any, transposed: bool) -> Any:
    """(I + L)⁻¹ x, or (I + L)⁻ᵀ x, for x of shape (..., d), by NumPy or JAX.

    JAX calls back to the host for it; it can be differentiated backwards.
    """
    if isinstance(x, np.ndarray) and not isinstance(below, jax.core.Tracer):
        return _solved(layout, below, x, transposed)
    return _traced(
        jnp.asarray(layout.starts, jnp.int32),
        jnp.asarray(layout.rows, jnp.int32),
        jnp.asarray(below, jnp.float64),
        jnp.asarray(x, jnp.float64),
        transposed,
    )


def times_transposed(layout: Layout, below: Any, x: Any) -> Any:
    """(I + L)ᵀ x for x of shape (..., d), by NumPy or JAX."""
    if isinstance(x, np.ndarray) and not isinstance(below, jax.core.Tracer):
        lower = scipy.sparse.csc_matrix(
            (np.asarray(below), layout.rows, layout.starts), shape=(x.shape[-1],) * 2
        )
        flat = x.reshape(-1, x.shape[-1])
        return x + (lower.T @ flat.T).T.reshape(x.shape)
    columns = _columns(jnp.asarray(layout.starts), len(layout.rows))
    return jnp.asarray(x).at[..., columns].add(below * x[..., jnp.asarray(layout.rows)])


def _columns(starts: Any, n: int) -> Any:
    """The column of each entry."""
    d = len(starts) - 1
    return jnp.repeat(jnp.arange(d), jnp.diff(starts), total_repeat_length=n)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _traced(starts: Any, rows: Any, below: Any, x: Any, transposed: bool) -> Any:
    def host(starts: Any, rows: Any, below: Any, x: Any) -> np.ndarray:
        ints, reals = (starts, rows), (below, x)
        starts, rows = (np.asarray(a) for a in ints)
        below, x = (np.ascontiguousarray(a).view(np.float64)[..., 0] for a in reals)
        solved = _each(starts, rows, below, x, transposed)
        return np.ascontiguousarray(solved)[..., None].view(np.uint32)

    # As bits: the thread that calls back knows nothing of double precision, and would round.
    bits = [jax.lax.bitcast_convert_type(a, jnp.uint32) for a in (below, x)]
    answer = jax.ShapeDtypeStruct((*x.shape, 2), jnp.uint32)
    found = jax.pure_callback(host, answer, starts, rows, *bits, vmap_method="expand_dims")
    return jax.lax.bitcast_convert_type(found, jnp.float64)


def _forward(starts: Any, rows: Any, below: Any, x: Any, transposed: bool) -> Any:
    y = _traced(starts, rows, below, x, transposed)
    return y, (starts, rows, below, y)


def _backward(transposed: bool, kept: Any, cotangent: Any) -> Any:
    starts, rows, below, y = kept
    bar = _traced(starts, rows, below, cotangent, not transposed)
    columns = _columns(starts, rows.shape[0])
    of_below = -(
        y[..., rows] * bar[..., columns] if transposed else bar[..., rows] * y[..., columns]
    )
    return None, None, of_below.reshape(-1, rows.shape[0]).sum(axis=0), bar


_traced.defvjp(_forward, _backward)


def _each(
    starts: np.ndarray, rows: np.ndarray, below: np.ndarray, x: np.ndarray, transposed: bool
) -> np.ndarray:
    """Solve where any argument may have leading axes, of length 1 where it has no batch."""
    if all(a.size == a.shape[-1] for a in (starts, rows, below)):
        layout = Layout(None, starts.ravel(), rows.ravel())
        return _solved(layout, below.ravel(), x, transposed)
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in (starts, rows, below, x)))
    arrays = [np.broadcast_to(a, (*lead, a.shape[-1])) for a in (starts, rows, below, x)]
    out = np.empty(arrays[3].shape)
    for index in np.ndindex(*lead):
        s, r, b, one = (a[index] for a in arrays)
        out[index] = _solved(Layout(None, s, r), b, one, transposed)
    return out


def _solved(layout: Layout, below: Any, x: np.ndarray, transposed: bool) -> np.ndarray:
    flat = np.array(x.reshape(-1, x.shape[-1]).T, np.float64, order="C")
    kernel = _solve_upper if transposed else _solve_lower
    kernel(
        np.ascontiguousarray(layout.starts, np.int64),
        np.ascontiguousarray(layout.rows, np.int64),
        np.ascontiguousarray(below, np.float64),
        flat,
    )
    return np.ascontiguousarray(flat.T).reshape(x.shape)


def inverse_entries(
    layout: Layout, below: np.ndarray, pivots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Entries of ((I + L) D (I + L)ᵀ)⁻¹ on its diagonal and in the places of L.

    Takahashi, Fagan & Chen (1973): columns from the last to the first, each from those after it.
    """
    return _inverse(
        np.ascontiguousarray(layout.starts, np.int64),
        np.ascontiguousarray(layout.rows, np.int64),
        np.ascontiguousarray(below, np.float64),
        np.ascontiguousarray(pivots, np.float64),
    )


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by Numba at its first call, and keep it in a file for other processes."""

    @functools.cache
    def kernel() -> Callable[..., Any]:
        compile_: Callable[..., Any] = required("numba", "sparse").njit(cache=True)
        return compile_(function)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return kernel()(*arguments)

    return call


@compiled
def _solve_lower(starts: Any, rows: Any, below: Any, x: Any) -> None:  # pragma: no cover
    for j in range(len(starts) - 1):
        for k in range(starts[j], starts[j + 1]):
            i, value = rows[k], below[k]
            for n in range(x.shape[1]):
                x[i, n] -= value * x[j, n]


@compiled
def _solve_upper(starts: Any, rows: Any, below: Any, x: Any) -> None:  # pragma: no cover
    for j in range(len(starts) - 2, -1, -1):
        for k in range(starts[j], starts[j + 1]):
            i, value = rows[k], below[k]
            for n in range(x.shape[1]):
                x[j, n] -= value * x[i, n]


@compiled
def _inverse(starts: Any, rows: Any, below: Any, pivots: Any) -> Any:  # pragma: no cover
    d = len(pivots)
    diagonal = np.zeros(d)
    out = np.zeros(len(rows))
    place = np.full(d, -1, np.int64)
    for j in range(d - 1, -1, -1):
        first, last = starts[j], starts[j + 1]
        for k in range(first, last):
            place[rows[k]] = k
        for k in range(first, last):
            i = rows[k]
            out[k] -= diagonal[i] * below[k]
            for m in range(starts[i], starts[i + 1]):
                other = place[rows[m]]
                if other >= 0:
                    out[k] -= out[m] * below[other]
                    out[other] -= out[m] * below[k]
        total = 1.0 / pivots[j]
        for k in range(first, last):
            total -= out[k] * below[k]
            place[rows[k]] = -1
        diagonal[j] = total
    return diagonal, out


@compiled
def _find(starts: Any, rows: Any, columns: Any, wanted: Any) -> Any:  # pragma: no cover
    """Places of entries (wanted, columns) among sorted rows."""
    out = np.empty(len(columns), np.int64)
    for n in range(len(columns)):
        low, high = starts[columns[n]], starts[columns[n] + 1]
        while low < high:
            middle = (low + high) // 2
            if rows[middle] < wanted[n]:
                low = middle + 1
            else:
                high = middle
        out[n] = low
    return out
