"""Which families there are: those whose files are in this folder, named nowhere else."""

from __future__ import annotations

import difflib
import functools
import importlib
from typing import Any

from infimum.base.discovery import classes_in
from infimum.base.errors import coded_error
from infimum.families._family import Family

PACKAGE = __name__.rpartition(".")[0]
"""The folder whose files are looked through."""


@functools.cache
def members() -> dict[str, type[Family]]:
    """Every family by its name, in the order of the files."""
    families = classes_in(PACKAGE, Family)  # type: ignore[type-abstract]
    return {family.name: family for family in families}


def named(name: str) -> Family:
    """The family of this name, with its defaults.

    Raises
    ------
    ValueError
        If no family is called so; the message has the names, and the nearest of them.
    """
    if name not in members():
        near = difflib.get_close_matches(str(name), members(), 1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(members())
        raise coded_error(
            ValueError, "E201", f"unknown family {name!r}; known: auto, {known}.{guess}"
        )
    return members()[name]()


def family_of(choice: Any) -> Family:
    """The family that a user's choice stands for: a name, a subclass of `Family`, or a family."""
    if isinstance(choice, str):
        return named(choice)
    if isinstance(choice, type) and issubclass(choice, Family):
        return choice()
    if not isinstance(choice, Family):
        known = ", ".join(members())
        raise coded_error(
            TypeError,
            "E201",
            f"{choice!r} is not a family: give a name (auto, {known}) or a Family",
        )
    return choice


def __dir__() -> list[str]:
    return list(importlib.import_module(PACKAGE).__all__)


def __getattr__(name: str) -> Any:
    for member in members().values():
        if member.__name__ == name:
            return member
    raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
