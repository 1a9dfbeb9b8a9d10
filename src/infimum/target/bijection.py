"""The bijection from R^d onto parameters with supports, leaf by leaf, in JAX."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum import supports as S
from infimum.base.errors import coded_error
from infimum.base.program import BATCH, WIDE, Program
from infimum.supports import Support
from infimum.target.parameters import (
    Parameter,
    assign,
    depending_last,
    floating,
    key_value,
    most_frequent,
    nested,
    parameter_of,
    path_name,
)
from infimum.target.space import NO_COORDINATE, Leaf, Space


class Bijection(Space):
    """Bijection between R^d and a pytree of parameters, each on its own support.

    Parameters
    ----------
    example
        Pytree of floating-point arrays (or scalars): shapes, and values inside the supports. An
        array of zeros says the shape only.
    supports
        Pytree with a support for each parameter that is not real; a support given to a branch
        holds for every leaf below it. A function ``params -> support`` makes a support depend on
        other parameters.
    derived
        Function from the parameters, a dict, to more quantities by name, traceable by JAX. They
        become part of every draw.

    Raises
    ------
    TypeError, ValueError
        For an empty example, leaves that are not floating point, supports for something that is
        not a parameter or that do not fit the example, and parameters of equal names.
    """

    parameters: tuple[Parameter, ...]

    def __init__(
        self,
        example: PyTree,
        supports: PyTree = None,
        derived: Callable[[Any], dict[str, Any]] | None = None,
    ) -> None:
        paths, self.structure = jax.tree_util.tree_flatten_with_path(example)
        values = {path_name(path): floating(path_name(path), value) for path, value in paths}
        if len(values) < len(paths):
            name = most_frequent([path_name(path) for path, _ in paths])
            raise coded_error(
                ValueError, "E123", f"duplicate parameter name {name!r}: rename one of the two"
            )
        if not values or not any(np.size(value) for value in values.values()):
            raise coded_error(
                ValueError,
                "E122",
                "the example holds no parameters: there is nothing to fit. Give at least one",
            )
        self.parameters = _parameters_of(values, supports)
        self.dim = sum(parameter.size for parameter in self.parameters)
        if self.dim == 0:
            raise coded_error(
                ValueError,
                "E122",
                "the parameters have no degree of freedom: there is nothing to fit. Give one "
                "that can vary",
            )
        self._set_leaves(derived)
        if len(set(self.names)) < len(self.names):
            raise coded_error(
                ValueError,
                "E123",
                f"duplicate name {most_frequent(self.names)!r} among the scalar quantities: "
                "rename one of the parameters",
            )

    def _set_leaves(self, derived: Callable[[Any], dict[str, Any]] | None) -> None:
        """Set the arrays of a draw: the parameters, and what is derived from them."""
        self.derived = derived
        leaves = {parameter.name: parameter.leaf for parameter in self.parameters}
        self.treedef = self.structure
        if derived is not None:
            blank = self._join({p.name: jnp.zeros(p.shape) for p in self.parameters})
            shapes = jax.eval_shape(derived, blank)
            leaves |= {name: Leaf(name, x.shape, derived=True) for name, x in shapes.items()}
            self.treedef = jax.tree_util.tree_structure({**blank, **shapes})
            leaves = dict(sorted(leaves.items()))
        self.leaves = tuple(leaves.values())

    @property
    def dependent(self) -> tuple[str, ...]:
        """Names of the parameters whose support is a function of other parameters."""
        return tuple(p.name for p in self.parameters if not isinstance(p.support, Support))

    @property
    def trivial(self) -> bool:
        """Whether every parameter is real, so that z is the parameters side by side."""
        supports = [parameter.support for parameter in self.parameters]
        return all(isinstance(s, Support) and s.name == "real" for s in supports)

    @property
    def free_names(self) -> list[str]:
        """A name for each coordinate of z: that of its scalar quantity if it has one of its own."""
        names = []
        for parameter in self.parameters:
            same = parameter.free_shape == parameter.shape
            label = parameter.leaf.label
            scalars = parameter.leaf.scalars()
            names += scalars if same else [f"{label}~{i}" for i in range(parameter.size)]
        return names

    def coordinates(self) -> list[int]:
        """The coordinate of each quantity whose support treats every entry on its own."""
        own: dict[str, list[int]] = {}
        start = 0
        for p in self.parameters:
            if isinstance(p.support, Support) and p.support.event_dim == 0:
                own[p.name] = list(range(start, start + p.size))
            start += p.size
        return [
            place
            for leaf in self.leaves
            for place in own.get(leaf.name, [NO_COORDINATE] * math.prod(leaf.shape))
        ]

    def constrain(self, z: Float[Array, " d"]) -> tuple[PyTree, Float[Array, ""]]:
        """Carry z onto the supports; also return log |det dparams/dz|."""
        free = self._split(z)
        values: dict[str, Any] = {}
        log_jacobian = jnp.zeros((), z.dtype)
        for parameter, support in self._in_order(values):
            transform = support.transform
            x = free[parameter.name]
            y = transform(x)
            values[parameter.name] = y
            log_jacobian += jnp.sum(transform.log_abs_det_jacobian(x, y))
        return self._join(values), log_jacobian

    def unconstrain(self, params: PyTree) -> Float[Array, " d"]:
        """Carry parameters back to z: the inverse of `constrain`."""
        leaves = dict(zip((p.name for p in self.parameters), self._parameters(params), strict=True))
        values: dict[str, Any] = {}
        free = {}
        for p, support in self._in_order(values):
            values[p.name] = jnp.asarray(leaves[p.name])
            free[p.name] = jnp.ravel(support.transform.inv(values[p.name]))
        return jnp.concatenate([free[p.name] for p in self.parameters])

    def unflatten(self, flat: Float[Array, " k"]) -> PyTree:
        """Parameters from their values side by side, in the order of the coordinates."""
        values, start = {}, 0
        for p in self.parameters:
            size = math.prod(p.shape)
            values[p.name] = jnp.reshape(flat[start : start + size], p.shape)
            start += size
        return self._join(values)

    @functools.cached_property
    def _forward(self) -> Program:
        def quantities(z: Array) -> PyTree:
            params = self.constrain(z)[0]
            if self.derived is None:
                return params
            more = self.derived(params)
            return {**params, **{k: jnp.asarray(x, jnp.float64) for k, x in more.items()}}

        return Program(quantities, self.dim, WIDE if self.derived is None else BATCH)

    @functools.cached_property
    def _backward(self) -> Program:
        def point(flat: Array) -> tuple[Array, Array]:
            z = self.unconstrain(self.unflatten(flat))
            return z, self.constrain(z)[1]

        return Program(point, sum(math.prod(p.shape) for p in self.parameters), WIDE)

    def draws(self, z: Float[np.ndarray, "n d"]) -> PyTree:
        """Carry each row onto the supports; add what is derived from the parameters."""
        return self._forward(z)

    def invert(
        self, flat: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """Carry each parameter back through its bijection."""
        z, log_jacobian = self._backward(flat)
        return z, log_jacobian

    def interior_point(self, example: PyTree) -> Float[np.ndarray, " d"] | None:
        """The example as an unconstrained point.

        None if it says the shapes only, or lies on the boundary of a support.
        """
        values = [
            np.asarray(key_value(leaf), np.float64) for leaf in jax.tree_util.tree_leaves(example)
        ]
        if not all(map(np.any, values)):
            return None
        params = jax.tree_util.tree_unflatten(self.structure, values)
        z = np.asarray(jax.jit(self.unconstrain)(params))
        return z if np.isfinite(z).all() else None

    def _split(self, z: Float[Array, " d"]) -> dict[str, Array]:
        """The unconstrained value of each parameter."""
        free, start = {}, 0
        for p in self.parameters:
            free[p.name] = jnp.reshape(z[start : start + p.size], p.free_shape)
            start += p.size
        return free

    def _join(self, values: dict[str, Any]) -> PyTree:
        """The pytree of parameters from its leaves by name."""
        return jax.tree_util.tree_unflatten(
            self.structure, [values[p.name] for p in self.parameters]
        )

    def _in_order(self, values: dict[str, Any]) -> Iterator[tuple[Parameter, Support]]:
        """Each parameter with its support, those that depend on others last.

        Parameters
        ----------
        values
            The constrained values so far. The caller fills it while it iterates, because a support
            may be a function of them.
        """
        for p in sorted(self.parameters, key=lambda p: not isinstance(p.support, Support)):
            support = p.support
            if not isinstance(support, Support):
                support = S.as_support(support(nested(values)))
            yield p, support


def _parameters_of(values: dict[str, np.ndarray], supports: PyTree) -> tuple[Parameter, ...]:
    """The parameters in the order of the example, each checked against its support.

    A support that is a function of other parameters is looked at where the example is; in the
    place of an example of zeros, which says the shape only, stands the image of z = 0.
    """
    assigned = assign(supports, list(values))
    parameters: dict[str, Parameter] = {}
    inside: dict[str, Any] = {}
    order = depending_last(values, assigned)
    for name, depends in order:
        parameter, support = parameter_of(
            name, values[name], assigned.get(name, S.real), depends, inside
        )
        parameters[name] = parameter
        if any(depending for _, depending in order):
            origin = support.transform(jnp.zeros(parameter.free_shape))
            inside[name] = values[name] if np.any(values[name]) else origin
    return tuple(parameters[name] for name in values)
