"""The target of a NumPyro model whose data are the rows of a plate."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from numpyro import handlers

from infimum.base.errors import coded_error
from infimum.base.program import ClosedJaxpr, double_precision
from infimum.rows.rows import Rows
from infimum.sources.numpyro.call import Call, Site
from infimum.sources.numpyro.division import Division, divide
from infimum.sources.numpyro.functions import support_of
from infimum.sources.numpyro.model import RowsModel
from infimum.sources.numpyro.sites import Sites, check_sites, read_sites
from infimum.target.bijection import Bijection
from infimum.target.model import Arrays


def rows_target(
    model: Callable[..., Any], bound: inspect.BoundArguments, plate: str, name: str
) -> Rows:
    """The posterior of a model, as a sum over the rows of a plate.

    Parameters
    ----------
    bound
        The model's arguments.
    name
        The model's name.
    """
    with double_precision():
        division = divide(model, bound, plate, name)
        call = division.call()
        sites = read_sites(call)
        check_sites(sites, name)
        _check_rows(sites, name, plate)
        blank = {site: np.zeros(shape) for site, (shape, _) in sites.latent.items()}
        supports = {
            site: _rowless_support(division, site, constraint, blank)
            for site, (_, constraint) in sites.latent.items()
        }
        _check_prior(division, blank, name)
        derived = _rowless_derived(division, sites, blank)
        space = Bijection(blank, supports, derived)

    def log_prior(params: Arrays) -> Any:
        terms = _site_terms(call, params, plate, inside=False)
        return sum(terms.values(), jnp.zeros(()))

    def log_likelihood(params: Arrays, rows: Arrays) -> Any:
        terms = _site_terms(division.call(rows), params, plate, inside=True)
        return sum(terms.values(), jnp.zeros(()))

    known = RowsModel(division, sites)
    return Rows.of_model(space, _pruned(log_prior), log_likelihood, division.data, name, known)


def _site_terms(call: Call, params: Arrays, plate: str, inside: bool) -> dict[str, Any]:
    """log p of each site inside a plate, or of each other site.

    Inside, the plate's own scaling is taken out: NumPyro multiplies the terms of a block of the
    rows by size/length, so that they stand for all rows.
    """
    trace = handlers.trace(handlers.substitute(call.seeded(), data=dict(params))).get_trace()
    size, length = trace[plate]["args"]
    terms = {}
    for name, site in trace.items():
        if site["type"] != "sample" or _is_within(site, plate) != inside:
            continue
        intermediates = (site["intermediates"],) if site["intermediates"] else ()
        value = site["fn"].log_prob(site["value"], *intermediates).sum()
        scale = 1.0 if site["scale"] is None else site["scale"]
        terms[name] = jnp.sum(scale * value) * (length / size if inside else 1.0)
    return terms


def _is_within(site: Site, plate: str) -> bool:
    return any(frame.name == plate for frame in site["cond_indep_stack"])


def _check_rows(sites: Sites, name: str, plate: str) -> None:
    """Refuse a model with latent sites inside the plate, or with discrete ones."""
    local = [site for site in (*sites.latent, *sites.discrete) if plate in sites.plates[site]]
    for site in local:
        raise coded_error(
            ValueError,
            "E614",
            f"site {site!r} of model {name!r} is latent inside the plate {plate!r}: each row "
            "has one of its own, which from_numpyro does not handle. If the site is observed, "
            "give its data; if it is a local variable, write it with "
            "infimum.Rows(..., local=...)",
        )
    for site in sites.discrete:
        raise coded_error(
            ValueError,
            "E120",
            f"site {site!r} of model {name!r} is discrete, and with rows no site is summed "
            "out: sum it out of the density, for instance with dist.MixtureSameFamily",
        )


def _check_prior(division: Division, params: Arrays, name: str) -> None:
    """Refuse a model that looks at the rows outside their plate."""
    plate = division.plate

    def prior_terms(call: Call, params: Arrays) -> dict[str, Any]:
        return _site_terms(call, params, plate, inside=False)

    for site in division.row_dependent(prior_terms, params):
        raise coded_error(
            ValueError,
            "E614",
            f"site {site!r} of model {name!r} depends on the rows, but is outside their plate "
            f"{plate!r}. If it is an observation, move it into the plate; if it is a prior, "
            "compute what it takes from the data beforehand, and give that as an argument",
        )


def _rowless_support(division: Division, site: str, constraint: Any, params: Arrays) -> Any:
    """A site's support, which must not depend on the rows."""

    def bounds(call: Call, params: Arrays) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves(call.trace(params)[site]["fn"].support)
        return {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}

    if division.row_dependent(bounds, params):
        raise coded_error(
            ValueError,
            "E614",
            f"the support of site {site!r} depends on the rows of the plate "
            f"{division.plate!r}: compute its bounds beforehand, and give them as an argument",
        )
    return support_of(division.call(), site, constraint, lambda f: jax.jit(_pruned(f)))


def _rowless_derived(
    division: Division, sites: Sites, params: Arrays
) -> Callable[[Arrays], dict[str, Any]] | None:
    """The deterministic sites that do not depend on the rows, as a function of the parameters."""
    names = [site for site in sites.deterministic if division.plate not in sites.plates[site]]

    def values(call: Call, params: Arrays) -> dict[str, Any]:
        trace = call.trace(params)
        return {name: trace[name]["value"] for name in names}

    dependent = division.row_dependent(values, params)
    names = [name for name in names if name not in dependent]
    return _pruned(lambda params: values(division.call(), params)) if names else None


def _pruned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, traceable by JAX, without the steps that its result does not need.

    The model runs on blank data of all rows here. Pruned, nothing of that length is computed.
    """

    def pruned(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        jaxpr = closed.jaxpr
        needed = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}
        kept_steps = []
        for eqn in reversed(jaxpr.eqns):
            if needed.intersection(eqn.outvars):
                kept_steps.append(eqn)
                needed.update(v for v in eqn.invars if not isinstance(v, core.Literal))
        closed = ClosedJaxpr(jaxpr.replace(eqns=kept_steps[::-1]), closed.consts)
        leaves = core.jaxpr_as_fun(closed)(*jax.tree_util.tree_leaves(args))
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(shapes), leaves)

    return pruned
