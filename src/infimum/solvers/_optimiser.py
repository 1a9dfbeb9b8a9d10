"""A step of an Optax optimiser inside a compiled loop: taken only if its gradient is finite."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp


@functools.cache
def adam() -> Any:
    """Adam of unit step size: one object, so that its programs are compiled once."""
    import optax

    return optax.adam(1.0)


def guarded_step(
    optimiser: Any, leaves: Any, memory: Any, gradient: Any, rate: Any
) -> tuple[Any, Any, Any]:
    """Leaves and optimiser's memory after a step, and whether the step was taken.

    Parameters
    ----------
    optimiser
        An Optax optimiser.
    leaves, memory
        The pytree that is optimised, and the optimiser's state.
    gradient
        Of the loss in the leaves. If a number in it is not finite, nothing moves.
    rate
        Step size.
    """
    finite = jnp.isfinite(jax.flatten_util.ravel_pytree(gradient)[0]).all()
    updates, next_memory = optimiser.update(gradient, memory, leaves)
    moved = jax.tree_util.tree_map(lambda x, u: x + rate * u, leaves, updates)
    kept = jax.tree_util.tree_map(
        lambda new, old: jnp.where(finite, new, old), (moved, next_memory), (leaves, memory)
    )
    return *kept, finite
