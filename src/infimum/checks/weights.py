"""What importance weights say: the ELBO, the evidence, the distance between them, and its trust.

Everything here takes log weights log w = log p̂ - log q at independent draws from q. -inf is a draw
where p̂ = 0: it has weight zero, and the ELBO is that of q restricted to where p̂ > 0. A NaN or +inf
among the weights makes every answer NaN: it can't be averaged away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FINEST = 6
"""Decimals of a nat that are worth printing."""

LogWeights = Float[np.ndarray, " n"]


class Estimate(NamedTuple):
    """A Monte Carlo estimate: its value and its standard error, in nats."""

    value: float
    se: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"{self.value}"
        if not 0 < self.se < math.inf:
            return f"{self.value:.6g}"
        decimals = max(0, 1 - math.floor(math.log10(self.se)))
        if decimals > FINEST:
            return f"{self.value:.{FINEST}f}"
        return f"{self.value:.{decimals}f} ± {self.se:.{decimals}f}"

    def __float__(self) -> float:
        return self.value


UNKNOWN = Estimate(math.nan, math.nan)


def elbo(log_w: LogWeights) -> Estimate:
    """E_q[log p̂ - log q], of q restricted to where p̂ > 0."""
    if not _countable(log_w):
        return UNKNOWN
    inside = log_w[log_w > -np.inf]
    share = len(inside) / len(log_w)
    with np.errstate(over="ignore"):  # the weights of an improper posterior have no bound
        spread = np.var(inside, ddof=1) / len(inside) if len(inside) > 1 else math.inf
    outside = (1 - share) / (share * len(log_w))
    return Estimate(float(inside.mean() + math.log(share)), math.sqrt(spread + outside))


def log_evidence(log_w: LogWeights, log_ratio: LogWeights | None = None) -> Estimate:
    """log Z = log E_r[p̂/r], by importance sampling from a proposal r.

    Parameters
    ----------
    log_w
        log p̂ - log r at draws from r.
    log_ratio
        log q - log r there, for a density q that is known to integrate to one: a control variate.
        Where p̂ = Z·q the estimate is exact. Owen & Zhou (2000), eq. 9.
    """
    if not _countable(log_w):
        return UNKNOWN
    value, influence = _evidence(log_w, log_ratio)
    return Estimate(value, float(np.sqrt(np.sum(influence**2))))


def kl(
    log_w_q: LogWeights, log_w: LogWeights | None = None, log_ratio: LogWeights | None = None
) -> Estimate:
    """KL[q ‖ p*] = log Z - ELBO, with the errors that the two have in common cancelled.

    Parameters
    ----------
    log_w_q
        log p̂ - log q at draws from q.
    log_w, log_ratio
        As for `log_evidence`; the first draws are those of `log_w_q`. By default these alone.
    """
    log_w = log_w_q if log_w is None else log_w
    if not (_countable(log_w_q) and _countable(log_w)):
        return UNKNOWN
    value, influence = _evidence(log_w, log_ratio)
    inside = log_w_q > -np.inf
    share = inside.mean()
    centre = log_w_q[inside].mean()
    deviation = np.where(inside, np.where(inside, log_w_q, 0.0) - centre, 0.0) / share
    deviation += inside / share - 1
    influence = influence.copy()
    influence[: len(log_w_q)] -= deviation / len(log_w_q)
    return Estimate(max(value - elbo(log_w_q).value, 0.0), float(np.sqrt(np.sum(influence**2))))


def _evidence(
    log_w: LogWeights, log_ratio: LogWeights | None
) -> tuple[float, Float[np.ndarray, " n"]]:
    """log Z, and what each draw contributes to its error."""
    w, shift = _scaled(log_w)
    mean, residual = float(w.mean()), np.asarray(w - w.mean())
    if log_ratio is not None:
        known = np.exp(log_ratio)
        centred = known - known.mean()
        variance = centred @ centred
        if variance > 0:
            slope = centred @ residual / variance
            corrected = float(mean - slope * (known.mean() - 1))
            if corrected > 0:
                mean, residual = corrected, np.asarray(residual - slope * centred)
    return float(shift + math.log(mean)), np.asarray(residual / (mean * len(w)))


def ess(log_w: LogWeights) -> float:
    """Effective sample size (Σw)²/Σw² of n weighted draws; between 1 and n."""
    if not _countable(log_w):
        return math.nan
    w, _ = _scaled(log_w)
    return float(w.sum() ** 2 / (w**2).sum())


def largest(log_w: LogWeights) -> float:
    """The largest weight in units of their mean; between 1 and n."""
    if not _countable(log_w):
        return math.nan
    w, _ = _scaled(log_w)
    return float(len(w) / w.sum())


def khat(log_w: LogWeights) -> float:
    """Pareto tail index of the weights (Vehtari et al. 2024), by ArviZ.

    Above 0.7 their mean is not to be trusted. NaN where fewer than 100 draws have weight.
    """
    if not _countable(log_w) or np.count_nonzero(log_w > -np.inf) < 100:
        return math.nan
    if np.ptp(log_w[log_w > -np.inf]) < 1e-9:
        return -math.inf
    from arviz_stats.base.array import BaseArray

    finite = np.where(log_w > -np.inf, log_w, _floor(log_w))
    with np.errstate(all="ignore"):  # it takes minus the log weights, as in LOO
        return float(BaseArray().psislw(-finite)[1])


def slower(n: int, tail: float) -> float:
    """How much larger the error of n weights' mean is than by their own spread.

    The mean of weights whose tail index k is above 1/2 has no variance, and its error falls with
    n^(k - 1), not n^(-1/2) (Vehtari et al. 2024, section 3).
    """
    return float(n ** (min(1.0, tail) - 0.5)) if tail > 0.5 else 1.0


def normalised(log_w: LogWeights) -> Float[np.ndarray, " n"]:
    """Weights that sum to one; NaN if they can't be formed."""
    if not _countable(log_w):
        return np.full(len(log_w), math.nan)
    w, _ = _scaled(log_w)
    return w / w.sum()


def _countable(log_w: LogWeights) -> bool:
    if len(log_w) < 2 or np.isnan(log_w).any() or np.any(log_w == np.inf):
        return False
    return bool(np.any(log_w > -np.inf))


def _scaled(log_w: LogWeights) -> tuple[Float[np.ndarray, " n"], float]:
    shift = float(log_w.max())
    return np.exp(log_w - shift), shift


def _floor(log_w: LogWeights) -> float:
    """A finite stand-in for log 0 that leaves the right tail as it is."""
    return float(log_w[log_w > -np.inf].min()) - 700.0
