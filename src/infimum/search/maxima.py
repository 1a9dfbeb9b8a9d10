"""Which optima are modes: ascents from each say to which maximum of log p̂ it belongs.

An optimum of the ELBO, or mass beside q that a scout has found, need not be a mode: a shoulder and
the side of a ridge have no maximum of their own. Two ends of ascents are one mode if p̂ does not dip
on the straight path between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from infimum.families._distribution import Distribution
from infimum.search.ascent import Ascent
from infimum.search.atlas import components_of
from infimum.search.whitened import WhitenedTarget
from infimum.target.target import Target

STEPS = 32
"""Steps of a path on which log p̂ is evaluated."""

LEAST_DIP = 0.5
"""Nats below the lower end that p̂ must fall on a path between two modes. An ascent ends up to 0.01
nats below its maximum."""


def count_modes(
    target: Target, q: Distribution, others: Sequence[Distribution], rng: np.random.Generator
) -> tuple[int, int]:
    """How many modes q and the other optima belong to, and the evaluations that it took.

    All means of a mixture are looked at. Without a gradient there are no ascents, but paths.
    """
    if not others:
        return 1, 0
    stacks = [components_of(x, rng) for x in (q, *others)]
    z = np.concatenate([stack.means for stack in stacks])
    spent = 0
    if target.differentiable:
        frame = WhitenedTarget(target, stacks[0].taken(np.array([0])))
        ascent = Ascent(frame.stack.pull_back(0, z))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ascent.run(frame)
        spent = int(ascent.n_steps.sum())
        z = np.where(np.isfinite(ascent.value)[:, None], frame.points(ascent.x), z)
    distinct = [z[0]]
    for end in z[1:]:
        paths = [_path(known, end) for known in distinct]
        values = target.values(np.concatenate(paths)).reshape(len(paths), -1)
        spent += values.size
        lower = np.minimum(values[:, 0], values[:, -1])
        if (np.nan_to_num(values, nan=-np.inf).min(axis=1) < lower - LEAST_DIP).all():
            distinct.append(end)
    return len(distinct), spent


def _path(one: Float[np.ndarray, " d"], other: Float[np.ndarray, " d"]) -> np.ndarray:
    return one + np.linspace(0, 1, STEPS + 1)[:, None] * (other - one)
