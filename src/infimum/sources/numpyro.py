"""NumPyro models as targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import log_density

from infimum import supports as S
from infimum._program import double_precision
from infimum._target import Target


def from_numpyro(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Target:
    """The posterior of a NumPyro model given its arguments.

    Every latent continuous site becomes a parameter under its own name, with the site's support;
    a support that depends on other sites is followed.

    Parameters
    ----------
    model
        NumPyro model function.
    *args, **kwargs
        What the model is called with, observations included.

    Raises
    ------
    TypeError
        If the model is not a function, or has a discrete latent site.
    ValueError
        If the model has no latent site.

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
        raise TypeError(f"from_numpyro takes a model function, not {model!r}")
    name = getattr(model, "__name__", "model")
    with double_precision():
        args, kwargs = jax.tree_util.tree_map(_lift, (args, kwargs))
        sites = _latent_sites(model, args, kwargs)
    if not sites:
        raise ValueError(f"model {name!r} has no latent site: there is nothing to infer")
    supports: dict[str, Any] = {}
    for site, (_, constraint) in sites.items():
        if constraint.is_discrete:
            raise TypeError(
                f"site {site!r} of model {name!r} is discrete: sum it out of the density"
            )
        supports[site] = (
            _computed_support(model, args, kwargs, site)
            if any(isinstance(x, jax.core.Tracer) for x in jax.tree_util.tree_leaves(constraint))
            else S.as_support(constraint)
        )
    example = {site: np.zeros(shape) for site, (shape, _) in sites.items()}
    return Target(
        lambda params: log_density(model, args, kwargs, params)[0], example, supports, name=name
    )


def _lift(leaf: Any) -> Any:
    """Make NumPy arrays data of the program, in their own precision."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def _latent_sites(
    model: Callable[..., Any], args: Any, kwargs: Any
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and constraint of each latent site; nothing is computed, so bounds may be tracers."""
    sites = {}

    def visit() -> None:
        for name, site in _trace(model, args, kwargs, {}).items():
            if _latent(site):
                sites[name] = jnp.shape(site["value"]), site["fn"].support

    jax.eval_shape(visit)
    return sites


def _latent(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _trace(
    model: Callable[..., Any], args: Any, kwargs: Any, values: dict[str, Any], seed: int = 0
) -> dict[str, Any]:
    """Run the model with some latent sites given and the others random."""
    guess = init_to_uniform(radius=1.0)

    def fill(site: dict[str, Any]) -> Any:
        return values[site["name"]] if site["name"] in values else guess(site)

    seeded = handlers.seed(model, jax.random.key(seed))
    return handlers.trace(handlers.substitute(seeded, substitute_fn=fill)).get_trace(
        *args, **kwargs
    )


def _computed_support(model: Callable[..., Any], args: Any, kwargs: Any, site: str) -> Any:
    """The support of a site whose bounds the model computes: from its data, or from other sites."""
    with double_precision():
        first, second = (
            _trace(model, args, kwargs, {}, seed)[site]["fn"].support for seed in (0, 1)
        )
    x, y = (jax.tree_util.tree_leaves(constraint) for constraint in (first, second))
    if len(x) == len(y) and all(map(np.array_equal, x, y)):
        return S.as_support(first)

    def support(params: dict[str, Any]) -> Any:
        for name, message in _trace(model, args, kwargs, params).items():
            if name == site:
                return message["fn"].support
            if _latent(message) and name not in params:
                raise KeyError(name)
        raise KeyError(site)

    return support
