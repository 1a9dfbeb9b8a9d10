"""The order of a climb: the families ranked by the nats that they promise a second."""

from __future__ import annotations

import time

import numpy as np

from infimum.base import processes
from infimum.base.seeds import CHOICE_STREAM
from infimum.checks import weights
from infimum.families._family import Family, Left
from infimum.fitting.fit import Fit
from infimum.gaussian.factor import Diagonal
from infimum.gaussian.student_t import StudentT
from infimum.objective.draws import fresh_draws
from infimum.target.target import Target

PAYS = 0.01
"""Nats that a rung must promise to be tried: what the finite draws of a fit may cost."""

TIMED = 32
"""Gradients over which one is timed: a compiled batch."""


def remaining_kl(fit: Fit) -> Left:
    """The KL that is left, split by what would remove it: correlation, modes, shape."""
    own = weights.kl(fit.log_w).value
    modes = max(fit.kl.value - own, 0.0) if fit.rivals else 0.0
    correlation = _correlation(fit)
    total = float(np.nan_to_num(fit.kl.value - modes, nan=np.inf))
    if correlation is None:
        return Left(total, modes, total)
    return Left(correlation, modes, max(total - correlation, 0.0))


def _correlation(fit: Fit) -> float | None:
    """Nats that a full covariance would gain on q = N(m, diag(s²)); 0 for a q that has one.

    The KL between Gaussians of precisions Λ and diag(Λ), ½ (Σ log Λ_ii - log |Λ|), for the Λ that
    the target's curvature under q implies; None if that was not formed. A sparse q has the
    correlations that the target couples, but only if its search has arrived: it is the first rung
    in many dimensions, and a dense one can then do better.
    """
    kept = fit.family.correlations
    if kept == "coupled" and not fit.reason.converged:
        return None
    if kept in ("coupled", "all"):
        return 0.0
    wide = fit.proposal.wide
    if kept != "none" or not isinstance(wide, StudentT) or isinstance(wide.spread, Diagonal):
        return None
    inverse = np.linalg.inv(wide.factor)
    precisions = (inverse**2).sum(axis=0)
    return float(0.5 * np.log(precisions).sum() + wide.spread.log_det())


def seconds_per_gradient(fit: Fit, target: Target | None = None) -> float:
    """Seconds of a gradient, or of a value if there is none, timed on one batch of draws from q.

    The seconds of the fit itself would say too much: a sparse fit's gradients come with a Hessian.
    """
    target = target or fit.target
    if target is None:
        return fit.work.run_seconds / max(1, fit.work.n_gradients)
    z, _ = next(fresh_draws(fit.q, TIMED, fit.seed, CHOICE_STREAM))
    evaluate = target.value_and_gradient if target.differentiable else target.values
    seconds = []
    for _ in range(2):  # the first may compile
        began = time.perf_counter()
        evaluate(z)
        seconds.append(time.perf_counter() - began)
    shared = fit.target is not None and fit.target.large is not None
    return (processes.same(min(seconds)) if shared else min(seconds)) / len(z)


def rank_by_promise(
    rungs: list[Family], fit: Fit, target: Target | None = None
) -> list[tuple[Family, float]]:
    """The rungs that pay, with their predicted seconds; the most nats a second come first.

    Parameters
    ----------
    target
        What will be searched, if that is not the fit's own target.
    """
    remaining = remaining_kl(fit)
    promises = [(rung, rung.promise(remaining, fit.q.dim)) for rung in rungs]
    paying = [(rung, promise) for rung, promise in promises if promise.gain >= PAYS]
    gradient = seconds_per_gradient(fit, target) if paying else 0.0
    seconds = [promise.seconds + promise.gradients * gradient for _, promise in paying]
    order = sorted(range(len(paying)), key=lambda i: -paying[i][1].gain / seconds[i])
    return [(paying[i][0], seconds[i]) for i in order]
