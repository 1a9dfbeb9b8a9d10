"""Importance resampling: draws of the proposal r, chosen in proportion to p̂/r."""

from __future__ import annotations

import functools
import time

import numpy as np
from jaxtyping import Float, Int

from infimum.answer.advice import unseen_sentence
from infimum.answer.proposal import joined
from infimum.answer.resampling import PROPOSALS
from infimum.base.errors import coded_error
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks import quantities, weights
from infimum.corrections._corrected import Corrected
from infimum.fitting.fit import Fit
from infimum.target.space import columns

CHUNK = 4096
"""Proposals whose quantities are taken at a time."""


def importance(fit: Fit, n: int = 1000, *, replace: bool = True, seed: Seed = 0) -> Corrected:
    """Draw exactly n times from p*, by importance weights of at least four times as many proposals.

    Requires: a q whose proposal has draws wherever p* has mass. Any target will do.

    Parameters
    ----------
    n
        Number of draws.
    replace
        With replacement the draws follow the weights exactly, but those of large weight repeat.
        Without replacement all are distinct, but those of large weight are too few, unless the
        weights are nearly even (Gumbel top-n; Efraimidis & Spirakis 2006).

    Returns
    -------
    Draws; `numbers` holds how many of them are "unique", and the effective number and the tail
    index of the proposals as "ess" and "khat".

    Raises
    ------
    ValueError
        If the fit has no target, because it was loaded from disk; if weights can't be formed; if
        without replacement fewer than n weights are positive.
    """
    if not isinstance(n, int | np.integer) or n < 1:
        raise coded_error(ValueError, "E302", f"n is {n!r}, expected a positive number of draws")
    begun = time.perf_counter()
    target = fit.at_hand()
    size = max(fit.n_draws, PROPOSALS * int(n))
    chunks = fit.proposal.evaluated(target, size, seed, CORRECT_STREAM, 0)
    z, log_p, log_q, log_r = joined(chunks)
    log_w = log_p - log_r
    w = weights.normalised(log_w)
    if np.isnan(w).any():
        raise coded_error(ValueError, "E404", "these draws can't be reweighted: " + fit.advice)
    chosen = _chosen(w, log_w, n, replace, generator(seed, CORRECT_STREAM, 1))
    # The draws that judged the fit count as well: a large weight once seen is not forgotten.
    draws = fit.weighed
    every = np.concatenate([draws.log_weights, log_w])
    own = np.concatenate([draws.log_w, (log_p - log_q)[:size]])
    effective, tail = weights.ess(every), weights.khat(every)
    trusted = quantities.trusted(own, every, fit.reason.converged)
    why = f"{effective:.0f} of {len(every)} draws are effective, with tail index {tail:.2f}."
    if fit.assessment.affected.any():
        trusted, why = False, f"{why} {unseen_sentence(fit.assessment)}"

    @functools.cache
    def compared() -> quantities.Comparison:
        """Every proposal with its weight, not the chosen ones, which repeat."""
        starts = range(0, len(z), CHUNK)
        values = (columns(fit.space.draws(z[start : start + CHUNK])) for start in starts)
        return quantities.compare(values, size, log_w)

    def noise(values: np.ndarray) -> np.ndarray:
        """Errors of weighting, and of choosing n."""
        spread = values.std(axis=0, ddof=1) / np.sqrt(n)
        if values.shape[1] != len(compared().mcse):
            return np.asarray(np.hypot(spread, values.std(axis=0, ddof=1) / np.sqrt(effective)))
        return np.asarray(np.hypot(spread, compared().mcse))

    def heaviest() -> tuple[np.ndarray, float]:
        rows = int(fit.space.judged.sum())
        return compared().weighted_largest, quantities.heavy_limit(own, every, rows)

    return Corrected(
        fit=fit,
        method="importance",
        z=z[chosen],
        noise=noise,
        log_evidence=weights.log_evidence(log_w, log_q - log_r),
        trusted=trusted,
        why=why,
        own_draws=True,
        heaviest=heaviest,
        numbers={"unique": float(len(np.unique(chosen))), "ess": effective, "khat": tail},
        seconds=time.perf_counter() - begun,
    )


def _chosen(
    w: Float[np.ndarray, " m"],
    log_w: Float[np.ndarray, " m"],
    n: int,
    replace: bool,
    rng: np.random.Generator,
) -> Int[np.ndarray, " n"]:
    """Indices of n draws in proportion to their weights w.

    Raises
    ------
    ValueError
        If without replacement fewer than n weights are positive.
    """
    if replace:
        return rng.choice(len(w), size=n, p=w)
    if np.count_nonzero(w) < n:
        raise coded_error(
            ValueError,
            "E405",
            f"n is {n}, but only {np.count_nonzero(w)} draws have weight: draw with replacement",
        )
    return np.argsort(-(log_w + rng.gumbel(size=len(w))), kind="stable")[:n]
