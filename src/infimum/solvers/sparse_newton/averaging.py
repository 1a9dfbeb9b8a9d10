"""Averages over fresh draws: what noise is left falls with every batch, and no draw is used twice.

Near the optimum half a Newton step with fresh draws stays near it, with the noise of one batch. The
average of the points on the way has the noise of all batches together (Polyak & Juditsky 1992), and
goes on towards the optimum while it falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import numpy as np

from infimum.families._distribution import SparseGaussian
from infimum.solvers.sparse_newton.acceleration import MeanPrecision
from infimum.solvers.sparse_newton.expected_hessian import GroupEstimates, bounded
from infimum.solvers.sparse_newton.profile import Profile, scaled

AVERAGED_STEP = 0.5
"""Part of a Newton step with fresh draws. On seven hierarchies with eight draws a step whole steps
diverged along their scales; averages of half steps lost 0.03 to 0.15 nats after eight batches, and
0.02 to 0.05 after sixteen."""

LATE_WEIGHT = 4 / 3
"""Factor of the noise of an average in which later batches weigh more, in proportion to their
number, against that of a plain average."""

LONGEST = 2.0
"""sds of q that a step may move any coordinate."""

LONGEST_MOVE = 0.5
"""By how much a step may move a scale, which is a logarithm."""

FLATTEST = 0.25
"""Smallest curvature of the profile that counts, as a part of the plain one: with 0.05 the noise of
eight draws drove two of 21 fits 1 to 2 nats off."""

FEWEST_BATCHES = 6
"""Fewest batches of an average: the first of them still show where the search came from."""

DRIFT = 0.4
"""Nats by which the average loss, later batches weighing more, may be below the plain one. If it is
lower, the search is still on its way, and a new average begins."""

BATCHES_EACH = 16
"""Batches after which they grow to twice as many draws."""


@dataclass
class Averaging:
    """The average so far.

    Attributes
    ----------
    point
        Average of the points; None before the first batch.
    loss
        Average of their losses, in nats.
    n_batches, n_draws
        How many batches, and draws in all of them.
    part
        Part of a Newton step that each batch takes.
    factor
        Part of the tolerance that has to be met.
    profile
        How the scales move; None before the first batch, or if there are none.
    """

    point: MeanPrecision | None = None
    loss: float = 0.0
    n_batches: int = 0
    n_draws: int = 0
    part: float = AVERAGED_STEP
    factor: float = 1.0
    profile: Profile | None = None
    _losses: float = 0.0
    _error: float = 0.0
    _total: float = 0.0

    def batch(
        self, q: SparseGaussian, point: MeanPrecision, estimates: GroupEstimates | None
    ) -> tuple[MeanPrecision, SparseGaussian] | None:
        """Part of a Newton step from q, whose coordinates are the point; None if there is none."""
        if estimates is None:
            return None
        goal = bounded(q, point.precision, estimates.curvatures.mean(axis=0))[0]
        precision = (1 - self.part) * point.precision + self.part * goal
        moved = q.placed(np.asarray(q.mean), precision)
        if moved is None:
            return None
        whole = moved.whiten(estimates.pulls.mean(axis=0))
        step = np.asarray(q.pull_back(moved.push(self.part * whole)))
        mean = np.asarray(q.push(np.clip(step, -LONGEST, LONGEST)))
        if self.profile is None:
            return MeanPrecision(mean, precision), eqx.tree_at(lambda q: q.mean, moved, mean)
        move = self.profile.move(mean - np.asarray(q.mean), LONGEST_MOVE)
        point = MeanPrecision(mean + move.mean, scaled(q, precision, move.growth))
        placed = q.placed(*point)
        return None if placed is None else (point, placed)

    def add(
        self, point: MeanPrecision, loss: float, error: float, total: float, n_draws: int
    ) -> MeanPrecision:
        """Take in one more point, with the errors that its draws alone would cost.

        Returns
        -------
        The average.
        """
        weight = 2.0 / (self.n_batches + 2)
        before = self.point or point
        self.point = before.plus(point.plus(before, -1.0), weight)
        self.loss += weight * (loss - self.loss)
        self.n_batches += 1
        self._losses += loss
        self._error += (n_draws * error - self._error) / self.n_batches
        self._total += (n_draws * total - self._total) / self.n_batches
        self.n_draws += n_draws
        return self.point

    def settled(self, tolerance: float) -> bool:
        """Whether the error of all draws is within its part of the tolerance."""
        return self.n_batches >= FEWEST_BATCHES and self.error <= self.factor * tolerance

    @property
    def drifts(self) -> bool:
        """Whether later losses are lower than earlier ones: the average holds back what moves."""
        fallen = self._losses / self.n_batches - self.loss
        return self.n_batches >= FEWEST_BATCHES and fallen > DRIFT

    @property
    def error(self) -> float:
        """Nats for every hundred coordinates that the draws of all batches cost."""
        return LATE_WEIGHT * self._error / self.n_draws

    @property
    def total(self) -> float:
        """Nats that they cost in all."""
        return LATE_WEIGHT * self._total / self.n_draws
