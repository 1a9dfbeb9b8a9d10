"""A NumPyro model with its arguments, and how it is run."""

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

Site = dict[str, Any]
"""NumPyro's record of one site of a run: its type, name, value, distribution and plates."""

Trace = dict[str, Site]


@dataclass(frozen=True)
class Call:
    """A model and its arguments.

    Attributes
    ----------
    plates
        Handler that decides how much of its plates is taken; None leaves them as the model says.
    """

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    plates: Callable[[Any], Messenger] | None

    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(inspect.signature(self.model).bind(*self.args, **self.kwargs).arguments)

    def seeded(self) -> Callable[..., Any]:
        """The model with a random key and its plates, for NumPyro's own functions of a model."""
        model = handlers.seed(self.model, jax.random.key(0))
        return model if self.plates is None else self.plates(model)

    def trace(self, values: Arrays, key: int | jax.Array = 0, observe: bool = True) -> Trace:
        """Run the model with some latent sites at these values and the others random.

        Parameters
        ----------
        observe
            Whether observed sites keep their data; if not, they are drawn from their
            distributions, and latent sites without a value from the prior.
        """
        uniform = init_to_uniform(radius=1.0)

        def value_at(site: Site) -> Any:
            if site["name"] in values:
                return values[site["name"]]
            # Uniform draws stay inside a support even if the prior is improper.
            return uniform(site) if observe and _is_continuous(site) else None

        model = self.model if observe else _Unobserved(self.model)
        key = jax.random.key(key) if isinstance(key, int) else key
        filled = handlers.substitute(handlers.seed(model, key), substitute_fn=value_at)
        filled = filled if self.plates is None else self.plates(filled)
        trace: Trace = handlers.trace(filled).get_trace(*self.args, **self.kwargs)
        return trace

    def continuous_values(self) -> dict[str, Any]:
        """Random values of the continuous latent sites, inside their supports."""
        return {name: x["value"] for name, x in self.trace({}).items() if _is_continuous(x)}


class WholePlates(Messenger):
    """Takes every row of a subsampled plate."""

    def process_message(self, msg: Site) -> None:
        """Replace the rows that a plate would draw by all of them."""
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"] = (size, size)
            msg["value"] = jnp.arange(size)


class _Unobserved(Messenger):
    """Draws observed sites from their distributions, as many values as there are data."""

    def process_message(self, msg: Site) -> None:
        if msg["type"] == "sample" and is_observed(msg):
            fn, shape = msg["fn"], jnp.shape(msg["value"])
            batch = jnp.broadcast_shapes(fn.batch_shape, shape[: len(shape) - fn.event_dim])
            msg["fn"] = fn if batch == fn.batch_shape else fn.expand(batch)
            msg["value"] = None
            msg["is_observed"] = False


def is_observed(site: Site) -> bool:
    """Whether a site holds data. A `numpyro.factor` is observed for NumPyro, but holds none."""
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return site["type"] == "sample" and site["is_observed"] and not isinstance(fn, Unit)


def is_latent(site: Site) -> bool:
    """Whether a site is a random variable without data."""
    return site["type"] == "sample" and not site["is_observed"]


def _is_continuous(site: Site) -> bool:
    return is_latent(site) and not site["fn"].support.is_discrete


def lift(leaf: Any) -> Any:
    """Turn NumPy arrays into JAX's, in their own precision: data of the compiled program."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def bind_call(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The call that takes subsampled plates whole, if the data are as long as these."""
    call = Call(model, args, kwargs, None)
    subsampled: list[bool] = []

    def visit() -> None:
        sites = call.trace({}).values()
        subsampled.extend(s["args"][0] != s["args"][1] for s in sites if s["type"] == "plate")

    jax.eval_shape(visit)
    if not any(subsampled):
        return call
    whole = Call(model, args, kwargs, WholePlates)

    def density() -> Any:
        return log_density(whole.seeded(), args, kwargs, whole.continuous_values())[0]

    try:
        jax.eval_shape(density)
    except (TypeError, ValueError, IndexError):  # the data are a subsample already
        return call
    return whole
