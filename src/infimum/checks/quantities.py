"""Is q's answer right, quantity by quantity? Its mean and sd against the reweighted draws'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.checks import weights

MEAN_ERROR = 0.1
"""Posterior sds by which the mean of a "good" quantity may be off."""

SD_ERROR = 0.1
"""Part of the posterior sd by which the sd of a "good" quantity may be off."""

FEWEST_EFFECTIVE = 400
"""Effective draws that a reweighted answer needs; its Monte Carlo error is then 0.05 sd."""

TAIL = 0.7
"""k̂ above which importance weights are not to be trusted (Vehtari et al. 2024)."""

NEAR_ESS = 0.9
NEAR_KL = 0.05
"""Above this share of effective draws and below these nats q is near whatever k̂ says: the tail of
tiny log weights is heavy too. Near-exact Gaussians had k̂ up to 0.75 with an ESS of 0.98 n."""


class Comparison(NamedTuple):
    """q against the reweighted draws. Each array has an entry a quantity.

    Attributes
    ----------
    mean, sd
        Of q.
    weighted_mean, weighted_sd
        Of the reweighted draws.
    mean_error
        (mean of q - reweighted mean) / reweighted sd.
    sd_error
        sd of q / reweighted sd - 1.
    """

    mean: np.ndarray
    sd: np.ndarray
    weighted_mean: np.ndarray
    weighted_sd: np.ndarray
    mean_error: np.ndarray
    sd_error: np.ndarray


def compare(
    draws: Float[np.ndarray, "n k"],
    proposals: Float[np.ndarray, "m k"],
    log_w: Float[np.ndarray, " m"],
) -> Comparison:
    """Compare moments of k quantities under q with those of weighted proposals.

    Parameters
    ----------
    draws
        From q.
    proposals, log_w
        Draws of a proposal and their log weights.
    """
    w = weights.normalised(log_w)
    mean, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    held = w > 0
    if np.isnan(w).any():
        return _compared(mean, sd, mean, sd, True)
    corrected = w[held] @ proposals[held]
    spread = np.sqrt(w[held] @ (proposals[held] - corrected) ** 2)
    return _compared(mean, sd, corrected, spread, False)


def compare_streamed(
    chunks: Iterable[Float[np.ndarray, "rows k"]], n: int, log_w: Float[np.ndarray, " m"]
) -> Comparison:
    """`compare` for more numbers than memory holds: the proposals a chunk at a time, q's n first.

    Moments are taken about the mean of the first chunk, so that no digits cancel.
    """
    w = weights.normalised(log_w)
    start, centre, sums = 0, None, np.zeros(0)
    for values in chunks:
        if centre is None:
            centre = values.mean(axis=0)
            sums = np.zeros((4, len(centre)))
        end = start + len(values)
        own = np.where(np.arange(start, end) < n, 1 / n, 0.0)
        away = values - centre
        shares = np.stack([own, np.where(w[start:end] > 0, w[start:end], 0.0)])
        counted = np.flatnonzero(shares.sum(axis=0))
        sums[:2] += shares[:, counted] @ away[counted]
        sums[2:] += shares[:, counted] @ away[counted] ** 2
        start = end
    assert centre is not None
    mean, corrected = centre + sums[0], centre + sums[1]
    sd = np.sqrt(np.maximum(sums[2] - sums[0] ** 2, 0.0) * n / (n - 1))
    spread = np.sqrt(np.maximum(sums[3] - sums[1] ** 2, 0.0))
    return _compared(mean, sd, corrected, spread, bool(np.isnan(w).any()))


def _compared(
    mean: np.ndarray, sd: np.ndarray, corrected: np.ndarray, spread: np.ndarray, unknown: bool
) -> Comparison:
    """With the errors, or without anything of the reweighted draws."""
    if unknown:
        nothing = np.full(len(mean), np.nan)
        return Comparison(mean, sd, nothing, nothing, nothing, nothing)
    constant = sd <= 1e-12 * np.maximum(1.0, np.abs(mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_error = np.where(constant, 0.0, (mean - corrected) / spread)
        sd_error = np.where(constant, 0.0, sd / spread - 1)
    return Comparison(mean, sd, corrected, spread, mean_error, sd_error)


def verdicts(comparison: Comparison, trusted: bool) -> np.ndarray:
    """Say "good", "reweight" or "unreliable" of each quantity.

    Parameters
    ----------
    trusted
        Whether the weights can be believed; without them nothing is known of any quantity. Nor is
        anything of one that is NaN or infinite at a draw.
    """
    if not trusted:
        return np.full(len(comparison.mean), "unreliable")
    close = np.abs(comparison.mean_error) <= MEAN_ERROR
    close &= np.abs(comparison.sd_error) <= SD_ERROR
    known = np.isfinite(comparison.mean_error) & np.isfinite(comparison.sd_error)
    return np.where(close, "good", np.where(known, "reweight", "unreliable"))


def trusted(log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"]) -> bool:
    """Whether reweighting gives answers to believe.

    Parameters
    ----------
    log_w_q
        log p̂ - log q at draws from q.
    log_w
        log p̂ - log r at draws from the proposal r.
    """
    if not weights.ess(log_w) >= FEWEST_EFFECTIVE:
        return False
    even = weights.ess(log_w_q) >= NEAR_ESS * len(log_w_q)
    distance = weights.kl(log_w_q)
    near = even and distance.value + 2 * distance.se <= NEAR_KL
    return near or weights.khat(log_w) < TAIL
