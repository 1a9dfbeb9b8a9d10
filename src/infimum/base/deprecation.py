"""Old names: they work for one version, and warn with the new name."""

from __future__ import annotations

import warnings
from typing import Any

from infimum.base.errors import coded

REMOVED_IN = "0.3.0"
"""The version in which the names that 0.2.0 changed are gone."""


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that `old` is now `new`."""
    message = f"{old} is now called {new}; the old name is removed in infimum {REMOVED_IN}"
    warnings.warn(coded("W103", message), DeprecationWarning, stacklevel=stacklevel)


class RenamedAttribute:
    """An attribute under its old name.

    Parameters
    ----------
    new
        The attribute's name today, possibly dotted.
    """

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        warn_renamed(f"{owner.__name__}.{self.old}", f"{owner.__name__}.{self.new}")
        value = instance
        for name in self.new.split("."):
            value = getattr(value, name)
        return value
