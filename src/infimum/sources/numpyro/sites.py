"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.util import log_density

from infimum import supports as S
from infimum.base.errors import coded
from infimum.base.extras import required
from infimum.sources.numpyro.call import KEYS, Call, is_latent, is_observed, values_of


@dataclass
class Sites:
    """Shapes, constraints and axes, read without computing anything, so bounds may be tracers."""

    latent: dict[str, tuple[tuple[int, ...], Any]]
    discrete: dict[str, Any]
    deterministic: list[str]
    observed: list[str]
    params: list[str]
    axes: dict[str, list[str]]
    plates: dict[str, list[str]]
    depth: int = 0


def read_sites(call: Call) -> Sites:
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


def _axes(name: str, site: dict[str, Any]) -> list[str]:
    """A plate's name for each of its axes, ArviZ's default names for the others."""
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
    """Refuse a model that can't be fitted."""
    for site in sites.params:
        raise ValueError(
            coded(
                "E610",
                f"site {site!r} of model {name!r} is a numpyro.param, a constant to be optimised: "
                "give it a prior with numpyro.sample, or bind its value",
            )
        )
    for site, finite in sites.discrete.items():
        if not finite:
            raise TypeError(
                coded(
                    "E120",
                    f"site {site!r} of model {name!r} is discrete and its support is not finite: "
                    "sum it out of the density, or truncate it to a finite range "
                    "(dist.Categorical)",
                )
            )
    if not sites.latent:
        found = f"only discrete latent sites ({', '.join(sites.discrete)})"
        raise ValueError(
            coded(
                "E122",
                f"model {name!r} has {found if sites.discrete else 'no latent site'}: there is "
                "nothing continuous to infer. Give it a sample site that is not observed",
            )
        )


def support_of(
    call: Call, site: str, constraint: Any, made: Callable[[Any], Any] = lambda function: function
) -> Any:
    """A site's support; a function of the other sites where the model computes its bounds.

    Parameters
    ----------
    made
        What is done to functions that run the model before they are called.
    """
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(constraint)):
        return S.as_support(constraint)

    def drawn(seed: int) -> Any:
        return made(lambda: call.trace({}, seed)[site]["fn"].support)()

    first, second = drawn(0), drawn(1)
    x, y = (jax.tree_util.tree_leaves(constraint) for constraint in (first, second))
    if len(x) == len(y) and all(map(np.array_equal, x, y)):
        return S.as_support(first)

    def support(params: dict[str, Any]) -> Any:
        for name, message in call.trace(params).items():
            if name == site:
                return message["fn"].support
            if is_latent(message) and name not in params:
                raise KeyError(name)
        raise KeyError(site)

    return made(support)


def derived_of(call: Call, sites: Sites) -> Callable[[Any], dict[str, Any]]:
    """The deterministic sites as a function of the parameters, without those that are random."""

    def every(params: Any, seed: int = 0) -> dict[str, Any]:
        traced = call.trace(params, seed)
        return {name: traced[name]["value"] for name in sites.deterministic}

    fixed = sites.deterministic
    if sites.discrete:
        given = values_of(call)
        first, *others = (every(given, seed) for seed in range(KEYS))
        fixed = [k for k in fixed if all(np.array_equal(first[k], x[k], True) for x in others)]

    def derived(params: Any) -> dict[str, Any]:
        values = every(params)
        return {name: values[name] for name in fixed}

    return derived


def plain(call: Call) -> Callable[[Any], Any]:
    model = call.prepared()
    return lambda params: log_density(model, call.args, call.kwargs, params)[0]


def enumerated(call: Call, depth: int) -> Callable[[Any], Any]:
    """log p̂ with the discrete sites summed out; plates are nested `depth` deep."""
    required("funsor", "enumeration")
    from numpyro.contrib.funsor import config_enumerate, enum
    from numpyro.contrib.funsor import log_density as summed

    model = enum(config_enumerate(call.prepared()), -depth - 1)
    return lambda params: summed(model, call.args, call.kwargs, params)[0]
