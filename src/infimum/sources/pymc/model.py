"""A PyMC model as a fit knows it: dims, data, predictions, likelihood."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.sources.pymc.graphs import Graphs
from infimum.target.datatree import tree
from infimum.target.model import Arrays, Model
from infimum.target.space import columns


class PyMCModel(Model):
    """A PyMC model, which makes predictions by PyMC's own functions."""

    library = "pymc"

    def __init__(self, model: Any, graphs: Graphs) -> None:
        self.model = model
        self._graphs = graphs

    @property
    def backend(self) -> str:
        """What evaluates the density: "jax", or "pytensor" if the graph has no JAX form."""
        return "jax" if self.refusal is None else "pytensor"

    @property
    def refusal(self) -> str | None:
        """Why the graph has no JAX form; None if it has one."""
        return self._graphs.refusal

    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes, from the model's dims."""
        return {
            name: [axis or f"{name}_dim_{i}" for i, axis in enumerate(axes)]
            for name, axes in self.model.named_vars_to_dims.items()
        }

    def coords(self) -> dict[str, Sequence[Any]]:
        """Labels along the dims that have some."""
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
        """Draws by `pm.sample_posterior_predictive`, with the model's data replaced meanwhile.

        Raises
        ------
        TypeError
            If the arguments are not one dict of new data, with or without coords.
        """
        import pymc as pm

        if len(args) > 1 or set(kwargs) - {"coords"} or (kwargs and not args):
            raise coded_error(
                TypeError,
                "E434",
                "predict(fit, {'x': new values}, coords={...}): new data for a PyMC model are "
                "a dict of values for its pm.Data, with new coords if lengths change",
            )
        trace = self._trace({rv.name: np.asarray(draws[rv.name]) for rv in self._graphs.free})
        with self._with_data(dict(args[0]) if args else {}, kwargs.get("coords")), _quiet():
            drawn = pm.sample_posterior_predictive(
                trace,
                model=self.model,
                random_seed=seed,
                progressbar=False,
                return_inferencedata=False,
            )
        return {name: np.asarray(x)[0] for name, x in drawn.items()}

    def _trace(self, free: dict[str, np.ndarray]) -> Any:
        """The draws with their data, as PyMC's own sampler would return them.

        PyMC compares these data and coords with the model's. Variables that depend on a difference
        are drawn again, all others are taken from the draws.
        """
        draws = tree({"posterior": free}, self, "")
        if int(importlib.metadata.version("pymc").split(".")[0]) >= 6:
            return draws
        arviz: Any = importlib.import_module("arviz")
        groups = [name for name in ("posterior", "constant_data") if name in draws.children]
        return arviz.InferenceData(**{name: draws[name].to_dataset() for name in groups})

    @contextmanager
    def _with_data(self, new: dict[str, Any], coords: dict[str, Any] | None) -> Iterator[None]:
        """Put new data into the model, and the old ones back at the end."""
        import pymc as pm

        old = {name: self.model[name].get_value() for name in new}
        labels = {name: self.model.coords[name] for name in coords or {}}
        try:
            if new:
                pm.set_data(new, model=self.model, coords=coords)
            yield
        finally:
            if new:
                pm.set_data(old, model=self.model, coords=labels or None)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) at the observed variables."""
        free = {rv.name: np.asarray(draws[rv.name], np.float64) for rv in self._graphs.free}
        z = self._graphs.free_values(columns(free))
        outputs = self.model.logp(vars=self.model.observed_RVs, sum=False)
        values = self._graphs.batched(outputs)(z)
        observed = [rv.name for rv in self.model.observed_RVs]
        return {name: np.asarray(x) for name, x in zip(observed, values, strict=True)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyMC from logging which variables it draws."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
