"""Estimates from importance weights: the ELBO, log Z, their distance, and effective draws.

All functions take log weights log w = log p̂ - log q at independent draws from q. A draw where
p̂ = 0 has the log weight -inf: its weight is zero, and the ELBO is that of q restricted to p̂ > 0.
If a log weight is NaN or +inf, every answer is NaN: no average can hide it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.base.deprecation import renamed_functions

MOST_DECIMALS = 6
"""Decimals of a nat that are printed at most."""

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
        if decimals > MOST_DECIMALS:
            return f"{self.value:.{MOST_DECIMALS}f}"
        return f"{self.value:.{decimals}f} ± {self.se:.{decimals}f}"

    def __float__(self) -> float:
        return self.value


UNKNOWN = Estimate(math.nan, math.nan)
"""The estimate where no weight can be formed."""


def elbo(log_w: LogWeights) -> Estimate:
    """E_q[log p̂ - log q] for q restricted to p̂ > 0, and its standard error."""
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
        log q - log r at the same draws, as a control variate: q is known to integrate to one. If
        p̂ = Z·q the estimate is exact. Owen & Zhou (2000), eq. 9.
    """
    if not _countable(log_w):
        return UNKNOWN
    value, influence = _evidence(log_w, log_ratio)
    return Estimate(value, float(np.sqrt(np.sum(influence**2))))


def kl(
    log_w_q: LogWeights,
    log_w: Float[np.ndarray, " m"] | None = None,
    log_ratio: Float[np.ndarray, " m"] | None = None,
) -> Estimate:
    """KL[q ‖ p*] = log Z - ELBO; errors that the two have in common cancel in its standard error.

    Parameters
    ----------
    log_w_q
        log p̂ - log q at draws from q.
    log_w, log_ratio
        As for `log_evidence`, at m ≥ n draws of which the first n are those of `log_w_q`; by
        default those n alone.
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


def kl_conditional(log_w: Float[np.ndarray, "m s"]) -> Estimate:
    """E KL[q(x | θ) ‖ p*(x | θ)] over m draws of θ, from s draws of x at each.

    Parameters
    ----------
    log_w
        log p̂(θ, x) - log q(x | θ). What only θ adds to it cancels. The bias of few draws is taken
        off by the jackknife.
    """
    if not (np.isfinite(log_w).all() and len(log_w) > 1):
        return UNKNOWN
    s = log_w.shape[1]
    top = log_w.max(axis=1, keepdims=True)
    w = np.exp(log_w - top)
    total, lw = w.sum(axis=1, keepdims=True), log_w.sum(axis=1, keepdims=True)
    whole = np.log(total / s) + top - lw / s
    with np.errstate(divide="ignore"):
        without = np.log((total - w) / (s - 1)) + top - (lw - log_w) / (s - 1)
    each = (s * whole - (s - 1) * without.mean(axis=1, keepdims=True)).ravel()
    if not np.isfinite(each).all():
        return UNKNOWN
    return Estimate(max(float(each.mean()), 0.0), float(each.std(ddof=1) / math.sqrt(len(each))))


def _evidence(
    log_w: LogWeights, log_ratio: LogWeights | None
) -> tuple[float, Float[np.ndarray, " n"]]:
    """log Z, and each draw's influence on it: the standard error is the root of their squares."""
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
    """Effective sample size (Σw)²/Σw² of n weighted draws, between 1 and n."""
    if not _countable(log_w):
        return math.nan
    w, _ = _scaled(log_w)
    return float(w.sum() ** 2 / (w**2).sum())


def largest(log_w: LogWeights) -> float:
    """The largest weight in units of the mean weight, between 1 and n."""
    if not _countable(log_w):
        return math.nan
    w, _ = _scaled(log_w)
    return float(len(w) / w.sum())


def khat(log_w: LogWeights) -> float:
    """k̂, the Pareto tail index of the weights (Vehtari et al. 2024), by ArviZ.

    Above 0.7 the mean weight can't be trusted. NaN if fewer than 100 draws have weight, -inf if
    all weights are equal.
    """
    if not _countable(log_w) or np.count_nonzero(log_w > -np.inf) < 100:
        return math.nan
    if np.ptp(log_w[log_w > -np.inf]) < 1e-9:
        return -math.inf
    from arviz_stats.base.array import BaseArray

    finite = np.where(log_w > -np.inf, log_w, _floor(log_w))
    with np.errstate(all="ignore"):  # it takes minus the log weights, as in LOO
        return float(BaseArray().psislw(-finite)[1])


def error_growth(n: int, tail: float) -> float:
    """Factor by which the error of the mean of n weights exceeds what their spread suggests.

    The mean of weights whose tail index k is above 1/2 has no variance. Its error falls as
    n^(k - 1), not as n^(-1/2) (Vehtari et al. 2024, section 3).
    """
    return float(n ** (min(1.0, tail) - 0.5)) if tail > 0.5 else 1.0


def normalised(log_w: LogWeights) -> Float[np.ndarray, " n"]:
    """Weights that sum to one; all NaN if they can't be formed."""
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
    """A finite replacement for log 0, too small to change the right tail."""
    return float(log_w[log_w > -np.inf].min()) - 700.0


__getattr__ = renamed_functions(__name__, {"slower": "error_growth"})
