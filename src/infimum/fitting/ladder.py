"""The order of the climb: what is left between q and p*, and which family promises most of it."""

from __future__ import annotations

import time

import numpy as np

from infimum.answer.proposal import StudentT
from infimum.base import processes
from infimum.base.seeds import CHOICE_STREAM
from infimum.checks import weights
from infimum.families._family import Family, Left
from infimum.fitting.fit import Fit
from infimum.objective.draws import fresh_draws
from infimum.target.target import Target

PAYS = 0.01
"""Nats that a rung must promise: what the finite draws of a fit may cost."""

TIMED = 32
"""Gradients that tell what one takes: a compiled batch."""


def left(fit: Fit) -> Left:
    """What is left of the KL, told apart by what would remove it."""
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
    if kept != "none" or not isinstance(wide, StudentT) or wide.factor.ndim == 1:
        return None
    inverse = np.linalg.inv(wide.factor)
    precisions = (inverse**2).sum(axis=0)
    return float(0.5 * np.log(precisions).sum() + np.log(np.diag(wide.factor)).sum())


def each(fit: Fit, target: Target | None = None) -> float:
    """Seconds of a gradient, from one batch at draws from q; of a density where there is none.

    What a fit's gradients have cost it says too much: a sparse one's come with a Hessian.
    """
    target = target or fit.target
    if target is None:
        return fit.work.run_seconds / max(1, fit.work.n_gradients)
    z, _ = next(fresh_draws(fit.q, TIMED, fit.seed, CHOICE_STREAM))
    evaluate = target.value_and_gradient if target.differentiable else target.values
    taken = []
    for _ in range(2):  # the first may compile
        began = time.perf_counter()
        evaluate(z)
        taken.append(time.perf_counter() - began)
    shared = fit.target is not None and fit.target.large is not None
    return (processes.same(min(taken)) if shared else min(taken)) / len(z)


def ranked(
    rungs: list[Family], fit: Fit, target: Target | None = None
) -> list[tuple[Family, float]]:
    """The rungs that pay with their predicted seconds, most nats a second first.

    Parameters
    ----------
    target
        What will be searched, if that is not the fit's own target.
    """
    remaining = left(fit)
    promised = [(rung, rung.promise(remaining, fit.q.dim)) for rung in rungs]
    paying = [(rung, promise) for rung, promise in promised if promise.gain >= PAYS]
    gradient = each(fit, target) if paying else 0.0
    taking = [promise.seconds + promise.gradients * gradient for _, promise in paying]
    order = sorted(range(len(paying)), key=lambda i: -paying[i][1].gain / taking[i])
    return [(paying[i][0], taking[i]) for i in order]
