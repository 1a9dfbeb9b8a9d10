"""Loops over the entries of sparse triangular factors, compiled by Numba."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from infimum.base.extras import required


def compile_on_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by Numba at its first call, and keep the result in a file."""

    @functools.cache
    def kernel() -> Callable[..., Any]:
        compile_: Callable[..., Any] = required("numba", "sparse").njit(cache=True)
        return compile_(inspect.unwrap(function))  # in tests a type checker wraps every function

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return kernel()(*arguments)

    return call


@compile_on_call
def solve_lower(
    starts: np.ndarray, rows: np.ndarray, below: np.ndarray, x: np.ndarray
) -> None:  # pragma: no cover
    """Turn the columns of x (d, n) into (I + L)⁻¹ x, in place."""
    for j in range(len(starts) - 1):
        for k in range(starts[j], starts[j + 1]):
            i, value = rows[k], below[k]
            for n in range(x.shape[1]):
                x[i, n] -= value * x[j, n]


@compile_on_call
def solve_upper(
    starts: np.ndarray, rows: np.ndarray, below: np.ndarray, x: np.ndarray
) -> None:  # pragma: no cover
    """Turn the columns of x (d, n) into (I + L)⁻ᵀ x, in place."""
    for j in range(len(starts) - 2, -1, -1):
        for k in range(starts[j], starts[j + 1]):
            i, value = rows[k], below[k]
            for n in range(x.shape[1]):
                x[j, n] -= value * x[i, n]


@compile_on_call
def inverse_columns(
    starts: np.ndarray, rows: np.ndarray, below: np.ndarray, pivots: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """Diagonal of the inverse, and its entries in the places of L."""
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


@compile_on_call
def find_places(
    starts: np.ndarray, rows: np.ndarray, columns: np.ndarray, entry_rows: np.ndarray
) -> np.ndarray:  # pragma: no cover
    """Places of the entries in these columns and rows, by bisection within each column."""
    out = np.empty(len(columns), np.int64)
    for n in range(len(columns)):
        low, high = starts[columns[n]], starts[columns[n] + 1]
        while low < high:
            middle = (low + high) // 2
            if rows[middle] < entry_rows[n]:
                low = middle + 1
            else:
                high = middle
        out[n] = low
    return out
