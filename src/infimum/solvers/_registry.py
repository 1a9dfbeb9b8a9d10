"""Which solvers there are: those whose files are in this folder, named nowhere else."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from infimum.base.deprecation import warn_renamed
from infimum.base.discovery import classes_in
from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._distribution import Distribution
from infimum.solvers._solver import Solver

PACKAGE = __name__.rpartition(".")[0]
"""The folder whose files are looked through."""

RENAMED = {
    "Natural": "NaturalGradient",
    "Rounds": "FlowAdam",
    "Stochastic": "StochasticGradient",
    "Subspace": "SubspaceNewton",
    "Values": "GradientFree",
}
"""Solvers under the names that they had before 0.2.0."""


@functools.cache
def members() -> tuple[type[Solver], ...]:
    """Every solver, in their order."""
    solvers = classes_in(PACKAGE, Solver)  # type: ignore[type-abstract]
    return tuple(sorted(solvers, key=lambda solver: solver.order))


def plan(q: Distribution, differentiable: bool = True) -> list[Solver]:
    """The solvers that move a q of this kind best, one after another.

    Parameters
    ----------
    differentiable
        Whether log p̂ comes with a gradient.

    Raises
    ------
    UnsuitableError
        If no solver moves q: the family needs gradients, and the target has none.
    """
    able = [
        solver()
        for solver in members()
        if solver().accepts(q) and solver.needs_gradient == differentiable
    ]
    if not able:
        raise coded_error(
            UnsuitableError,
            "E110",
            f"no solver moves a {type(q).__name__} without a gradient: give the target one, or "
            "fit a Gaussian family",
        )
    special = [solver for solver in able if not solver.general]
    return special or able


def __dir__() -> list[str]:
    return list(importlib.import_module(PACKAGE).__all__)


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        warn_renamed(f"{PACKAGE}.{name}", f"{PACKAGE}.{RENAMED[name]}")
    for member in members():
        if member.__name__ == RENAMED.get(name, name):
            return member
    raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
