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
    """A library is not installed, or fails to import; the message has the command that installs it.

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
        If the library, or one that it needs, is not installed or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and "." not in (error.name or "."):
            library, why = str(error.name), "is not installed"
        else:
            why = f"fails to import ({error})"
        message = f'{library} {why}: pip install "infimum[{extra}]"'
        raise MissingLibraryError(coded("E602", message), name=library) from error


def installed(library: str) -> bool:
    """Tell whether a library is there, for work that can do without it."""
    return importlib.util.find_spec(library) is not None
