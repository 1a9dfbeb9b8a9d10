"""The forecast of a fit: its seconds and its memory, in words if either is large."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from infimum.base import memory
from infimum.families._distribution import LARGEST_DENSE
from infimum.families._family import Family, Left, Measured
from infimum.target.target import Target

LONG = 60.0
"""Seconds up to which a fit begins without an announcement."""

PASSES = 3
"""Passes that correct a part of the rows; a logistic regression of a million rows took two."""

TIMED_POINTS = 16
"""Points over which a gradient is timed: half a compiled batch."""

START_GRADIENTS = 60
"""Gradients that a Gaussian takes for each coordinate and start: an ascent, then ten batches."""


class Forecast(NamedTuple):
    """What a fit will take.

    Attributes
    ----------
    seconds
        Without compilation.
    note
        A sentence on time and memory, if either is large; else None.
    """

    seconds: float
    note: str | None


def forecast(
    target: Target, family: Family, n_starts: int, n_draws: int, part: Target | None
) -> Forecast:
    """Forecast a fit of this family to this target.

    Parameters
    ----------
    n_draws
        Check draws of q; the wide proposal adds half as many.
    part
        The surrogate that is searched in place of a target of many rows.
    """
    costs = []
    seconds = _seconds(target, family, n_starts, n_draws, part)
    if seconds > LONG:
        minutes = seconds / 60
        costs.append(
            f"about {minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
        )
    available = memory.total()
    needed = family.n_bytes(target.dim) if isinstance(family, Measured) else 0
    if available is not None and needed > available / 2:
        costs.append(f"{memory.in_words(needed)} of the {memory.in_words(available)} of memory")
    return Forecast(seconds, f"this will take {' and '.join(costs)}" if costs else None)


def _seconds(
    target: Target, family: Family, n_starts: int, n_draws: int, part: Target | None
) -> float:
    check_draws = int(1.5 * n_draws)
    promise = family.promise(Left(1.0, 1.0, 1.0), target.dim)
    searched = target if part is None else part
    gradients = promise.gradients
    if family.below is None:
        gradients = max(
            gradients, START_GRADIENTS * (n_starts + 1) * (min(target.dim, LARGEST_DENSE) + 2)
        )
    large = target.large
    total = promise.seconds
    if large is not None:
        total += large.seconds(check_draws, gradient=False)
    if large is not None and part is not None:
        total += PASSES * large.seconds(2 * (target.dim + 2), gradient=True)
    elif large is not None:
        return total + large.seconds(int(gradients), gradient=True)
    gradient_seconds = _seconds_per_gradient(searched)
    return total + gradient_seconds * (gradients + (check_draws / 2 if large is None else 0))


def _seconds_per_gradient(target: Target) -> float:
    """Seconds of a gradient, or of a value if there is none; a slow one is evaluated once."""
    points = np.random.default_rng(0).uniform(-1, 1, (TIMED_POINTS, target.dim))
    evaluate = target.value_and_gradient if target.differentiable else target.values
    with np.errstate(all="ignore"):
        evaluate(points[:1])  # the first compiles
        began = time.perf_counter()
        evaluate(points[:1])
        alone = time.perf_counter() - began
        if alone > LONG / 1000:
            return alone
        began = time.perf_counter()
        evaluate(points)
    return (time.perf_counter() - began) / TIMED_POINTS
