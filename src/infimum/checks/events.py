"""Verdicts on probabilities: an event may be seen at few draws, or at none."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from infimum.checks.quantities import MEAN_TOLERANCE, MOST_NOISE, Comparison

MOST_RELATIVE = 0.2
"""Largest standard error of a known probability, or of that of its complement, as a part of it: 25
effective draws have seen the event."""

ROUNDING = 1e-12
"""Probability that is nothing but the rounding of sums of weights."""

UNSEEN = 3.0
"""With so many events expected, none is seen with probability 0.05: the rule of three."""


def bounds(comparison: Comparison, effective: float) -> Float[np.ndarray, " k"]:
    """What the probability of each event, or of its complement, is below if no draw has seen it.

    NaN where one has.
    """
    return np.where(_rare(comparison) > 0, np.nan, min(1.0, UNSEEN / effective))


def event_verdicts(
    comparison: Comparison,
    trusted: bool,
    shift: Float[np.ndarray, " k"] | float = 0.0,
) -> np.ndarray:
    """Judge each probability: "good", "reweight" or "unreliable".

    "good": q's own is right to `MEAN_TOLERANCE` sds and to `MOST_RELATIVE` of itself. "reweight":
    the reweighted one is known to `MOST_RELATIVE` of itself. "unreliable": neither.

    Parameters
    ----------
    trusted, shift
        As for `quantities.verdicts`.
    """
    c, rare = comparison, _rare(comparison)
    if not trusted:
        return np.full(len(rare), "unreliable")
    off = np.abs(c.mean - c.weighted_mean)
    stable = ~((shift > MOST_NOISE) | (np.asarray(shift) * c.weighted_sd > MOST_RELATIVE * rare))
    known: Bool[np.ndarray, " k"] = (rare > 0) & (c.mcse <= MOST_RELATIVE * rare) & stable
    known &= c.weighted_largest <= MOST_RELATIVE
    close = known & (off <= MEAN_TOLERANCE * c.weighted_sd) & (off <= MOST_RELATIVE * rare)
    return np.where(close, "good", np.where(known, "reweight", "unreliable"))


def _rare(comparison: Comparison) -> Float[np.ndarray, " k"]:
    """The probability of the event or of its complement, whichever is less."""
    p = comparison.weighted_mean
    rare = np.minimum(p, 1 - p)
    return np.where(rare > ROUNDING, rare, 0.0)
