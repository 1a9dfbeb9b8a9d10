"""Values of parameters that a user gives as a start, and their unconstrained points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Bool, Float, PyTree

from infimum.base.errors import coded_error
from infimum.target.parameters import path_name
from infimum.target.space import MOST_LISTED, Leaf, Space, columns

ROUNDING = 1e-3
"""Relative change of a value on its way to the unconstrained scale and back that is rounding."""

Values = dict[str, np.ndarray]
"""Arrays by the names of their parameters."""


def read_values(space: Space, start: PyTree) -> tuple[Values, int | None]:
    """The values of some parameters, and how many draws they are; None for a point.

    Parameters
    ----------
    start
        A pytree of the parameters, of which some may be missing, with or without a leading axis of
        draws; or an object with a group `posterior`, as ArviZ has them.

    Raises
    ------
    TypeError, ValueError
        For a parameter that the space lacks, or values of another shape.
    """
    group = _posterior(start)
    if group is not None:
        return read_draws(space, group)
    return _checked(own_leaves(space), dict(_named(start, space.leaves)))


def read_draws(space: Space, group: Mapping[str, Any]) -> tuple[Values, int]:
    """The parameters among many quantities, each with a leading axis of draws.

    Raises
    ------
    ValueError
        If there are none, or they have other shapes.
    """
    own = own_leaves(space)
    known = {name: group[leaf.label] for name, leaf in own.items() if leaf.label in group}
    if not known:
        labels = listed([leaf.label for leaf in own.values()])
        _refuse(f"the start has {listed(list(group))}, and none of the parameters {labels}")
    values, n = _checked(own, known, chained=True)
    assert n is not None
    return values, n


def own_leaves(space: Space) -> dict[str, Leaf]:
    """The parameters of a space by name, without what is derived from them."""
    return {leaf.name: leaf for leaf in space.leaves if not leaf.derived}


def inverted(
    space: Space, values: Mapping[str, np.ndarray], base: Float[np.ndarray, "m d"], draws: bool
) -> Float[np.ndarray, "k d"]:
    """Points z with these values of some parameters, and those of `base` of the others.

    Parameters
    ----------
    draws
        Whether the values have a leading axis m. If not, rows of `base` that do not go with them
        are left out.

    Raises
    ------
    ValueError
        If a value is outside the support of its parameter.
    """
    own = own_leaves(space)
    parts = {} if len(values) == len(own) else _parameters(space, base)
    rows = {name: np.broadcast_to(x, (len(base), *own[name].shape)) for name, x in values.items()}
    z, fine = _through(space, {**parts, **rows}, list(rows))
    if fine.all() or (fine.any() and not draws):
        return z[fine]
    parts = _parameters(space, base)
    for name, value in rows.items():
        parts[name] = value
        fine = _through(space, parts, [name])[1]
        if not (fine.all() if draws else fine.any()):
            bad = np.array2string(value[np.argmin(fine)], threshold=6, precision=6)
            which = f" in draw {np.argmin(fine)}" * draws
            _refuse(
                f"the start of parameter {own[name].label!r}, {bad}{which}, is outside its "
                "support or on the boundary: give values inside it"
            )
    _refuse("the start is outside the supports of its parameters: give values inside them")


def _posterior(start: PyTree) -> dict[str, np.ndarray] | None:
    """Arrays (n, ...) by name of the posterior group of ArviZ's DataTree or InferenceData."""
    variables = getattr(getattr(start, "posterior", None), "data_vars", None)
    if variables is None:
        return None
    arrays = {}
    for name, variable in variables.items():
        if {"chain", "draw"} <= set(variable.dims):
            values = np.asarray(variable.transpose("chain", "draw", ...))
            arrays[str(name)] = values.reshape(-1, *values.shape[2:])
    return arrays


def _named(tree: PyTree, leaves: tuple[Leaf, ...], path: tuple[object, ...] = ()) -> Iterator[Any]:
    """Each value of a user's pytree, with the name of the parameter that it is of."""
    known = {leaf.name for leaf in leaves}
    name = path_name(path)
    if name in known:
        yield name, tree
        return
    children = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)[0]
    if children and children[0][0]:
        for step, child in children:
            yield from _named(child, leaves, (*path, *step))
    elif children:
        parameters = [leaf.label for leaf in leaves if not leaf.derived]
        what = f"{name!r}, which is not a parameter" if name else f"{tree!r}"
        _refuse(
            f"the start has {what}: give a point or draws of {listed(parameters)}, or a fit",
            ValueError if name else TypeError,
        )


def _checked(
    own: Mapping[str, Leaf], given: Mapping[str, Any], chained: bool = False
) -> tuple[dict[str, np.ndarray], int | None]:
    """The values of the parameters in float64, and how many draws; None for a point.

    Parameters
    ----------
    chained
        Whether the values are draws for certain.
    """
    values: dict[str, np.ndarray] = {}
    counts: dict[str, int | None] = {}
    for name, leaf in own.items():
        if name not in given:
            continue
        values[name] = _numbers(leaf, given[name])
        shape = values[name].shape
        if shape == leaf.shape and not chained:
            counts[name] = None
        elif len(shape) and shape[1:] == leaf.shape and shape[0]:
            counts[name] = shape[0]
        else:
            many = ", ".join(map(str, leaf.shape))
            _refuse(
                f"the start of parameter {leaf.label!r} has shape {shape}, expected {leaf.shape} "
                f"for a point, or (n, {many}) for n draws"
            )
    if not values:
        labels = listed([leaf.label for leaf in own.values()])
        _refuse(f"the start is empty: give values of {labels}")
    if len(set(counts.values())) > 1:
        words = ", ".join(
            f"{own[name].label!r} {'a point' if n is None else f'{n} draws'}"
            for name, n in counts.items()
        )
        _refuse(f"the start has different numbers of draws: {words}. Give as many of each")
    return values, next(iter(counts.values()))


def _numbers(leaf: Leaf, value: object) -> np.ndarray:
    try:
        array = np.asarray(value)
        numbers = array.astype(np.float64) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        _refuse(f"the start of parameter {leaf.label!r} is {value!r}, expected numbers", TypeError)
    if not np.isfinite(numbers).all():
        bad = numbers[~np.isfinite(numbers)].flat[0]
        _refuse(f"the start of parameter {leaf.label!r} has the value {bad}: give finite numbers")
    return numbers


def _through(
    space: Space, params: Mapping[str, np.ndarray], names: Sequence[str]
) -> tuple[Float[np.ndarray, "m d"], Bool[np.ndarray, " m"]]:
    """Points of these parameters, and at which of them the way back gives those of these names."""
    flat = columns([params[name] for name in own_leaves(space)])
    try:
        z = np.asarray(space.invert(flat)[0])
        fine = np.isfinite(z).all(axis=1)
        back = _parameters(space, z)
    except Exception:  # a source's own code may raise what it likes outside a support
        return np.zeros((len(flat), space.dim)), np.zeros(len(flat), bool)
    for name in names:
        same = np.isclose(back[name], params[name], ROUNDING, ROUNDING)
        fine &= same.reshape(len(same), -1).all(axis=1)
    return z, fine


def _parameters(space: Space, z: Float[np.ndarray, "m d"]) -> Values:
    """The parameters at each row."""
    arrays = jax.tree_util.tree_leaves(space.draws(z))
    pairs = zip(arrays, space.leaves, strict=True)
    return {leaf.name: x for x, leaf in pairs if not leaf.derived}


def _refuse(message: str, kind: type[Exception] = ValueError) -> NoReturn:
    raise coded_error(kind, "E307", message)


def listed(names: Sequence[str]) -> str:
    """The first names, and a hint if there are more."""
    return ", ".join(names[:MOST_LISTED]) + ", …" * (len(names) > MOST_LISTED)
