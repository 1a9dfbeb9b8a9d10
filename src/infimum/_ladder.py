"""The order of the climb: what is left between q and p*, and which family promises most of it."""

from __future__ import annotations

import numpy as np

from infimum._family import Family, Left, Promise
from infimum._fit import Fit
from infimum._proposal import StudentT
from infimum.checks import weights

PARTIAL = ("meanfield", "lowrank")
"""Families that leave correlation. A sparse one leaves some where its search has not arrived: it is
the first rung in many dimensions, and a dense one can then do better."""

PAYS = 0.01
"""Nats that a rung must promise: what the finite draws of a fit may cost."""


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
    the target's curvature under q implies; None where that was not formed.
    """
    if fit.family.name == "sparse" and not fit.reason.converged:
        return None
    if fit.family.name not in PARTIAL:
        return 0.0
    wide = fit.proposal.wide
    if fit.family.name != PARTIAL[0] or not isinstance(wide, StudentT) or wide.factor.ndim == 1:
        return None
    inverse = np.linalg.inv(wide.factor)
    precisions = (inverse**2).sum(axis=0)
    return float(0.5 * np.log(precisions).sum() + np.log(np.diag(wide.factor)).sum())


def seconds(promise: Promise, fit: Fit) -> float:
    """Predicted seconds of a rung, from what gradients have cost this fit."""
    each = fit.work.run_seconds / max(1, fit.work.n_gradients)
    return promise.seconds + promise.gradients * each


def ranked(rungs: list[Family], fit: Fit) -> list[tuple[Family, Promise]]:
    """The rungs that pay, most nats a second first."""
    remaining = left(fit)
    promised = [(rung, rung.promise(remaining, fit.q.dim)) for rung in rungs]
    paying = [(rung, promise) for rung, promise in promised if promise.gain >= PAYS]
    return sorted(paying, key=lambda pair: -pair[1].gain / seconds(pair[1], fit))
