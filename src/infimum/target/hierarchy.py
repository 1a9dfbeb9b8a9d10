"""The contract of a hierarchy: coordinates with a location and a scale that other ones decide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from infimum.base.program import ClosedJaxpr


class Parents(NamedTuple):
    """What the other coordinates say of k coordinates z_j, each array of shape (k,).

    Attributes
    ----------
    location, scale
        Of z_j a priori.
    offset, slope
        θ_j = offset + slope·z_j is what the data are about.
    """

    location: Any
    scale: Any
    offset: Any
    slope: Any


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Coordinates z_j of R^d whose location, scale, offset or slope depends on other coordinates.

    Attributes
    ----------
    names
        What each of them is called.
    index
        Which coordinates of z they are, shape (k,).
    level
        What those of one level depend on lies on lower levels, or outside; shape (k,), from 0 on.
    centred
        Whether z_j is θ_j itself, shape (k,); if not, the model is stated with the scale taken out.
    parents
        The function of one point z, traceable by JAX.
    """

    names: tuple[str, ...]
    index: np.ndarray
    level: np.ndarray
    centred: np.ndarray
    parents: Callable[[Any], Parents]


def levels(needs: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Put nodes on levels above all that they need; those in or behind a circle are left out.

    Parameters
    ----------
    needs
        What each node needs; what is no key of it is there from the beginning.
    """
    placed: dict[str, int] = {}
    waiting = {name: {x for x in given if x in needs} for name, given in needs.items()}
    while ready := [name for name, given in waiting.items() if given <= placed.keys()]:
        for name in ready:
            placed[name] = 1 + max((placed[x] for x in waiting[name]), default=-1)
        waiting = {name: given for name, given in waiting.items() if name not in ready}
    return placed


def dependence(
    function: Callable[[Any], Mapping[str, Any]], parts: Mapping[str, Any]
) -> dict[str, frozenset[str]]:
    """Which of its named arguments each named result of a function may depend on.

    Read off the traced function: what is not named does not matter; what is named may turn out to
    be multiplied by zero.

    Parameters
    ----------
    function
        Takes a dict like `parts`, and returns a dict of arrays; traceable by JAX.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(dict(parts))
    own = [frozenset({name}) for name in sorted(parts)]
    return dict(zip(sorted(shapes), _reach(closed.jaxpr, own), strict=True))


def _reach(jaxpr: core.Jaxpr, given: list[frozenset[str]]) -> list[frozenset[str]]:
    """Which names reach the results, for names of the arguments."""
    known: dict[Hashable, frozenset[str]] = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> frozenset[str]:
        nothing: frozenset[str] = frozenset()
        return nothing if isinstance(variable, core.Literal) else known.get(variable, nothing)

    for eqn in jaxpr.eqns:
        sources = [of(variable) for variable in eqn.invars]
        inner = [x.jaxpr for x in eqn.params.values() if isinstance(x, ClosedJaxpr)]
        same = len(inner) == 1 and eqn.primitive.name in _TRANSPARENT
        if same and len(inner[0].invars) == len(sources):
            results = _reach(inner[0], sources)
        else:
            results = [frozenset().union(*sources)] * len(eqn.outvars)
        known.update(zip(eqn.outvars, results, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


_TRANSPARENT = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
"""Primitives that call one function on their own arguments; through others everything reaches
everything."""
