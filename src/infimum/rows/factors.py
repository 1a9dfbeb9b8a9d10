"""Triangular factors of small matrices, one for each row of the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

MOST_UNROLLED = 3
"""Variables up to which triangular factors are written out in the compiled program. Many rows at
once are then plain arithmetic. LAPACK is called once a row, but is compiled in no time."""

LEAST_PIVOT = 1e-10
"""Least pivot of a matrix, relative to its largest entry: what is flatter has no scale."""


@jax.vmap
def factorise(a: Float[Array, "k k"], damping: Float[Array, ""]) -> Float[Array, "k k"]:
    """The factor L of a = L Lᵀ in each row.

    A matrix that is not positive definite is replaced by a positive definite one of about its
    size. The damping is added to the diagonal, in units of the largest entry.
    """
    scale = jnp.abs(a).max()
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))
    return (_unrolled if len(a) <= MOST_UNROLLED else _library)(a, scale, damping)


def _unrolled(a: Array, scale: Array, damping: Array) -> Array:
    """Column by column; negative pivots count by their size."""
    columns = []
    for j in range(len(a)):
        pivot = jnp.maximum(jnp.abs(a[j, j]), LEAST_PIVOT * scale) + damping * scale
        column = jnp.where(np.arange(len(a)) > j, a[:, j], 0.0) / jnp.sqrt(pivot)
        a = a - column[:, None] * column
        columns.append(column + jnp.sqrt(pivot) * (np.arange(len(a)) == j))
    return jnp.stack(columns, axis=1)


def _library(a: Array, scale: Array, damping: Array) -> Array:
    """By LAPACK; a matrix that is not positive definite becomes diagonal: its absolute row sums."""
    eye = jnp.eye(len(a))
    positive = jnp.isfinite(jnp.linalg.cholesky(jax.lax.stop_gradient(a))).all()
    instead = jnp.diag(jnp.maximum(jnp.abs(a).sum(axis=1), LEAST_PIVOT * scale))
    return jnp.linalg.cholesky(jnp.where(positive, a, instead) + damping * scale * eye)


def solve_transposed(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """The solution x of Lᵀ x = b."""
    if len(b) > MOST_UNROLLED:
        return jax.scipy.linalg.solve_triangular(factor, b, trans=1, lower=True)
    x: dict[int, Array] = {}
    for j in reversed(range(len(b))):
        x[j] = (b[j] - sum(factor[i, j] * x[i] for i in x)) / factor[j, j]
    return jnp.stack([x[j] for j in range(len(b))])


@jax.vmap
def solve(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """The solution x of L Lᵀ x = b in each row."""
    if len(b) > MOST_UNROLLED:
        forward = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
        return solve_transposed(factor, forward)
    x: list[Array] = []
    for j in range(len(b)):
        x.append((b[j] - sum(factor[j, i] * x[i] for i in range(j))) / factor[j, j])
    return solve_transposed(factor, jnp.stack(x))


def spread(
    factor: Float[Array, "n k k"], t: Float[Array, "... n_or_1 k"]
) -> Float[Array, "... n k"]:
    """Points in sds as offsets from the modes: Lᵀ x = t. `t` may have one row for all."""
    over_rows = jax.vmap(solve_transposed)
    return jax.vmap(lambda t: over_rows(factor, jnp.broadcast_to(t, factor.shape[:2])))(t)


def half_log_det(factor: Float[Array, "n k k"]) -> Float[Array, " n"]:
    """log det L of each row."""
    return jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
