"""Leaps of scales: before a search ends, they move to where the profile of the ELBO is best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families._distribution import SparseGaussian
from infimum.objective.loss import outcome
from infimum.solvers._solver import State
from infimum.solvers.sparse_newton.expected_hessian import (
    GROUPS,
    GroupEstimates,
    bounded,
    look,
    stratified_draws,
)
from infimum.solvers.sparse_newton.profile import profile_at, scaled, scales_of
from infimum.structure.hessian import hessians
from infimum.target.target import Target

MOST_LEAPS = 12
"""Most leaps of a start."""

DRAWS = 8
"""Draws that judge a leap, the same for all of a start."""

LEAST_GAIN = 0.25
"""Nats that a leap must promise to be tried."""

LONGEST = 1.0
"""By how much a leap may move a scale: its logarithm, so a factor of e."""

SHORTENED = (1.0, 0.5)
"""Parts of a leap that are tried until one lowers the loss."""


class _Judged(NamedTuple):
    """A Gaussian with the estimates of its draws, and the precision A that they show."""

    q: SparseGaussian
    estimates: GroupEstimates
    precision: Float[np.ndarray, " values"]

    @property
    def worst(self) -> float:
        """The loss at two standard errors above its estimate."""
        return self.estimates.loss + self.estimates.doubt


def leap(target: Target, state: State, rng: np.random.Generator) -> None:
    """Move the scales of a start to where their ELBO is best, in place, with its cost."""
    q = state.q
    assert isinstance(q, SparseGaussian)
    before = target.counter.n_gradients
    theta = scales_of(target, q, rng)
    eps = stratified_draws(rng, DRAWS, q.dim)
    judged = _judged(target, q, eps) if len(theta) else None
    for _ in range(MOST_LEAPS):
        following = None if judged is None else _after(target, judged, theta, eps)
        if following is None:
            break
        judged = following
        state.q, state.loss = judged.q, judged.estimates.loss
    state.info.n_gradients += target.counter.n_gradients - before


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


def _after(target: Target, judged: _Judged, theta: np.ndarray, eps: np.ndarray) -> _Judged | None:
    """The Gaussian after the next leap that lowers the loss; None if none promises to."""
    mean = np.asarray(judged.q.mean)
    q = judged.q.placed(mean, judged.precision)
    profile = None if q is None else profile_at(target, q, theta)
    if q is None or profile is None:
        return None
    plain = np.asarray(q.spread(q.whiten(judged.estimates.pulls.mean(axis=0))))
    for part in SHORTENED:
        move = profile.move(plain, part * LONGEST)
        if move.gain < LEAST_GAIN:
            return None
        precision = scaled(q, judged.precision, move.growth)
        trial = q.placed(mean + plain + move.mean, precision)
        after = None if trial is None else _judged(target, trial, eps)
        if after is not None and after.worst < judged.worst:
            return after
    return None
