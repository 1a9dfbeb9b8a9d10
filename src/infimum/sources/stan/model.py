"""A Stan program as a fit knows it: its data, predictions and likelihood, by convention."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.sources.stan.bridge import CompiledModel, Engine, entries_of, with_data
from infimum.sources.stan.data import Data, data_text
from infimum.sources.stan.order import LOG_LIKELIHOOD, Order, variables_of
from infimum.target.model import Arrays, Model
from infimum.target.space import columns

REPLICATED = ("_rep", "_pred", "_tilde")
"""By convention, endings of generated quantities that replicate data: `y_rep` has the distribution
of the data `y`."""

MOST_NAMES = 8
"""Parameters that a message names at most."""


class StanModel(Model):
    """A compiled Stan program with its data."""

    library = "stan"

    def __init__(self, engine: Engine, order: Order) -> None:
        self.model = engine.model
        self.unknown_constant = engine.unknown_constant
        self._data_names = engine.data_names
        self._order = order

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        arrays = {name: np.asarray(value) for name, value in entries_of(self.model).items()}
        return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}

    @functools.cached_property
    def _replicated(self) -> list[str]:
        """Generated quantities that replicate data."""
        generated = [leaf.name for leaf in self._order.leaves if leaf.derived]
        return [name for name in generated if name.endswith(REPLICATED)]

    def dims(self) -> dict[str, Sequence[str]]:
        """No names of axes: Stan has none."""
        return {}

    def coords(self) -> dict[str, Sequence[Any]]:
        """No labels: Stan has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Data that a generated quantity replicates: `y`, if there is `y_rep`."""
        bases = {name.rpartition("_")[0] for name in self._replicated}
        return {name: array for name, array in self._data.items() if name in bases}

    def constant(self) -> dict[str, np.ndarray]:
        """All other data."""
        observed = self.observed()
        return {name: array for name, array in self._data.items() if name not in observed}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Generated quantities with new random numbers, of this program or with other data.

        Raises
        ------
        TypeError
            If the arguments are not one set of data.
        ValueError
            If another model has other parameters, or there are no generated quantities.
        """
        if kwargs or len(args) > 1:
            raise coded_error(
                TypeError,
                "E434",
                "new data for a Stan model are one dict, one .json file, or one other "
                "bridgestan.StanModel",
            )
        model = self._with_data(args[0]) if args else self.model
        params = [leaf.name for leaf in self._order.leaves if not leaf.derived]
        z = self._order.free_values(
            columns({name: np.asarray(draws[name], np.float64) for name in params})
        )
        transformed = variables_of(model.param_names(include_tp=True))
        generated = {
            name: x
            for name, x in self._order.read(model, z, seed).items()
            if name not in transformed and not name.startswith(LOG_LIKELIHOOD)
        }
        if not generated:
            raise coded_error(
                ValueError,
                "E431",
                "the Stan model has no generated quantities: draw them there, for instance "
                "y_rep = normal_rng(mu, sigma)",
            )
        return generated

    def _with_data(self, data: object) -> CompiledModel:
        """The program with other data: a dict, the path of a file, or a compiled model."""
        if isinstance(data, Mapping | str | os.PathLike):
            data = self._loaded(data)
        if not isinstance(data, CompiledModel):
            raise coded_error(
                TypeError,
                "E434",
                f"new data for a Stan model are a dict, the path of a .json file, or another "
                f"bridgestan.StanModel, not {data!r}",
            )
        theirs, ours = data.param_unc_names(), self.model.param_unc_names()
        if theirs != ours:
            raise coded_error(
                ValueError,
                "E434",
                f"the other Stan model has other parameters, {', '.join(theirs[:MOST_NAMES])}, "
                f"not {', '.join(ours[:MOST_NAMES])}: give one that differs in its data only",
            )
        return data

    def _loaded(self, data: Data) -> CompiledModel:
        """The program with other data, in any form in which `from_stan` takes data."""
        text = data_text(data, self._data_names)
        try:
            return with_data(self.model, text)
        except RuntimeError as error:
            reason = str(error).rpartition("exception: ")[2].strip()
            raise coded_error(
                ValueError, "E632", f"the new data do not suit the Stan program: {reason}"
            ) from error

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """The generated quantities called `log_lik`, or `log_lik_y` for data `y`."""
        names = [name for name in draws if name.startswith(LOG_LIKELIHOOD)]
        if not names:
            raise coded_error(
                ValueError,
                "E432",
                "the Stan model has no log_lik among its generated quantities: compute it "
                "there, for instance log_lik[n] = normal_lpdf(y[n] | mu, sigma)",
            )
        only = next(iter(self.observed()), "y")
        return {
            name.removeprefix(LOG_LIKELIHOOD).strip("_") or only: np.asarray(draws[name])
            for name in names
        }
