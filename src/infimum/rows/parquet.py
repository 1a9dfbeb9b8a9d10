"""Blocks of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, PyTree

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.rows.blocks import Blocks, DataError, rows_of
from infimum.rows.files import DataFiles
from infimum.rows.forms import check_dtypes
from infimum.rows.streams import read_ahead, resize, rows_by_number


class ParquetBlocks(Blocks):
    """A Parquet file: a block is a dict of columns."""

    where = "on disk"

    def __init__(self, path: Path, n_rows: int | None) -> None:
        self._library = required("pyarrow.parquet", "parquet")
        self._path = path
        if not path.is_file():
            raise coded_error(
                ValueError, "E901", f"there is no file {path}: give a Parquet file, or arrays"
            )
        try:
            self.n_rows = int(self._library.read_metadata(path).num_rows)
        except Exception as error:  # pyarrow raises types of its own
            raise coded_error(
                ValueError,
                "E510",
                f"{path} can't be read as a Parquet file: {error}. Give a Parquet file, or arrays",
            ) from error
        if n_rows is not None and n_rows != self.n_rows:
            raise coded_error(
                ValueError,
                "E504",
                f"row counts disagree: {path} {self.n_rows:,}, n_rows {n_rows:,}: leave n_rows out",
            )
        if self.n_rows == 0:
            raise coded_error(
                ValueError, "E505", f"the data file {path} has no rows: give at least one"
            )
        self._files = DataFiles([path])
        self.like = rows_of(next(self._batches(2)), slice(0, 2))
        check_dtypes(self.like)

    def read(self, size: int) -> Iterator[PyTree[np.ndarray]]:
        """Blocks of the file, read ahead."""
        self._files.check()
        yield from read_ahead(resize(self._batches(size), size))

    def take(self, index: Int[np.ndarray, " m"]) -> PyTree[np.ndarray]:
        """Rows by their numbers, by reading the whole file."""
        return rows_by_number(self.read(self.reading_size), index)

    def _batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        with self._library.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=size):
                names = batch.schema.names
                columns = zip(names, batch.columns, strict=True)
                yield {name: self._column(name, column) for name, column in columns}

    def _column(self, name: str, column: Any) -> np.ndarray:
        if column.null_count:
            raise coded_error(
                DataError,
                "E507",
                f"column {name!r} of {self._path} has missing values (null): fill them, and "
                "add a column that says where they are",
            )
        array: np.ndarray = column.to_numpy(zero_copy_only=False)
        return array
