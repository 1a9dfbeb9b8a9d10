"""TODO."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from infimum.base.program import Program, double_precision
from infimum.target.space import Leaf, SourceSpace


class Graphs:
    """The model's graphs as functions of z, which is the free values in the order of their names.

    Parameters
    ----------
    free
        The free random variables, by name.
    refusal
        Why a graph of the model has no JAX form; None where all have.
    """

    def __init__(self, model: Any, free: list[Any], refusal: str | None = None) -> None:
        self.model = model
        self.free = free
        self.refusal = refusal
        self.values = [model.rvs_to_values[rv] for rv in free]
        point = model.initial_point()
        self.point = {value.name: point[value.name] for value in self.values}
        named = [*free, *model.deterministics]
        self.names = [variable.name for variable in named]
        self.quantities = model.replace_rvs_by_values(named)
        self.free_names = [
            name
            for value in self.values
            for name in Leaf(value.name, np.shape(self.point[value.name])).scalars()
        ]
        self.dim = len(self.free_names)

    # ---- graphs as functions -------------------------------------------------------------------

    def joined(self, outputs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Outputs as graphs of the one vector z."""
        from pymc.pytensorf import join_nonshared_inputs

        outputs, z = join_nonshared_inputs(
            point=self.point, outputs=_widened(outputs), inputs=self.values
        )
        return list(outputs), z

    def jax(self, outputs: Sequence[Any]) -> Callable[[Any], list[Any]]:
        """Outputs as one JAX function of z."""
        graphs, z = self.joined(outputs)
        function = _jaxified([z], graphs)
        return lambda z: list(function(z))

    def batched(self, outputs: Sequence[Any]) -> Callable[[np.ndarray], list[Any]]:
        """Outputs over the rows of z, by whichever backend serves the model."""
        if self.refusal is None:
            return Program(self.jax(outputs), self.dim)
        graphs, z = self.joined(outputs)
        return _rows(_compile([z], graphs))

    def value_and_gradient(self) -> Callable[[np.ndarray], Any]:
        """Log p̂ and its gradient at one z, by PyTensor's compiler."""
        import pytensor.tensor as pt
        from pytensor.gradient import grad

        log_p = self.model.logp()
        slopes: Any = grad(log_p, self.values)  # less work than with respect to the joined z
        gradient = pt.concatenate([pt.flatten(slope) for slope in slopes])
        graphs, z = self.joined([log_p, gradient])
        pair: Callable[[np.ndarray], Any] = _compile([z], graphs)
        return pair

    def value(self) -> Callable[[np.ndarray], Any]:
        """Log p̂ alone at one z, by PyTensor's compiler."""
        graphs, z = self.joined([self.model.logp()])
        function = _compile([z], graphs)
        return lambda z: function(z)[0]

    # ---- what z means --------------------------------------------------------------------------

    @functools.cached_property
    def leaves(self) -> list[Leaf]:
        """Free variables, then deterministics."""
        if isinstance(self._draws, Program):
            shapes = self._draws.shapes
        else:
            start = np.concatenate([np.ravel(self.point[value.name]) for value in self.values])
            shapes = [x.shape[1:] for x in self._draws(start[None])]
        free = len(self.free)
        pairs = enumerate(zip(self.names, shapes, strict=True))
        return [Leaf(name, tuple(shape), place >= free) for place, (name, shape) in pairs]

    @functools.cached_property
    def _draws(self) -> Callable[[np.ndarray], list[Any]]:
        return self.batched(self.quantities)

    @functools.cached_property
    def _densities(self) -> Callable[[np.ndarray], list[Any]]:
        return self.batched([self.model.logp(jacobian=True), self.model.logp(jacobian=False)])

    @functools.cached_property
    def _transforms(self) -> Callable[..., Any]:
        """Each free variable through its own transform; bounds may depend on other variables."""
        import pytensor.tensor as pt
        from pytensor.graph.replace import clone_replace

        given = [rv.type(name=rv.name) for rv in self.free]
        moved = []
        for rv in self.free:
            transform = self.model.rvs_to_transforms[rv]
            moved.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
        outputs = clone_replace(moved, replace=dict(zip(self.free, given, strict=True)))
        function: Callable[..., Any] = _compile(
            given, [pt.concatenate([pt.flatten(x) for x in outputs])]
        )
        return function

    def draws(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity at the rows of z."""
        return dict(zip(self.names, self._draws(z), strict=True))

    def free_values(self, flat: np.ndarray) -> np.ndarray:
        """z of the free variables side by side."""
        shapes = [leaf.shape for leaf in self.leaves[: len(self.free)]]
        cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        pieces = np.split(flat, cuts, axis=1)
        values = [x.reshape(-1, *shape) for x, shape in zip(pieces, shapes, strict=True)]
        return np.array(
            [self._transforms(*map(np.asarray, row))[0] for row in zip(*values, strict=True)]
        )

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z, and log |det| there: the density with the Jacobian against that without."""
        z = self.free_values(flat)
        full, bare = self._densities(z)
        return z, np.asarray(full) - np.asarray(bare)

    def coordinates(self) -> dict[str, int]:
        """Where z has a coordinate for each entry of a free variable, and no other transform."""
        found: dict[str, int] = {}
        start = 0
        for rv, value, leaf in zip(self.free, self.values, self.leaves, strict=False):
            transform = self.model.rvs_to_transforms[rv]
            if transform is None or getattr(transform, "ndim_supp", None) == 0:
                found |= {name: start + i for i, name in enumerate(leaf.scalars())}
            start += np.size(self.point[value.name])
        return found

    def space(self) -> SourceSpace:
        """What z means."""
        return SourceSpace(
            self.leaves, self.free_names, self.draws, self.invert, self.coordinates()
        )


def _widened(outputs: Sequence[Any]) -> list[Any]:
    """The same graphs with nothing computed in single precision.

    PyTensor holds a constant 5 or 5.0 in the fewest bits that represent it, and its logarithm in
    as few: a normalising constant is then off by 4e-8, times the number of observations.
    """
    import pytensor.tensor as pt
    from pytensor.graph.basic import Constant
    from pytensor.graph.replace import clone_replace
    from pytensor.graph.traversal import ancestors
    from pytensor.tensor.elemwise import DimShuffle, Elemwise

    wide: dict[Any, Any] = {}
    for variable in ancestors(list(outputs)):
        node = variable.owner
        if node is None or not isinstance(node.op, Elemwise):
            continue
        if all(output.dtype != "float32" for output in node.outputs):
            continue
        for given in node.inputs:
            shaped = given.owner is not None and isinstance(given.owner.op, DimShuffle)
            source: Any = given.owner.inputs[0] if shaped else given
            if not isinstance(source, Constant):
                continue
            if source.type.dtype not in ("float64", "bool"):
                wide[source] = pt.constant(np.asarray(source.data, np.float64))
    widened: list[Any] = clone_replace(list(outputs), replace=wide, rebuild_strict=False)
    return widened


def _rows(function: Callable[..., Any]) -> Callable[[np.ndarray], list[Any]]:
    """A function of one row, over all of them."""

    def rows(z: np.ndarray) -> list[Any]:
        answers = [function(row) for row in np.ascontiguousarray(z, np.float64)]
        return [np.array(x) for x in zip(*answers, strict=True)]

    return rows


def _compile(inputs: list[Any], outputs: list[Any]) -> Any:
    import pymc as pm

    return pm.compile(inputs, outputs, on_unused_input="ignore", trust_input=True)


def _jaxified(inputs: list[Any], outputs: list[Any]) -> Callable[..., Any]:
    """PyMC's JAX form of a graph."""
    from pymc.sampling.jax import get_jaxified_graph

    with double_precision():  # the graph's constants become JAX's arrays here
        function: Callable[..., Any] = get_jaxified_graph(inputs=inputs, outputs=outputs)
    return function


@contextmanager
def configuration_kept() -> Iterator[None]:
    """PyMC's JAX module sets the precision and the number of devices for the whole process."""
    flags = os.environ.get("XLA_FLAGS")
    double = jax.config.read("jax_enable_x64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", double)
        if flags is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = flags


@contextmanager
def quiet() -> Iterator[None]:
    """PyMC logs which variables it samples."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
