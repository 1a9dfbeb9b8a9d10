"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LogP = Callable[[Any], Any]
"""One point u a row, shape (n, k), to the log densities of these rows, shape (n,)."""

NOTHING = 60.0
"""Nats below the heaviest node from where a node is left out: e⁻⁶⁰ is lost in rounding."""

STEPS = 60
"""Newton steps at most. Rows with a million counts, or a Student-t far from its prior, took 4 to
19 from zero, and 34 from where exp(u) is e³⁰, as each step there goes down by one."""

UNROLLED = 3
"""Variables up to which triangular factors are written out in the compiled program, where many rows
at once are plain arithmetic: LAPACK is called for each row, but compiles in no time."""

FLOOR = 1e-10
"""Least pivot of a curvature, relative to its largest entry: what is flatter has no scale."""

DAMPING = 0.25
DAMPING_FACTOR = 8.0
NO_DAMPING = 0.01
"""Relative damping after the first step that leads down, and its growth after each more; it falls
by the same factor after steps that lead up, and ends below the last."""

TINY = 1e-300
"""In the place of a density of zero where one divides by it."""


class _Search(NamedTuple):
    """Where Newton's method is in each row: a point, what is there, and the next step's damping."""

    u: Any
    value: Any
    slope: Any
    curvature: Any
    damping: Any
    done: Any


def modes_of(
    log_p: LogP, start: Float[Array, "n k"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k k"]]:
    """Modes of log densities, a row each, and the factors L of -∇² = L Lᵀ there.

    Newton's method, damped after each step that leads down (Levenberg 1944; Marquardt 1963). A
    curvature that is not positive definite has its pivots made so, which leads upwards all the
    same and leaves a finite scale.
    """

    def step(state: tuple[_Search, Any]) -> tuple[_Search, Any]:
        now, count = state
        move = solved(factors(now.curvature, now.damping), now.slope)
        near = ((now.slope * move).sum(axis=1) < NEAR) & (count > 0)
        value, slope, curvature = looked(log_p, now.u + move)
        better = ((value > now.value) | (near & jnp.isfinite(value))) & ~now.done
        less = jnp.where(now.damping > NO_DAMPING, now.damping / DAMPING_FACTOR, 0.0)
        more = jnp.maximum(DAMPING, DAMPING_FACTOR * now.damping)
        taken = _Search(now.u + move, value, slope, curvature, less, near)
        left = now._replace(damping=more, done=now.done | near)
        return _chosen(better, taken, left), count + 1

    def goes_on(state: tuple[_Search, Any]) -> Any:
        return ~state[0].done.all() & (state[1] < STEPS)

    n, k = start.shape
    nothing = jnp.full(n, -jnp.inf), jnp.zeros((n, k)), jnp.zeros((n, k, k))
    first = _Search(start, *nothing, jnp.zeros(n), jnp.zeros(n, bool))  # its step goes nowhere
    last, _ = jax.lax.while_loop(goes_on, step, (first, jnp.zeros((), jnp.int32)))
    return last.u, factors(last.curvature, jnp.zeros(n))


def _chosen(rows: Any, these: _Search, those: _Search) -> _Search:
    """`these` in some rows, `those` in the others."""

    def one(a: Any, b: Any) -> Any:
        return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree_util.tree_map(one, these, those)


def looked(log_p: LogP, u: Float[Array, "n k"]) -> tuple[Any, Any, Any]:
    """Value (n,), slope (n, k) and negative curvature (n, k, k); rows have nothing in common."""

    def sloped(u: Any) -> Any:
        value, pull = jax.vjp(log_p, u)
        return pull(jnp.ones_like(value))[0], value

    slope, push, value = jax.linearize(sloped, u, has_aux=True)
    each = jnp.broadcast_to(jnp.eye(u.shape[1])[:, None], (u.shape[1], *u.shape))
    return value, slope, -jnp.moveaxis(jax.vmap(push)(each), 0, 2)


def factored(a: Float[Array, "k k"], damping: Any = 0.0) -> Float[Array, "k k"]:
    """The factor L of a = L Lᵀ; of a positive matrix of that size where a is not positive definite.

    The damping is added to the diagonal, in units of the largest entry.
    """
    scale = jnp.abs(a).max()
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))
    return (_unrolled if len(a) <= UNROLLED else _library)(a, scale, damping)


def _unrolled(a: Any, scale: Any, damping: Any) -> Any:
    """Column by column; pivots are taken by their size."""
    columns = []
    for j in range(len(a)):
        pivot = jnp.maximum(jnp.abs(a[j, j]), FLOOR * scale) + damping * scale
        column = jnp.where(np.arange(len(a)) > j, a[:, j], 0.0) / jnp.sqrt(pivot)
        a = a - column[:, None] * column
        columns.append(column + jnp.sqrt(pivot) * (np.arange(len(a)) == j))
    return jnp.stack(columns, axis=1)


def _library(a: Any, scale: Any, damping: Any) -> Any:
    """By LAPACK; what is not positive definite has a diagonal of its absolute row sums instead."""
    eye = jnp.eye(len(a))
    positive = jnp.isfinite(jnp.linalg.cholesky(jax.lax.stop_gradient(a))).all()
    instead = jnp.diag(jnp.maximum(jnp.abs(a).sum(axis=1), FLOOR * scale))
    return jnp.linalg.cholesky(jnp.where(positive, a, instead) + damping * scale * eye)


def backward(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """x of Lᵀ x = b."""
    if len(b) > UNROLLED:
        return jax.scipy.linalg.solve_triangular(factor, b, trans=1, lower=True)
    x: dict[int, Any] = {}
    for j in reversed(range(len(b))):
        x[j] = (b[j] - sum(factor[i, j] * x[i] for i in x)) / factor[j, j]
    return jnp.stack([x[j] for j in range(len(b))])


@jax.vmap
def solved(factor: Float[Array, "k k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
    """x of L Lᵀ x = b in each row."""
    if len(b) > UNROLLED:
        forward = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
        return backward(factor, forward)
    x: list[Any] = []
    for j in range(len(b)):
        x.append((b[j] - sum(factor[j, i] * x[i] for i in range(j))) / factor[j, j])
    return backward(factor, jnp.stack(x))


factors = jax.vmap(factored)


NEAR = 1e-9
"""Squared distance from the mode, in conditional sds, from where one more step ends the search: it
leaves an error of this order."""
