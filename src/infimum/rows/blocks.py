"""The contract of data in blocks of rows, which may be larger than memory."""

from __future__ import annotations

import abc
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Int, PyTree

READING_BYTES = 2**23
"""Bytes of a block that is only read: 8 MB."""


class DataError(ValueError):
    """Rows are not what they were said to be, or have changed."""


class Blocks(abc.ABC):
    """Rows of data, read in blocks any number of times: always the same rows in the same order.

    Attributes
    ----------
    n_rows
        N.
    like
        The first rows, at most two: structure, dtypes and trailing shapes of every block.
    where
        Where the rows are, in words: "in memory", "on disk".
    """

    n_rows: int
    like: PyTree[np.ndarray]
    where: str

    @abc.abstractmethod
    def read(self, size: int) -> Iterator[PyTree[np.ndarray]]:
        """All rows in their order, in blocks of `size` rows; the last one may have fewer.

        Raises
        ------
        DataError
            If the rows are not the same as before.
        """

    @abc.abstractmethod
    def take(self, index: Int[np.ndarray, " m"]) -> PyTree[np.ndarray]:
        """The rows of these numbers, which must be in ascending order."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(x[:1].nbytes for x in jax.tree_util.tree_leaves(self.like))

    @property
    def reading_size(self) -> int:
        """Rows of a block that is only read."""
        return max(1, READING_BYTES // max(1, self.row_bytes))


def length(block: PyTree) -> int:
    """How many rows a block has."""
    return len(jax.tree_util.tree_leaves(block)[0])


def rows_of(block: PyTree, rows: slice | np.ndarray) -> PyTree:
    """Some rows of a block."""
    return jax.tree_util.tree_map(lambda x: x[rows], block)
