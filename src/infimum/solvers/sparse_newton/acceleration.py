"""Anderson's acceleration: the last steps tell where the whole step would vanish.

Plain steps converge slowly along scales of hierarchies, whose optimum moves with what they scale.
Anderson (1965).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from infimum.families._distribution import SparseGaussian

REMEMBERED_STEPS = 5
"""Steps that acceleration remembers. On three models (intercepts of d = 3,003, a walk of 2,000,
crossed effects of 1,543; two seeds) 0, 2 and 10 ended one walk each at the limit of steps, and took
up to twice the gradients elsewhere."""

DEPENDENT_PART = 1e-8
"""Singular values, as a part of the largest, below which remembered steps say nothing new."""

FIRST_REACH = 3.0
"""sds of q that the first accelerated step may move any coordinate. Each that succeeds doubles it,
each that fails halves it twice. On the same models 0.5 and 20 took the same steps."""


class MeanPrecision(NamedTuple):
    """Coordinates of a q: its mean (d,), and its precision as `SparseGaussian` has it."""

    mean: np.ndarray
    precision: np.ndarray

    def plus(self, other: MeanPrecision, factor: float = 1.0) -> MeanPrecision:
        """Entry by entry."""
        mean = self.mean + factor * other.mean
        return MeanPrecision(mean, self.precision + factor * other.precision)


@dataclass
class Acceleration:
    """What the last steps have shown.

    Attributes
    ----------
    reach
        sds of q that an accelerated step may move any coordinate.
    last
        The last point seen with these draws, and the whole step from there.
    changes
        How point and whole step have changed from one point to the next.
    in_use
        Whether the step being tried is an accelerated one.
    """

    reach: float = FIRST_REACH
    last: tuple[MeanPrecision, MeanPrecision] | None = None
    changes: list[tuple[MeanPrecision, MeanPrecision]] = field(default_factory=list)
    in_use: bool = False

    def remember(self, point: MeanPrecision, goal: MeanPrecision) -> None:
        """Keep how the whole step, from a point to its goal, has changed since the last point."""
        step = goal.plus(point, -1.0)
        if self.last is not None:
            before, step_before = self.last
            change = (point.plus(before, -1.0), step.plus(step_before, -1.0))
            self.changes = [*self.changes, change][-REMEMBERED_STEPS:]
        self.last = (point, step)

    def succeed(self) -> None:
        """The step was accepted: an accelerated one may go further next time."""
        self.reach *= 2.0 if self.in_use else 1.0

    def fail(self) -> None:
        """An accelerated step was rejected: forget what it was made of."""
        self.in_use, self.changes, self.reach = False, [], 0.25 * self.reach

    def trial(self, q: SparseGaussian) -> tuple[MeanPrecision, SparseGaussian] | None:
        """Where the whole step, linear in the point, would vanish; None if q can't go there.

        If that is uphill, the loss curves downwards, and the step goes on the way of the last one.
        """
        if not self.changes or self.last is None:
            return None
        point, step = self.last
        move = self._move(q)
        far = float(np.abs(_measured(q, point, move)).max())
        trial = point.plus(move, min(1.0, self.reach / far) if far > 0 else 1.0)
        candidate = q.placed(*trial)
        if candidate is None:  # not positive definite: keep the mean, with the plain precision
            trial = MeanPrecision(trial.mean, point.plus(step).precision)
            candidate = q.placed(*trial)
        if candidate is None or not np.isfinite(trial.mean).all():
            return None
        return trial, candidate

    def _move(self, q: SparseGaussian) -> MeanPrecision:
        """The accelerated step, of any length."""
        assert self.last is not None
        point, step = self.last
        columns = np.stack([_measured(q, point, change) for _, change in self.changes], axis=1)
        way = _measured(q, point, step)
        weights = np.linalg.lstsq(columns, way, rcond=DEPENDENT_PART)[0]
        move = step
        for weight, (moved, changed) in zip(weights, self.changes, strict=True):
            move = move.plus(moved, -weight).plus(changed, -weight)
        last = self.changes[-1][0]
        along = _measured(q, point, last)
        if _measured(q, point, move) @ way <= 0 and along @ way > 0:  # it vanishes at no minimum
            further = self.reach / float(np.abs(along).max())
            move = MeanPrecision(step.mean + further * last.mean, step.precision)
        return move


def _measured(q: SparseGaussian, point: MeanPrecision, step: MeanPrecision) -> np.ndarray:
    """A step in units of q, shape (2d,): the mean whitened, the precision's diagonal relative."""
    mean = np.asarray(q.pull_back(point.mean + step.mean))
    diagonal = step.precision[: q.dim] / point.precision[: q.dim]
    return np.concatenate([mean, diagonal / np.sqrt(2)])
