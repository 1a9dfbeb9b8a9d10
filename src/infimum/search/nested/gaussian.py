"""x given the scales as a Gaussian field, as it is known where their marginal was explored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from infimum.families._smooth.density import SmoothDensity
from infimum.families.nested.field import FactoredField, GaussianField, NaturalField
from infimum.families.nested.known import POWERS
from infimum.families.nested.table import Table
from infimum.families.nested.terms import Terms
from infimum.search.nested.cloud import Cloud
from infimum.search.nested.conditional import NEAR, Explored, known_at
from infimum.search.nested.marginal import Marginal
from infimum.search.nested.modes import Modes
from infimum.search.nested.natural import natural_at

MOVED_WITHIN = 6.0
"""Nats from the top within which the mean of x is moved for its skew: half of a lattice's points
are farther down, with a four-hundredth of the mass."""

WIDEST = 12.0
"""Range of the log of a scale over which its powers are interpolated: their size is then below
1e10."""

VARIED = 0.3
"""Part of H that may change without exact terms before natural parameters are compared with others.
Of ten hierarchies it was 0 to 0.23; of an item response model, where they fail, 0.49."""

PROBED, BEYOND, DRAWS = 8, 1.5, 4
"""Scales at which two ways to know x are compared with x itself, how much farther out they are than
draws of q(θ), as it is there that a way fails, and draws of x at each."""


def gaussian_field(
    marginal: Marginal, explored: Explored, outer: Table | SmoothDensity, rng: np.random.Generator
) -> GaussianField:
    """x as a Gaussian, its mean moved for its skew.

    It is known by its natural parameters. Where these change by more than the powers of scales,
    they are compared with its mean and factors, and the nearer of the two is taken.

    Parameters
    ----------
    outer
        q(θ), from which the scales of the comparison are drawn.
    """
    field, modes = marginal.field, explored.modes
    if isinstance(explored, Cloud):
        slopes = explored.sloped.log_det_slopes
    else:
        slopes = np.zeros(modes.z.shape)
        near = np.flatnonzero(explored.values > explored.values.max() - MOVED_WITHIN)
        slopes[near] = field.log_det_slopes(modes.of(near))
    values, pull, terms = natural_at(field, modes, explored.best)
    pull = pull - 0.5 * slopes[:, field.rest]
    fine = np.flatnonzero(~modes.precision.turned & np.isfinite(pull).all(axis=1))
    natural = NaturalField(
        known=known_at(explored, fine, _steep(modes.z[fine][:, field.theta], terms)),
        values=values[fine],
        pull=pull[fine],
        terms=terms,
        edges=field.edges,
        soft=field.soft,
    )
    if terms.rates.any(axis=0).all() and _variation(natural, explored, fine) < VARIED:
        return natural
    mean = modes.z[fine][:, field.rest] + field.pull(modes, slopes)[fine]
    precision = modes.of(fine).precision
    factored = FactoredField(
        known=known_at(explored, fine),
        mean=mean,
        log_pivots=np.log(precision.pivots),
        below=precision.below,
        edges=field.edges,
        soft=field.soft,
    )
    warp = explored.warp
    theta = warp.theta(BEYOND * warp.u(outer.draw(rng, PROBED)))
    true = marginal.modes(theta, warp.root)
    return min((natural, factored), key=lambda way: _off(way, marginal, true, rng))


def _variation(natural: NaturalField, explored: Explored, rows: Int[np.ndarray, " n"]) -> float:
    """How much of H without its terms changes where θ has its mass, in units of its diagonal."""
    best = explored.best.precision.values[0]
    unit = np.sqrt(np.abs(best[: natural.dim]))
    row, column = natural.edges
    units = np.concatenate([unit**2, unit[row] * unit[column]])
    near = explored.values[rows] > explored.values.max() - NEAR
    return float((np.ptp(natural.values[near], axis=0) / units).max())


def _off(way: GaussianField, marginal: Marginal, true: Modes, rng: np.random.Generator) -> float:
    """Nats that x is off at some scales, by draws."""
    field = marginal.field
    true = true.of(np.repeat(np.arange(len(true.z)), DRAWS))
    mean = true.z[:, field.rest] + field.pull(true, field.log_det_slopes(true))
    x, log_q = way.draw(true.z[:, field.theta], rng)
    off = float(np.mean(log_q - field.log_normal(true.precision, x - mean)))
    return off if np.isfinite(off) else np.inf


def _steep(theta: Float[np.ndarray, "n h"], terms: Terms) -> Int[np.ndarray, " h"]:
    """Which scales without exact terms are to have powers among what is interpolated exactly."""
    n, h = theta.shape
    open_ones = ~terms.rates.any(axis=0) & (np.ptp(theta, axis=0) < WIDEST)
    few = n < 2 * (1 + 2 * h + len(POWERS) * open_ones.sum())
    return np.where(few, 0, open_ones.astype(np.int64))
