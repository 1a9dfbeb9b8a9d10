"""PyMC models as targets."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from infimum._arviz import tree
from infimum._errors import coded
from infimum._extras import required
from infimum._foreign import Foreign, Guarded, check_gradient
from infimum._model import Arrays, Model
from infimum._program import Program, double_precision
from infimum._space import Leaf, SourceSpace, columns
from infimum._target import Target


def from_pymc(model: Any = None) -> Target:
    """The posterior of a PyMC model.

    Its log density goes through PyMC's JAX backend; where a part of the graph has no JAX form,
    through PyMC's own compiled value and gradient. Draws have the model's free variables and
    deterministics under their names; dims and coords reach `fit.to_arviz()`.

    Parameters
    ----------
    model
        `pymc.Model`; inside of ``with pm.Model():`` it may be left out.

    Raises
    ------
    ImportError
        Without PyMC.
    TypeError
        If it is not a PyMC model, or has a discrete free variable.
    ValueError
        If it has no free variable, one whose transform is undefined, or a minibatch.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0.0, 5.0)
    ...     y = pm.Normal("y", mu, 1.0, observed=[1.0, 2.0])
    >>> from_pymc(model).names
    ['mu']
    """
    pm = required("pymc", "pymc")
    with _configuration_kept():
        importlib.import_module("pymc.sampling.jax")
    model = pm.modelcontext(model)
    if not isinstance(model, pm.Model):
        raise TypeError(coded("E601", f"from_pymc takes a pymc.Model, not {model!r}"))
    free = _checked(model)
    name = model.name or "PyMC model"
    graphs = _Graphs(model, free)
    try:
        log_p = graphs.jax([model.logp()])
        known = PyMCModel(model, graphs)
        return Target.of(graphs.space(), lambda z: log_p(z)[0], name, model=known)
    except Exception as error:  # PyTensor and JAX refuse a graph with errors of many types
        graphs = _Graphs(model, free, f"{type(error).__name__}: {error}")
    pair, value = graphs.value_and_gradient(), graphs.value()
    density = Foreign(Guarded.of_points(pair, graphs.dim, value))
    check_gradient(density, graphs.free_names)
    return Target.of(graphs.space(), density, name, model=PyMCModel(model, graphs))


def _checked(model: Any) -> list[Any]:
    """The free variables by name, if all of them can be fitted."""
    from pymc.distributions.transforms import _default_transform

    free = sorted(model.free_RVs, key=lambda rv: rv.name)
    discrete = [rv.name for rv in free if rv.dtype[:3] in ("int", "uin", "boo")]
    if discrete:
        only = "only discrete free variables" if len(discrete) == len(free) else "discrete variable"
        raise TypeError(
            coded(
                "E120",
                f"the model has {only} {', '.join(map(repr, discrete))}: sum them out, with "
                "pm.Mixture or pymc_extras.marginalize",
            )
        )
    if not free:
        raise ValueError(
            coded(
                "E122",
                "the model has no free variable: there is nothing to infer. Give it one that is "
                "not observed",
            )
        )
    for rv in free:
        usual = _default_transform(rv.owner.op, rv)
        if model.rvs_to_transforms[rv] is None and usual is not None:
            raise ValueError(
                coded(
                    "E620",
                    f"variable {rv.name!r} has no transform though its distribution is bounded, so "
                    f"that log p̂ is undefined outside: leave default_transform as it is "
                    f"({usual.name})",
                )
            )
    _check_no_minibatch(model)
    return free


def _check_no_minibatch(model: Any) -> None:
    from pymc.data import MinibatchIndexRV
    from pytensor.graph.traversal import ancestors

    observed = [model.rvs_to_values[rv] for rv in model.observed_RVs]
    for variable in ancestors([*observed, *model.basic_RVs]):
        node = variable.owner
        inner = getattr(getattr(node, "op", None), "fgraph", None)
        ops = [node.op] if node else []
        ops += [n.op for n in inner.toposort()] if inner is not None else []
        if any(isinstance(op, MinibatchIndexRV) for op in ops):
            raise ValueError(
                coded(
                    "E109",
                    "the model uses pm.Minibatch, so that its log density changes from call to "
                    "call: give it the whole data",
                )
            )


class _Graphs:
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
def _configuration_kept() -> Iterator[None]:
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
def _quiet() -> Iterator[None]:
    """PyMC logs which variables it samples."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class PyMCModel(Model):
    """A PyMC model, with its own machinery for predictions."""

    library = "pymc"

    def __init__(self, model: Any, graphs: _Graphs) -> None:
        self.model = model
        self._graphs = graphs

    @property
    def backend(self) -> str:
        """What evaluates the density: "jax", or "pytensor" where the graph has no JAX form."""
        return "jax" if self.refusal is None else "pytensor"

    @property
    def refusal(self) -> str | None:
        """Why the graph has no JAX form."""
        return self._graphs.refusal

    def dims(self) -> dict[str, Sequence[str]]:
        """The model's."""
        return {
            name: [axis or f"{name}_dim_{i}" for i, axis in enumerate(axes)]
            for name, axes in self.model.named_vars_to_dims.items()
        }

    def coords(self) -> dict[str, Sequence[Any]]:
        """The model's, where they have labels."""
        return {name: labels for name, labels in self.model.coords.items() if labels is not None}

    def observed(self) -> dict[str, np.ndarray]:
        """Values of the observed variables."""
        from pymc.backends.arviz import find_observations

        return {name: np.asarray(x) for name, x in find_observations(self.model).items()}

    def constant(self) -> dict[str, np.ndarray]:
        """`pm.Data` that is not observed."""
        from pymc.backends.arviz import find_constants

        return {name: np.asarray(x) for name, x in find_constants(self.model).items()}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """By `pm.sample_posterior_predictive`, with the model's data replaced for the while."""
        import pymc as pm

        if len(args) > 1 or set(kwargs) - {"coords"} or (kwargs and not args):
            raise TypeError(
                coded(
                    "E434",
                    "predict(fit, {'x': new values}, coords={...}): new data for a PyMC model are "
                    "a dict of values for its pm.Data, with new coords where lengths change",
                )
            )
        trace = self._trace({rv.name: np.asarray(draws[rv.name]) for rv in self._graphs.free})
        with self._data(dict(args[0]) if args else {}, kwargs.get("coords")), _quiet():
            drawn = pm.sample_posterior_predictive(
                trace,
                model=self.model,
                random_seed=seed,
                progressbar=False,
                return_inferencedata=False,
            )
        return {name: np.asarray(x)[0] for name, x in drawn.items()}

    def _trace(self, free: dict[str, np.ndarray]) -> Any:
        """The draws with the data they belong to, as PyMC's own sampler would hold them.

        What differs from the model's data and coords PyMC takes for changed, and draws whatever
        depends on it anew.
        """
        made = tree({"posterior": free}, self, "")
        if int(importlib.metadata.version("pymc").split(".")[0]) >= 6:
            return made
        arviz: Any = importlib.import_module("arviz")
        kept = [name for name in ("posterior", "constant_data") if name in made.children]
        return arviz.InferenceData(**{name: made[name].to_dataset() for name in kept})

    @contextmanager
    def _data(self, new: dict[str, Any], coords: Any) -> Iterator[None]:
        import pymc as pm

        held = {name: self.model[name].get_value() for name in new}
        labels = {name: self.model.coords[name] for name in coords or {}}
        try:
            if new:
                pm.set_data(new, model=self.model, coords=coords)
            yield
        finally:
            if new:
                pm.set_data(held, model=self.model, coords=labels or None)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) at the observed variables."""
        free = {rv.name: np.asarray(draws[rv.name], np.float64) for rv in self._graphs.free}
        z = self._graphs.free_values(columns(free))
        outputs = self.model.logp(vars=self.model.observed_RVs, sum=False)
        values = self._graphs.batched(outputs)(z)
        observed = [rv.name for rv in self.model.observed_RVs]
        return {name: np.asarray(x) for name, x in zip(observed, values, strict=True)}
