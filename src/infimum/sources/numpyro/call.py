"""TODO."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions.distribution import Unit
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import log_density
from numpyro.primitives import Messenger

from infimum.target.model import Arrays

Trace = dict[str, dict[str, Any]]

KEYS = 8
"""Random keys under which a deterministic site must be the same, in models with discrete sites."""


@dataclass(frozen=True)
class Call:
    """The model with its arguments, seeded; `plates` makes its subsampled plates whole."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    plates: Callable[[Any], Messenger] | None

    def arguments(self) -> dict[str, Any]:
        """What the model is called with, by name."""
        return dict(inspect.signature(self.model).bind(*self.args, **self.kwargs).arguments)

    def prepared(self) -> Callable[..., Any]:
        """The model as everything here runs it."""
        model = handlers.seed(self.model, jax.random.key(0))
        return model if self.plates is None else self.plates(model)

    def trace(self, values: Arrays, key: Any = 0, observe: bool = True) -> Trace:
        """Run the model with some latent sites given and the others random.

        Parameters
        ----------
        observe
            Whether observed sites keep their data, or are drawn anew.
        """
        guess = init_to_uniform(radius=1.0)

        def fill(site: dict[str, Any]) -> Any:
            if site["name"] in values:
                return values[site["name"]]
            return guess(site) if observe and _continuous(site) else None

        model = self.model if observe else _Unobserved(self.model)
        key = jax.random.key(key) if isinstance(key, int) else key
        filled = handlers.substitute(handlers.seed(model, key), substitute_fn=fill)
        filled = filled if self.plates is None else self.plates(filled)
        traced: Trace = handlers.trace(filled).get_trace(*self.args, **self.kwargs)
        return traced


class Whole(Messenger):
    """Takes all of a subsampled plate."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"] = (size, size)
            msg["value"] = jnp.arange(size)


class _Unobserved(Messenger):
    """Draws observed sites anew, as many values as there are data."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and is_observed(msg):
            fn, shape = msg["fn"], jnp.shape(msg["value"])
            batch = jnp.broadcast_shapes(fn.batch_shape, shape[: len(shape) - fn.event_dim])
            msg["fn"] = fn if batch == fn.batch_shape else fn.expand(batch)
            msg["value"] = None
            msg["is_observed"] = False


def is_observed(site: dict[str, Any]) -> bool:
    """Whether a site holds data; a factor does not."""
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return site["type"] == "sample" and site["is_observed"] and not isinstance(fn, Unit)


def is_latent(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _continuous(site: dict[str, Any]) -> bool:
    return is_latent(site) and not site["fn"].support.is_discrete


def lift(leaf: Any) -> Any:
    """Make NumPy arrays data of the program, in their own precision."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def bind_call(model: Callable[..., Any], args: Any, kwargs: Any) -> Call:
    """Plates are taken whole, unless the data do not reach that far."""
    call = Call(model, args, kwargs, None)
    sizes: list[bool] = []

    def visit() -> None:
        sites = call.trace({}).values()
        sizes.extend(s["args"][0] != s["args"][1] for s in sites if s["type"] == "plate")

    jax.eval_shape(visit)
    if not any(sizes):
        return call
    whole = Call(model, args, kwargs, Whole)
    try:
        jax.eval_shape(lambda: log_density(whole.prepared(), args, kwargs, values_of(whole))[0])
    except (TypeError, ValueError, IndexError):
        return call
    return whole


def values_of(call: Call) -> dict[str, Any]:
    return {name: site["value"] for name, site in call.trace({}).items() if _continuous(site)}
