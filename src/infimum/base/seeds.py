"""TODO."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from infimum.base.errors import coded

Seed = int | np.integer | np.ndarray | PRNGKeyArray


def generator(seed: Seed, *stream: int) -> np.random.Generator:
    """An independent stream of random numbers for each purpose of one seed."""
    return np.random.default_rng(np.random.SeedSequence(words(seed), spawn_key=stream))


def words(seed: Seed) -> list[int]:
    """A seed as the numbers that it is.

    Raises
    ------
    TypeError, ValueError
        If it is no seed.
    """
    if isinstance(seed, int | np.integer):
        if seed < 0:
            raise ValueError(coded("E304", f"seed is {seed}, it must not be negative"))
        return [int(seed)]
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return [int(word) for word in np.ravel(jax.random.key_data(seed))]
    if isinstance(seed, jax.Array | np.ndarray) and seed.dtype == np.uint32:
        return [int(word) for word in np.ravel(seed)]
    raise TypeError(coded("E304", f"seed is {seed!r}, expected an int or a JAX key"))


START_STREAM, DRAW_STREAM, CHOICE_STREAM, CURVATURE_STREAM = range(4)
CHECK_STREAM, SAMPLE_STREAM, PREDICT_STREAM, ADAPT_STREAM, SCOUT_STREAM = range(4, 9)
CORRECT_STREAM, CALIBRATE_STREAM, ROWS_STREAM = range(9, 12)
"""Each purpose of one seed has random numbers of its own."""
