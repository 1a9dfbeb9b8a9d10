"""Draws and data as ArviZ's DataTree, with the names and labels of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from infimum.base.extras import required
from infimum.base.seeds import PREDICT_STREAM, Seed, generator
from infimum.target.model import Model

if TYPE_CHECKING:
    import xarray as xr


def tree(
    sampled: Mapping[str, Mapping[str, np.ndarray]], model: Model, family: str, chains: int = 1
) -> xr.DataTree:
    """A DataTree of these groups and of the model's data.

    Parameters
    ----------
    sampled
        Groups of arrays with a leading axis of draws.
    family
        What the draws come from, for the attributes of the tree.
    chains
        How many chains the draws consist of, one after another.
    """
    from_dict = required("arviz_base", "arviz").from_dict
    data = {"observed_data": model.observed(), "constant_data": model.constant()}
    groups = {
        name: {key: np.reshape(x, (chains, -1, *np.shape(x)[1:])) for key, x in group.items()}
        for name, group in sampled.items()
    }
    groups |= {name: dict(group) for name, group in data.items() if group}
    ranks = {key: np.ndim(x) - 2 for name in sampled for key, x in groups[name].items()}
    ranks = {key: np.ndim(x) for group in data.values() for key, x in group.items()} | ranks
    dims = {
        name: axes
        for name, axes in ((name, _renamed(axes, ranks)) for name, axes in model.dims().items())
        if len(axes) == ranks.get(name)
    }
    used = {axis for axes in dims.values() for axis in axes}
    coords = {axis: list(labels) for axis, labels in model.coords().items() if axis in used}
    result: xr.DataTree = from_dict(groups, dims=dims, coords=coords)
    result.attrs.update(
        {"inference_library": "infimum", "modeling_interface": model.library, "family": family}
    )
    return result


def model_groups(
    model: Model,
    draws: Mapping[str, np.ndarray],
    seed: Seed,
    posterior_predictive: bool,
    log_likelihood: bool,
) -> dict[str, Mapping[str, np.ndarray]]:
    """Predictions and log-likelihoods at these draws as groups, each if it is asked for."""
    groups: dict[str, Mapping[str, np.ndarray]] = {}
    if posterior_predictive:
        number = int(generator(seed, PREDICT_STREAM).integers(2**31))
        groups["posterior_predictive"] = model.predict(draws, number, (), {})
    if log_likelihood:
        groups["log_likelihood"] = model.log_likelihood(draws)
    return groups


def _renamed(axes: Sequence[str], names: Mapping[str, int]) -> list[str]:
    """Axes without the name of a quantity, which xarray does not allow."""
    return [f"{axis}_dim" if axis in names else axis for axis in axes]
