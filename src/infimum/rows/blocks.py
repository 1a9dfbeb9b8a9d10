"""Data in blocks of rows: arrays in memory or on disk, Parquet files, and whatever iterates.

A `Blocks` is gone through any number of times, and gives the same rows in the same order. Reading
and computing overlap: a thread reads the next block while the last one is worked on.
"""

from __future__ import annotations

import abc
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

AHEAD = 2
"""Blocks read before they are asked for: one to work on next, and one on its way."""


class DataError(ValueError):
    """Rows that are not what they were said to be, or no longer are."""


class Blocks(abc.ABC):
    """Rows of data, read in blocks.

    Attributes
    ----------
    n_rows
        N.
    like
        The first rows, at most two: structure, dtypes and trailing shapes of every block.
    where
        "in memory" or "on disk", for people.
    """

    n_rows: int
    like: PyTree
    where: str

    @abc.abstractmethod
    def read(self, size: int) -> Iterator[PyTree]:
        """Blocks in their order, all of `size` rows but the last.

        Raises
        ------
        DataError
            If the rows are not those of the first time.
        """

    @abc.abstractmethod
    def take(self, index: Int[np.ndarray, " m"]) -> PyTree:
        """The rows of these numbers, which are in ascending order."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(x[:1].nbytes for x in jax.tree_util.tree_leaves(self.like))


def ahead(blocks: Iterable[PyTree]) -> Iterator[PyTree]:
    """The same blocks, read by a thread while the last one is worked on."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
    left = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for block in blocks:
                if not put(("block", block)):
                    return
            put(("end", None))
        except BaseException as error:  # raised again where the blocks are used
            put(("error", error))

    reader = threading.Thread(target=work, name="infimum-reader", daemon=True)
    reader.start()
    try:
        while True:
            what, item = waiting.get()
            if what == "end":
                return
            if what == "error":
                raise item
            yield item
    finally:
        left.set()
        reader.join()


def resized(blocks: Iterable[PyTree], size: int) -> Iterator[PyTree]:
    """The same rows in blocks of `size`; the last one has what is left."""
    kept: list[PyTree] = []
    held = 0
    for block in blocks:
        kept.append(block)
        held += length(block)
        while held >= size:
            joined = _joined(kept)
            yield _cut(joined, slice(0, size))
            kept, held = [_cut(joined, slice(size, None))], held - size
    if held:
        yield _joined(kept)


def gathered(blocks: Iterable[PyTree], index: Int[np.ndarray, " m"]) -> PyTree:
    """Rows by their numbers, from all blocks in their order."""
    found, start = [], 0
    for block in blocks:
        stop = start + length(block)
        own = index[np.searchsorted(index, start) : np.searchsorted(index, stop)]
        found.append(_cut(block, own - start))
        start = stop
    return _joined(found)


def few(blocks: Blocks) -> int:
    """Rows of a block that is only read."""
    return max(1, 2**23 // max(1, blocks.row_bytes))


def _joined(blocks: list[PyTree]) -> PyTree:
    if len(blocks) == 1:
        return blocks[0]
    return jax.tree_util.tree_map(lambda *parts: np.concatenate(parts), *blocks)


def _cut(block: PyTree, rows: Any) -> PyTree:
    return jax.tree_util.tree_map(lambda x: x[rows], block)


def first_of(block: PyTree, n: int) -> PyTree:
    return _cut(block, slice(0, n))


def length(block: PyTree) -> int:
    return len(jax.tree_util.tree_leaves(block)[0])
