"""Optional libraries: each is imported where it is used, and a missing one names its extra.

`pip install infimum` brings what the fit of a log density needs. Everything else comes with an
extra of `pyproject.toml`, and is imported through `required`.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from infimum.base.errors import UnsuitableError, coded


class MissingLibraryError(ImportError, UnsuitableError):
    """A library is not installed; the message has the command that installs it.

    It is an `UnsuitableError` too: a climb skips the rung that needs the library, and `correct`
    skips the correction.
    """


def required(module: str, extra: str) -> Any:
    """Import an optional library.

    Parameters
    ----------
    module
        The library, or a module of it.
    extra
        The extra of this package that brings the library, and what the library needs itself.

    Raises
    ------
    MissingLibraryError
        If the library is not installed, or one that it needs.
    ImportError
        If the library is installed and fails to import: its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if "." in missing:  # the library is there, and lacks a part of its own
            raise
        raise MissingLibraryError(
            coded("E602", f'{missing} is not installed: pip install "infimum[{extra}]"'),
            name=missing,
        ) from error


def installed(library: str) -> bool:
    """Tell whether a library is there, for work that can do without it."""
    return importlib.util.find_spec(library) is not None
