"""The choice of a reader: which kind of blocks the user's data are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from infimum.base.errors import coded_error
from infimum.rows.arrays import ArrayBlocks, is_leaf, is_sliceable
from infimum.rows.blocks import Blocks
from infimum.rows.forms import leaf_name
from infimum.rows.iterated import IteratedBlocks
from infimum.rows.parquet import ParquetBlocks


def blocks_of(data: Any, n_rows: int | None) -> Blocks:
    """The user's rows as blocks.

    Parameters
    ----------
    data
        Pytree of arrays, memory-maps or Zarr arrays; a Parquet file or a data frame; or anything
        that gives blocks each time it is iterated.
    n_rows
        Number of rows, if `data` do not know it.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or row counts disagree.
    """
    if not isinstance(n_rows, int | np.integer | None) or (n_rows is not None and n_rows < 1):
        raise coded_error(
            ValueError, "E302", f"n_rows is {n_rows!r}, expected a positive number of rows"
        )
    if isinstance(data, str | Path):
        return ParquetBlocks(Path(data), n_rows)
    data = _without_frames(data)
    if isinstance(data, Iterator):
        raise coded_error(
            TypeError,
            "E502",
            f"data are a {type(data).__name__}, which can be iterated once only: give "
            "something that can be iterated again, a list or an object with __iter__",
        )
    leaves = jax.tree_util.tree_leaves(data, is_leaf=is_leaf)
    if leaves and all(map(is_sliceable, leaves)):
        # A list of arrays is a pytree, unless `n_rows` says that its arrays are blocks.
        counts = {int(leaf.shape[0]) for leaf in leaves}
        listed = isinstance(data, list | tuple) and n_rows is not None and counts != {n_rows}
        if not listed:
            return ArrayBlocks(data, n_rows)
    _refuse_single_values(data)
    return IteratedBlocks(data, n_rows)


def _refuse_single_values(data: PyTree) -> None:
    """Raise TypeError for what stands among arrays of rows and is none."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(data, is_leaf=is_leaf):
        number = isinstance(leaf, int | float | complex | np.generic)
        if path and (number or (isinstance(data, dict) and not is_sliceable(leaf))):
            raise coded_error(
                TypeError,
                "E501",
                f"{leaf_name(path)} is {leaf!r}, expected an array with rows along its first "
                "axis: what is the same for all rows is no data, log_likelihood can close over "
                "it; make arrays of lists, with np.array",
            )


def _without_frames(data: Any) -> Any:
    """The same data, with arrays in the place of data frames and pandas series."""
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        names = [str(name) for name in data.columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise coded_error(
                ValueError, "E123", f"the data frame has two columns {twice!r}: rename one of them"
            )
        return {str(name): data[name].to_numpy() for name in data.columns}
    return jax.tree_util.tree_map(
        lambda leaf: leaf.to_numpy() if hasattr(leaf, "iloc") else leaf, data, is_leaf=is_leaf
    )
