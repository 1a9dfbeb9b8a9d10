"""The contract of a hierarchy: coordinates whose location and scale other coordinates decide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from infimum.base.program import ClosedJaxpr


class Parents(NamedTuple):
    """What the other coordinates decide for k coordinates z_j: four arrays of shape (k,).

    Attributes
    ----------
    location, scale
        Of the prior of z_j.
    offset, slope
        The data depend on z_j through θ_j = offset + slope·z_j.
    """

    location: jax.Array | np.ndarray
    scale: jax.Array | np.ndarray
    offset: jax.Array | np.ndarray
    slope: jax.Array | np.ndarray


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Coordinates z_j of R^d whose location, scale, offset or slope depends on other coordinates.

    Attributes
    ----------
    names
        A name for each of the k coordinates.
    index
        Which coordinates of z they are, shape (k,).
    level
        The level of each, from 0 on, shape (k,): it depends only on coordinates of lower levels,
        and on coordinates outside the hierarchy.
    centred
        Whether z_j is θ_j itself, shape (k,); if not, the scale is taken out of it.
    parents
        From one point z to the `Parents` there, traceable by JAX.
    """

    names: tuple[str, ...]
    index: np.ndarray
    level: np.ndarray
    centred: np.ndarray
    parents: Callable[[Any], Parents]


def levels(needs: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Put each node on the level above all nodes that it needs.

    Nodes in a circle are left out, and so are the nodes that need them.

    Parameters
    ----------
    needs
        The nodes that each node needs. Those that are not keys are there from the beginning.
    """
    level: dict[str, int] = {}
    waiting = {name: {x for x in needed if x in needs} for name, needed in needs.items()}
    while ready := [name for name, needed in waiting.items() if needed <= level.keys()]:
        for name in ready:
            level[name] = 1 + max((level[x] for x in waiting[name]), default=-1)
        waiting = {name: needed for name, needed in waiting.items() if name not in ready}
    return level


def dependence(
    function: Callable[[Any], Mapping[str, Any]], parts: Mapping[str, Any]
) -> dict[str, frozenset[str]]:
    """Which of its named arguments each named result of a function may depend on.

    This is read off the traced function. An argument that is not named has no influence; one that
    is named may still turn out to be multiplied by zero.

    Parameters
    ----------
    function
        Takes a dict like `parts`, and returns a dict of arrays; traceable by JAX.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(dict(parts))
    own = [frozenset({name}) for name in sorted(parts)]  # JAX sorts the keys of a dict
    return dict(zip(sorted(shapes), _reach(closed.jaxpr, own), strict=True))


def _reach(jaxpr: core.Jaxpr, arguments: list[frozenset[str]]) -> list[frozenset[str]]:
    """The names that reach each result, if these reach the arguments."""
    reaching: dict[Hashable, frozenset[str]] = dict(zip(jaxpr.invars, arguments, strict=True))

    def names_of(variable: core.Var | core.Literal) -> frozenset[str]:
        nothing: frozenset[str] = frozenset()
        return nothing if isinstance(variable, core.Literal) else reaching.get(variable, nothing)

    for eqn in jaxpr.eqns:
        sources = [names_of(variable) for variable in eqn.invars]
        inner = [x.jaxpr for x in eqn.params.values() if isinstance(x, ClosedJaxpr)]
        called = len(inner) == 1 and eqn.primitive.name in _TRANSPARENT
        if called and len(inner[0].invars) == len(sources):
            results = _reach(inner[0], sources)
        else:
            results = [frozenset().union(*sources)] * len(eqn.outvars)
        reaching.update(zip(eqn.outvars, results, strict=True))
    return [names_of(variable) for variable in jaxpr.outvars]


_TRANSPARENT = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
"""Primitives that call one function on their own arguments. Of any other primitive every argument
reaches every result."""
