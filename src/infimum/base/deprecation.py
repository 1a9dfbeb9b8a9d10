"""Old names: they work for one version, and warn with the new name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from infimum.base.errors import coded

REMOVED_IN = "0.3.0"
"""The version in which the names that 0.2.0 changed are gone."""


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that `old` is now `new`."""
    message = f"{old} is now called {new}; the old name is removed in infimum {REMOVED_IN}"
    warnings.warn(coded("W103", message), DeprecationWarning, stacklevel=stacklevel)


def renamed_functions(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__``, which finds its functions under their old names.

    Parameters
    ----------
    names
        From old names to those of today.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(sys.modules[module], names[name])

    return find


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
