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
from infimum.target.target import Target

STEPS = 32
"""Steps of a path on which log p̂ is evaluated."""

LEAST_DIP = 0.5
"""Nats below the lower end that p̂ must fall on a path between two modes. An ascent ends up to 0.01
nats below its maximum."""


class _Scaled:
    """log p̂ in units of q's sds."""

    def __init__(self, target: Target, centre: np.ndarray, scale: np.ndarray) -> None:
        self.target, self.centre, self.scale = target, centre, scale

    def points(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """z of each row."""
        return self.centre + x * self.scale

    def value_and_gradient(
        self, x: Float[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
        """log p̂ at each row, and its gradient by these units."""
        log_p, gradient = self.target.value_and_gradient(self.points(x))
        return log_p, gradient * self.scale


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
        first = stacks[0].taken(np.array([0]))
        units = np.sqrt((np.abs(first.push(np.eye(z.shape[1])[None])[0] - z[0]) ** 2).sum(axis=0))
        scaled = _Scaled(target, z[0], units)
        ascent = Ascent((z - z[0]) / units)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ascent.run(scaled)
        spent = int(ascent.n_steps.sum())
        z = np.where(np.isfinite(ascent.value)[:, None], scaled.points(ascent.x), z)
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
