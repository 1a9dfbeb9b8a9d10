"""What a fit will take, before it begins: told in words where it is much."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from infimum.base import memory
from infimum.families._distribution import LARGEST_DENSE
from infimum.families._family import Family, Left, Measured
from infimum.target.target import Target

LONG = 60.0
"""Seconds that a fit may take without a word before it begins."""

PASSES = 3
"""Passes that correct a part of the rows: on a logistic regression of a million rows two."""

LOOKED = 16
"""Points that a gradient is timed on: half a compiled batch."""

STARTED = 60
"""Gradients for each coordinate and start that a Gaussian takes: an ascent, and ten batches."""


class Forecast(NamedTuple):
    """What a fit will take.

    Attributes
    ----------
    seconds
        Compilation not counted.
    note
        A sentence on time and memory, if either is much; None if not.
    """

    seconds: float
    note: str | None


def forecast(
    target: Target, family: Family, n_starts: int, n_draws: int, part: Target | None
) -> Forecast:
    """What a fit of this family to this target will take.

    Parameters
    ----------
    n_draws
        Of the check at the end, half as many of the wide proposal not counted.
    part
        What is searched in the place of a target of many rows.
    """
    told = []
    seconds = _seconds(target, family, n_starts, n_draws, part)
    if seconds > LONG:
        minutes = seconds / 60
        told.append(f"about {minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours")
    held = memory.total()
    needed = family.n_bytes(target.dim) if isinstance(family, Measured) else 0
    if held is not None and needed > held / 2:
        told.append(f"{memory.in_words(needed)} of the {memory.in_words(held)} of memory")
    return Forecast(seconds, f"this will take {' and '.join(told)}" if told else None)


def _seconds(
    target: Target, family: Family, n_starts: int, n_draws: int, part: Target | None
) -> float:
    checked = int(1.5 * n_draws)
    promise = family.promise(Left(1.0, 1.0, 1.0), target.dim)
    searched = target if part is None else part
    gradients = promise.gradients
    if family.below is None:
        gradients = max(gradients, STARTED * (n_starts + 1) * (min(target.dim, LARGEST_DENSE) + 2))
    large = target.large
    total = promise.seconds
    if large is not None:
        total += large.seconds(checked, gradient=False)
    if large is not None and part is not None:
        total += PASSES * large.seconds(2 * (target.dim + 2), gradient=True)
    elif large is not None:
        return total + large.seconds(int(gradients), gradient=True)
    each = _each(searched)
    return total + each * (gradients + (checked / 2 if large is None else 0))


def _each(target: Target) -> float:
    """Seconds of a gradient, or of a value where there is none; a slow one is asked once."""
    points = np.random.default_rng(0).uniform(-1, 1, (LOOKED, target.dim))
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
    return (time.perf_counter() - began) / LOOKED
