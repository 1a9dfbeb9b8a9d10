"""Roles: which coordinates are the scales of a hierarchy, told by what they do to the curvature.

A scale is not known by how many others it is coupled to: of crossed effects every level touches
many. It is known by what it moves. With H = -∇²log p̂ and a Gaussian q of covariance Σ,
t_j = tr(Σ ∂_j H) is the change of log |H| with z_j. Where sd_j |t_j| is large, log |H| changes much
within one sd of z_j; and where |(Σ t)_j| / sd_j is large, integrating the others out moves the mean
of z_j by half as many sds (van Niekerk & Rue 2021). Scales have both. Locations that nonlinear
effects hang on have the first alone. What a coordinate does to its own curvature is left out: it is
skewed then, not a scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

SECOND_STEP = 3e-3
"""Step of a second difference of gradients along a draw of q, in units of the draw: the errors of
rounding and of the fifth derivative are then below 1e-4 of the third."""

LEAST_ROLE = 0.6
"""Where both marks of a scale exceed it, a coordinate is one. Scales had 1.1 to 12.6 (seeds 4.6,
radon 12.6, slopes 2.5 to 8, crossed effects 1.1 to 10). A location of GLMM_Poisson has 0.5: with it
among the scales the search took twice the gradients for the same answer. Scales of weaker marks are
told by powers; see `infimum.search.nested.natural`."""

LEAST_FIRST_ROLE = 0.25
"""The same for the first scale of all: the others are judged given it. The scale of the non-centred
eight schools has 0.30."""


def log_det_slopes(
    gradients_at: Callable[[np.ndarray], np.ndarray],
    z: Float[np.ndarray, "n d"],
    moves: Float[np.ndarray, "n m d"],
    gradient: Float[np.ndarray, "n d"] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Σ_v ∂(vᵀ H v) over the moves v at each point: two gradients a move.

    With moves whose outer products add up to Σ, where H has entries, these are the slopes of
    tr(Σ H(·)): of log |H| if Σ is the inverse of H.

    Parameters
    ----------
    gradients_at
        Function that gives the gradient of log p̂ at each row of points.
    gradient
        At the points, if it is known.
    """
    n, m, d = moves.shape
    step = SECOND_STEP * moves
    points = [(z[:, None] + step).reshape(-1, d), (z[:, None] - step).reshape(-1, d)]
    if gradient is None:
        points.append(z)
    there = gradients_at(np.concatenate(points))
    sides = there[: 2 * n * m].reshape(2, n, m, d).sum(axis=(0, 2))
    here = there[2 * n * m :] if gradient is None else gradient
    return np.asarray(-(sides - 2 * m * here) / SECOND_STEP**2)


def own_slopes(
    gradients_at: Callable[[np.ndarray], np.ndarray],
    z: Float[np.ndarray, " d"],
    sd: Float[np.ndarray, " d"],
    colours: Int[np.ndarray, " d"],
) -> Float[np.ndarray, " d"]:
    """sd_j² ∂_j H_jj: a coordinate's own part of the slopes, two gradients a colour.

    Parameters
    ----------
    colours
        Coordinates of one colour don't couple.
    """
    moves = np.where(colours == np.arange(colours.max() + 1)[:, None], sd, 0.0)
    step = SECOND_STEP * moves
    there = gradients_at(np.concatenate([z[None], z + step, z - step]))
    n = len(moves)
    slopes = -(there[1 : 1 + n] - 2 * there[0] + there[1 + n :]) / SECOND_STEP**2
    return np.asarray(slopes[colours, np.arange(len(z))])


def marks(
    slope: Float[np.ndarray, " d"], moved: Float[np.ndarray, " d"], sd: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    """How much of a scale each coordinate is: the smaller of its two marks.

    Parameters
    ----------
    slope, moved, sd
        t, Σ t and the sds under q.
    """
    return np.minimum(sd * np.abs(slope), np.abs(moved) / sd)
