"""Errors of wrong use: each message ends with its code."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import numpy as np

from infimum.base.catalogue import catalogue

E = TypeVar("E", bound=Exception)

CODED = re.compile(r" \[[EW]\d{3}\]$")
"""The code at the end of a message."""


def coded(code: str, message: str) -> str:
    """The message with the code at its end. A message that quotes a coded error keeps that code."""
    assert code in catalogue(), code
    return message if CODED.search(message) else f"{message} [{code}]"


def coded_error(kind: type[E], code: str, message: str) -> E:
    """An error of this type, its message with its code: ``raise coded_error(ValueError, …)``."""
    return kind(coded(code, message))


def plain(message: object) -> str:
    """The message without its code, to be quoted in another message."""
    return CODED.sub("", str(message))


class UnsuitableError(ValueError):
    """A family cannot be fitted to this target. The message says why, and a climb skips it."""


def check_number(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless the value of this setting is an integer of at least `least`."""
    if not isinstance(value, int | np.integer) or value < least:
        raise coded_error(
            ValueError, "E302", f"{name} is {value!r}, expected an integer of at least {least}"
        )
