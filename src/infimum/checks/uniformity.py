"""A test of uniform ranks: p-values of their whole ECDF, with the simultaneous band.

Säilynoja, Bürkner & Vehtari (2022), Graphical test for discrete uniformity. If ranks are uniform,
the number of ranks up to each level is binomial. The statistic is the smallest two-sided tail
probability over all levels. Its null distribution is simulated, because the levels are dependent.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Int

SIMULATIONS = 10_000
"""Simulated sets of uniform ranks: a p-value of 0.01 then has a standard error of 0.001."""

LEAST_P_VALUE = 0.01
"""P-value from which a pipeline passes, over all quantities together."""

UNIFORM_KURTOSIS = 1.8
"""Kurtosis of a uniform variable: the variance of n has a relative error of sqrt((1.8 - 1)/n)."""


class Band(NamedTuple):
    """The band that the ECDF of uniform ranks stays in.

    Attributes
    ----------
    level
        Every level but the last, as a share of the ranks' range, shape (levels - 1,).
    low, high
        Least and largest share of ranks up to each level.
    """

    level: Float[np.ndarray, " l"]
    low: Float[np.ndarray, " l"]
    high: Float[np.ndarray, " l"]


def p_values(ranks: Int[np.ndarray, "n k"], levels: int) -> Float[np.ndarray, " k"]:
    """P-value of the hypothesis that ranks are uniform on 0, ..., levels - 1, for each column."""
    tails = _tails(len(ranks), levels)
    counts = cumulative(ranks, levels)
    extreme = np.take_along_axis(tails, counts.T, axis=1).min(axis=0)
    return _probability(extreme, len(ranks), levels)


def band(n: int, levels: int, share: float) -> Band:
    """The band that the ECDF of n uniform ranks leaves at some level with probability `share`.

    An ECDF leaves the band if and only if its p-value is below `share`.
    """
    inside = _probability(_tails(n, levels), n, levels) >= share
    high = n - np.argmax(inside[:, ::-1], axis=1)
    return Band(_level(levels), np.argmax(inside, axis=1) / n, high / n)


def cumulative(ranks: Int[np.ndarray, "n k"], levels: int) -> Int[np.ndarray, "k l"]:
    """Number of ranks of each column up to each level but the last, shape (k, levels - 1)."""
    counts = [np.bincount(column, minlength=levels) for column in ranks.T]
    return np.cumsum(counts, axis=1)[:, :-1]


def moments(
    ranks: Int[np.ndarray, "n k"], levels: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Mean rank less that of uniform ranks, in standard errors; and the variance over theirs."""
    variance = (levels**2 - 1) / 12
    error = np.sqrt(variance / len(ranks))
    return (ranks.mean(axis=0) - (levels - 1) / 2) / error, ranks.var(axis=0, ddof=1) / variance


def dispersion_score(dispersion: float, n: int) -> float:
    """Deviation of a variance ratio, as `moments` returns it, from 1, in standard errors."""
    return (dispersion - 1) / float(np.sqrt((UNIFORM_KURTOSIS - 1) / n))


def _level(levels: int) -> Float[np.ndarray, " l"]:
    return np.arange(1, levels) / levels


@functools.lru_cache(maxsize=8)
def _tails(n: int, levels: int) -> Float[np.ndarray, "l c"]:
    """Two-sided tail probability of each count 0, ..., n at each level."""
    count, level = np.arange(n + 1.0), _level(levels)[:, None]
    below = scipy.special.bdtr(count, n, level)
    above = np.where(count > 0, scipy.special.bdtrc(np.maximum(count - 1, 0), n, level), 1.0)
    return np.minimum(1.0, 2 * np.minimum(below, above))


@functools.lru_cache(maxsize=32)
def _null(n: int, levels: int) -> Float[np.ndarray, " s"]:
    """The statistic of each simulated set of uniform ranks, in ascending order."""
    rng = np.random.default_rng(0)
    tails = _tails(n, levels)
    smallest = np.ones(SIMULATIONS)
    up_to, share = np.zeros(SIMULATIONS, int), 1 / levels
    for level, tail in enumerate(tails):  # the multinomial, one count after another
        up_to += rng.binomial(n - up_to, share / (1 - level * share))
        np.minimum(smallest, tail[up_to], out=smallest)
    return np.sort(smallest)


def _probability(extreme: np.ndarray, n: int, levels: int) -> np.ndarray:
    """Probability of a statistic as small under uniformity.

    Below all simulated values it is bounded by the sum over all levels.
    """
    at_most = np.searchsorted(_null(n, levels), extreme, side="right")
    return np.minimum((1 + at_most) / (1 + SIMULATIONS), (levels - 1) * extreme)
