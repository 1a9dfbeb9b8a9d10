"""Which solvers there are: those whose files are in this folder, named nowhere else."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from typing import Any

from infimum.base.errors import UnsuitableError, coded
from infimum.families._distribution import Distribution
from infimum.solvers._solver import Solver


@functools.cache
def members() -> tuple[type[Solver], ...]:
    """Every solver, in their order."""
    found = []
    for name in _modules():
        module = importlib.import_module(name)
        for member in vars(module).values():
            own = inspect.isclass(member) and member.__module__.startswith(name)
            if own and issubclass(member, Solver):
                found.append(member)
    return tuple(sorted(found, key=lambda solver: solver.order))


def plan(q: Distribution, differentiable: bool = True) -> list[Solver]:
    """The solvers that move a q of this kind best, one after another.

    Parameters
    ----------
    differentiable
        Whether log p̂ comes with a gradient.

    Raises
    ------
    UnsuitableError
        If there is none: a family that needs gradients, and a target without.
    """
    able = [
        solver()
        for solver in members()
        if solver().accepts(q) and solver.needs_gradient == differentiable
    ]
    if not able:
        raise UnsuitableError(
            coded(
                "E110",
                f"no solver moves a {type(q).__name__} without a gradient: give the target one, or "
                "fit a Gaussian family",
            )
        )
    special = [solver for solver in able if not solver.general]
    return special or able


def _modules() -> list[str]:
    """The modules of this folder that hold a member; a leading underscore marks the others."""
    package = __name__.rpartition(".")[0]
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return [f"{package}.{file.name}" for file in files if not file.name.startswith("_")]


def __getattr__(name: str) -> Any:
    for member in members():
        if member.__name__ == name:
            return member
    raise AttributeError(f"module {__package__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["members", "plan", *(member.__name__ for member in members())]
