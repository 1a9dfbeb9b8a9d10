"""Optional libraries: imported where they are used, with a word on how to install them."""

from __future__ import annotations

import importlib
from typing import Any

from infimum.base.errors import coded


def required(module: str, extra: str) -> Any:
    """Import an optional library.

    Raises
    ------
    ImportError
        If it is not installed: says which extra of this package brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing != module.split(".")[0]:
            raise
        raise ImportError(
            coded("E602", f'{missing} is not installed: pip install "infimum[{extra}]"'),
            name=missing,
        ) from error
