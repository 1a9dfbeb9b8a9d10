"""TODO."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.sources.stan.order import LOG_LIKELIHOOD, NAMED, Order, variables_of
from infimum.target.model import Arrays, Model
from infimum.target.space import columns

REPLICATED = ("_rep", "_pred", "_tilde")
"""By convention: `y_rep` among the generated quantities is drawn anew as the data `y` were."""


class StanModel(Model):
    """A Stan model, with what its generated quantities say by convention."""

    library = "stan"

    def __init__(self, model: Any, order: Order) -> None:
        self.model = model
        self._order = order

    @functools.cached_property
    def _data(self) -> dict[str, np.ndarray]:
        given = json.loads(self.model.data) if self.model.data else {}
        arrays = {name: np.asarray(value) for name, value in given.items()}
        return {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}

    @functools.cached_property
    def _replicated(self) -> list[str]:
        generated = [leaf.name for leaf in self._order.leaves if leaf.derived]
        return [name for name in generated if name.endswith(REPLICATED)]

    def dims(self) -> dict[str, Sequence[str]]:
        """Stan has none."""
        return {}

    def coords(self) -> dict[str, Sequence[Any]]:
        """Stan has none."""
        return {}

    def observed(self) -> dict[str, np.ndarray]:
        """Data that a generated quantity replicates: `y` where there is `y_rep`."""
        bases = {name.rpartition("_")[0] for name in self._replicated}
        return {name: array for name, array in self._data.items() if name in bases}

    def constant(self) -> dict[str, np.ndarray]:
        """All other data."""
        observed = self.observed()
        return {name: array for name, array in self._data.items() if name not in observed}

    def predict(
        self, draws: Arrays, seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Generated quantities anew, of this model or of one with other data."""
        if kwargs or len(args) > 1:
            raise TypeError(
                coded(
                    "E434",
                    "new data for a Stan model are one dict, one .json file, or one other "
                    "bridgestan.StanModel",
                )
            )
        model = args[0] if args else self.model
        if isinstance(model, dict | str | os.PathLike):
            bridgestan = required("bridgestan", "stan")
            model = bridgestan.StanModel(self.model.lib_path, model, warn=False)
        if not hasattr(model, "param_constrain"):
            raise TypeError(
                coded(
                    "E434",
                    f"new data for a Stan model are a dict, the path of a .json file, or another "
                    f"bridgestan.StanModel, not {model!r}",
                )
            )
        theirs, ours = model.param_unc_names(), self.model.param_unc_names()
        if theirs != ours:
            raise ValueError(
                coded(
                    "E434",
                    f"the other Stan model has other parameters, {', '.join(theirs[:NAMED])}, not "
                    f"{', '.join(ours[:NAMED])}: give one that differs in its data only",
                )
            )
        params = [leaf.name for leaf in self._order.leaves if not leaf.derived]
        z = self._order.free_values(
            columns({name: np.asarray(draws[name], np.float64) for name in params})
        )
        made = self._order.read(model, z, seed)
        before = model.param_names(include_tp=True)
        transformed = variables_of(required("stanio", "stan"), before)
        generated = {
            name: x
            for name, x in made.items()
            if name not in transformed and not name.startswith(LOG_LIKELIHOOD)
        }
        if not generated:
            raise ValueError(
                coded(
                    "E431",
                    "the Stan model has no generated quantities: draw them there, for instance "
                    "y_rep = normal_rng(mu, sigma)",
                )
            )
        return generated

    def log_likelihood(self, draws: Arrays) -> dict[str, np.ndarray]:
        """The generated quantities called `log_lik`, or `log_lik_y`."""
        names = [name for name in draws if name.startswith(LOG_LIKELIHOOD)]
        if not names:
            raise ValueError(
                coded(
                    "E432",
                    "the Stan model has no log_lik among its generated quantities: compute it "
                    "there, for instance log_lik[n] = normal_lpdf(y[n] | mu, sigma)",
                )
            )
        only = next(iter(self.observed()), "y")
        return {
            name.removeprefix(LOG_LIKELIHOOD).strip("_") or only: np.asarray(draws[name])
            for name in names
        }
