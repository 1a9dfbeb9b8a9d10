"""Verdicts on quantities: the mean and sd of each under q against those of reweighted draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from infimum.base.deprecation import renamed_functions
from infimum.checks import weights

Effective = TypeVar("Effective", float, np.ndarray)

VERDICTS = ("unreliable", "reweight", "good")
"""The three verdicts on a quantity, and on a fit, worst first."""

MEAN_TOLERANCE = 0.1
"""Largest error of the mean of a "good" quantity, in posterior sds."""

SD_TOLERANCE = 0.1
"""Largest relative error of the sd of a "good" quantity."""

MOST_NOISE = 0.05
"""Largest standard error of a usable reweighted mean, in sds, and of a reweighted sd, relative to
itself. With it 97 means of 100 are within `MEAN_TOLERANCE`."""

LEAST_ESS = 400
"""Effective draws that a reweighted answer needs: its Monte Carlo error is then 0.05 sd."""

MARGIN = 1.25
"""By how much more draws overshoot what they lack, as that is an estimate."""

MOST_UNKNOWN = 0.25
"""Share of its quantities of which nothing is known that a fit may have and still be used."""

MOST_KHAT = 0.7
"""k̂ up to which importance weights can be trusted (Vehtari et al. 2024)."""

LARGEST_EVEN = 20.0
"""Largest of even weights, in units of their mean. On 25 synthetic targets the largest weight of a
wrong answer was 46 (a Cauchy density) or 160 to 800 (heavy tails, a banana, a funnel)."""

MOST_UNSEEN = 0.05
"""Largest share of Z beyond the largest weight: in a Pareto tail the weight's own share of Z, times
1/(1 - k̂). With 0.073 the sds of heavy-tailed quantities (Student's t of 3, d = 5) were 14 to 19 %
off; with 0.013 to 0.032 log Z of eight schools was right to 0.02 nats."""

HEAVY_SHARE, HEAVY_DRAWS, HEAVY_ROWS = 0.03, 4096.0, 128
"""Share of a variance that one draw of 4096 may make up. Among the 121 quantities of the fifteen
posteriors the largest share is 0.021. For Student's t with 3 degrees of freedom, whose sd draws
hardly determine, the median is 0.05. With fewer draws n the limit grows as 1/√n; with more it
stays, as the same share then leaves less beyond: 2 % of that sd with 32,000 draws. With more than
`HEAVY_ROWS` quantities k it grows as the largest of n k squares of normal draws: of 5,000 effects
of Poisson counts, 512 draws each, one had a share of 0.09 by chance."""

LARGEST_EXACT = 1.1
"""Largest weight p̂/q, in units of their mean, of a q that equals p* in the tails too."""

NEAR_ESS = 0.9
NEAR_KL = 0.05
"""A q with at least this share of effective draws and at most these nats of KL is near p*, whatever
k̂ says: log weights that are all tiny can have a heavy tail too. Near-exact Gaussians had a k̂ of up
to 0.75 with an ESS of 0.98 n."""


class Comparison(NamedTuple):
    """Moments of q against those of the reweighted draws; each array has one entry a quantity.

    Attributes
    ----------
    mean, sd
        Of each quantity under q.
    weighted_mean, weighted_sd
        Of each quantity under the reweighted draws.
    mcse
        Monte Carlo standard error of the weighted mean, in the quantity's units.
    mean_error
        (mean of q - reweighted mean) / reweighted sd.
    sd_error
        sd of q / reweighted sd - 1.
    mean_noise, sd_noise
        Standard errors of these two errors. They are small if weights are even, because both sides
        are then made of the same draws.
    weighted_noise
        The larger of two standard errors: that of the weighted mean in sds, and that of the
        weighted sd relative to itself.
    largest, weighted_largest
        Largest share of the variance that a single draw makes up: among q's draws, and among the
        weighted draws.
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
    chunks: Iterable[Float[np.ndarray, "_ k"]], n: int, log_w: Float[np.ndarray, " m"]
) -> Comparison:
    """Compare moments of k quantities under q with those under weighted draws of a proposal.

    The moments are made of sums of powers, so that not all draws have to be in memory at once. The
    powers are taken about the mean of q's draws in the first chunk and in units of their sd, so
    that no digits cancel.

    Parameters
    ----------
    chunks
        Draws of the proposal, some rows at a time; the first n of all are q's.
    n
        Number of q's draws.
    log_w
        Log weights of all m draws.
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
        weight = np.where(w[start:end] > 0, w[start:end], 0.0)
        # A draw that counts on neither side may be NaN or infinite, and is left out.
        counted_rows = np.flatnonzero(own + weight)
        shares = np.stack([own, weight, (own - weight) ** 2, weight**2])[:, counted_rows]
        away = (values[counted_rows] - centre) / unit
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
    """Turn sums of powers into moments, errors and standard errors.

    Parameters
    ----------
    sums
        Sums of powers 0 to 4 under four measures: q's shares, the weights, the squared differences
        between the two, and the squared weights; shape (4, 5, k).
    top
        Largest product of a draw's share and its square, for q's shares and for the weights; shape
        (2, k).
    centre, unit
        What the powers are taken about, and in units of what; shape (k,).
    unknown
        Whether the weights can't be formed, so that nothing is known of the reweighted draws.
    """
    (_, own_mean, own_square, *_), (_, weighted_mean, weighted_square, *_) = sums[:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.maximum(own_square - own_mean**2, 0.0) * n / max(1, n - 1))
        weighted_sd = np.sqrt(np.maximum(weighted_square - weighted_mean**2, 0.0))
        mean_noise, sd_noise = _noise(sums[2], weighted_mean, weighted_sd)
        weighted_noise = _noise(sums[3], weighted_mean, weighted_sd)
        mean_error, sd_error = (own_mean - weighted_mean) / weighted_sd, sd / weighted_sd - 1
        largest = top / np.stack([sd, weighted_sd]) ** 2
    mean = centre + unit * own_mean
    # A constant quantity has no error, however its rounding is divided.
    constant = unit * np.fmax(sd, weighted_sd) <= 1e-12 * np.maximum(1.0, np.abs(mean))
    errors = [mean_error, sd_error, mean_noise, sd_noise, np.maximum(*weighted_noise), *largest]
    weighted = [
        centre + unit * weighted_mean,
        unit * weighted_sd,
        unit * weighted_sd * weighted_noise[0],
    ]
    if unknown:
        weighted, errors = ([np.full(len(mean), np.nan)] * len(part) for part in (weighted, errors))
    else:
        errors = [np.where(constant, 0.0, error) for error in errors]
        weighted[2] = np.where(constant, 0.0, weighted[2])
    return Comparison(mean, unit * sd, *weighted, *errors)


def _noise(sums: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of a mean, in sds, and of an sd, relative to itself, by influence functions.

    Parameters
    ----------
    sums
        Sums of powers 0 to 4 of the quantity times the squared shares, shape (5, k).
    mean, sd
        The mean and the sd that the errors are of.
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

    It is the larger of the shift of the mean, in sds, and the relative shift of the sd; NaN if it
    is not known.

    Parameters
    ----------
    values
        The quantities at draws of the unseen mass.
    mass
        The unseen mass, in units of the mass that the weighted draws stand for.
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
    """Judge each quantity: "good", "reweight" or "unreliable".

    "good": q's mean and sd are right to `MEAN_TOLERANCE` and `SD_TOLERANCE`, and the comparison is
    at least that precise. "reweight": the reweighted mean and sd are known to `MOST_NOISE`.
    "unreliable": neither; so is a quantity that is NaN or infinite at a draw.

    Parameters
    ----------
    trusted
        Whether the weights can be believed; if not, every quantity is unreliable.
    heavy
        Share of the variance above which a single draw decides it: then the sd is not known.
    shift
        Shift of each quantity if unseen mass were included, as `shift` returns it; above
        `MOST_NOISE` the answer is not known.
    """
    if not trusted:
        return np.full(len(comparison.mean), "unreliable")
    c = comparison
    close = np.maximum(np.abs(c.mean_error), c.mean_noise) <= MEAN_TOLERANCE
    close &= np.maximum(np.abs(c.sd_error), c.sd_noise) <= SD_TOLERANCE
    known = np.isfinite(c.mean_error) & np.isfinite(c.sd_error) & (c.weighted_noise <= MOST_NOISE)
    stable = ~(np.asarray(shift) > MOST_NOISE)
    close &= (c.largest <= heavy) & stable
    known &= (c.weighted_largest <= heavy) & stable
    return np.where(close, "good", np.where(known, "reweight", "unreliable"))


def heavy_limit(
    log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"], rows: int = 1
) -> float:
    """Share of a quantity's variance above which one draw decides it.

    Infinite if q's own weights are so even that q is right however heavy its tails are.

    Parameters
    ----------
    log_w_q, log_w
        As for `trusted`.
    rows
        Number of quantities that are judged by it.
    """
    if not weights.largest(log_w_q) > LARGEST_EXACT:
        return np.inf
    return float(heavy_share(weights.ess(log_w), rows))


def heavy_share(effective: Effective, rows: int = 1) -> Effective:
    """Share of a variance that one draw may make up if there are so many effective ones."""
    many = np.log(max(rows, HEAVY_ROWS) * effective) / np.log(HEAVY_ROWS * effective)
    return HEAVY_SHARE * np.sqrt(np.maximum(1.0, HEAVY_DRAWS / effective)) * many


def trusted(log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"]) -> bool:
    """Whether reweighted draws can be believed.

    Even weights are believed whatever their tail index is: with weights of at most five times their
    mean, and a log Z that was right, the index was anything from 0.8 to 4.

    Parameters
    ----------
    log_w_q
        log p̂ - log q at draws from q.
    log_w
        log p̂ - log r at draws from the proposal r.
    """
    if not weights.ess(log_w) >= LEAST_ESS:
        return False
    top = weights.largest(log_w)
    if top <= LARGEST_EVEN:
        return True
    near = weights.ess(log_w_q) >= NEAR_ESS * len(log_w_q)
    distance = weights.kl(log_w_q)
    near &= distance.value + 2 * distance.se <= NEAR_KL
    return bool(near or _beyond(log_w) <= 1)


def growth_needed(
    log_w_q: Float[np.ndarray, " n"], log_w: Float[np.ndarray, " m"], most: float
) -> float:
    """How many times as many draws weights need that lack nothing but number.

    1 if they are trusted, or lack something else, or more than `most` times as many.
    """
    if trusted(log_w_q, log_w):
        return 1.0
    more = MARGIN * max(LEAST_ESS / weights.ess(log_w), _beyond(log_w))
    return float(more) if 1 < more <= most else 1.0


def growth_of_rows(comparison: Comparison, heavy: float, most: float) -> float:
    """How many times as many draws quantities need that lack nothing but number.

    1 if the fit can be used without; those that need more than `most` times as many are left as
    they are.
    """
    noise = comparison.weighted_noise / MOST_NOISE
    more = MARGIN * np.maximum(noise, comparison.weighted_largest / heavy) ** 2
    fine = verdicts(comparison, True, heavy) != "unreliable"
    if np.mean(~fine) <= MOST_UNKNOWN:
        return 1.0
    needs = more[~fine & (more <= most)]
    return float(needs.max(initial=1.0))


def _beyond(log_w: Float[np.ndarray, " m"]) -> float:
    """What may be beyond the largest weight, as a part of what is allowed.

    Infinite above `MOST_KHAT`.
    """
    tail, top = weights.khat(log_w), weights.largest(log_w)
    if not tail < MOST_KHAT:
        return np.inf
    return float(top / len(log_w) / (MOST_UNSEEN * (1 - tail)))


__getattr__ = renamed_functions(
    __name__, {"lacking": "shift", "heavy": "heavy_limit", "most_of_one": "heavy_share"}
)
