"""Blocks of arrays: NumPy, memory-maps, Zarr, in memory or on disk."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

from infimum.base.errors import coded_error
from infimum.rows.blocks import Blocks
from infimum.rows.files import DataFiles
from infimum.rows.forms import check_dtypes, leaf_name, native_array
from infimum.rows.streams import read_ahead, rows_by_number


def is_leaf(node: object) -> bool:
    """Whether a pytree of data ends here: at what is not a dict, list, tuple or None."""
    return not (node is None or isinstance(node, dict | list | tuple))


def is_sliceable(leaf: Any) -> bool:
    """Whether this is an array of rows: with a shape, a dtype, and slices."""
    return all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")) and leaf.ndim > 0


class ArrayBlocks(Blocks):
    """A pytree of arrays whose first axis is rows."""

    def __init__(self, data: PyTree, n_rows: int | None) -> None:
        paths, self._treedef = jax.tree_util.tree_flatten_with_path(data, is_leaf=is_leaf)
        self._named = [(leaf_name(path), leaf) for path, leaf in paths]
        self._leaves = [leaf for _, leaf in paths]
        counts = {name: int(leaf.shape[0]) for name, leaf in self._named}
        if n_rows is not None:
            counts["n_rows"] = int(n_rows)
        if len(set(counts.values())) > 1:
            listing = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            raise coded_error(
                ValueError,
                "E504",
                f"row counts disagree: {listing}; every array's first axis is the rows",
            )
        self.n_rows = next(iter(counts.values()))
        if self.n_rows == 0:
            raise coded_error(ValueError, "E505", "the data have no rows: give at least one")
        names = {getattr(leaf, "filename", None) for leaf in self._leaves}
        self._files = DataFiles(Path(name) for name in names if name is not None)
        self.where = "in memory" if all(map(_is_in_memory, self._leaves)) else "on disk"
        self.like = self._rows(slice(0, 2))
        check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree[np.ndarray]]:
        """Blocks of the arrays; those on disk are read ahead, and their files checked."""
        self._files.check()
        starts = range(0, self.n_rows, size)
        blocks = (self._rows(slice(start, start + size)) for start in starts)
        yield from blocks if self.where == "in memory" else read_ahead(blocks)
        self._files.check()

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree[np.ndarray]:
        """Rows by their numbers; on disk by reading all blocks."""
        if self.where == "in memory":
            return self._rows(index)
        return rows_by_number(self.read(self.reading_size), index)

    def _rows(self, rows: slice | np.ndarray) -> PyTree[np.ndarray]:
        """Some rows; of arrays on disk a copy, of which no page stays in memory."""
        parts = [native_array(leaf[rows], name) for name, leaf in self._named]
        if self.where == "on disk":
            parts = [np.array(part) if _memory_map(part) is not None else part for part in parts]
            for leaf in self._leaves:
                _release_pages(leaf)
        return jax.tree_util.tree_unflatten(self._treedef, parts)


def _is_in_memory(leaf: object) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array) and _memory_map(leaf) is None


def _memory_map(array: Any) -> mmap.mmap | None:
    """The memory-map that an array is a view of."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array


def _release_pages(leaf: Any) -> None:
    """Give back the pages of a memory-map, which otherwise count as memory of this process."""
    mapped = _memory_map(leaf)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
