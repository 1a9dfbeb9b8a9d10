"""Compiled functions of one point z, in batches: one compilation for each structure.

A function is traced once to a jaxpr. The arrays that it closes over become arguments of the
compiled program, which is cached by the structure of the jaxpr. Data are therefore never constants
of compiled code: the same model with other data of the same shape, or the same target with another
seed, needs no compilation.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import PyTree

ClosedJaxpr: Any = vars(core)["ClosedJaxpr"]
"""A jaxpr with its constants. From JAX 0.12 on it is `Jaxpr` itself, under both names."""

BATCH = 32
"""Points in one compiled batch. On fifteen posteriors a batch of 64 took 1.2 to 3.5 times as long
as one of 16. 32 wastes little on the few points of an ascent, and checks of thousands of draws
still need few calls."""

WIDE = 256
"""Points in one batch of a function that is very cheap, such as a bijection: a call takes 50 to
100 µs in any case."""

WORKING_SET = 2**24
"""Bytes that the largest intermediate array of a batch may take if the program multiplies matrices.
All points of a batch then share one pass over the matrix: a logistic regression of 100,000 × 50
takes 6.7 ms per point with this value, and 17 ms with an eighth of it."""

NARROW_SET = 2**22
"""The same if the program multiplies no matrices. Wider batches then gain nothing, and waste work
on the few points of an ascent: a fit of 240,000 rows, summed by group, took 40 s with four times
this value."""


def double_precision() -> Any:
    """Context in which JAX computes in float64; the configuration of the caller does not change."""
    return jax.enable_x64(True)


@dataclass
class Clock:
    """Time that JAX has spent on compilation in this process.

    Attributes
    ----------
    compile_seconds
        Seconds of lowering and compiling.
    compilations
        Number of compiled programs.
    """

    compile_seconds: float = 0.0
    compilations: int = 0

    def hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Record an event of JAX's monitoring."""
        if event.endswith(("/jaxpr_to_mlir_module_duration", "/backend_compile_duration")):
            self.compile_seconds += duration_secs
            self.compilations += event.endswith("/backend_compile_duration")


CLOCK = Clock()
jax.monitoring.register_event_duration_secs_listener(CLOCK.hear)


@dataclass(frozen=True)
class Structure:
    """A traced function without its data. Equal programs on data of equal shapes compare equal.

    Attributes
    ----------
    key
        What is compared: shapes of the data, and a description of every operation.
    jaxpr
        The traced function; its data are arguments.
    out_tree
        Structure of its result.
    """

    key: Hashable
    jaxpr: core.Jaxpr = field(compare=False)
    out_tree: Any = field(compare=False)

    def width(self, batch: int) -> int:
        """Points in one compiled batch: `batch`, or fewer if a single point needs much memory."""
        multiplies = any(eqn.primitive.name == "dot_general" for eqn in _equations(self.jaxpr))
        fitting = max(1, (WORKING_SET if multiplies else NARROW_SET) // self.largest)
        return min(batch, 1 << (fitting.bit_length() - 1))

    @functools.cached_property
    def largest(self) -> int:
        """Bytes of the largest intermediate array at one point."""
        return max(_sizes(self.jaxpr), default=8)

    @functools.cached_property
    def total(self) -> int:
        """Numbers in all intermediate arrays at one point, a measure of the work at a point."""
        return sum(_sizes(self.jaxpr)) // 8


class Program:
    """A function of one point, compiled for batches of points.

    Parameters
    ----------
    function
        ``(d,) array -> pytree of arrays``, traceable by JAX.
    dim
        d.
    batch
        Points in one compiled batch, unless their arrays are larger than `WORKING_SET`.
    data
        Second argument of the function, a pytree of arrays that `given` can replace; None if the
        function takes z only.
    """

    def __init__(
        self, function: Callable[..., Any], dim: int, batch: int = BATCH, data: PyTree = None
    ) -> None:
        arguments = () if data is None else (data,)
        with double_precision():
            point = jax.ShapeDtypeStruct((dim,), jnp.float64)
            closed, out = jax.make_jaxpr(function, return_shape=True)(point, *arguments)
            constants = [*jax.tree_util.tree_leaves(arguments), *closed.consts]
            self.constants = [jax.device_put(c) for c in constants]
        z, *taken = closed.jaxpr.invars
        jaxpr = closed.jaxpr.replace(constvars=[*taken, *closed.jaxpr.constvars], invars=[z])
        out_tree = jax.tree_util.tree_structure(out)
        shapes = tuple((c.shape, str(c.dtype)) for c in self.constants)
        key = (dim, shapes, _signature(jaxpr), out_tree)
        self.structure = Structure(key, jaxpr, out_tree)
        self.width = self.structure.width(batch)
        self.dim = dim

    def given(self, data: PyTree) -> Program:
        """The same program with other data of the same shapes."""
        program = copy.copy(self)
        with double_precision():
            leaves = [jax.device_put(x) for x in jax.tree_util.tree_leaves(data)]
        program.constants = [*leaves, *self.constants[len(leaves) :]]
        return program

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays in the result at one point."""
        return [_abstract(variable).shape for variable in self.structure.jaxpr.outvars]

    def __call__(self, z: np.ndarray) -> Any:
        """Evaluate at every row of `z`, shape (n, d), in padded batches.

        Returns
        -------
        Pytree of arrays with leading axis n.
        """
        width, run = self.width, self._run
        z = np.ascontiguousarray(z, dtype=np.float64)
        pieces = []
        with double_precision():
            for start in range(0, len(z), width):
                rows = z[start : start + width]
                if len(rows) < width:
                    rows = np.concatenate([rows, np.repeat(rows[-1:], width - len(rows), axis=0)])
                pieces.append(run(self.constants, rows))
        leaves = [np.concatenate(leaf)[: len(z)] for leaf in zip(*pieces, strict=True)]
        return jax.tree_util.tree_unflatten(self.structure.out_tree, leaves)

    @functools.cached_property
    def _run(self) -> Callable[..., Any]:
        return _compiled(self.structure, self.width)

    def function(self) -> Callable[[Any], Any]:
        """The function of one point, which JAX can trace."""
        flat = core.jaxpr_as_fun(ClosedJaxpr(self.structure.jaxpr, self.constants))
        return lambda z: jax.tree_util.tree_unflatten(self.structure.out_tree, flat(z))

    def plus(self, term: Callable[[Any], Any], dim: int) -> Program:
        """A (value, gradient) program with a function of z, and its gradient, added."""
        own, added = self.function(), jax.value_and_grad(term)

        def both(z: Any) -> Any:
            return jax.tree_util.tree_map(jnp.add, tuple(own(z)), tuple(added(z)))

        return Program(both, dim)

    def differentiable(self) -> Callable[[Any], Any]:
        """The value of a (value, gradient) program, with that gradient as its derivative."""
        return differentiable(self.structure, self.constants)


def differentiable(structure: Structure, constants: list[Any]) -> Callable[[Any], Any]:
    """The value of a (value, gradient) program, as a function that JAX can differentiate.

    `constants`, the data, may be tracers: a compiled loop can then take them as arguments.
    """
    flat = core.jaxpr_as_fun(ClosedJaxpr(structure.jaxpr, constants))

    @jax.custom_vjp
    def value(z: Any) -> Any:
        return flat(z)[0]

    value.defvjp(lambda z: tuple(flat(z)), lambda gradient, cotangent: (cotangent * gradient,))
    return value


def settled(tree: Any) -> Any:
    """The same arrays with strong types.

    A compiled step is compiled again if the types of its state change; strong types do not change.
    """
    return jax.tree_util.tree_map(lambda x: jax.lax.convert_element_type(x, x.dtype), tree)


@functools.lru_cache(maxsize=256)
def _compiled(structure: Structure, width: int) -> Callable[..., Any]:
    def batch(constants: list[Any], z: Any) -> Any:
        flat = core.jaxpr_as_fun(ClosedJaxpr(structure.jaxpr, constants))
        return jax.vmap(flat)(z)

    with double_precision():
        *constants, point = (
            _abstract(v) for v in (*structure.jaxpr.constvars, *structure.jaxpr.invars)
        )
        z = jax.ShapeDtypeStruct((width, *point.shape), jnp.float64)
        return jax.jit(batch).lower(constants, z).compile()


def _abstract(variable: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)


def _signature(jaxpr: core.Jaxpr) -> Hashable:
    """A hashable that is equal for two jaxprs only if they compute the same function."""
    numbers: dict[Any, int] = {}

    def atom(value: Any) -> Hashable:
        if isinstance(value, core.Literal):
            array = np.asarray(value.val)
            return ("literal", str(value.aval), array.tobytes())
        return numbers.setdefault(value, len(numbers))

    inputs = tuple((atom(v), str(v.aval)) for v in (*jaxpr.constvars, *jaxpr.invars))
    equations = tuple(
        (
            eqn.primitive,
            tuple(atom(v) for v in eqn.invars),
            tuple((atom(v), str(v.aval)) for v in eqn.outvars),
            tuple((k, _parameter(v)) for k, v in sorted(eqn.params.items()) if k not in _RULES),
        )
        for eqn in jaxpr.eqns
    )
    return inputs, equations, tuple(atom(v) for v in jaxpr.outvars)


_RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees")
"""Parameters of an equation that only its derivative uses. A compiled program is never
differentiated, so these need not be equal."""


def _parameter(value: Any) -> Hashable:
    if isinstance(value, ClosedJaxpr):
        constants = tuple(np.asarray(c).tobytes() for c in value.consts)
        return _signature(value.jaxpr), constants
    if isinstance(value, core.Jaxpr):
        return _signature(value)
    if isinstance(value, tuple | list):
        return tuple(_parameter(v) for v in value)
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    return value


@dataclass(frozen=True, eq=False)
class _Itself:
    """A value that cannot be compared: equal only to itself."""

    value: Any


def _sizes(jaxpr: core.Jaxpr) -> list[int]:
    shapes = (
        variable.aval.shape
        for eqn in _equations(jaxpr)
        for variable in eqn.outvars
        if hasattr(variable.aval, "shape")
    )
    return [int(np.prod(shape, dtype=float)) * 8 for shape in shapes]


def _equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """Every equation of the jaxpr, and of the jaxprs nested in it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, ClosedJaxpr):
                    yield from _equations(item.jaxpr)
                elif isinstance(item, core.Jaxpr):
                    yield from _equations(item)
