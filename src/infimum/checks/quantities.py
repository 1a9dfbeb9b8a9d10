"""Is q's answer right, quantity by quantity? Its mean and sd against the reweighted draws'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.checks import weights

VERDICTS = ("unreliable", "reweight", "good")
"""What is said of a quantity, and of a fit: worst first."""

MEAN_ERROR = 0.1
"""Posterior sds by which the mean of a "good" quantity may be off."""

SD_ERROR = 0.1
"""Part of the posterior sd by which the sd of a "good" quantity may be off."""

KNOWN = 0.05
"""Standard errors of a reweighted mean in sds, and of a reweighted sd, up to which it is an answer:
97 in a hundred are then within `MEAN_ERROR`."""

FEWEST_EFFECTIVE = 400
"""Effective draws that a reweighted answer needs; its Monte Carlo error is then 0.05 sd."""

TAIL = 0.7
"""k̂ above which importance weights are not to be trusted (Vehtari et al. 2024)."""

EVEN = 20.0
"""Largest weight, in units of their mean, up to which weights are even. On 25 synthetic targets
those of wrong answers were 46 (a Cauchy density), 160 to 800 (heavy tails, a banana, a funnel)."""

UNSEEN = 0.05
"""Part of Z that may lie beyond the largest weight seen: its share times 1/(1 - k̂), as in a Pareto
tail. With 0.073 sds of heavy-tailed quantities (Student's t of 3, d = 5) were 14 to 19 % off; with
0.013 to 0.032 log Z of eight schools was right to 0.02 nats."""

HEAVY, HEAVY_DRAWS = 0.03, 4096.0
"""Part of a variance that one of so many draws may make up. Of the fifteen posteriors' quantities
none is above 0.021; of Student's t with 3 degrees of freedom, whose sd draws hardly tell, the
median is 0.05. With fewer draws the limit grows as 1/√n."""

EXACT = 1.1
"""Largest weight p̂/q, in units of their mean, up to which q is p* in the tails too."""

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
    mcse
        Monte Carlo standard error of the weighted mean, in the quantity's units.
    mean_error
        (mean of q - reweighted mean) / reweighted sd.
    sd_error
        sd of q / reweighted sd - 1.
    mean_noise, sd_noise
        Standard errors of these two. They are small where weights are even: both sides are then
        made of the same draws.
    weighted_noise
        Standard errors of the weighted mean in sds, and of the weighted sd relative to itself; the
        larger of the two.
    largest, weighted_largest
        What the draw that counts most adds to the variance, as a part of it: among q's draws, and
        among the weighted ones.
    """

    mean: np.ndarray
    sd: np.ndarray
    weighted_mean: np.ndarray
    weighted_sd: np.ndarray
    mcse: np.ndarray
    mean_error: np.ndarray
    sd_error: np.ndarray
    mean_noise: np.ndarray
    sd_noise: np.ndarray
    weighted_noise: np.ndarray
    largest: np.ndarray
    weighted_largest: np.ndarray


def compare(
    chunks: Iterable[Float[np.ndarray, "rows k"]], n: int, log_w: Float[np.ndarray, " m"]
) -> Comparison:
    """Compare moments of k quantities under q with those of weighted proposals.

    By sums of powers, so that there may be more numbers than memory holds; about the mean of q's
    draws in the first chunk and in units of their sd, so that no digits cancel.

    Parameters
    ----------
    chunks
        Draws of a proposal, some rows at a time; the first n of all are q's.
    n
        Draws of q.
    log_w
        Log weights of all draws.
    """
    w = weights.normalised(log_w)
    centre = unit = sums = top = np.zeros(0)
    start = 0
    for values in chunks:
        if not start:
            centre, unit = values[:n].mean(axis=0), values[:n].std(axis=0)
            unit = np.where((unit > 0) & np.isfinite(unit), unit, 1.0)
            sums, top = np.zeros((4, 5, len(centre))), np.zeros((2, len(centre)))
        end = start + len(values)
        own = np.where(np.arange(start, end) < n, 1 / n, 0.0)
        held = np.where(w[start:end] > 0, w[start:end], 0.0)
        counted = np.flatnonzero(own + held)
        shares = np.stack([own, held, (own - held) ** 2, held**2])[:, counted]
        away = (values[counted] - centre) / unit
        power = np.ones_like(away)
        for i in (0, 1):
            top[i] = np.maximum(top[i], (shares[i][:, None] * away**2).max(axis=0, initial=0.0))
        for degree in range(5):
            sums[:, degree] += shares @ power
            power = power * away
        start = end
    return _compared(sums, top, centre, unit, n, bool(np.isnan(w).any()))


def _compared(
    sums: np.ndarray,
    top: np.ndarray,
    centre: np.ndarray,
    unit: np.ndarray,
    n: int,
    unknown: bool,
) -> Comparison:
    """From sums of powers over q's shares, the weights, and the squares of differences and weights.

    Parameters
    ----------
    sums
        Shape (4, 5, k).
    top
        Largest of q's shares, and of weights, times the square; shape (2, k).
    unknown
        Whether nothing can be said of the reweighted draws.
    """
    (_, own, squares, *_), (_, corrected, weighted_squares, *_) = sums[:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.maximum(squares - own**2, 0.0) * n / max(1, n - 1))
        spread = np.sqrt(np.maximum(weighted_squares - corrected**2, 0.0))
        mean_noise, sd_noise = _noise(sums[2], corrected, spread)
        weighted_noise = _noise(sums[3], corrected, spread)
        mean_error, sd_error = (own - corrected) / spread, sd / spread - 1
        largest = top / np.stack([sd, spread]) ** 2
    mean = centre + unit * own
    constant = unit * np.fmax(sd, spread) <= 1e-12 * np.maximum(1.0, np.abs(mean))
    errors = [mean_error, sd_error, mean_noise, sd_noise, np.maximum(*weighted_noise), *largest]
    about = [centre + unit * corrected, unit * spread, unit * spread * weighted_noise[0]]
    if unknown:
        about, errors = ([np.full(len(mean), np.nan)] * len(part) for part in (about, errors))
    else:
        errors = [np.where(constant, 0.0, error) for error in errors]
        about[2] = np.where(constant, 0.0, about[2])
    return Comparison(mean, unit * sd, *about, *errors)


def _noise(sums: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors, of a mean in sds and of an sd as a part of itself, by influence functions.

    Parameters
    ----------
    sums
        Of powers 0 to 4 of the quantity, over squared shares, shape (5, k).
    mean, sd
        About which and in units of which they are meant.
    """
    n, one, two, three, four = sums
    second = two - 2 * mean * one + mean**2 * n
    fourth = four - 4 * mean * three + 6 * mean**2 * two - 4 * mean**3 * one + mean**4 * n
    of_sd = fourth / sd**4 - 2 * second / sd**2 + n
    return np.sqrt(np.maximum(second, 0.0)) / sd, 0.5 * np.sqrt(np.maximum(of_sd, 0.0))


def shift(
    comparison: Comparison, values: Float[np.ndarray, "n k"], mass: float
) -> Float[np.ndarray, " k"]:
    """Shift of each quantity's reweighted answer if unseen mass were included, shape (k,).

    The larger of the shift of its mean, in sds, and the relative shift of its sd; NaN if that is
    not known.

    Parameters
    ----------
    values
        The quantities at draws of the unseen mass.
    mass
        Share of Z that they stand for, beyond that of the weighted draws.
    """
    with np.errstate(all="ignore"):
        away = (values - comparison.weighted_mean) / comparison.weighted_sd
        share = mass / (1 + mass)
        mean = share * away.mean(axis=0)
        square = 1 - share + share * (away**2).mean(axis=0) - mean**2
        moved = np.maximum(np.abs(mean), np.abs(np.sqrt(square) - 1))
    return np.where(comparison.weighted_sd > 0, moved, 0.0)


def verdicts(
    comparison: Comparison,
    trusted: bool,
    heavy: float = np.inf,
    shift: Float[np.ndarray, " k"] | float = 0.0,
) -> np.ndarray:
    """Say "good", "reweight" or "unreliable" of each quantity.

    "good": q's mean and sd are right to `MEAN_ERROR` and `SD_ERROR`, and the comparison is not
    noisier than that. "reweight": the reweighted ones are known to `KNOWN`.

    Parameters
    ----------
    trusted
        Whether the weights can be believed; without them nothing is known of any quantity. Nor is
        anything of one that is NaN or infinite at a draw.
    heavy
        Part of the variance above which a single draw decides it: then nothing is known either.
    shift
        How far unseen mass would move it; above `KNOWN` nothing is known.
    """
    if not trusted:
        return np.full(len(comparison.mean), "unreliable")
    c = comparison
    close = np.maximum(np.abs(c.mean_error), c.mean_noise) <= MEAN_ERROR
    close &= np.maximum(np.abs(c.sd_error), c.sd_noise) <= SD_ERROR
    known = np.isfinite(c.mean_error) & np.isfinite(c.sd_error) & (c.weighted_noise <= KNOWN)
    stable = ~(np.asarray(shift) > KNOWN)
    close &= (c.largest <= heavy) & stable
    known &= (c.weighted_largest <= heavy) & stable
    return np.where(close, "good", np.where(known, "reweight", "unreliable"))


def heavy(log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"]) -> float:
    """Part of a quantity's variance above which one draw decides it.

    None, where q's own weights are so even that it is right however heavy the tails.

    Parameters
    ----------
    log_w_q, log_w
        As for `trusted`.
    """
    if not weights.largest(log_w_q) > EXACT:
        return np.inf
    return float(most_of_one(weights.ess(log_w)))


def most_of_one(effective: Any) -> Any:
    """Part of a variance that one of so many effective draws may make up."""
    return HEAVY * np.sqrt(HEAVY_DRAWS / effective)


def trusted(
    log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"], converged: bool = True
) -> bool:
    """Whether reweighting gives answers to believe.

    Weights that are even are believed whatever their tail index: for weights of at most five times
    their mean, log Z being right, it was anything from 0.8 to 4.

    Parameters
    ----------
    log_w_q
        log p̂ - log q at draws from q.
    log_w
        log p̂ - log r at draws from the proposal r.
    converged
        Whether the search for q has ended at an optimum; if not, weights must be even.
    """
    if not weights.ess(log_w) >= FEWEST_EFFECTIVE:
        return False
    top = weights.largest(log_w)
    if top <= EVEN or not converged:
        return bool(top <= EVEN)
    near = weights.ess(log_w_q) >= NEAR_ESS * len(log_w_q)
    distance = weights.kl(log_w_q)
    near &= distance.value + 2 * distance.se <= NEAR_KL
    tail = weights.khat(log_w)
    light = tail < TAIL and top / len(log_w) <= UNSEEN * (1 - tail)
    return bool(near or light)
