"""A NumPyro model as functions of its parameters: density, supports, deterministic sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpyro.infer.util import log_density

from infimum import supports as S
from infimum.base.extras import required
from infimum.sources.numpyro.call import Call, is_latent
from infimum.sources.numpyro.sites import Sites
from infimum.target.model import Arrays

DETERMINISTIC_KEYS = 8
"""Random keys under which a deterministic site must have the same value, in a model with discrete
sites; if it has not, it depends on these."""


def density(call: Call, sites: Sites) -> Callable[[Arrays], Any]:
    """log p̂ of the continuous parameters, with discrete sites summed out."""
    if sites.discrete:
        required("funsor", "enumeration")
        from numpyro.contrib.funsor import config_enumerate, enum
        from numpyro.contrib.funsor import log_density as summed

        enumerated = enum(config_enumerate(call.seeded()), -sites.depth - 1)
        return lambda params: summed(enumerated, call.args, call.kwargs, params)[0]
    model = call.seeded()
    return lambda params: log_density(model, call.args, call.kwargs, params)[0]


def support_of(
    call: Call,
    site: str,
    constraint: Any,
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function,
) -> Any:
    """A site's support; a function of the other sites if the model computes its bounds from these.

    Parameters
    ----------
    constraint
        The site's support in an abstract run, whose bounds are tracers if the model computes them.
    wrap
        Applied to every function that runs the model, before it is called.
    """
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(constraint)):
        return S.as_support(constraint)

    def drawn(seed: int) -> Any:
        return wrap(lambda: call.trace({}, seed)[site]["fn"].support)()

    # Bounds that are the same under two keys depend on the data alone.
    first, second = drawn(0), drawn(1)
    x, y = (jax.tree_util.tree_leaves(constraint) for constraint in (first, second))
    if len(x) == len(y) and all(map(np.array_equal, x, y)):
        return S.as_support(first)

    def support(params: Arrays) -> Any:
        for name, message in call.trace(params).items():
            if name == site:
                return message["fn"].support
            if is_latent(message) and name not in params:
                raise KeyError(name)  # the caller computes sites in the order of their needs
        raise KeyError(site)

    return wrap(support)


def derived_of(call: Call, sites: Sites) -> Callable[[Arrays], dict[str, Any]]:
    """The deterministic sites, without those that depend on discrete ones."""

    def values(params: Arrays, seed: int = 0) -> dict[str, Any]:
        trace = call.trace(params, seed)
        return {name: trace[name]["value"] for name in sites.deterministic}

    names = sites.deterministic
    if sites.discrete:
        params = call.continuous_values()
        first, *others = (values(params, seed) for seed in range(DETERMINISTIC_KEYS))
        names = [k for k in names if all(np.array_equal(first[k], x[k], True) for x in others)]

    def derived(params: Arrays) -> dict[str, Any]:
        every = values(params)
        return {name: every[name] for name in names}

    return derived
