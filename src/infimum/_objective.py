"""The objective KL[q ‖ p̂] = E_q[log q - log p̂], and the draws it is estimated with.

loss = E_q[log q - log p̂] in nats is minimised; ELBO = -loss <= log Z.

Where p̂ = 0 on part of the space, no q with full support has a finite loss. There the loss is that
of q restricted to S = {p̂ > 0}: E_q[log q - log p̂ | S] - log q(S). Without such a region this is
the loss above.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from infimum._errors import coded
from infimum._family import Distribution, Hosted, Pushforward
from infimum._program import double_precision

Seed = int | np.integer | np.ndarray | PRNGKeyArray

CHUNK = 1024
"""Most fresh draws made at a time."""

CHUNK_NUMBERS = 2**21
"""Most numbers in one chunk of draws (16 MB); which draws a seed gives depends on it."""


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


def chunk_sizes(n: int, dim: int) -> list[int]:
    """Rows of the chunks in which n draws of R^d are made."""
    rows = max(1, min(CHUNK, CHUNK_NUMBERS // dim))
    return [min(rows, n - start) for start in range(0, n, rows)]


def fresh_draws(
    q: Distribution, n: int, seed: Seed, *stream: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Independent draws from q and log q there, in chunks of (rows, d) and (rows,)."""
    for index, rows in enumerate(chunk_sizes(n, q.dim)):
        rng = generator(seed, *stream, index)
        if isinstance(q, Pushforward):
            eps = rng.standard_normal((rows, q.dim))
            yield q.push(eps), q.log_prob_base(eps)
        elif isinstance(q, Hosted):
            drawn = q.draw(rng, rows)
            yield drawn, q.log_density(drawn)
        else:
            key = jax.random.key(int(rng.integers(2**32)))
            with double_precision():
                z, log_q = _draw(q, jax.random.split(key, rows))
            yield np.asarray(z), np.asarray(log_q)


def log_density(q: Distribution, z: np.ndarray) -> Float[np.ndarray, " n"]:
    """log q at each row of z (n, d)."""
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

    Antithetic pairs (ε, -ε); orthogonal within blocks of `dim`, with radii from χ_d; and whitened:
    sample mean 0 and, for n >= 2·dim, sample covariance I, so that the expectation under a
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


class Quadratic(NamedTuple):
    """The quadratic in ε that is nearest to log p̂ over base draws.

    Attributes
    ----------
    slope
        Estimates E_q[Lᵀ ∇log p̂], shape (d,).
    curvature
        Estimates E_q[Lᵀ ∇²log p̂ L], shape (d, d).
    noise
        Variance of what is left at one draw.
    """

    slope: np.ndarray
    curvature: np.ndarray
    noise: float


def n_coefficients(dim: int) -> int:
    """How many numbers a quadratic in d variables has."""
    return 1 + dim + dim * (dim + 1) // 2


def quadratic(eps: Float[np.ndarray, "n d"], log_p: Float[np.ndarray, " n"]) -> Quadratic:
    """Regression of log p̂ on Hermite polynomials of degree <= 2, for want of gradients.

    By Stein's identity the projection's coefficients are the expected gradient and Hessian; the
    quadratic part of log p̂ adds no noise to them.
    """
    n, d = eps.shape
    i, j = np.tril_indices(d)
    products = eps[:, i] * eps[:, j] - (i == j)
    design = np.concatenate([np.ones((n, 1)), eps, products], axis=1)
    coefficients = np.linalg.lstsq(design, log_p, rcond=None)[0]
    left = log_p - design @ coefficients
    curvature = np.zeros((d, d))
    curvature[i, j] = coefficients[1 + d :]
    noise = float(left @ left) / max(1, n - len(coefficients))
    return Quadratic(coefficients[1 : 1 + d], curvature + curvature.T, noise)


OUTSIDE = 10.0
"""Nats that a search adds for the share of draws where p̂ = 0, so that q looks for the region of
positive density and not only for the right shape on it."""


class Outcome(NamedTuple):
    """What a batch of draws says of q.

    Attributes
    ----------
    loss
        Estimate of KL[q ‖ p̂] in nats, with `OUTSIDE` for each draw of zero density; inf where it
        can't be formed.
    inside
        Which draws have positive density, shape (n,).
    undefined
        Index of the first draw whose density or gradient is NaN or +inf; None if there is none.
    spread
        Standard deviation of log q − log p̂ over the draws inside, in nats; NaN where the loss can't
        be formed.
    """

    loss: float
    inside: np.ndarray
    undefined: int | None = None
    spread: float = np.nan


def outcome(
    log_q: Float[np.ndarray, " n"],
    log_p: Float[np.ndarray, " n"],
    gradient: Float[np.ndarray, "n d"] | None = None,
    counted: Float[np.ndarray, " n"] | None = None,
) -> Outcome:
    """The loss over draws from q, with what can't be counted told apart.

    Parameters
    ----------
    log_q, log_p
        log q and log p̂ at the draws, in nats.
    gradient
        Gradient of log p̂ there, if it will be used.
    counted
        Weight of each draw, where they are drawn in strata; they sum to one.
    """
    zero = log_p == -np.inf
    fine = np.isfinite(log_p)
    if gradient is not None:
        fine &= np.isfinite(gradient).all(axis=1)
    undefined = np.flatnonzero(~fine & ~zero)
    inside = ~zero
    if undefined.size or not inside.any():
        return Outcome(np.inf, inside, int(undefined[0]) if undefined.size else None)
    share = float(np.average(inside, weights=counted))
    kept = None if counted is None else counted[inside]
    log_ratio = log_q[inside] - log_p[inside]
    loss = np.average(log_ratio, weights=kept)
    loss += -np.log(share) + OUTSIDE * (1 - share)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(log_ratio.std())
    return Outcome(float(loss), inside, None, spread)
