"""Modes of the densities of many rows at once, by a damped Newton method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from infimum.rows.factors import factorise, solve

LogP = Callable[[Array], Array]
"""One point u a row, shape (n, k), to the log densities of these rows, shape (n,)."""

MOST_STEPS = 60
"""Newton steps at most. Rows with a million counts, or a Student-t far from its prior, took 4 to
19 from zero, and 34 from where exp(u) is e³⁰, because each step there goes down by one."""

NEAR = 1e-9
"""Squared distance from the mode, in conditional sds, at which the next step is the last one: it
leaves an error of this order."""

DAMPING = 0.25
"""Relative damping after the first step that leads down."""

DAMPING_FACTOR = 8.0
"""Growth of the damping after each more step that leads down; it falls by the same factor after
steps that lead up."""

NO_DAMPING = 0.01
"""Damping that falls below this is dropped."""


class _NewtonState(NamedTuple):
    """Where the search is in each row: a point, what is there, and the damping of the next step."""

    u: Float[Array, "n k"]
    value: Float[Array, " n"]
    slope: Float[Array, "n k"]
    curvature: Float[Array, "n k k"]
    damping: Float[Array, " n"]
    done: Bool[Array, " n"]


def modes_of(
    log_p: LogP, start: Float[Array, "n k"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k k"]]:
    """The mode of each row's log density, and the factor L of -∇² = L Lᵀ there.

    Newton's method, damped after each step that leads down (Levenberg 1944; Marquardt 1963). If a
    curvature is not positive definite, its pivots are made positive: the step still leads upwards,
    and the scale at the end is finite.
    """

    def step(state: tuple[_NewtonState, Array]) -> tuple[_NewtonState, Array]:
        now, count = state
        move = solve(factorise(now.curvature, now.damping), now.slope)
        # slope·move is the squared length of the step in conditional sds.
        near = ((now.slope * move).sum(axis=1) < NEAR) & (count > 0)
        value, slope, curvature = derivatives(log_p, now.u + move)
        # Near the mode rounding may let a step lead down: it is accepted all the same.
        better = ((value > now.value) | (near & jnp.isfinite(value))) & ~now.done
        less = jnp.where(now.damping > NO_DAMPING, now.damping / DAMPING_FACTOR, 0.0)
        more = jnp.maximum(DAMPING, DAMPING_FACTOR * now.damping)
        accepted = _NewtonState(now.u + move, value, slope, curvature, less, near)
        rejected = now._replace(damping=more, done=now.done | near)
        return _where(better, accepted, rejected), count + 1

    def goes_on(state: tuple[_NewtonState, Array]) -> Array:
        return ~state[0].done.all() & (state[1] < MOST_STEPS)

    n, k = start.shape
    nothing = jnp.full(n, -jnp.inf), jnp.zeros((n, k)), jnp.zeros((n, k, k))
    # The first step has no slope, so it stays at the start and only looks what is there.
    first = _NewtonState(start, *nothing, jnp.zeros(n), jnp.zeros(n, bool))
    last, _ = jax.lax.while_loop(goes_on, step, (first, jnp.zeros((), jnp.int32)))
    return last.u, factorise(last.curvature, jnp.zeros(n))


def _where(rows: Bool[Array, " n"], these: _NewtonState, those: _NewtonState) -> _NewtonState:
    """`these` in some rows, `those` in the others."""

    def select(a: Array, b: Array) -> Array:
        return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree_util.tree_map(select, these, those)


def derivatives(log_p: LogP, u: Float[Array, "n k"]) -> tuple[Array, Array, Array]:
    """Value (n,), slope (n, k) and negative curvature (n, k, k) of each row.

    The value of a row depends on its own u only, so k products with the Hessian of the sum over
    rows give the curvatures of all rows.
    """

    def slope_and_value(u: Array) -> tuple[Array, Array]:
        value, pull = jax.vjp(log_p, u)
        return pull(jnp.ones_like(value))[0], value

    slope, push, value = jax.linearize(slope_and_value, u, has_aux=True)
    each = jnp.broadcast_to(jnp.eye(u.shape[1])[:, None], (u.shape[1], *u.shape))
    return value, slope, -jnp.moveaxis(jax.vmap(push)(each), 0, 2)
