"""TODO."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from infimum.base.errors import coded
from infimum.base.program import double_precision
from infimum.sources.numpyro.call import Call, Trace, bind_call, lift
from infimum.sources.numpyro.location_scale import find
from infimum.sources.numpyro.rows import Divided, dotted
from infimum.sources.numpyro.sites import Sites
from infimum.target.bijection import Bijection
from infimum.target.hierarchy import Hierarchy
from infimum.target.model import Arrays, Hierarchical, Model

CHUNK = 64
"""Draws that predictions are made for at a time: the model's arrays are held once for each."""


class NumPyroModel(Hierarchical):
    """A NumPyro model with its arguments."""

    library = "numpyro"

    def __init__(self, call: Call, sites: Sites) -> None:
        self._call = call
        self._sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Plates name the axes."""
        return dict(self._sites.axes)

    def coords(self) -> dict[str, Sequence[Any]]:
        """NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Values of the observed sites."""
        return dict(self._data)

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        with double_precision():
            traced = self._call.trace({})
        return {name: np.asarray(traced[name]["value"]) for name in self._sites.observed}

    def constant(self) -> dict[str, np.ndarray]:
        """Arrays and numbers among the arguments that are not observed."""
        observed = list(self._data.values())
        found = {}
        for path, value in jax.tree_util.tree_flatten_with_path(self._call.arguments())[0]:
            if not isinstance(value, jax.Array | np.ndarray | float | int):
                continue
            array = np.asarray(value)
            if array.dtype.kind in "biuf" and not any(np.array_equal(array, y) for y in observed):
                found[dotted(path)] = array
        return found

    def prior(self, key: Any) -> Trace:
        """The sites of one run: latent ones from the prior, observed ones given these."""
        return self._call.trace({}, key, observe=False)

    def hierarchy(self, space: Bijection, rng: np.random.Generator) -> Hierarchy | None:
        """Sites whose location or scale others decide; none is told with discrete sites about."""
        return None if self._sites.discrete else find(self._call.trace, space, rng)

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites, given new arguments for the model or its own."""
        call = self._renewed(args, kwargs) if args or kwargs else self._call

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = call.trace(params, key, observe=False)
            return {name: traced[name]["value"] for name in self._sites.observed if name in traced}

        return _mapped(one, draws, list(self._sites.latent), seed)

    def _renewed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The model with new arguments; of those not given, observations are left out."""
        new = inspect.signature(self._call.model).bind_partial(*args, **kwargs)
        observed = list(self._data.values())
        for name, value in self._call.arguments().items():
            if name not in new.arguments:
                data = any(value is not None and np.array_equal(value, y) for y in observed)
                new.arguments[name] = None if data else value
        with double_precision():
            args, kwargs = jax.tree_util.tree_map(lift, (new.args, new.kwargs))
            return bind_call(self._call.model, args, kwargs)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """log p(x_n | z) at the observed sites, without a plate's scaling."""
        if self._sites.discrete:
            raise ValueError(
                coded(
                    "E432",
                    f"the discrete sites {', '.join(self._sites.discrete)} are summed out, so that "
                    "the observations have no likelihood of their own given the parameters: sum "
                    "them out in the model, with dist.MixtureSameFamily",
                )
            )

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = self._call.trace(params)
            sites = {name: traced[name] for name in self._sites.observed}
            return {name: site["fn"].log_prob(site["value"]) for name, site in sites.items()}

        return _mapped(one, draws, list(self._sites.latent), 0)


class RowsModel(Model):
    """A NumPyro model of many rows: it predicts new ones, and keeps none of the old."""

    library = "numpyro"

    def __init__(self, divided: Divided, sites: Sites) -> None:
        self._divided = divided
        self._sites = sites

    def dims(self) -> dict[str, Sequence[str]]:
        """Plates name the axes."""
        return {k: v for k, v in self._sites.axes.items() if k in self._sites.latent}

    def coords(self) -> dict[str, Sequence[Any]]:
        """NumPyro has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """None: there may be more rows than memory holds."""
        return {}

    def constant(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draws of the observed sites at new rows; arguments not given stay, apart from data."""
        bound = self._divided.bound
        new = bound.signature.bind_partial(*args, **kwargs)
        if not new.arguments:
            raise ValueError(
                coded(
                    "E433",
                    "predictions for all rows would not fit into memory: give new rows, "
                    "infimum.predict(fit, *args)",
                )
            )
        data = {name.split(".")[0] for name in self._divided.data}
        for name, value in bound.arguments.items():
            new.arguments.setdefault(name, None if name in data else value)
        with double_precision():
            given = jax.tree_util.tree_map(lift, (new.args, new.kwargs))
            call = bind_call(self._divided.model, *given)

        def one(params: Any, key: Any) -> dict[str, Any]:
            traced = call.trace(params, key, observe=False)
            return {name: traced[name]["value"] for name in self._sites.observed if name in traced}

        return _mapped(one, draws, list(self._sites.latent), seed)

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """Refuse."""
        raise ValueError(
            coded(
                "E433",
                "the log-likelihood of every row at every draw would not fit into memory: state "
                "the model without rows, on the rows that you want it of",
            )
        )


def _mapped(one: Callable[[Any, Any], Any], draws: Arrays, latent: Sequence[str], seed: int) -> Any:
    """A function of parameters and a key, at every draw."""
    params = {name: np.asarray(draws[name]) for name in latent}
    rows = len(next(iter(params.values())))
    with double_precision():
        keys = jax.random.split(jax.random.key(seed), rows)
        mapped = functools.partial(jax.lax.map, lambda x: one(*x), batch_size=CHUNK)
        return jax.tree_util.tree_map(np.asarray, jax.jit(mapped)((params, keys)))
