"""Seeds: one seed gives an independent stream of random numbers to each purpose.

The stream of a purpose does not depend on the other purposes: more draws for one leave the random
numbers of the others as they are. A `*_STREAM` number names a purpose.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from infimum.base.errors import coded_error

Seed = int | np.integer | np.ndarray | PRNGKeyArray
"""An integer of at least 0, or a JAX key of either kind."""


def generator(seed: Seed, *stream: int) -> np.random.Generator:
    """The random number generator of one purpose.

    Parameters
    ----------
    seed
        The seed that the user gave.
    stream
        The number of the purpose, and any further numbers, such as those of a start or a chunk.

    Raises
    ------
    TypeError, ValueError
        If the seed is not valid.
    """
    return np.random.default_rng(np.random.SeedSequence(words(seed), spawn_key=stream))


def words(seed: Seed) -> list[int]:
    """The seed as integers for NumPy's `SeedSequence`.

    Raises
    ------
    TypeError, ValueError
        If the seed is not valid.
    """
    if isinstance(seed, int | np.integer):
        if seed < 0:
            raise coded_error(
                ValueError, "E304", f"seed is {seed}, expected an integer of at least 0"
            )
        return [int(seed)]
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return [int(word) for word in np.ravel(jax.random.key_data(seed))]
    if isinstance(seed, jax.Array | np.ndarray) and seed.dtype == np.uint32:
        return [int(word) for word in np.ravel(seed)]
    raise coded_error(TypeError, "E304", f"seed is {seed!r}, expected an integer or a JAX key")


START_STREAM, DRAW_STREAM, CHOICE_STREAM, CURVATURE_STREAM = range(4)
CHECK_STREAM, SAMPLE_STREAM, PREDICT_STREAM, ADAPT_STREAM, SCOUT_STREAM = range(4, 9)
CORRECT_STREAM, CALIBRATE_STREAM, ROWS_STREAM = range(9, 12)
"""The purposes. A new one takes the next number: another number would change all answers."""
