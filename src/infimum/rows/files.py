"""Data files that must not change while they are read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from infimum.base.errors import coded_error
from infimum.rows.blocks import DataError


class DataFiles:
    """Files as they were when they were opened.

    A change during a fit is an error, because no answer would belong to either version.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._states = {path: _state(path) for path in paths}

    def check(self) -> None:
        """Raise DataError if one is not as it was."""
        for path, state in self._states.items():
            try:
                now = _state(path)
            except OSError as error:
                raise coded_error(
                    DataError,
                    "E510",
                    f"the data file {path} has disappeared: {error}. Fit again on a file that "
                    "stays as it is",
                ) from error
            if now != state:
                raise coded_error(
                    DataError,
                    "E510",
                    f"the data file {path} has changed since it was opened: no answer would "
                    "belong to either version. Fit again on a file that stays as it is",
                )


def _state(path: Path) -> tuple[int, int, int]:
    """Size, time of the last change, and number on the disk."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
