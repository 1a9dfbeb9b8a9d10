"""Posteriors of one NumPyro model given many data sets, from one compiled program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from infimum.sources.numpyro.call import Call
from infimum.sources.numpyro.functions import density
from infimum.sources.numpyro.model import NumPyroModel
from infimum.target.hierarchy import dependence
from infimum.target.model import Arrays
from infimum.target.target import Target


def posteriors(
    conditioned: Callable[[Arrays], Callable[..., Any]], first: Target
) -> Callable[[Arrays], Target] | None:
    """Posteriors of one model given data of the same shapes: it is traced once for all of them.

    Parameters
    ----------
    conditioned
        The model with these values observed, by site; they are JAX arrays that may be tracers.
    first
        The target that `from_numpyro` made of one of these models.

    Returns
    -------
    A function from observed values to a target. None for models that must be traced again for each
    data set, because Python looks at the values, or supports or deterministic sites depend on them.
    """
    model = first.model
    assert isinstance(model, NumPyroModel)
    call, sites = model.call, model.sites

    def call_given(data: Arrays) -> Call:
        return dataclasses.replace(call, model=conditioned(data))

    def density_given(params: Arrays, data: Arrays) -> Any:
        return density(call_given(data), sites)(params)

    def constants(data: Arrays) -> dict[str, Any]:
        """What the program of the first target holds once for all: it may not see the data."""
        trace = call_given(data).trace({})
        supports = [trace[name]["fn"].support for name in sites.latent]
        derived = [trace[name]["value"] for name in sites.deterministic]
        leaves = jax.tree_util.tree_leaves((supports, derived))
        return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}

    data = {name: jnp.asarray(value) for name, value in model.observed().items()}
    try:
        if any(dependence(constants, data).values()):
            return None
        template = Target.of(first.space, density_given, first.name, data=data)
    except Exception:  # whatever a model raises whose data have no values yet
        return None
    return lambda data: template.with_data(data, NumPyroModel(call_given(data), sites))
