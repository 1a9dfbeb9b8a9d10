"""The profile of the ELBO in the scales of a hierarchy: the spread of what hangs on them follows.

Newton steps hold the covariance while they move the mean. A scale of a hierarchy is then held fast
by the spread of its effects, which follows only afterwards: from a scale that is nearly zero plain
steps creep as the EM algorithm does. With A = E_q[-∇²log p̂], T_j = ∂A/∂z_j and Σ = A⁻¹, the spread
follows a move of z_j at once if the curvature of the scales is taken as A_jk - ½ tr(T_j Σ T_k Σ).
A move δ of the scales multiplies the variance of a coordinate i by exp(-Σ_j T_j,ii δ_j / A_ii)
(the parameter expansion of Liu, Rubin & Wu 1998, for Gaussians q).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.families._distribution import SparseGaussian
from infimum.gaussian.sparse import Analysis
from infimum.structure.hessian import hessians
from infimum.structure.roles import log_det_slopes, marks
from infimum.target.target import Target

PROBES = 12
"""Random vectors that show which coordinates are scales."""

LEAST_MARK, MOST_SCALES = 0.5, 6
"""Mark above which a coordinate is taken for a scale, and how many of them at most."""

FLATTEST = 0.05
"""Smallest curvature of the profile that counts, as a part of the plain one, where each step is
judged."""

MOST_FOLLOWED = 2.0
"""Most by which the log of a variance may follow one move."""

DIFFERENCE = 1e-3
"""Step of a scale between two Hessians, in its sds."""


class Move(NamedTuple):
    """A step of the profile.

    Attributes
    ----------
    mean
        By how much the mean moves beyond the plain step, shape (d,).
    growth
        Factors of the sds, shape (d,).
    gain
        Nats that the scales' part of it promises.
    """

    mean: Float[np.ndarray, " d"]
    growth: Float[np.ndarray, " d"]
    gain: float


class Profile(NamedTuple):
    """What moves with the scales around one q.

    Attributes
    ----------
    theta
        The scales.
    within
        Their covariance, shape (h, h).
    response
        How the mean of each coordinate follows them, shape (h, d).
    faster
        From their plain step to that of the profile, shape (h, h).
    rates
        Slopes of the log precision of each coordinate, shape (h, d).
    """

    theta: Int[np.ndarray, " h"]
    within: Float[np.ndarray, "h h"]
    response: Float[np.ndarray, "h d"]
    faster: Float[np.ndarray, "h h"]
    rates: Float[np.ndarray, "h d"]

    def move(self, plain: Float[np.ndarray, " d"], longest: float) -> Move:
        """The step of the profile in place of a plain one, no scale further than `longest`."""
        own = plain[self.theta]
        step = self.faster @ own
        part = min(1.0, longest / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        gain = part * (1 - 0.5 * part) * float(own @ np.linalg.solve(self.within, step))
        log_variance = np.clip(-part * step @ self.rates, -MOST_FOLLOWED, MOST_FOLLOWED)
        return Move((part * step - own) @ self.response, np.exp(0.5 * log_variance), gain)


def scales_of(target: Target, q: SparseGaussian, rng: np.random.Generator) -> Int[np.ndarray, " h"]:
    """The coordinates that move log |A| most, and are moved by it: two gradients a probe."""
    probes = rng.choice([-1.0, 1.0], (PROBES, q.dim))
    moves = np.asarray(q.spread(probes)) / np.sqrt(PROBES)
    mean, sd = np.asarray(q.mean), np.sqrt(q.variance())
    with np.errstate(over="ignore", invalid="ignore"):
        slope = log_det_slopes(lambda z: target.value_and_gradient(z)[1], mean[None], moves[None])
    if not np.isfinite(slope).all():
        return np.zeros(0, np.int64)
    moved = np.asarray(q.spread(q.whiten(slope)))[0]
    mark = marks(slope[0], moved, sd)
    order = np.argsort(-mark, kind="stable")[:MOST_SCALES]
    return np.sort(order[mark[order] > LEAST_MARK])


def profile_at(
    target: Target,
    q: SparseGaussian,
    theta: Int[np.ndarray, " h"],
    flattest: float = FLATTEST,
) -> Profile | None:
    """The profile around q, whose precision is A: a Hessian at its mean, and one for each scale.

    Parameters
    ----------
    flattest
        Smallest curvature of the profile that counts, as a part of the plain one.
    """
    d, mean, precision = q.dim, np.asarray(q.mean), q.precision()
    units = np.eye(d)[theta]
    rows = np.asarray(q.spread(q.whiten(units)))
    within = rows[:, theta]
    step = DIFFERENCE * np.sqrt(np.diag(within))[:, None]
    points = np.concatenate([mean[None], mean + step * units])
    with np.errstate(over="ignore", invalid="ignore"):
        at = hessians(target, q.edges, points, len(points), 1 / np.sqrt(precision[:d])).values
    slopes = -(at[1:] - at[0]) / step
    if not np.isfinite(slopes).all():
        return None
    analysis, roots = Analysis.of(d, q.edges), np.asarray(q.spread(np.eye(d)))
    whitened = [np.asarray(q.whiten(analysis.times(slope, roots))) for slope in slopes]
    follows = 0.5 * np.array([[(a * b.T).sum() for b in whitened] for a in whitened])
    root = np.linalg.cholesky(within)
    flatness, axes = np.linalg.eigh(np.eye(len(theta)) - root.T @ follows @ root)
    inverse = axes / np.maximum(np.abs(flatness), flattest) @ axes.T
    rates = slopes[:, :d] / precision[:d]
    rates[:, theta] = 0.0
    response = np.linalg.solve(within, rows)
    return Profile(theta, within, response, root @ inverse @ np.linalg.inv(root), rates)


def scaled(q: SparseGaussian, precision: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """The values of a precision after the sds of all coordinates have grown by these factors."""
    row, column = q.edges
    return precision / np.concatenate([growth**2, growth[row] * growth[column]])
