"""The form of data: names, dtypes and shapes that readers check."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from infimum.base.errors import coded_error
from infimum.rows.blocks import DataError


def form_of(block: PyTree[np.ndarray]) -> PyTree[str]:
    """Structure, dtypes and trailing shapes of a block, in words."""
    return jax.tree_util.tree_map(lambda x: f"{x.dtype}{list(x.shape[1:])}", block)


def leaf_name(path: tuple[Any, ...]) -> str:
    """What to call an array of the data in a message: `data['x']`."""
    return f"data{jax.tree_util.keystr(path)}"


def native_array(part: Any, name: str) -> np.ndarray:
    """Rows as an array of this machine's byte order.

    Raises
    ------
    DataError
        For masked entries: NumPy would give what is under the mask.
    """
    if np.ma.is_masked(part):
        raise coded_error(
            DataError,
            "E507",
            f"{name} has masked entries: leave their rows out, or fill them and give an array "
            "that says where they are",
        )
    array = np.asarray(part)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_dtypes(like: PyTree[np.ndarray]) -> None:
    """Raise TypeError for text, dates, objects, and numbers of more than 64 bits."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        if leaf.dtype.kind not in "fiub" or leaf.dtype.itemsize > 8:
            raise coded_error(
                TypeError,
                "E501",
                f"{leaf_name(path)} has dtype {leaf.dtype}: expected numbers of at most 64 "
                "bits. Code text and dates as numbers first",
            )
