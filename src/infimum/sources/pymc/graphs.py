"""The graphs of a PyMC model as functions of one vector z."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infimum.base.program import Program, double_precision
from infimum.target.space import Leaf, SourceSpace


class Graphs:
    """The model's graphs as functions of z: the free values, in the order of their names.

    Parameters
    ----------
    model
        `pymc.Model`.
    free
        The free random variables, by name.
    refusal
        Why the model's density has no JAX form; None if it has one. Without it, everything is
        computed by PyTensor's own compiler.
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
        """Outputs as graphs of the one vector z, and z."""
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
        """Outputs at the rows of z, by JAX or else by PyTensor."""
        if self.refusal is None:
            return Program(self.jax(outputs), self.dim)
        graphs, z = self.joined(outputs)
        return _rows(_compile([z], graphs))

    def value_and_gradient(self) -> Callable[[np.ndarray], Any]:
        """log p̂ and its gradient at one z, by PyTensor's compiler."""
        import pytensor.tensor as pt
        from pytensor.gradient import grad

        log_p = self.model.logp()
        # Less work than the gradient with respect to the joined z.
        slopes: Any = grad(log_p, self.values)
        gradient = pt.concatenate([pt.flatten(slope) for slope in slopes])
        graphs, z = self.joined([log_p, gradient])
        pair: Callable[[np.ndarray], Any] = _compile([z], graphs)
        return pair

    def value(self) -> Callable[[np.ndarray], Any]:
        """log p̂ alone at one z, by PyTensor's compiler."""
        graphs, z = self.joined([self.model.logp()])
        function = _compile([z], graphs)
        return lambda z: function(z)[0]

    # ---- quantities at z -------------------------------------------------------------------------

    @functools.cached_property
    def leaves(self) -> list[Leaf]:
        """Every quantity with its shape: free variables, then deterministics."""
        if isinstance(self._draws, Program):
            shapes = self._draws.shapes
        else:
            start = np.concatenate([np.ravel(self.point[value.name]) for value in self.values])
            shapes = [x.shape[1:] for x in self._draws(start[None])]
        n_free = len(self.free)
        pairs = enumerate(zip(self.names, shapes, strict=True))
        return [Leaf(name, tuple(shape), place >= n_free) for place, (name, shape) in pairs]

    @functools.cached_property
    def _draws(self) -> Callable[[np.ndarray], list[Any]]:
        return self.batched(self.quantities)

    @functools.cached_property
    def _densities(self) -> Callable[[np.ndarray], list[Any]]:
        return self.batched([self.model.logp(jacobian=True), self.model.logp(jacobian=False)])

    @functools.cached_property
    def _transforms(self) -> Callable[..., Any]:
        """z at values of the free variables.

        Each variable goes through its own transform, whose bounds may depend on other variables.
        """
        import pytensor.tensor as pt
        from pytensor.graph.replace import clone_replace

        inputs = [rv.type(name=rv.name) for rv in self.free]
        transformed = []
        for rv in self.free:
            transform = self.model.rvs_to_transforms[rv]
            transformed.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
        outputs = clone_replace(transformed, replace=dict(zip(self.free, inputs, strict=True)))
        function: Callable[..., Any] = _compile(
            inputs, [pt.concatenate([pt.flatten(x) for x in outputs])]
        )
        return function

    def draws(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity at the rows of z."""
        return dict(zip(self.names, self._draws(z), strict=True))

    def free_values(self, flat: np.ndarray) -> np.ndarray:
        """z at free variables that stand side by side, shape (n, ·)."""
        shapes = [leaf.shape for leaf in self.leaves[: len(self.free)]]
        cuts = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        pieces = np.split(flat, cuts, axis=1)
        values = [x.reshape(-1, *shape) for x, shape in zip(pieces, shapes, strict=True)]
        return np.array(
            [self._transforms(*map(np.asarray, row))[0] for row in zip(*values, strict=True)]
        )

    def invert(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z, and the log-Jacobian there: log p̂ with it, less log p̂ without it."""
        z = self.free_values(flat)
        with_jacobian, without = self._densities(z)
        return z, np.asarray(with_jacobian) - np.asarray(without)

    def coordinates(self) -> dict[str, int]:
        """Place in z of each entry of a free variable that is transformed entry by entry."""
        places: dict[str, int] = {}
        start = 0
        for rv, value, leaf in zip(self.free, self.values, self.leaves, strict=False):
            transform = self.model.rvs_to_transforms[rv]
            if transform is None or getattr(transform, "ndim_supp", None) == 0:
                places |= {name: start + i for i, name in enumerate(leaf.scalars())}
            start += np.size(self.point[value.name])
        return places

    def space(self) -> SourceSpace:
        """The space of the parameters: z, quantities, and the way between them."""
        return SourceSpace(
            self.leaves, self.free_names, self.draws, self.invert, self.coordinates()
        )


def _widened(outputs: Sequence[Any]) -> list[Any]:
    """The same graphs with every constant in double precision.

    PyTensor stores a constant 5 or 5.0 in the fewest bits that represent it, and its logarithm in
    as many: a normalising constant is then off by 4e-8, times the number of observations.
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
        for argument in node.inputs:
            shaped = argument.owner is not None and isinstance(argument.owner.op, DimShuffle)
            source: Any = argument.owner.inputs[0] if shaped else argument
            if not isinstance(source, Constant):
                continue
            if source.type.dtype not in ("float64", "bool"):
                wide[source] = pt.constant(np.asarray(source.data, np.float64))
    widened: list[Any] = clone_replace(list(outputs), replace=wide, rebuild_strict=False)
    return widened


def _rows(function: Callable[..., Any]) -> Callable[[np.ndarray], list[Any]]:
    """A function of one row as a function of all rows."""

    def rows(z: np.ndarray) -> list[Any]:
        answers = [function(row) for row in np.ascontiguousarray(z, np.float64)]
        return [np.array(x) for x in zip(*answers, strict=True)]

    return rows


def _compile(inputs: list[Any], outputs: list[Any]) -> Any:
    """A graph as a function, by PyTensor's compiler."""
    import pymc as pm

    return pm.compile(inputs, outputs, on_unused_input="ignore", trust_input=True)


def _jaxified(inputs: list[Any], outputs: list[Any]) -> Callable[..., Any]:
    """A graph as a JAX function, by PyMC."""
    from pymc.sampling.jax import get_jaxified_graph

    with double_precision():  # the graph's constants become JAX's arrays here
        function: Callable[..., Any] = get_jaxified_graph(inputs=inputs, outputs=outputs)
    return function
