"""Importance resampling: draws of the proposal, chosen in proportion to p̂/r."""

from __future__ import annotations

import time

import numpy as np

from infimum.answer.advice import unseen_sentence
from infimum.answer.proposal import joined
from infimum.answer.resampling import PROPOSALS
from infimum.base.errors import coded
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks import quantities, weights
from infimum.corrections._corrected import Corrected
from infimum.fitting.fit import Fit


def importance(fit: Fit, n: int = 1000, *, replace: bool = True, seed: Seed = 0) -> Corrected:
    """Exactly n draws, resampled by importance weights from four times as many proposals or more.

    Parameters
    ----------
    n
        Number of draws.
    replace
        With replacement the draws follow the weights exactly, and those of large weight repeat.
        Without it all are distinct, and those of large weight are fewer than they should be: the
        nearer the weights are to even, the less so (Gumbel top-n; Efraimidis & Spirakis 2006).

    Returns
    -------
    `told` has the number of unique draws and the effective number of the proposals.

    Raises
    ------
    ValueError
        If the fit has no target any more, because it was loaded from disk; if weights can't be
        formed, or without replacement fewer than n are positive.
    """
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(coded("E302", f"n is {n!r}, expected a positive number of draws"))
    begun = time.perf_counter()
    target = fit.at_hand()
    size = max(fit.n_draws, PROPOSALS * int(n))
    chunks = fit.proposal.evaluated(target, size, seed, CORRECT_STREAM, 0)
    z, log_p, log_q, log_r = joined(chunks)
    log_w = log_p - log_r
    w = weights.normalised(log_w)
    if np.isnan(w).any():
        raise ValueError(coded("E404", "these draws can't be reweighted: " + fit.advice))
    effective, tail = weights.ess(log_w), weights.khat(log_w)
    rng = generator(seed, CORRECT_STREAM, 1)
    if replace:
        chosen = rng.choice(len(w), size=n, p=w)
    else:
        if np.count_nonzero(w) < n:
            raise ValueError(
                coded(
                    "E405",
                    f"n is {n}, and {np.count_nonzero(w)} draws have weight: draw with replacement",
                )
            )
        chosen = np.argsort(-(log_w + rng.gumbel(size=len(w))), kind="stable")[:n]
    trusted = quantities.trusted((log_p - log_q)[:size], log_w, fit.reason.converged)
    why = f"{effective:.0f} of {len(w)} draws are effective, with tail index {tail:.2f}."
    if fit.assessment.affected.any():
        trusted, why = False, f"{why} {unseen_sentence(fit.assessment)}"

    def noise(values: np.ndarray) -> np.ndarray:
        """Of weighting, as if weights and values were independent, and of choosing n."""
        return np.asarray(values.std(axis=0, ddof=1) * np.sqrt(1 / effective + 1 / n))

    return Corrected(
        fit=fit,
        method="importance",
        z=z[chosen],
        noise=noise,
        log_evidence=weights.log_evidence(log_w, log_q - log_r),
        trusted=trusted,
        why=why,
        told={"unique": float(len(np.unique(chosen))), "ess": effective, "khat": tail},
        seconds=time.perf_counter() - begun,
    )
