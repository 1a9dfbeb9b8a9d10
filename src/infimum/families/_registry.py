"""Which families there are: those whose files are in this folder, named nowhere else."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from typing import Any

from infimum.base.errors import coded
from infimum.families._family import Family


@functools.cache
def members() -> dict[str, type[Family]]:
    """Every family by its name, in the order of the files."""
    found: dict[str, type[Family]] = {}
    for name in _modules():
        module = importlib.import_module(name)
        for member in vars(module).values():
            own = inspect.isclass(member) and member.__module__.startswith(name)
            if own and issubclass(member, Family):
                found[member.name] = member
    return found


def named(name: str) -> Family:
    """The family of this name, with its defaults."""
    if name not in members():
        near = difflib.get_close_matches(str(name), members(), 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        told = f"unknown family {name!r}; known: auto, {', '.join(members())}.{meant}"
        raise ValueError(coded("E201", told))
    return members()[name]()


def family_of(given: Any) -> Family:
    """The family that a name, a type or a family says."""
    if isinstance(given, str):
        return named(given)
    if isinstance(given, type) and issubclass(given, Family):
        return given()
    if not isinstance(given, Family):
        known = ", ".join(members())
        raise TypeError(
            coded("E201", f"{given!r} is not a family: give a name (auto, {known}) or a Family")
        )
    return given


def _modules() -> list[str]:
    """The modules of this folder that hold a member; a leading underscore marks the others."""
    package = __name__.rpartition(".")[0]
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return [f"{package}.{file.name}" for file in files if not file.name.startswith("_")]


def __getattr__(name: str) -> Any:
    for member in members().values():
        if member.__name__ == name:
            return member
    raise AttributeError(f"module {__package__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["family_of", "members", "named", *(member.__name__ for member in members().values())]
