"""Streams of blocks: read ahead by a thread, cut to another size, searched for rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

from infimum.rows.blocks import length, rows_of

BLOCKS_AHEAD = 2
"""Blocks that wait to be worked on: the next one, and one that is being read."""


def read_ahead(blocks: Iterable[PyTree]) -> Iterator[PyTree]:
    """The same blocks, read by a thread while the last one is worked on."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(BLOCKS_AHEAD)
    left = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        """Hand over an item; False if nobody takes blocks any more."""
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


def resize(blocks: Iterable[PyTree], size: int) -> Iterator[PyTree]:
    """The same rows in blocks of `size`; the last one has what is left."""
    waiting: list[PyTree] = []
    n_waiting = 0
    for block in blocks:
        waiting.append(block)
        n_waiting += length(block)
        while n_waiting >= size:
            joined = _join(waiting)
            yield rows_of(joined, slice(0, size))
            waiting, n_waiting = [rows_of(joined, slice(size, None))], n_waiting - size
    if n_waiting:
        yield _join(waiting)


def rows_by_number(blocks: Iterable[PyTree], index: Int[np.ndarray, " m"]) -> PyTree:
    """The rows of these ascending numbers, from all blocks in their order."""
    parts, start = [], 0
    for block in blocks:
        stop = start + length(block)
        own = index[np.searchsorted(index, start) : np.searchsorted(index, stop)]
        parts.append(rows_of(block, own - start))
        start = stop
    return _join(parts)


def _join(blocks: list[PyTree]) -> PyTree:
    if len(blocks) == 1:
        return blocks[0]
    return jax.tree_util.tree_map(lambda *parts: np.concatenate(parts), *blocks)
