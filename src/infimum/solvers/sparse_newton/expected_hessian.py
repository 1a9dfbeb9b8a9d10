"""Estimates of the expected Hessian on a pattern, of the loss, and of their errors, from few draws.

For Gaussians q with a sparse precision Λ, whose best has Λ = A = -E_q[∇²log p̂].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.special

from infimum.families._distribution import LARGEST_CHANGE, SparseGaussian
from infimum.gaussian.sparse import Analysis
from infimum.gaussian.stack import LOG_2PI
from infimum.objective.loss import Outcome
from infimum.structure.hessian import Evaluated

GROUPS = 4
"""Groups of draws, each stratified by itself. Their differences give the sampling error."""

TOLERANCE_DIM = 100
"""Coordinates for which the tolerance holds together. The error of a sum over thousands of groups
grows with their number, but the error of each quantity is what matters. The coordinates that are
coupled to more others than this must meet the tolerance together."""

PROBES = 16
"""Random vectors that estimate the error of the curvature, to within a third."""

MOST_REPAIRS = 30
"""Most rounds in which an indefinite curvature is made positive."""


class GroupEstimates(NamedTuple):
    """The loss of one q, and what its step is made of, estimated from groups of draws.

    Attributes
    ----------
    loss
        KL[q ‖ p̂] in nats.
    doubt
        Twice its standard error, from the differences between groups.
    pulls
        Mean score of each group of draws, shape (groups, d).
    curvatures
        Values of A from each group of draws, shape (groups, d + n_edges).
    """

    loss: float
    doubt: float
    pulls: np.ndarray
    curvatures: np.ndarray


def stratified_draws(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Antithetic draws in `GROUPS` groups; in each the sizes of every coordinate are stratified.

    They are unbiased for every expectation, unlike draws rescaled to exact moments, so that a sum
    over thousands of groups has no common error. Latin hypercube sampling (McKay, Beckman & Conover
    1979) of |ε|, with random signs.

    Parameters
    ----------
    n
        Number of draws, rounded up to a multiple of 2·GROUPS.
    dim
        d.
    """
    strata = -(-n // (2 * GROUPS))
    groups = []
    for _ in range(GROUPS):
        places = rng.permuted(np.tile(np.arange(strata), (dim, 1)), axis=1).T
        size = scipy.special.ndtri(0.5 + 0.5 * (places + rng.random((strata, dim))) / strata)
        half = size * rng.choice([-1.0, 1.0], (strata, dim))
        groups += [half, -half]
    return np.concatenate(groups)


def look(
    q: SparseGaussian, eps: np.ndarray, z: np.ndarray, evaluated: Evaluated, result: Outcome
) -> GroupEstimates | None:
    """The estimates from draws of q; None if a group has no draw with a density, or overflows.

    The loss is -mean(log p̂ + ½ δᵀAδ) + ½ tr(A Λ⁻¹) - entropy with δ = z - mean, which has no noise
    for a quadratic log p̂. The plain mean(log q - log p̂) is taken if it has less noise: for a q far
    out in a tail that falls like exp(-exp(x)), the curvature at one draw would decide the first. If
    part of the draws have zero density, the loss is that of `outcome`.
    """
    d = q.dim
    counts = np.add.reduceat(result.inside, np.arange(0, len(z), len(z) // GROUPS))
    if not counts.all():
        return None
    score = np.where(result.inside[:, None], evaluated.gradient, 0.0)
    pulls = score.reshape(GROUPS, -1, d).sum(axis=1) / counts[:, None]
    curvatures = -evaluated.values / counts[:, None]
    if not (np.isfinite(curvatures).all() and np.isfinite(pulls).all()):
        return None
    if not result.inside.all():
        return GroupEstimates(result.loss, 0.0, pulls, curvatures)
    curvature = curvatures.mean(axis=0)
    analysis = Analysis.of(d, q.edges)
    offset = z - np.asarray(q.mean)
    quadratic = 0.5 * (analysis.times(curvature, offset) * offset).sum(axis=1)
    expected = 0.5 * analysis.trace(curvature, q.covariances())
    entropy = 0.5 * d * (1 + LOG_2PI) + float(q.log_det())
    quiet = expected - entropy - _by_group(evaluated.log_p + quadratic)
    plain = _by_group(np.asarray(q.log_prob_base(eps)) - evaluated.log_p)
    parts = min(quiet, plain, key=lambda parts: float(parts.std(ddof=1)))
    doubt = 2.0 * float(parts.std(ddof=1)) / np.sqrt(GROUPS)
    return GroupEstimates(float(parts.mean()), doubt, pulls, curvatures)


def _by_group(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.reshape(GROUPS, -1).mean(axis=1))


def bounded(
    q: SparseGaussian, precision: np.ndarray, curvature: np.ndarray
) -> tuple[np.ndarray, SparseGaussian]:
    """The curvature made a precision that q may step to: positive definite and not far from q's.

    Each pivot stays within a factor `LARGEST_CHANGE` of q's own. Small and negative pivots are
    raised on the diagonal; the rows of large ones are scaled down. If the diagonal can't make it
    positive definite, the precision of q is mixed in.

    Returns
    -------
    The values of the precision, and the Gaussian of that precision with the mean of q.
    """
    analysis, order = Analysis.of(q.dim, q.edges), q.order
    d, own = q.dim, q.pivots()
    values = curvature
    for _ in range(MOST_REPAIRS):
        factor = analysis.factor(values)
        low = None if factor is None else factor.pivots < own / LARGEST_CHANGE * (1 - 1e-9)
        if low is not None and not low.any():
            break
        if factor is None or low is None:
            values = 0.5 * (values + precision)
            continue
        shift = np.zeros(len(values))
        shift[order[low]] = (own / LARGEST_CHANGE - factor.pivots)[low]
        values = values + shift
    else:
        factor = None
    while factor is None or np.any(factor.pivots <= 0):
        values = 0.5 * (values + precision)
        factor = analysis.factor(values)
    scale = np.ones(d)
    scale[order] = np.sqrt(np.minimum(1.0, LARGEST_CHANGE * own / factor.pivots))
    if np.any(scale < 1):
        row, column = q.edges
        values = values * np.concatenate([scale**2, scale[row] * scale[column]])
    placed = q.placed(np.asarray(q.mean), values)
    return (values, placed) if placed is not None else (precision, q)


def decrease(
    q: SparseGaussian, pull: np.ndarray, precision: np.ndarray, goal: SparseGaussian
) -> float:
    """½ pullᵀ A⁻¹ pull + ½ (tr(A Λ⁻¹) - d + log |Λ| - log |A|): what is left if log p̂ is quadratic.

    Parameters
    ----------
    precision, goal
        Values of A, and the Gaussian of that precision.
    """
    trace = Analysis.of(q.dim, q.edges).trace(precision, q.covariances())
    shape = trace - q.dim + 2 * (float(goal.log_det()) - float(q.log_det()))
    return float(0.5 * (goal.whiten(pull) ** 2).sum() + 0.5 * max(shape, 0.0))


def sampling_error(
    q: SparseGaussian, estimates: GroupEstimates, rng: np.random.Generator
) -> tuple[float, float]:
    """Nats that the finite number of draws costs, for every `TOLERANCE_DIM` coordinates and in all.

    Half the variance of the whitened mean score and a quarter of the variance of the whitened
    curvature, both from the differences between groups. The coordinates that more than
    `TOLERANCE_DIM` others are coupled to must meet the tolerance by themselves.
    """
    d = q.dim
    parts = GROUPS * (GROUPS - 1)
    pulls = q.whiten(estimates.pulls - estimates.pulls.mean(axis=0))
    error = 0.5 * (pulls**2).sum(axis=0) / parts
    few = d <= PROBES
    probes = np.eye(d) if few else rng.choice([-1.0, 1.0], (PROBES, d))
    analysis = Analysis.of(d, q.edges)
    vectors = np.asarray(q.spread(probes))
    for curvature in estimates.curvatures - estimates.curvatures.mean(axis=0):
        images = q.whiten(analysis.times(curvature, vectors))
        error += 0.25 * (images**2).sum(axis=0) / parts / (1 if few else PROBES)
    shared = q.n_neighbours() > TOLERANCE_DIM
    total = float(error.sum())
    return max(total / max(1.0, d / TOLERANCE_DIM), float(error[shared].sum())), total
