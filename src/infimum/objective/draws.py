"""Draws: fresh ones from q in chunks, and base draws that carry the moments of N(0, I)."""

from __future__ import annotations

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from infimum.base.program import double_precision
from infimum.base.seeds import Seed, generator
from infimum.families._distribution import Distribution, Hosted, Pushforward

CHUNK_ROWS = 1024
"""Most fresh draws in one chunk."""

CHUNK_NUMBERS = 2**21
"""Most numbers in one chunk of draws (16 MB); which draws a seed gives depends on it."""


def chunk_sizes(n: int, dim: int) -> list[int]:
    """Rows of the chunks in which n draws of R^d are made."""
    rows = max(1, min(CHUNK_ROWS, CHUNK_NUMBERS // dim))
    return [min(rows, n - start) for start in range(0, n, rows)]


def fresh_draws(
    q: Distribution, n: int, seed: Seed, *stream: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield chunks of independent draws from q, (rows, d), with log q there, (rows,).

    Each chunk has a generator of its own, from the seed, the stream and the chunk's number.
    """
    for index, rows in enumerate(chunk_sizes(n, q.dim)):
        rng = generator(seed, *stream, index)
        if isinstance(q, Pushforward):
            eps = rng.standard_normal((rows, q.dim))
            yield q.push(eps), q.log_prob_base(eps)
        elif isinstance(q, Hosted):
            z = q.draw(rng, rows)
            yield z, q.log_density(z)
        else:
            key = jax.random.key(int(rng.integers(2**32)))
            with double_precision():
                both = _draw(q, jax.random.split(key, rows))
            yield np.asarray(both[0]), np.asarray(both[1])


def log_density(q: Distribution, z: np.ndarray) -> Float[np.ndarray, " n"]:
    """log q at each row of z, shape (n, d), by the cheapest way that q has."""
    if isinstance(q, Pushforward):
        return np.asarray(q.log_prob_base(q.pull_back(z)))
    if isinstance(q, Hosted):
        return q.log_density(z)
    with double_precision():
        return np.asarray(_log_prob(q, jnp.asarray(z)))


@eqx.filter_jit
def _log_prob(q: Distribution, z: Array) -> Array:
    return jax.vmap(q.log_prob)(z)


@eqx.filter_jit
def _draw(q: Distribution, keys: PRNGKeyArray) -> tuple[Array, Array]:
    return jax.vmap(q.sample_and_log_prob)(keys)


def structured_draws(rng: np.random.Generator, n: int, dim: int) -> Float[np.ndarray, "n d"]:
    """Base draws that carry the moments of N(0, I) exactly.

    They are antithetic pairs (ε, -ε); orthogonal within blocks of `dim`, with radii from χ_d; and
    whitened: their mean is 0 and, for n >= 2·dim, their covariance I. So the expectation under a
    Gaussian of any polynomial of degree <= 3 is exact. With fewer draws each coordinate alone has
    unit second moment.

    Parameters
    ----------
    n
        Number of draws, rounded up to an even number.
    dim
        d.
    """
    half = (n + 1) // 2
    blocks = []
    for start in range(0, half, dim):
        size = min(dim, half - start)
        basis = np.linalg.qr(rng.standard_normal((dim, size)))[0].T
        blocks.append(basis * np.sqrt(rng.chisquare(dim, size=(size, 1))))
    rows = np.concatenate(blocks)
    if half >= dim:
        values, vectors = np.linalg.eigh(rows.T @ rows / half)
        rows = rows @ (vectors / np.sqrt(values)) @ vectors.T
    else:
        rows = rows / np.sqrt(np.mean(rows**2, axis=0))
    return np.concatenate([rows, -rows])
