"""Leaps of scales: Newton steps in which the spread of what hangs on a scale moves with it.

Newton steps hold the covariance while they move the mean. A scale of a hierarchy is then held fast
by the spread of its effects, which follows only afterwards: from a scale that is nearly zero plain
steps creep as the EM algorithm does. With A = E_q[-∇²log p̂], T_j = ∂A/∂z_j and Σ = A⁻¹, the spread
follows a move of z_j at once if the curvature of a scale is taken as A_jk - ½ tr(T_j Σ T_k Σ): that
of the profile of the ELBO. The spread of a coordinate i then grows by exp(-½ Σ_j T_j,ii / A_ii δ_j)
(Liu, Rubin & Wu 1998, for EM).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.families._distribution import SparseGaussian
from infimum.gaussian.sparse import Analysis
from infimum.objective.loss import outcome
from infimum.solvers._solver import State
from infimum.solvers.sparse_newton.expected_hessian import (
    GROUPS,
    GroupEstimates,
    bounded,
    look,
    stratified_draws,
)
from infimum.structure.hessian import hessians
from infimum.structure.roles import log_det_slopes, marks
from infimum.target.target import Target

PROBES = 12
"""Random vectors that show which coordinates are scales."""

LEAST_MARK, MOST_SCALES = 0.5, 6
"""Mark above which a coordinate is taken for a scale, and how many of them at most."""

MOST_LEAPS = 12
"""Most leaps of a start."""

DRAWS = 8
"""Draws that judge a leap, the same for all of a start."""

LEAST_GAIN = 0.25
"""Nats that a leap must promise to be tried."""

LONGEST = 1.0
"""By how much a leap may move a scale: its logarithm, so a factor of e."""

FLATTEST = 0.05
"""Smallest curvature of the profile that counts, as a part of the plain one."""

SHORTENINGS = 1
"""Times that a leap that does not lower the loss is halved."""

MOST_FOLLOWED = 2.0
"""Most by which the log of a variance may follow one leap."""

DIFFERENCE = 1e-3
"""Step of a scale between two Hessians, in its sds."""


class _Judged(NamedTuple):
    """A Gaussian with the estimates of its draws, and the precision A that they show."""

    q: SparseGaussian
    estimates: GroupEstimates
    precision: Float[np.ndarray, " values"]


class _Leap(NamedTuple):
    """A whole leap: how mean and log variances move, and the nats that it promises."""

    move: Float[np.ndarray, " d"]
    spread: Float[np.ndarray, " d"]
    gain: float


def leap(target: Target, state: State, rng: np.random.Generator) -> None:
    """Move the scales of a start to where their ELBO is best, in place, with its cost."""
    q = state.q
    assert isinstance(q, SparseGaussian)
    before = target.counter.n_gradients
    theta = _scales(target, q, rng)
    if len(theta):
        eps = stratified_draws(rng, DRAWS, q.dim)
        judged = _judged(target, q, eps)
        for _ in range(MOST_LEAPS if judged is not None else 0):
            assert judged is not None
            following = _after(target, judged, theta, eps)
            if following is None:
                break
            judged = following
        if judged is not None:
            state.q, state.loss = judged.q, judged.estimates.loss
    state.info.n_gradients += target.counter.n_gradients - before


def _scales(target: Target, q: SparseGaussian, rng: np.random.Generator) -> Int[np.ndarray, " h"]:
    """The coordinates that move log |A| most, and are moved by it."""
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


def _judged(target: Target, q: SparseGaussian, eps: np.ndarray) -> _Judged | None:
    """A Gaussian judged by these draws; None if they say nothing of it."""
    z = q.push(eps)
    own = q.precision()
    with np.errstate(over="ignore", invalid="ignore"):
        evaluated = hessians(target, q.edges, z, GROUPS, 1 / np.sqrt(own[: q.dim]))
        result = outcome(np.asarray(q.log_prob_base(eps)), evaluated.log_p, evaluated.gradient)
        estimates = look(q, eps, z, evaluated, result) if np.isfinite(result.loss) else None
    if estimates is None:
        return None
    return _Judged(q, estimates, bounded(q, own, estimates.curvatures.mean(axis=0))[0])


def _after(
    target: Target, judged: _Judged, theta: Int[np.ndarray, " h"], eps: np.ndarray
) -> _Judged | None:
    """The Gaussian after the next leap that lowers the loss; None if none promises to."""
    q = judged.q.placed(np.asarray(judged.q.mean), judged.precision)
    whole = None if q is None else _whole(target, q, judged, theta)
    if q is None or whole is None or whole.gain < LEAST_GAIN:
        return None
    row, column = q.edges
    for k in range(1 + SHORTENINGS):
        part = 0.5**k
        growth = np.exp(-0.5 * part * whole.spread)
        follow = np.concatenate([growth**2, growth[row] * growth[column]])
        trial = q.placed(np.asarray(q.mean) + part * whole.move, judged.precision * follow)
        after = None if trial is None else _judged(target, trial, eps)
        if after is not None and after.estimates.loss < judged.estimates.loss:
            return after
    return None


def _whole(
    target: Target, q: SparseGaussian, judged: _Judged, theta: Int[np.ndarray, " h"]
) -> _Leap | None:
    """The Newton step of the profile, no scale further than `LONGEST`."""
    d, mean, values = q.dim, np.asarray(q.mean), judged.precision
    units = np.eye(d)[theta]
    rows = np.asarray(q.spread(q.whiten(units)))
    within = rows[:, theta]
    sd = np.sqrt(np.diag(within))
    points = np.concatenate([mean[None], mean + DIFFERENCE * sd[:, None] * units])
    at = hessians(target, q.edges, points, len(points), 1 / np.sqrt(values[:d])).values
    slopes = -(at[1:] - at[0]) / (DIFFERENCE * sd[:, None])
    if not np.isfinite(slopes).all():
        return None
    analysis, roots = Analysis.of(d, q.edges), np.asarray(q.spread(np.eye(d)))
    whitened = [np.asarray(q.whiten(analysis.times(slope, roots))) for slope in slopes]
    follows = 0.5 * np.array([[(a * b.T).sum() for b in whitened] for a in whitened])
    pull = judged.estimates.pulls.mean(axis=0)
    plain = np.asarray(q.spread(q.whiten(pull)))
    root = np.linalg.cholesky(within)
    flatness, axes = np.linalg.eigh(np.eye(len(theta)) - root.T @ follows @ root)
    whole = axes.T @ np.linalg.solve(root, plain[theta])
    flatness = np.maximum(np.abs(flatness), FLATTEST)
    step = root @ (axes @ (whole / flatness))
    part = min(1.0, LONGEST / max(float(np.abs(step).max()), 1e-300))
    gain = part * (1 - 0.5 * part) * float((whole**2 / flatness).sum())
    step = part * step
    move = plain + rows.T @ np.linalg.solve(within, step - plain[theta])
    spread = -(slopes[:, :d] * step[:, None]).sum(axis=0) / values[:d]
    spread[theta] = 0.0
    return _Leap(move, np.clip(spread, -MOST_FOLLOWED, MOST_FOLLOWED), gain)
