"""The sites of a NumPyro model, read from one abstract run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from infimum.base.errors import coded_error
from infimum.sources.numpyro.call import Call, Site, is_latent, is_observed


@dataclass
class Sites:
    """What each site is. Nothing is computed to find out, so bounds may be tracers.

    Attributes
    ----------
    latent
        Shape and support of each continuous latent site.
    discrete
        Whether each discrete latent site has finitely many values.
    deterministic, observed, params
        Names of the other sites, by kind.
    axes
        A name for each axis of a site.
    plates
        Names of the plates around a site.
    depth
        Number of nested plates.
    """

    latent: dict[str, tuple[tuple[int, ...], Any]]
    discrete: dict[str, bool]
    deterministic: list[str]
    observed: list[str]
    params: list[str]
    axes: dict[str, list[str]]
    plates: dict[str, list[str]]
    depth: int = 0


def read_sites(call: Call) -> Sites:
    """The sites of a model, which is run on shapes only."""
    sites = Sites({}, {}, [], [], [], {}, {})

    def visit() -> None:
        for name, site in call.trace({}).items():
            if is_latent(site) and site["fn"].support.is_discrete:
                sites.discrete[name] = site["fn"].has_enumerate_support
            elif is_latent(site):
                sites.latent[name] = jnp.shape(site["value"]), site["fn"].support
            elif site["type"] == "sample" and is_observed(site):
                sites.observed.append(name)
            elif site["type"] == "deterministic" and hasattr(site["value"], "shape"):
                sites.deterministic.append(name)
            elif site["type"] == "param":
                sites.params.append(name)
            if site["type"] in ("sample", "deterministic"):
                sites.axes[name] = _axes(name, site)
                sites.plates[name] = [frame.name for frame in site["cond_indep_stack"]]
            if site["type"] == "sample":
                frames = site["cond_indep_stack"]
                sites.depth = max([sites.depth, *(-frame.dim for frame in frames)])

    jax.eval_shape(visit)
    return sites


def _axes(name: str, site: Site) -> list[str]:
    """A name for each axis: its plate's, or else the one that ArviZ would give it."""
    rank = jnp.ndim(site["value"])
    event = site["fn"].event_dim if site["type"] == "sample" else 0
    plates = {rank - event + frame.dim: frame.name for frame in site["cond_indep_stack"]}
    sizes = {frame.name: frame.size for frame in site["cond_indep_stack"]}
    shape = jnp.shape(site["value"])
    return [
        plates[axis]
        if axis in plates and sizes[plates[axis]] == shape[axis]
        else f"{name}_dim_{axis}"
        for axis in range(rank)
    ]


def check_sites(sites: Sites, name: str) -> None:
    """Refuse a model that cannot be fitted.

    Raises
    ------
    TypeError
        If a discrete latent site has infinitely many values.
    ValueError
        If a site is a `numpyro.param`, or none is latent and continuous.
    """
    for site in sites.params:
        raise coded_error(
            ValueError,
            "E610",
            f"site {site!r} of model {name!r} is a numpyro.param, a constant to be optimised: "
            "give it a prior with numpyro.sample, or bind its value",
        )
    for site, finite in sites.discrete.items():
        if not finite:
            raise coded_error(
                TypeError,
                "E120",
                f"site {site!r} of model {name!r} is discrete and its support is not finite: "
                "sum it out of the density, or truncate it to a finite range "
                "(dist.Categorical)",
            )
    if not sites.latent:
        only = f"only discrete latent sites ({', '.join(sites.discrete)})"
        raise coded_error(
            ValueError,
            "E122",
            f"model {name!r} has {only if sites.discrete else 'no latent site'}: there is "
            "nothing continuous to infer. Give it a sample site that is not observed",
        )
