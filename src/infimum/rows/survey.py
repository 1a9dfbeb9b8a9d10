"""The first pass over the data, which finds a row whose likelihood is undefined."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.base import processes
from infimum.base.errors import coded_error
from infimum.rows.blocks import DataError, length, rows_of
from infimum.rows.passes import Passes

MOST_LETTERS = 200
"""Letters of a row's values that a message shows."""


def survey(passes: Passes, x: Float[np.ndarray, " k"], where: str) -> float:
    """The log-likelihood at one point, by a pass that looks at each block on its own.

    Parameters
    ----------
    where
        The point in words, for the message.

    Raises
    ------
    DataError
        If it is undefined on a row: the message has the row's number and its values. Or for the
        reasons that reading the blocks has.
    """

    def own() -> np.ndarray:
        total, start = 0.0, 0
        for block in passes.blocks.read(passes.size):
            value = passes.on(x, block)
            if np.isnan(value):
                row = start + _first_undefined(passes, x, block)
                raise coded_error(
                    DataError,
                    "E525",
                    f"row {row:,} of the data has an undefined log-likelihood (NaN) at "
                    f"{where}: it is {_shown(block, row - start)}. Leave such rows out, or "
                    "write the log-likelihood so that it is defined there",
                )
            total += value
            start += length(block)
        return np.full(1, total)

    passes.n_passes += 1
    return float(processes.total(own, (1,))[0])


def _first_undefined(passes: Passes, x: np.ndarray, block: PyTree) -> int:
    """The first row whose log-likelihood is NaN, found by halves."""
    first, last = 0, length(block)
    while last - first > 1:
        middle = (first + last) // 2
        if np.isnan(passes.on(x, rows_of(block, slice(first, middle)))):
            last = middle
        else:
            first = middle
    return first


def _shown(block: PyTree, row: int) -> str:
    """The values of one row in words."""
    one = jax.tree_util.tree_map(lambda leaf: np.asarray(leaf[row]).tolist(), block)
    text = str(one)
    return text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS] + " …"
