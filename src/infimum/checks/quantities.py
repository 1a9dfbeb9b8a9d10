"""Is q's answer right, quantity by quantity? Its mean and sd against the reweighted draws'."""

from __future__ import annotations

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
    """q against its own reweighting. Each array has an entry a quantity.

    Attributes
    ----------
    mean, sd
        Of q.
    mean_error
        (mean of q - reweighted mean) / reweighted sd.
    sd_error
        sd of q / reweighted sd - 1.
    noise
        Monte Carlo error of the two, in the same units.
    """

    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray
    sd_error: np.ndarray
    noise: float


def compare(draws: Float[np.ndarray, "n k"], log_w: Float[np.ndarray, " n"]) -> Comparison:
    """Compare plain with weighted moments of k quantities over n draws from q."""
    w = weights.normalised(log_w)
    mean, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    corrected = w @ draws
    spread = np.sqrt(w @ (draws - corrected) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_error = (mean - corrected) / spread
        sd_error = sd / spread - 1
    constant = sd <= 1e-12 * np.maximum(1.0, np.abs(mean))
    mean_error, sd_error = np.where(constant, 0.0, mean_error), np.where(constant, 0.0, sd_error)
    noise = 1 / np.sqrt(weights.ess(log_w)) if np.isfinite(w).all() else np.nan
    return Comparison(mean, sd, mean_error, sd_error, float(noise))


def verdicts(comparison: Comparison, trusted: bool) -> np.ndarray:
    """ "good", "reweight" or "unreliable" for each quantity.

    Parameters
    ----------
    trusted
        Whether the weights can be believed; without them nothing is known of any quantity.
    """
    if not trusted:
        return np.full(len(comparison.mean), "unreliable")
    near = (np.abs(comparison.mean_error) <= MEAN_ERROR) & (np.abs(comparison.sd_error) <= SD_ERROR)
    return np.where(near, "good", "reweight")


def near(log_w: Float[np.ndarray, " n"]) -> bool:
    """Whether the weights are so even that q is near, whatever their tail index."""
    distance = weights.kl(log_w)
    even = weights.ess(log_w) >= NEAR_ESS * len(log_w)
    return even and distance.value + 2 * distance.se <= NEAR_KL


def trusted(log_w: Float[np.ndarray, " n"]) -> bool:
    """Whether reweighting by these weights gives answers to believe."""
    if not weights.ess(log_w) >= FEWEST_EFFECTIVE:
        return False
    return near(log_w) or weights.khat(log_w) < TAIL
