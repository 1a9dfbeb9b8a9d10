"""Samplers of one draw of the local variables of each row, given the mode of their density."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from infimum.rows.factors import spread
from infimum.rows.modes import LogP
from infimum.rows.quadrature import BEND, NODES, SPACING

GRID_CELLS = 128
"""Cells of the grid on which one variable is drawn: between its points the density is taken as
linear, which adds a sixth of a squared cell to its variance: 8e-4 of it."""

ROUNDS = 5
PROPOSALS = 16
"""Of draws of several variables: rounds of resampling, and proposals in each. Every round leaves
the conditional as it is. Means and covariances of two thousand draws, of two and of five variables,
were within their Monte Carlo error."""

WIDTHS = (1.0, 1.5, 3.0)
"""Scales of the normals that proposals come from: a third of them are as the curvature says, and
wider ones reach heavier tails."""

TINY_DENSITY = 1e-300
"""Stands for a density of zero in a denominator."""


def by_inversion(
    log_p: LogP,
    mode: Float[Array, "n 1"],
    factor: Float[Array, "n 1 1"],
    keys: Key[Array, " n"],
) -> Float[Array, "n 1"]:
    """A draw of one variable a row: the inverse of its distribution function on a grid of t."""
    end = BEND * SPACING * (NODES - 1) / 2
    s = np.linspace(-end, end, GRID_CELLS + 1)
    offsets = spread(factor, jnp.asarray(np.sinh(s) / BEND)[:, None, None])
    values = jax.vmap(log_p)(mode + offsets) + np.log(np.cosh(s))[:, None]
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    p = jnp.exp(values - values.max(axis=0))
    drawn = s[0] + (s[1] - s[0]) * jax.vmap(_cell_of_draw, (1, 0))(p, keys)
    return mode + (jnp.sinh(drawn) / BEND)[:, None] / factor[:, 0]


def _cell_of_draw(p: Float[Array, " g"], key: Key[Array, ""]) -> Float[Array, ""]:
    """A draw, in cells of the grid, from the density that is linear between these values."""
    mass = jnp.concatenate([jnp.zeros(1), jnp.cumsum(0.5 * (p[1:] + p[:-1]))])
    below = jax.random.uniform(key, dtype=jnp.float64) * mass[-1]
    cell = jnp.clip(jnp.searchsorted(mass, below, side="right") - 1, 0, len(p) - 2)
    rest = below - mass[cell]
    root = jnp.sqrt(jnp.maximum(p[cell] ** 2 + 2 * (p[cell + 1] - p[cell]) * rest, 0.0))
    return cell + jnp.clip(2 * rest / jnp.maximum(p[cell] + root, TINY_DENSITY), 0.0, 1.0)


def by_resampling(
    log_p: LogP,
    mode: Float[Array, "n k"],
    factor: Float[Array, "n k k"],
    keys: Key[Array, " n"],
) -> Float[Array, "n k"]:
    """A draw of several variables a row by iterated resampling.

    Each round puts the last draw among fresh proposals and picks one of them by its weight. That
    leaves the conditional unchanged for any number of proposals (Andrieu, Doucet & Holenstein
    2010).
    """
    n, k = mode.shape
    widths = jnp.asarray(WIDTHS)

    def log_w(eps: Array) -> Array:
        """Log weight of one proposal a row, in sds of the curvature."""
        square = (eps**2).sum(axis=1)[:, None] / widths**2
        log_q = jax.nn.logsumexp(-0.5 * square - k * jnp.log(widths), axis=1)
        value = log_p(mode + spread(factor, eps[None])[0]) - log_q
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    def noise(key: Array) -> tuple[Array, Array]:
        """Proposals of all rounds, and the Gumbel noise that picks one of them in each."""
        of_width, of_normal, of_choice = jax.random.split(key, 3)
        width = widths[jax.random.randint(of_width, (ROUNDS, PROPOSALS, 1), 0, len(WIDTHS))]
        normal = jax.random.normal(of_normal, (ROUNDS, PROPOSALS, k), jnp.float64)
        return width * normal, jax.random.gumbel(of_choice, (ROUNDS, PROPOSALS + 1), jnp.float64)

    def one_round(
        last: tuple[Array, Array], fresh_noise: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        fresh, gumbel = fresh_noise
        eps = jnp.concatenate([last[0][None], fresh])
        weights = jnp.concatenate([last[1][None], jax.vmap(log_w)(fresh)])
        pick = jnp.argmax(weights + gumbel, axis=0)
        return (eps[pick, np.arange(n)], weights[pick, np.arange(n)]), None

    first = jnp.zeros((n, k)), jnp.full(n, -jnp.inf)
    proposals, gumbel = jax.vmap(noise, out_axes=2)(keys)
    (eps, _), _ = jax.lax.scan(one_round, first, (proposals, gumbel))
    return mode + spread(factor, eps[None])[0]
