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
    pooled = _Pooled(fit, z, log_w, (log_p - log_q)[:size], n)
    effective, tail = weights.ess(pooled.every), weights.khat(pooled.every)
    trusted = quantities.trusted(pooled.own, pooled.every)
    why = f"{effective:.0f} of {len(pooled.every)} draws are effective, with tail index {tail:.2f}."
    if fit.assessment.affected.any():
        trusted, why = False, f"{why} {unseen_sentence(fit.assessment)}"
    return Corrected(
        fit=fit,
        method="importance",
        z=z[chosen],
        noise=pooled.noise,
        log_evidence=weights.log_evidence(log_w, log_q - log_r),
        trusted=trusted,
        why=why,
        own_draws=True,
        heaviest=pooled.heaviest,
        numbers={"unique": float(len(np.unique(chosen))), "ess": effective, "khat": tail},
        seconds=time.perf_counter() - begun,
    )


class _Pooled:
    """Proposals with their weights, and the weights that judged the fit beside them.

    A large weight once seen is not forgotten by new draws.

    Parameters
    ----------
    z, log_w
        All proposals, shape (m, d), and their log weights, shape (m,).
    own
        log p̂ - log q at those that are q's: the first ones.
    n_chosen
        How many draws are chosen among them.
    """

    def __init__(
        self, fit: Fit, z: np.ndarray, log_w: np.ndarray, own: np.ndarray, n_chosen: int
    ) -> None:
        self._fit, self._z, self._log_w, self._n_own = fit, z, log_w, len(own)
        self._n_chosen = n_chosen
        self.every = np.concatenate([fit.weighed.log_weights, log_w])
        self.own = np.concatenate([fit.weighed.log_w, own])

    @functools.cached_property
    def _comparison(self) -> quantities.Comparison:
        """By every proposal with its weight, not by the chosen ones, which repeat."""
        starts = range(0, len(self._z), CHUNK)
        points = (self._z[start : start + CHUNK] for start in starts)
        values = (columns(self._fit.space.draws(z)) for z in points)
        return quantities.compare(values, self._n_own, self._log_w)

    def noise(self, values: np.ndarray) -> np.ndarray:
        """Errors of weighting, and of choosing some."""
        choosing = values.std(axis=0, ddof=1) / np.sqrt(self._n_chosen)
        return np.asarray(np.hypot(choosing, self._comparison.mcse))

    def heaviest(self) -> tuple[np.ndarray, float]:
        """The largest share of one proposal in each quantity's variance, and the limit of it."""
        rows = int(self._fit.space.judged.sum())
        limit = quantities.heavy_limit(self.own, self.every, rows)
        return self._comparison.weighted_largest, limit


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
