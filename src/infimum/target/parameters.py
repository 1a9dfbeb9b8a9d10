"""The parameters of an example: their names, their shapes, and the checks of their supports."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from infimum import supports as S
from infimum.base.errors import coded_error
from infimum.supports import Support
from infimum.target.space import Leaf


@dataclass(frozen=True)
class Parameter:
    """One array of parameters.

    Attributes
    ----------
    leaf
        Its name and the shape of its constrained value.
    free_shape
        Shape of the unconstrained value: what `z` holds of it.
    support
        Its support, or a function from the parameters known so far to a support.
    """

    leaf: Leaf
    free_shape: tuple[int, ...]
    support: Support | Callable[[Any], Any]

    @property
    def name(self) -> str:
        """Its path in the pytree."""
        return self.leaf.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the constrained value."""
        return self.leaf.shape

    @property
    def size(self) -> int:
        """How many entries of `z` this parameter takes."""
        return math.prod(self.free_shape)


def path_name(path: tuple[Any, ...]) -> str:
    """A path in a pytree as a name: its keys, joined by dots."""
    return ".".join(str(_key(entry)) for entry in path)


def most_frequent(names: list[str]) -> str:
    """The name that occurs most often, for messages about names that occur twice."""
    return collections.Counter(names).most_common(1)[0][0]


def nested(values: dict[str, Any]) -> Any:
    """Leaves by name as nested dicts, as supports that depend on other parameters take them."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *branches, last = name.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[last] = value
    return tree


def _key(entry: Any) -> Any:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return entry


def key_value(leaf: Any) -> Any:
    """The leaf of an example; zeros for one that only declares its shape and dtype."""
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def floating(name: str, value: Any) -> np.ndarray:
    """A leaf of the example as float64.

    Raises
    ------
    TypeError, ValueError
        If it is not of a floating dtype, or not finite.
    """
    value = key_value(value)
    try:
        array = np.asarray(value)
        kind = "f" if jnp.issubdtype(array.dtype, jnp.floating) else array.dtype.kind
    except (TypeError, ValueError):
        kind = "O"
    if kind != "f":
        raise coded_error(
            TypeError,
            "E120",
            f"parameter {name!r} is {value!r} of dtype {getattr(value, 'dtype', type(value))}: "
            "infimum needs continuous parameters. Write a float (0.0, not 0) if it is "
            "continuous; sum a discrete one out of the density",
        )
    if not np.all(np.isfinite(array)):
        raise coded_error(
            ValueError,
            "E121",
            f"the example of parameter {name!r} is not finite: {array}. Give finite numbers, "
            "or zeros to say the shape only",
        )
    return array.astype(np.float64)


def assign(supports: PyTree, names: list[str]) -> dict[str, Any]:
    """The support of each leaf: its own, or that of its nearest branch."""
    if supports is None:
        return {}
    entries = jax.tree_util.tree_flatten_with_path(supports, is_leaf=_is_support)[0]
    assigned: dict[str, Any] = {}
    for path, support in entries:
        prefix = path_name(path)
        covered = [n for n in names if not prefix or n == prefix or n.startswith(prefix + ".")]
        if not covered:
            raise coded_error(
                ValueError,
                "E134",
                f"a support is given for {prefix!r}, which is not a parameter of the example; "
                f"its parameters are {', '.join(map(repr, names))}",
            )
        for name in covered:
            if support is not None:
                assigned[name] = support
    return assigned


def _is_support(node: object) -> bool:
    return not isinstance(node, dict | list | tuple) or node is None


def depending_last(names: Iterable[str], supports: dict[str, Any]) -> list[tuple[str, bool]]:
    """Each parameter, and whether its support is a function of others; those come last."""

    def depends(name: str) -> bool:
        support = supports.get(name)
        return callable(support) and not hasattr(support, "event_dim")

    return sorted(((name, depends(name)) for name in names), key=lambda entry: entry[1])


def parameter_of(
    name: str, value: np.ndarray, assigned: Any, depends: bool, inside: dict[str, Any]
) -> tuple[Parameter, Support]:
    """A parameter whose support fits it, and that support at the example.

    Parameters
    ----------
    value
        Its leaf of the example.
    assigned
        Its support, in one of the forms that `as_support` reads; if it `depends` on other
        parameters, a function of them.
    inside
        Values of the parameters before it, inside their supports.

    Raises
    ------
    TypeError, ValueError
        If it is not a support, or does not fit the example's shape or value.
    """
    try:
        support = S.as_support(assigned(nested(inside)) if depends else assigned)
    except KeyError as error:
        raise coded_error(
            ValueError,
            "E134",
            f"the support of parameter {name!r} asks for {error}, which is not a parameter, or "
            "depends on others itself and comes later: use parameters whose supports are fixed",
        ) from None
    except (TypeError, ValueError) as error:
        raise coded_error(type(error), "E130", f"parameter {name!r}: {error}") from None
    free_shape = _free_shape(name, value, support)
    if np.any(value) and not S.contains(support, value):
        raise coded_error(
            ValueError,
            "E121",
            f"the example of parameter {name!r}, {value}, is outside its support {support!r}: "
            "give a value inside it, or zeros to say the shape only",
        )
    kept = assigned if depends else support
    return Parameter(Leaf(name, value.shape), free_shape, kept), support


def _free_shape(name: str, value: np.ndarray, support: Support) -> tuple[int, ...]:
    """The shape of the unconstrained value; ValueError if the support does not fit."""
    what = f"support {support!r} does not fit parameter {name!r} of shape {value.shape}"
    if support.event_dim > value.ndim:
        raise coded_error(
            ValueError,
            "E132",
            f"{what}: it needs at least {support.event_dim} axes. Give the example these",
        )
    try:
        free_shape = tuple(support.transform.inverse_shape(value.shape))
        full_shape = tuple(support.transform.forward_shape(free_shape))
    except (ValueError, TypeError) as error:
        raise coded_error(ValueError, "E132", f"{what}: {error}") from None
    if full_shape != value.shape:
        raise coded_error(
            ValueError, "E132", f"{what}: its values have shape {full_shape}. Give the example that"
        )
    bounds = [np.shape(a) for a in support.arguments if support.name != "zero_sum"]
    if any(_broadcast(value.shape, shape) != value.shape for shape in bounds):
        raise coded_error(
            ValueError,
            "E132",
            f"{what}: its bounds have shapes {bounds}. Give the example the shape of both together",
        )
    return free_shape


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None
