"""Errors of wrong use: each message ends with its code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from infimum.base.catalogue import catalogue

CODED = re.compile(r" \[[EW]\d{3}\]$")
"""The code at the end of a message."""


def coded(code: str, message: str) -> str:
    """The message with the code at its end. A message that quotes a coded error keeps that code."""
    assert code in catalogue(), code
    return message if CODED.search(message) else f"{message} [{code}]"


def plain(message: object) -> str:
    """The message without its code, to be quoted in another message."""
    return CODED.sub("", str(message))


class UnsuitableError(ValueError):
    """A family cannot be fitted to this target. The message says why, and a climb skips it."""


def check_number(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless the value of this setting is an integer of at least `least`."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            coded("E302", f"{name} is {value!r}, expected an integer of at least {least}")
        )
