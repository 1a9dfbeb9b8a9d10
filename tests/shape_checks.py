"""The checker of shapes: `pytest --jaxtyping-packages=infimum,shape_checks.check`.

It enforces what annotations say of arrays: library, kind of numbers and shape. Other annotations
are left to mypy, since tests of wrong use pass wrong types on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

SHAPED = re.compile(r"\b(Float|Int|Bool|Shaped|Num|Real|UInt|Integer|Inexact)\[")
"""Annotations of jaxtyping."""

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Any:
    """Check the arrays among the arguments and the result of a function at every call."""
    hints = getattr(function, "__annotations__", {})
    shaped = {name: hint for name, hint in hints.items() if SHAPED.search(_text(hint))}
    if isinstance(function, type) or len(shaped) == len(hints):
        return _beartype(function)
    function.__annotations__ = shaped
    return _beartype(function)


def _text(hint: Any) -> str:
    return hint if isinstance(hint, str) else str(hint)
