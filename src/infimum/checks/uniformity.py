"""Are ranks uniform? The simultaneous test of their ECDF, and the band that belongs to it.

Säilynoja, Bürkner & Vehtari (2022), Graphical test for discrete uniformity: under uniformity the
number of ranks up to each level is binomial; the statistic is the smallest of the two-sided tail
probabilities over all levels, and its null distribution takes in that the levels are dependent.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Int

SIMULATIONS = 10_000
"""Sets of uniform ranks behind each p-value: one of 0.01 then has a standard error of 0.001."""

KURTOSIS = 1.8
"""Of a uniform variable: the variance of n of them has a relative error of sqrt((1.8 - 1)/n)."""


class Band(NamedTuple):
    """Where the ECDF of uniform ranks stays.

    Attributes
    ----------
    level
        Shares of the ranks' range, between 0 and 1, shape (levels - 1,).
    low, high
        Least and largest share of ranks up to each of them.
    """

    level: Float[np.ndarray, " l"]
    low: Float[np.ndarray, " l"]
    high: Float[np.ndarray, " l"]


def p_values(ranks: Int[np.ndarray, "n k"], levels: int) -> Float[np.ndarray, " k"]:
    """Of the hypothesis that each column is uniform on 0, ..., levels - 1."""
    tails = _tails(len(ranks), levels)
    counts = cumulative(ranks, levels)
    extreme = np.take_along_axis(tails, counts.T, axis=1).min(axis=0)
    return _probability(extreme, len(ranks), levels)


def band(n: int, levels: int, share: float) -> Band:
    """The band that the ECDF of n uniform ranks leaves with this probability, anywhere.

    An ECDF is outside of it somewhere if and only if its p-value is below `share`.
    """
    inside = _probability(_tails(n, levels), n, levels) >= share
    high = n - np.argmax(inside[:, ::-1], axis=1)
    return Band(_level(levels), np.argmax(inside, axis=1) / n, high / n)


def cumulative(ranks: Int[np.ndarray, "n k"], levels: int) -> Int[np.ndarray, "k l"]:
    """How many ranks of each column are up to each level but the last, which none exceeds."""
    counts = [np.bincount(column, minlength=levels) for column in ranks.T]
    return np.cumsum(counts, axis=1)[:, :-1]


def moments(
    ranks: Int[np.ndarray, "n k"], levels: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Mean of each column against uniform ranks in standard errors; variance over theirs."""
    variance = (levels**2 - 1) / 12
    error = np.sqrt(variance / len(ranks))
    return (ranks.mean(axis=0) - (levels - 1) / 2) / error, ranks.var(axis=0, ddof=1) / variance


def dispersion_score(dispersion: float, n: int) -> float:
    """How far a variance over that of uniform ranks is from 1, in standard errors."""
    return (dispersion - 1) / float(np.sqrt((KURTOSIS - 1) / n))


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
    """The statistic of simulated uniform ranks, in ascending order."""
    rng = np.random.default_rng(0)
    tails = _tails(n, levels)
    smallest = np.ones(SIMULATIONS)
    up_to, share = np.zeros(SIMULATIONS, int), 1 / levels
    for level, tail in enumerate(tails):  # the multinomial, one count after another
        up_to += rng.binomial(n - up_to, share / (1 - level * share))
        np.minimum(smallest, tail[up_to], out=smallest)
    return np.sort(smallest)


def _probability(extreme: np.ndarray, n: int, levels: int) -> np.ndarray:
    """Of a statistic as small; beyond what was simulated, by the sum over all levels."""
    at_most = np.searchsorted(_null(n, levels), extreme, side="right")
    return np.minimum((1 + at_most) / (1 + SIMULATIONS), (levels - 1) * extreme)


LEAST = 0.01
"""P-value from which a pipeline passes, over all quantities together."""
