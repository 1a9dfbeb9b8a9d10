"""Draws in a file that other programs read: CSV, Parquet, or NetCDF as ArviZ lays it out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from jaxtyping import PyTree

from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.target.datatree import tree
from infimum.target.space import columns

if TYPE_CHECKING:
    from infimum.fitting.fit import Fit


def write(fit: Fit, draws: PyTree, path: Path) -> None:
    """Write draws of a fit as the file's ending says.

    In CSV and Parquet there is a column for each scalar quantity and a row for each draw, in
    NetCDF ArviZ's group `posterior` with the data that the model knows. A number in CSV has as
    many digits as it takes to read the same number again.

    Raises
    ------
    ValueError
        For an ending that is none of these.
    ImportError
        If pyarrow or h5netcdf, which Parquet and NetCDF need, is not installed.
    """
    writer(path)(fit, draws, path)


def writer(path: Path) -> Callable[[Fit, PyTree, Path], None]:
    """What writes a file of this ending; raises as `write` does, before any work."""
    kind = path.suffix.lower()
    if kind == ".csv":
        return _csv
    if kind == ".parquet":
        required("pyarrow", "parquet")
        return _parquet
    if kind == ".nc":
        required("h5netcdf", "netcdf")
        return _netcdf
    raise ValueError(
        coded("E911", f"can't write draws to {path}: its name must end in .csv, .parquet or .nc")
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
    named = {leaf.label: x for leaf, x in zip(fit.space.leaves, leaves, strict=True)}
    made = tree({"posterior": named}, fit.model, fit.family.name)
    made.to_netcdf(path, engine="h5netcdf")
