"""The space of the parameters: a pytree with supports on one side, R^d on the other."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum import supports as S
from infimum._program import Program
from infimum.supports import Support


@dataclass(frozen=True)
class Leaf:
    """One array of parameters.

    Attributes
    ----------
    name
        Its path in the pytree, `theta` or `group.scale`; empty for a bare vector.
    shape
        Shape of the constrained value.
    free_shape
        Shape of the unconstrained value: what `z` holds of it.
    support
        Its support, or a function from the parameters known so far to a support.
    """

    name: str
    shape: tuple[int, ...]
    free_shape: tuple[int, ...]
    support: Support | Callable[[Any], Any]

    @property
    def size(self) -> int:
        """How many entries of `z` this leaf takes."""
        return int(np.prod(self.free_shape, dtype=int))

    def scalars(self) -> list[str]:
        """The names of its scalar quantities in ArviZ's form: `tau`, `theta[0]`, `L[1, 0]`."""
        label = self.name or "z"
        if not self.shape:
            return [label]
        return [f"{label}[{', '.join(map(str, index))}]" for index in np.ndindex(*self.shape)]


class Space:
    """Bijection between R^d and a pytree of parameters, each leaf on its own support.

    Parameters
    ----------
    example
        Pytree of floating-point arrays (or scalars): shapes, and values inside the supports. An
        array of zeros says the shape only.
    supports
        Pytree with a support wherever one is wanted; a support given to a branch holds for every
        leaf below it, everything else is real. In the place of a support a function
        ``params -> support`` makes it depend on other parameters.

    Raises
    ------
    TypeError, ValueError
        For an empty example, leaves that are not floating point, supports that name no parameter
        or that do not fit the example, and parameters of equal names.
    """

    leaves: tuple[Leaf, ...]
    dim: int

    def __init__(self, example: PyTree, supports: PyTree = None) -> None:
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(example)
        values = {_name(path): _floating(_name(path), value) for path, value in paths}
        if len(values) < len(paths):
            twice = _repeated([_name(path) for path, _ in paths])
            raise ValueError(f"duplicate parameter name {twice!r}: rename one of the two")
        if not values or not any(np.size(value) for value in values.values()):
            raise ValueError("the example holds no parameters: there is nothing to fit")
        given = _assign(supports, list(values))
        leaves: dict[str, Leaf] = {}
        inside: dict[str, Any] = {}
        order = _depending_last(values, given)
        for name, depends in order:
            leaf, support = _leaf(name, values[name], given.get(name, S.real), depends, inside)
            leaves[name] = leaf
            if any(depending for _, depending in order):
                origin = support.transform(jnp.zeros(leaf.free_shape))
                inside[name] = values[name] if np.any(values[name]) else origin
        self.leaves = tuple(leaves[name] for name in values)
        self.dim = sum(leaf.size for leaf in self.leaves)
        if self.dim == 0:
            raise ValueError("the parameters have no degree of freedom: there is nothing to fit")
        self.names = [name for leaf in self.leaves for name in leaf.scalars()]
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                f"duplicate name {_repeated(self.names)!r} among the scalar quantities: "
                "rename one of the parameters"
            )

    @property
    def dependent(self) -> tuple[str, ...]:
        """Names of the parameters whose support is a function of other parameters."""
        return tuple(leaf.name for leaf in self.leaves if not isinstance(leaf.support, Support))

    @property
    def free_names(self) -> list[str]:
        """A name for each coordinate of `z`: those of the scalar quantities where they agree."""
        names = []
        for leaf in self.leaves:
            same = leaf.free_shape == leaf.shape
            label = leaf.name or "z"
            names += leaf.scalars() if same else [f"{label}~{i}" for i in range(leaf.size)]
        return names

    def constrain(self, z: Float[Array, " d"]) -> tuple[PyTree, Float[Array, ""]]:
        """Carry `z` onto the supports; also return log |det dparams/dz|."""
        free = self._split(z)
        values: dict[str, Any] = {}
        log_jacobian = jnp.zeros((), z.dtype)
        for leaf, support in self._in_order(values):
            transform = support.transform
            x = free[leaf.name]
            y = transform(x)
            values[leaf.name] = y
            log_jacobian += jnp.sum(transform.log_abs_det_jacobian(x, y))
        return self._join(values), log_jacobian

    def unconstrain(self, params: PyTree) -> Float[Array, " d"]:
        """Carry parameters back to `z`: the inverse of `constrain`."""
        treedef: Any
        leaves, treedef = jax.tree_util.tree_flatten(params)
        if treedef != self.treedef:
            raise ValueError(f"parameters of structure {treedef}, expected {self.treedef}")
        given = {leaf.name: jnp.asarray(y) for leaf, y in zip(self.leaves, leaves, strict=True)}
        for leaf in self.leaves:
            if given[leaf.name].shape != leaf.shape:
                raise ValueError(
                    f"parameter {leaf.name!r} has shape {given[leaf.name].shape}, "
                    f"expected {leaf.shape}"
                )
        values: dict[str, Any] = {}
        free = {}
        for leaf, support in self._in_order(values):
            values[leaf.name] = given[leaf.name]
            free[leaf.name] = jnp.ravel(support.transform.inv(given[leaf.name]))
        return jnp.concatenate([free[leaf.name] for leaf in self.leaves])

    def unflatten(self, flat: Float[Array, " k"]) -> PyTree:
        """Parameters from the vector of their scalar quantities, in the order of `names`."""
        values, start = {}, 0
        for leaf in self.leaves:
            size = math.prod(leaf.shape)
            values[leaf.name] = jnp.reshape(flat[start : start + size], leaf.shape)
            start += size
        return self._join(values)

    @functools.cached_property
    def _program(self) -> Program:
        return Program(lambda z: self.constrain(z)[0], self.dim)

    def draws(self, z: np.ndarray) -> PyTree:
        """Carry each row of `z` (n, d) onto the supports: float64 arrays with leading axis n."""
        return self._program(z)

    def inside(self, example: PyTree) -> np.ndarray | None:
        """The example as an unconstrained point; None if it says shapes only, or is on an edge."""
        values = [
            np.asarray(_value(leaf), np.float64) for leaf in jax.tree_util.tree_leaves(example)
        ]
        if not all(map(np.any, values)):
            return None
        params = jax.tree_util.tree_unflatten(self.treedef, values)
        z = np.asarray(jax.jit(self.unconstrain)(params))
        return z if np.isfinite(z).all() else None

    def _split(self, z: Any) -> dict[str, Any]:
        free, start = {}, 0
        for leaf in self.leaves:
            free[leaf.name] = jnp.reshape(z[start : start + leaf.size], leaf.free_shape)
            start += leaf.size
        return free

    def _join(self, values: dict[str, Any]) -> PyTree:
        return jax.tree_util.tree_unflatten(self.treedef, [values[x.name] for x in self.leaves])

    def _in_order(self, values: dict[str, Any]) -> Iterator[tuple[Leaf, Support]]:
        """Each leaf with its support, those that depend on others last.

        `values` is the caller's: what is known so far, filling while this iterates.
        """
        for leaf in sorted(self.leaves, key=lambda leaf: not isinstance(leaf.support, Support)):
            support = leaf.support
            if not isinstance(support, Support):
                support = S.as_support(support(_nested(values)))
            yield leaf, support


def _name(path: tuple[Any, ...]) -> str:
    """A path in a pytree as a name: its keys joined by dots."""
    return ".".join(str(_key(entry)) for entry in path)


def _repeated(names: list[str]) -> str:
    return collections.Counter(names).most_common(1)[0][0]


def _nested(values: dict[str, Any]) -> Any:
    """Leaves by name as nested dicts, for the supports that depend on other parameters."""
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


def _value(leaf: Any) -> Any:
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _floating(name: str, value: Any) -> Any:
    value = _value(value)
    try:
        array = np.asarray(value)
        kind = "f" if jnp.issubdtype(array.dtype, jnp.floating) else array.dtype.kind
    except (TypeError, ValueError):
        kind = "O"
    if kind != "f":
        raise TypeError(
            f"parameter {name!r} is {value!r} of dtype {getattr(value, 'dtype', type(value))}: "
            "infimum needs continuous parameters. Write a float (0.0, not 0) if it is continuous; "
            "sum a discrete one out of the density"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"the example of parameter {name!r} is not finite: {array}")
    return array.astype(np.float64)


def _assign(supports: PyTree, names: list[str]) -> dict[str, Any]:
    """Give each leaf name the support of its nearest branch."""
    if supports is None:
        return {}
    entries = jax.tree_util.tree_flatten_with_path(supports, is_leaf=_is_support)[0]
    assigned: dict[str, Any] = {}
    for path, support in entries:
        prefix = _name(path)
        covered = [n for n in names if not prefix or n == prefix or n.startswith(prefix + ".")]
        if not covered:
            raise ValueError(
                f"a support is given for {prefix!r}, which is not a parameter of the example; "
                f"its parameters are {', '.join(map(repr, names))}"
            )
        for name in covered:
            if support is not None:
                assigned[name] = support
    return assigned


def _is_support(node: Any) -> bool:
    return not isinstance(node, dict | list | tuple) or node is None


def _depending_last(values: dict[str, Any], given: dict[str, Any]) -> list[tuple[str, bool]]:
    """Each parameter, and whether its support is a function of others; those come last."""

    def depends(name: str) -> bool:
        support = given.get(name)
        return callable(support) and not hasattr(support, "event_dim")

    return sorted(((name, depends(name)) for name in values), key=lambda entry: entry[1])


def _leaf(
    name: str, value: np.ndarray, given: Any, depends: bool, inside: dict[str, Any]
) -> tuple[Leaf, Support]:
    """Check that a support fits its parameter; also return the support at the example."""
    try:
        support = S.as_support(given(_nested(inside)) if depends else given)
    except KeyError as error:
        raise ValueError(
            f"the support of parameter {name!r} asks for {error}, which is not a parameter, or "
            "depends on others itself and comes later"
        ) from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None
    what = f"support {support!r} does not fit parameter {name!r} of shape {value.shape}"
    if support.event_dim > value.ndim:
        raise ValueError(f"{what}: it needs at least {support.event_dim} axes")
    try:
        free_shape = tuple(support.transform.inverse_shape(value.shape))
        fits = support.transform.forward_shape(free_shape) == value.shape
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: {error}") from None
    if not fits:
        raise ValueError(what)
    bounds = [np.shape(a) for a in support.arguments if support.name != "zero_sum"]
    if any(_broadcast(value.shape, shape) != value.shape for shape in bounds):
        raise ValueError(f"{what}: its bounds have shapes {bounds}")
    if np.any(value) and not S.contains(support, value):
        raise ValueError(
            f"the example of parameter {name!r}, {value}, is outside its support {support!r}: "
            "give a value inside it, or zeros to say the shape only"
        )
    return Leaf(name, value.shape, free_shape, given if depends else support), support


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None
