"""TODO."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.rows.blocks import Blocks, DataError, ahead, few, first_of, gathered, length, resized


def blocks_of(data: Any, n_rows: int | None) -> Blocks:
    """The rows that a user gives, whatever they are in.

    Parameters
    ----------
    data
        Pytree of arrays, memory-maps or Zarr arrays; a Parquet file or a data frame; or anything
        that gives blocks when it is iterated, again each time.
    n_rows
        Number of rows, where `data` does not know it.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or row counts disagree.
    """
    if not isinstance(n_rows, int | np.integer | None) or (n_rows is not None and n_rows < 1):
        raise ValueError(coded("E302", f"n_rows is {n_rows!r}, expected a positive number of rows"))
    if isinstance(data, str | Path):
        return _Parquet(Path(data), n_rows)
    data = _unframed(data)
    if isinstance(data, Iterator):
        raise TypeError(
            coded(
                "E502",
                f"data are a {type(data).__name__}, which can be iterated once only: give "
                "something that begins anew each time, a list or an object with __iter__",
            )
        )
    leaves, _ = jax.tree_util.tree_flatten(data, is_leaf=_leaf)
    if leaves and all(_sliceable(leaf) for leaf in leaves):
        counts = {int(leaf.shape[0]) for leaf in leaves}
        listed = isinstance(data, list | tuple) and n_rows is not None and counts != {n_rows}
        if not listed:
            return _Arrays(data, n_rows)
    for path, leaf in jax.tree_util.tree_leaves_with_path(data, is_leaf=_leaf):
        number = isinstance(leaf, int | float | complex | np.generic)
        if path and (number or (isinstance(data, dict) and not _sliceable(leaf))):
            raise TypeError(
                coded(
                    "E501",
                    f"{_named(path)} is {leaf!r}, expected an array with rows along its first "
                    "axis: what is the same for all rows is no data, log_likelihood can close over "
                    "it; make arrays of lists, with np.array",
                )
            )
    return _Iterated(data, n_rows)


def _unframed(data: Any) -> Any:
    """Columns of data frames, and pandas series, as arrays."""
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        names = [str(name) for name in data.columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                coded("E123", f"the data frame has two columns {twice!r}: rename one of them")
            )
        return {str(name): data[name].to_numpy() for name in data.columns}
    return jax.tree_util.tree_map(
        lambda leaf: leaf.to_numpy() if hasattr(leaf, "iloc") else leaf, data, is_leaf=_leaf
    )


def _leaf(node: Any) -> bool:
    """Whether a pytree ends here: at what is no container of JAX's."""
    return not (node is None or isinstance(node, dict | list | tuple))


def _sliceable(leaf: Any) -> bool:
    return all(hasattr(leaf, name) for name in ("shape", "dtype", "__getitem__")) and leaf.ndim > 0


class _Arrays(Blocks):
    """A pytree of arrays whose first axis is rows, in memory or on disk."""

    def __init__(self, data: PyTree, n_rows: int | None) -> None:
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(data, is_leaf=_leaf)
        self.named = [(_named(path), leaf) for path, leaf in paths]
        self.leaves = [leaf for _, leaf in paths]
        counts = {_named(path): int(leaf.shape[0]) for path, leaf in paths}
        if n_rows is not None:
            counts["n_rows"] = int(n_rows)
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            raise ValueError(
                coded("E504", f"row counts disagree: {told}; every array's first axis is the rows")
            )
        self.n_rows = next(iter(counts.values()))
        if self.n_rows == 0:
            raise ValueError(coded("E505", "the data have no rows: give one at least"))
        self.files = _Files(self.leaves)
        self.where = "in memory" if all(map(_held, self.leaves)) else "on disk"
        self.like = self._rows(slice(0, 2))
        _check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree]:
        self.files.check()
        starts = range(0, self.n_rows, size)
        if self.where == "in memory":
            yield from (self._rows(slice(start, start + size)) for start in starts)
        else:
            yield from ahead(self._rows(slice(start, start + size)) for start in starts)
        self.files.check()

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree:
        if self.where == "in memory":
            return self._rows(index)
        return gathered(self.read(few(self)), index)

    def _rows(self, rows: Any) -> PyTree:
        """A copy of what is on disk, of which no page is kept."""
        parts = [_array(leaf[rows], path) for path, leaf in self.named]
        if self.where == "on disk":
            parts = [np.array(part) if _mapped(part) is not None else part for part in parts]
            for leaf in self.leaves:
                _let_go(leaf)
        return jax.tree_util.tree_unflatten(self.treedef, parts)


def _array(part: Any, name: str) -> np.ndarray:
    """Rows as an array of this machine's byte order, with nothing masked."""
    if np.ma.is_masked(part):
        raise DataError(
            coded(
                "E507",
                f"{name} has masked entries: leave their rows out, or fill them and give an array "
                "that says where they are",
            )
        )
    array = np.asarray(part)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _held(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array) and _mapped(leaf) is None


def _mapped(array: Any) -> mmap.mmap | None:
    """The memory-map that an array is a view of."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array


def _let_go(leaf: Any) -> None:
    """Give the pages of a memory-map back, which count as memory of this process otherwise."""
    mapped = _mapped(leaf)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class _Files:
    """Sizes and times of the files behind memory-maps: a change in mid-run is an error."""

    def __init__(self, leaves: Iterable[Any]) -> None:
        names = {getattr(leaf, "filename", None) for leaf in leaves}
        self.known = {Path(name): _state(Path(name)) for name in names if name is not None}

    def check(self) -> None:
        """Raise DataError if one is not what it was."""
        for path, known in self.known.items():
            try:
                now = _state(path)
            except OSError as error:
                raise DataError(
                    coded(
                        "E510",
                        f"the data file {path} has disappeared: {error}. Fit anew on a file that "
                        "stays as it is",
                    )
                ) from error
            if now != known:
                raise DataError(
                    coded(
                        "E510",
                        f"the data file {path} has changed since it was opened: no answer would "
                        "belong to either version. Fit anew on a file that stays as it is",
                    )
                )


def _state(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


class _Parquet(Blocks):
    """A Parquet file: a block is a dict of columns."""

    where = "on disk"

    def __init__(self, path: Path, n_rows: int | None) -> None:
        self.library = required("pyarrow.parquet", "parquet")
        self.path = path
        if not path.is_file():
            raise ValueError(
                coded("E901", f"there is no file {path}: give a Parquet file, or arrays")
            )
        try:
            self.n_rows = int(self.library.read_metadata(path).num_rows)
        except Exception as error:  # pyarrow raises types of its own
            raise ValueError(
                coded(
                    "E510",
                    f"{path} can't be read as a Parquet file: {error}. Give a Parquet file, or "
                    "arrays",
                )
            ) from error
        if n_rows is not None and n_rows != self.n_rows:
            raise ValueError(
                coded(
                    "E504",
                    f"row counts disagree: {path} {self.n_rows:,}, n_rows {n_rows:,}: leave n_rows "
                    "out",
                )
            )
        if self.n_rows == 0:
            raise ValueError(coded("E505", f"the data file {path} has no rows: give one at least"))
        self.known = _state(path)
        self.like = first_of(next(self._batches(2)), 2)
        _check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree]:
        if not self.path.is_file() or _state(self.path) != self.known:
            raise DataError(
                coded(
                    "E510",
                    f"the data file {self.path} has changed or disappeared since it was opened: "
                    "fit anew on a file that stays as it is",
                )
            )
        yield from ahead(resized(self._batches(size), size))

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree:
        return gathered(self.read(few(self)), index)

    def _batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        with self.library.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=size):
                names = batch.schema.names
                columns = zip(names, batch.columns, strict=True)
                yield {name: self._column(name, column) for name, column in columns}

    def _column(self, name: str, column: Any) -> np.ndarray:
        if column.null_count:
            raise DataError(
                coded(
                    "E507",
                    f"column {name!r} of {self.path} has missing values (null): fill them, or give "
                    "them a column that says where they are",
                )
            )
        array: np.ndarray = column.to_numpy(zero_copy_only=False)
        return array


class _Iterated(Blocks):
    """Blocks of any sizes from something that can be iterated again and again."""

    where = "read as they come"

    def __init__(self, data: Any, n_rows: int | None) -> None:
        if not isinstance(data, Iterable):
            raise TypeError(
                coded(
                    "E501",
                    f"data are {data!r}: expected arrays with rows along their first axis, a "
                    "Parquet file, or something that gives blocks when it is iterated",
                )
            )
        if n_rows is None:
            raise TypeError(
                coded("E502", "iterated data do not say how many rows they have: give n_rows")
            )
        self.data, self.n_rows = data, int(n_rows)
        first = next(iter(data), None)
        if first is None:
            raise ValueError(coded("E505", "the data have no blocks: give one at least"))
        self.like = first_of(_checked(first, None, 0), 2)
        _check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree]:
        yield from ahead(resized(self._counted(), size))

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree:
        return gathered(self.read(few(self)), index)

    def _counted(self) -> Iterator[PyTree]:
        seen = 0
        for number, block in enumerate(self.data):
            block = _checked(block, self.like, number)
            seen += length(block)
            if seen > self.n_rows:
                break
            yield block
        if seen != self.n_rows:
            count = "no" if seen == 0 else f"{'more than ' * (seen > self.n_rows)}{seen:,}"
            if seen > self.n_rows:
                count = f"more than {self.n_rows:,}"
            once = " Can the data be iterated only once?" if seen == 0 else ""
            raise DataError(
                coded(
                    "E504",
                    f"the data gave {count} rows, n_rows says {self.n_rows:,}.{once} Give the "
                    "number that one iteration gives",
                )
            )


def _checked(block: PyTree, like: PyTree | None, number: int) -> PyTree:
    """A block as arrays, if it is of the form of the first."""
    block = jax.tree_util.tree_map(lambda x: _array(x, f"block {number}"), block)
    leaves = jax.tree_util.tree_leaves(block)
    if not leaves or any(x.ndim == 0 for x in leaves) or len({len(x) for x in leaves}) > 1:
        shapes = jax.tree_util.tree_map(np.shape, block)
        raise DataError(
            coded("E508", f"block {number} has shapes {shapes}: rows are the first axis of each")
        )
    if like is not None and _form(block) != _form(like):
        raise DataError(
            coded(
                "E508",
                f"block {number} has the form {_form(block)}, the first one had {_form(like)}: "
                "dtypes and columns must be those of the first",
            )
        )
    return block


def _form(block: PyTree) -> Any:
    return jax.tree_util.tree_map(lambda x: f"{x.dtype}{list(x.shape[1:])}", block)


def _named(path: Any) -> str:
    return f"data{jax.tree_util.keystr(path)}"


def _check_dtypes(like: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        if leaf.dtype.kind not in "fiub" or leaf.dtype.itemsize > 8:
            raise TypeError(
                coded(
                    "E501",
                    f"{_named(path)} has dtype {leaf.dtype}: expected numbers of at most 64 bits. "
                    "Code text and dates as numbers first",
                )
            )
