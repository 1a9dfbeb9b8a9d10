"""NumPyro models as a fit knows them: dims, data, predictions, likelihood."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.sources.numpyro.call import Call, Trace, bind_call, lift
from infimum.sources.numpyro.division import Division, dotted
from infimum.sources.numpyro.location_scale import find_hierarchy
from infimum.sources.numpyro.sites import Sites
from infimum.target.bijection import Bijection
from infimum.target.hierarchy import Hierarchy
from infimum.target.model import Arrays, Hierarchical, Model

DRAWS_AT_ONCE = 64
"""Draws for which predictions are made together: each holds the model's arrays in memory."""


class NumPyroModel(Hierarchical):
    """A NumPyro model with its arguments."""

    library = "numpyro"

    def __init__(self, call: Call, sites: Sites) -> None:
        self.call = call
        self.sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes: those of the plates, if there are any."""
        return dict(self.sites.axes)

    def coords(self) -> dict[str, Sequence[Any]]:
        """No labels: NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Values of the observed sites."""
        return dict(self._data)

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        with double_precision():
            traced = self.call.trace({})
        return {name: np.asarray(traced[name]["value"]) for name in self.sites.observed}

    def constant(self) -> dict[str, np.ndarray]:
        """Arrays and numbers among the arguments that are not observed."""
        observed = list(self._data.values())
        constants = {}
        for path, value in jax.tree_util.tree_flatten_with_path(self.call.arguments())[0]:
            if not isinstance(value, jax.Array | np.ndarray | float | int):
                continue
            array = np.asarray(value)
            if array.dtype.kind in "biuf" and not any(np.array_equal(array, y) for y in observed):
                constants[dotted(path)] = array
        return constants

    def prior(self, key: int | jax.Array) -> Trace:
        """The sites of one run, latent ones drawn from the prior and observed ones given these."""
        return self.call.trace({}, key, observe=False)

    def hierarchy(self, space: Bijection, rng: np.random.Generator) -> Hierarchy | None:
        """Sites whose location or scale depends on others; not looked for with discrete sites."""
        return None if self.sites.discrete else find_hierarchy(self.call.trace, space, rng)

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites, with new arguments for the model or with its own."""
        call = self._call_with(args, kwargs) if args or kwargs else self.call
        return _predictions(call, self.sites, draws, seed)

    def _call_with(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The model with new arguments. The others stay, except observations, which become None."""
        new = inspect.signature(self.call.model).bind_partial(*args, **kwargs)
        observed = list(self._data.values())
        for name, value in self.call.arguments().items():
            if name not in new.arguments:
                data = any(value is not None and np.array_equal(value, y) for y in observed)
                new.arguments[name] = None if data else value
        with double_precision():
            args, kwargs = jax.tree_util.tree_map(lift, (new.args, new.kwargs))
            return bind_call(self.call.model, args, kwargs)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) at the observed sites, without a plate's scaling.

        Raises
        ------
        ValueError
            If discrete sites are summed out.
        """
        if self.sites.discrete:
            raise coded_error(
                ValueError,
                "E432",
                f"the discrete sites {', '.join(self.sites.discrete)} are summed out, so that "
                "the observations have no likelihood of their own given the parameters: sum "
                "them out in the model, with dist.MixtureSameFamily",
            )

        def terms(params: Arrays, key: jax.Array) -> dict[str, Any]:
            trace = self.call.trace(params)
            sites = {name: trace[name] for name in self.sites.observed}
            return {name: site["fn"].log_prob(site["value"]) for name, site in sites.items()}

        return _mapped(terms, draws, list(self.sites.latent), 0)


class RowsModel(Model):
    """A NumPyro model of many rows: it predicts new rows, and keeps none of its data."""

    library = "numpyro"

    def __init__(self, division: Division, sites: Sites) -> None:
        self._division = division
        self._sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Names of the axes: those of the plates, if there are any."""
        return {k: v for k, v in self._sites.axes.items() if k in self._sites.latent}

    def coords(self) -> dict[str, Sequence[Any]]:
        """No labels: NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Nothing: there may be more rows than fit into memory."""
        return {}

    def constant(self) -> dict[str, np.ndarray]:
        """Nothing, as the rows are not kept either."""
        return {}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites at new rows. Other arguments stay, except data."""
        bound = self._division.bound
        new = bound.signature.bind_partial(*args, **kwargs)
        if not new.arguments:
            raise coded_error(
                ValueError,
                "E433",
                "predictions for all rows would not fit into memory: give new rows, "
                "infimum.predict(fit, *args)",
            )
        data = {name.split(".")[0] for name in self._division.data}
        for name, value in bound.arguments.items():
            new.arguments.setdefault(name, None if name in data else value)
        with double_precision():
            args, kwargs = jax.tree_util.tree_map(lift, (new.args, new.kwargs))
            call = bind_call(self._division.model, args, kwargs)
        return _predictions(call, self._sites, draws, seed)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """Refused: it would hold a number for every row and draw."""
        raise coded_error(
            ValueError,
            "E433",
            "the log-likelihood of every row at every draw would not fit into memory: give the "
            "model only the rows that you need it for, without rows=",
        )


def _predictions(call: Call, sites: Sites, draws: Arrays, seed: int) -> dict[str, np.ndarray]:
    """Draws of the observed sites of a call, at every draw of the parameters."""

    def observations(params: Arrays, key: jax.Array) -> dict[str, Any]:
        trace = call.trace(params, key, observe=False)
        return {name: trace[name]["value"] for name in sites.observed if name in trace}

    return _mapped(observations, draws, list(sites.latent), seed)


def _mapped(
    function: Callable[[Arrays, jax.Array], dict[str, Any]],
    draws: Arrays,
    latent: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    """A function of parameters and a key, at every draw."""
    params = {name: np.asarray(draws[name]) for name in latent}
    n = len(next(iter(params.values())))
    with double_precision():
        keys = jax.random.split(jax.random.key(seed), n)
        mapped = functools.partial(jax.lax.map, lambda x: function(*x), batch_size=DRAWS_AT_ONCE)
        values: dict[str, np.ndarray] = jax.tree_util.tree_map(
            np.asarray, jax.jit(mapped)((params, keys))
        )
    return values
