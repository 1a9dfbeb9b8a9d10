"""NumPyro models as targets."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infimum.base.errors import coded
from infimum.base.program import double_precision
from infimum.rows.rows import Rows
from infimum.sources.numpyro.call import Call, bind_call, lift
from infimum.sources.numpyro.model import NumPyroModel, RowsModel
from infimum.sources.numpyro.rows import (
    check_prior,
    check_rows,
    divided_model,
    pruned,
    rowless_derived,
    rowless_support,
    site_terms,
)
from infimum.sources.numpyro.sites import (
    check_sites,
    derived_of,
    enumerated,
    plain,
    read_sites,
    support_of,
)
from infimum.target.bijection import Bijection
from infimum.target.hierarchy import dependence
from infimum.target.model import Arrays
from infimum.target.target import Target


def from_numpyro(
    model: Callable[..., Any], *args: Any, rows: str | None = None, **kwargs: Any
) -> Target:
    """The posterior of a NumPyro model given its arguments.

    Every latent continuous site becomes a parameter under its own name, with the site's support;
    a support that depends on other sites is followed. Deterministic sites are part of every draw.
    Discrete latent sites are summed out by NumPyro's enumeration where they are finite;
    deterministic sites that depend on them are then left out. A subsampled plate is evaluated
    whole; where the data given are a subsample already, with the plate's scaling.

    With `rows` the target is an `infimum.Rows`: of the arguments, those arrays whose first axis is
    as long as that plate are data, in memory or on disk, and the model is run on blocks of them.
    What it observes in the plate is the likelihood, everything else the prior, which may not look
    at the rows. Deterministic sites that do are left out of the draws.

    Parameters
    ----------
    model
        NumPyro model function.
    *args, **kwargs
        What the model is called with, observations included.
    rows
        Name of the plate over the rows of many data. An argument of the model's own that is called
        `rows` is given by `functools.partial`.

    Raises
    ------
    TypeError
        If the model is not a function, needs an argument that is not given, or has a discrete
        latent site that can't be enumerated.
    ValueError
        If the model has no continuous latent site, or a `numpyro.param`; with `rows`, if there is
        no such plate, no data as long as it, a latent site in it, or a prior that depends on rows.
    ImportError
        If sites must be enumerated and funsor is not installed.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist
    >>> def model(y):
    ...     mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    ...     numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)
    >>> from_numpyro(model, np.array([1.0, 2.0])).names
    ['mu']
    """
    if not callable(model):
        raise TypeError(coded("E601", f"from_numpyro takes a model function, not {model!r}"))
    if not isinstance(rows, str | None):
        raise TypeError(
            coded(
                "E611",
                f"rows is {rows!r}, expected the name of a plate; an argument of the model that is "
                "called rows is given by functools.partial(model, rows=...)",
            )
        )
    name = getattr(model, "__name__", "model")
    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            coded(
                "E603",
                f"model {name!r}: {error}. Give it what it is called with: "
                "from_numpyro(model, *args, **kwargs)",
            )
        ) from None
    if rows is not None:
        return from_rows(model, inspect.signature(model).bind(*args, **kwargs), rows, name)
    with double_precision():
        args, kwargs = jax.tree_util.tree_map(lift, (args, kwargs))
        call = bind_call(model, args, kwargs)
        sites = read_sites(call)
        check_sites(sites, name)
        supports = {site: support_of(call, site, c) for site, (_, c) in sites.latent.items()}
        derived = derived_of(call, sites) if sites.deterministic else None
        space = Bijection(
            {site: np.zeros(shape) for site, (shape, _) in sites.latent.items()}, supports, derived
        )
    density = enumerated(call, sites.depth) if sites.discrete else plain(call)
    return Target.of(space, density, name, model=NumPyroModel(call, sites))


def posteriors(
    conditioned: Callable[[Arrays], Callable[..., Any]], first: Target
) -> Callable[[Arrays], Target] | None:
    """Posteriors of one model given data of the same shapes: it is run once for all of them.

    Parameters
    ----------
    conditioned
        The model with these values observed, JAX arrays that may be tracers, by site.
    first
        What `from_numpyro` made of one of them.

    Returns
    -------
    A function of the observed values; or None for models that must be run again on each, as Python
    looks at the values, or supports or deterministic sites depend on them.
    """
    model = first.model
    assert isinstance(model, NumPyroModel)
    call, sites = model._call, model._sites

    def given(data: Arrays) -> Call:
        return dataclasses.replace(call, model=conditioned(data))

    def density(params: Any, data: Arrays) -> Any:
        asked = given(data)
        make = enumerated(asked, sites.depth) if sites.discrete else plain(asked)
        return make(params)

    def fixed(parts: Arrays) -> dict[str, Any]:
        trace = given(parts).trace({})
        supports = [trace[name]["fn"].support for name in sites.latent]
        derived = [trace[name]["value"] for name in sites.deterministic]
        leaves = jax.tree_util.tree_leaves((supports, derived))
        return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}

    data = {name: jnp.asarray(value) for name, value in model.observed().items()}
    try:
        if any(dependence(fixed, data).values()):
            return None
        template = Target.of(first.space, density, first.name, data=data)
    except Exception:  # whatever a model raises whose data have no values yet
        return None
    return lambda data: template.with_data(data, NumPyroModel(given(data), sites))


def from_rows(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> Rows:
    """The posterior of a model whose data are the rows of a plate."""
    with double_precision():
        divided = divided_model(model, bound, plate, name)
        call = divided.call()
        sites = read_sites(call)
        check_sites(sites, name)
        check_rows(sites, name, plate)
        blank = {site: np.zeros(shape) for site, (shape, _) in sites.latent.items()}
        supports = {
            site: rowless_support(divided, site, constraint, blank)
            for site, (_, constraint) in sites.latent.items()
        }
        check_prior(divided, blank, name)
        derived = rowless_derived(divided, sites, blank)
        space = Bijection(blank, supports, derived)

    def log_prior(params: Any) -> Any:
        terms = site_terms(call, params, plate, inside=False)
        return sum(terms.values(), jnp.zeros(()))

    def log_likelihood(params: Any, rows: dict[str, Any]) -> Any:
        terms = site_terms(divided.call(rows), params, plate, inside=True)
        return sum(terms.values(), jnp.zeros(()))

    known = RowsModel(divided, sites)
    return Rows.of_model(space, pruned(log_prior), log_likelihood, divided.data, name, known)
