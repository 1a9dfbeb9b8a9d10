"""Seeds: an int or a JAX key, and streams that do not meet."""

import jax
import pytest

from infimum.base.seeds import generator


def test_seeds_give_streams_of_their_own():
    def draw(seed, *stream):
        return generator(seed, *stream).standard_normal()

    values = {draw(0), draw(1), draw(0, 0), draw(0, 0, 0), draw(0, 1), draw(0, 1, 0)}
    values |= {draw(jax.random.key(3), 1), draw(jax.random.PRNGKey(7), 1)}
    assert len(values) == 8
    assert draw(jax.random.key(3)) == draw(jax.random.PRNGKey(3))
    with pytest.raises(ValueError, match="seed is -1, expected an integer of at least 0"):
        generator(-1)
    with pytest.raises(TypeError, match="expected an integer or a JAX key"):
        generator("a")
