"""Errors: messages with their codes, the errors of families, and checks of arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from infimum.base.catalogue import catalogue

CODED = re.compile(r" \[[EW]\d{3}\]$")
"""A message's code, at its end."""


def coded(code: str, message: str) -> str:
    """The message with its code at the end; that of its cause stays, if it has one already."""
    assert code in catalogue(), code
    return message if CODED.search(message) else f"{message} [{code}]"


def plain(message: object) -> str:
    """What an error says, without its code: for the message of another one."""
    return CODED.sub("", str(message))


class UnsuitableError(ValueError):
    """A family can't serve this target; the message says why, and a climb skips the rung."""


def check_number(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless a setting is a whole number of at least so much."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            coded("E302", f"{name} is {value!r}, expected an integer of at least {least}")
        )
