"""Blocks from any object that gives blocks each time it is iterated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

from infimum.base.errors import coded_error
from infimum.rows.blocks import Blocks, DataError, length, rows_of
from infimum.rows.forms import check_dtypes, form_of, native_array
from infimum.rows.streams import read_ahead, resize, rows_by_number


class IteratedBlocks(Blocks):
    """Blocks of any sizes, as they come out of an iterable."""

    where = "read as they come"

    def __init__(self, data: Any, n_rows: int | None) -> None:
        if not isinstance(data, Iterable):
            raise coded_error(
                TypeError,
                "E501",
                f"data are {data!r}: expected arrays with rows along their first axis, a "
                "Parquet file, or something that gives blocks when it is iterated",
            )
        if n_rows is None:
            raise coded_error(
                TypeError, "E502", "iterated data do not say how many rows they have: give n_rows"
            )
        self._data, self.n_rows = data, int(n_rows)
        first = next(iter(data), None)
        if first is None:
            raise coded_error(ValueError, "E505", "the data have no blocks: give at least one")
        self.like = rows_of(_checked(first, None, 0), slice(0, 2))
        check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree[np.ndarray]]:
        """The iterable's rows, cut to blocks of `size` and read ahead."""
        yield from read_ahead(resize(self._counted(), size))

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree[np.ndarray]:
        """Rows by their numbers, by iterating once."""
        return rows_by_number(self.read(self.reading_size), index)

    def _counted(self) -> Iterator[PyTree[np.ndarray]]:
        """The iterable's blocks; DataError if their rows are not `n_rows` in all."""
        count = 0
        for number, block in enumerate(self._data):
            block = _checked(block, self.like, number)
            count += length(block)
            if count > self.n_rows:
                break
            yield block
        if count != self.n_rows:
            words = "no" if count == 0 else f"{count:,}"
            if count > self.n_rows:
                words = f"more than {self.n_rows:,}"
            once = " Can the data be iterated only once?" if count == 0 else ""
            raise coded_error(
                DataError,
                "E504",
                f"the data gave {words} rows, n_rows says {self.n_rows:,}.{once} Give the "
                "number that one iteration gives",
            )


def _checked(block: PyTree, like: PyTree | None, number: int) -> PyTree[np.ndarray]:
    """A block as arrays, if it has the form of the first one."""
    block = jax.tree_util.tree_map(lambda x: native_array(x, f"block {number}"), block)
    leaves = jax.tree_util.tree_leaves(block)
    if not leaves or any(x.ndim == 0 for x in leaves) or len({len(x) for x in leaves}) > 1:
        shapes = jax.tree_util.tree_map(np.shape, block)
        raise coded_error(
            DataError,
            "E508",
            f"block {number} has shapes {shapes}: rows are the first axis of each",
        )
    if like is not None and form_of(block) != form_of(like):
        raise coded_error(
            DataError,
            "E508",
            f"block {number} has the form {form_of(block)}, the first one had "
            f"{form_of(like)}: dtypes and columns must be those of the first",
        )
    return block
