"""Files of draws for other programs: CSV, Parquet, or NetCDF in the layout of ArviZ."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from jaxtyping import PyTree

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.target.datatree import tree
from infimum.target.space import columns

if TYPE_CHECKING:
    from infimum.fitting.fit import Fit


def write(fit: Fit, draws: PyTree, path: Path) -> None:
    """Write draws of a fit in the format that the ending of the path names.

    CSV and Parquet have a column for each scalar quantity and a row for each draw. NetCDF has
    ArviZ's group `posterior`, with the data of the model if it is known. A number in CSV has
    enough digits to be read back exactly.

    Raises
    ------
    ValueError
        If the ending is not .csv, .parquet or .nc.
    ImportError
        If the library for the format, pyarrow or h5netcdf, is not installed.
    """
    writer(path)(fit, draws, path)


def writer(path: Path) -> Callable[[Fit, PyTree, Path], None]:
    """The function that writes this format. Raises the errors of `write`, before any work."""
    ending = path.suffix.lower()
    if ending == ".csv":
        return _csv
    if ending == ".parquet":
        required("pyarrow", "parquet")
        return _parquet
    if ending == ".nc":
        required("h5netcdf", "netcdf")
        return _netcdf
    raise coded_error(
        ValueError,
        "E911",
        f"cannot write draws to {path}: its name must end in .csv, .parquet or .nc",
    )


def _csv(fit: Fit, draws: PyTree, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(fit.space.names)
        rows.writerows(columns(draws).tolist())


def _parquet(fit: Fit, draws: PyTree, path: Path) -> None:
    import pandas as pd

    pd.DataFrame(columns(draws), columns=fit.space.names).to_parquet(path, engine="pyarrow")


def _netcdf(fit: Fit, draws: PyTree, path: Path) -> None:
    leaves = jax.tree_util.tree_leaves(draws)
    arrays = {leaf.label: x for leaf, x in zip(fit.space.leaves, leaves, strict=True)}
    datatree = tree({"posterior": arrays}, fit.model, fit.family.name)
    datatree.to_netcdf(path, engine="h5netcdf")
