"""NumPyro models as targets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from infimum.base.errors import coded_error
from infimum.base.program import double_precision
from infimum.sources.numpyro.call import bind_call, lift
from infimum.sources.numpyro.functions import density, derived_of, support_of
from infimum.sources.numpyro.model import NumPyroModel
from infimum.sources.numpyro.rows import rows_target
from infimum.sources.numpyro.sites import check_sites, read_sites
from infimum.target.bijection import Bijection
from infimum.target.target import Target


def from_numpyro(
    model: Callable[..., Any], *args: Any, rows: str | None = None, **kwargs: Any
) -> Target:
    """The posterior of a NumPyro model given its arguments.

    Every continuous latent site becomes a parameter under its own name, with the site's support,
    which may depend on other sites. Deterministic sites are part of every draw. Discrete latent
    sites with finitely many values are summed out by NumPyro's enumeration; deterministic sites
    that depend on them are left out. A subsampled plate is evaluated on all of its data; if the
    data are a subsample already, the plate's scaling is kept.

    With `rows` the target is an `infimum.Rows`, and the model runs on blocks of the data. Every
    argument that is an array with a first axis as long as that plate is data, in memory or on disk.
    The sites observed inside the plate are the likelihood. All other sites are the prior, which may
    not depend on the rows. Deterministic sites that depend on them are left out of the draws.

    Requires: at least one continuous latent site, and no `numpyro.param`. Discrete latent sites
    must have finitely many values, and need funsor.

    Parameters
    ----------
    model
        NumPyro model function.
    *args, **kwargs
        Arguments of the model, observations included.
    rows
        Name of the plate over the rows of a large data set. If the model itself has an argument
        called `rows`, bind that one by `functools.partial`.

    Raises
    ------
    TypeError
        If the model is not a function, lacks an argument, or has a discrete latent site with
        infinitely many values.
    ValueError
        If the model has no continuous latent site, or a `numpyro.param`; with `rows`, if there is
        no such plate, no data as long as it, a latent site in it, or a prior that depends on rows.
    ImportError
        If discrete sites must be summed out and funsor is not installed.

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
        raise coded_error(TypeError, "E601", f"from_numpyro takes a model function, not {model!r}")
    if not isinstance(rows, str | None):
        raise coded_error(
            TypeError,
            "E611",
            f"rows is {rows!r}, expected the name of a plate. If the model has an argument "
            "called rows, bind it by functools.partial(model, rows=...)",
        )
    name = getattr(model, "__name__", "model")
    try:
        inspect.signature(model).bind(*args, **kwargs)
    except TypeError as error:
        raise coded_error(
            TypeError,
            "E603",
            f"model {name!r}: {error}. Give its arguments after it: "
            "from_numpyro(model, *args, **kwargs)",
        ) from None
    if rows is not None:
        return rows_target(model, inspect.signature(model).bind(*args, **kwargs), rows, name)
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
    return Target.of(space, density(call, sites), name, model=NumPyroModel(call, sites))
