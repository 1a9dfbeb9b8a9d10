"""The state of a sparse Newton search: a point, the step from it, and what its draws have shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from infimum.families._distribution import SparseGaussian
from infimum.solvers._solver import Damped
from infimum.solvers.sparse_newton.acceleration import Acceleration, MeanPrecision
from infimum.solvers.sparse_newton.averaging import Averaging

FIRST_TRUST = 2.0
"""sds of q that the first step may move any coordinate, given those that come after the coordinate
in the order. A step that succeeds doubles it, a step that fails halves it. Otherwise, from a cold
start, scales of hierarchies of 30,000 groups leap to where the density overflows. On smaller models
0.5 and 10 took the same steps."""


@dataclass(kw_only=True)
class SparseNewtonState(Damped):
    """A start, and the step from it.

    Attributes
    ----------
    eps
        Base draws, shape (n, d).
    point, trial
        Coordinates of `q`, and of `candidate`, which is evaluated next.
    pull
        Mean score under q, shape (d,).
    goal
        Where a whole step from q leads; None until q has been evaluated with these draws.
    decrement
        Nats that are predicted to be left.
    doubt
        Twice the standard error of the loss, in nats.
    error
        Nats for every `TOLERANCE_DIM` coordinates that the draws' sampling error costs.
    total
        Nats that it costs in all.
    rounding
        Nats of the loss that are rounding.
    trust
        sds of q that a damped step may move any coordinate.
    narrowings
        Times that the start was made half as wide.
    average
        Of the points that fresh draws have led to; None while the draws are fixed.
    """

    q: SparseGaussian
    rng: np.random.Generator
    eps: np.ndarray
    point: MeanPrecision
    trial: MeanPrecision
    candidate: SparseGaussian
    pull: np.ndarray | None = None
    goal: MeanPrecision | None = None
    decrement: float = np.inf
    doubt: float = 0.0
    error: float = np.inf
    total: float = np.inf
    rounding: float = 0.0
    trust: float = FIRST_TRUST
    acceleration: Acceleration = field(default_factory=Acceleration)
    narrowings: int = 0
    average: Averaging | None = None
