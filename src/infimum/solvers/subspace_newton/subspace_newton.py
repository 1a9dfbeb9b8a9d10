"""Natural gradient in a subspace: for Gaussians in dimensions where no d×d curvature can be formed.

H = -E_q[Lᵀ ∇²log p̂ L] is estimated in two ways. Antithetic draws z± = mean ± L ε give
H ε = -½ Lᵀ(∇log p̂(z₊) - ∇log p̂(z₋)), which shows where H is not I: its diagonal, as Hutchinson
(1990), and the directions that it bends most. On those few orthonormal directions v, and on those
that q has already, H v is then measured with draws whose component along v is set to ±1: Stein's
identity by the two nodes of a Gauss-Hermite rule. The step goes to the Gaussian that this sketch of
H implies. What H did to the last directions, the mean's gradient, and the mean's last step are
always among the next directions, so that mean and directions converge as by conjugate gradients.

Every step has fresh draws. A Gaussian log p̂ has the same H at all of them, so that the noise
vanishes with the distance. Otherwise steps end in noise. From there the t-th batch moves q by the
1/t-th part of its step, until the noise of all batches together is below the tolerance.

Halko, Martinsson & Tropp (2011) for the range of a matrix from random vectors; Knyazev (2001) for
the subspace; Polyak & Juditsky (1992) for the averages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from infimum.families._distribution import LARGEST_DENSE, Distribution, NaturalGaussian
from infimum.families._sketch import Sketch, SketchedGaussian
from infimum.objective.draws import CHUNK_NUMBERS, structured_draws
from infimum.solvers._solver import FEWEST_DRAWS, TOLERANCE, Damped, Info, Reason, Solver
from infimum.solvers.subspace_newton.curvature import (
    BatchEstimate,
    evaluated,
    pieces,
    sketched,
    subspace,
)
from infimum.target.target import Target

SETTLED_RATIO = 4.0
"""A step that promises less than this many times its batch's own noise may be noise: the optima of
two batches are on average twice the noise apart."""

NEGLIGIBLE_PART = 1e-4
"""Part of the tolerance that is not worth a step: means would move by at most 1.4e-3 sds."""

EXACT_NATS = 1e-13
"""Nats that are rounding, for each dimension."""

CHANCE_ERRORS = 3.0
"""Standard errors of two batches by which the loss may rise in a step. Each step is judged by new
draws: those that chose its directions would find its loss too low."""

SEARCH_STEPS = 60
"""Steps after which the search ends, and averages begin."""

MOST_BATCHES = 128
"""Most batches in an average: 8192 draws, as many as other solvers take."""

SMALLEST_STEP = 1e-4
"""Part ρ of a whole step below which there is no way down."""


@dataclass(kw_only=True)
class SubspaceNewtonState(Damped):
    """A start; two evaluations make a step: the candidate's draws, then the directions.

    Attributes
    ----------
    candidate
        The q to evaluate next, unless `batch` waits for the directions to be measured.
    eps
        Half of the base draws, shape (n/2, d); the other half are their negatives.
    batch
        Estimates by the candidate's draws, which the directions are chosen by.
    goal
        Where a whole step from q leads; None before the first step.
    last_step
        The mean's last step, shape (d,).
    images
        (H - I) times the directions measured last, shape (d, k).
    decrement, error
        Nats that are predicted to be left, and what the draws cost.
    spread
        Standard error of the loss, in nats.
    n_moves, n_batches
        Steps accepted; and batches averaged, 0 during the search.
    """

    q: SketchedGaussian
    candidate: SketchedGaussian
    rng: np.random.Generator
    eps: np.ndarray | None = None
    batch: BatchEstimate | None = None
    goal: SketchedGaussian | None = None
    last_step: np.ndarray | None = None
    images: np.ndarray | None = None
    decrement: float = np.inf
    error: float = np.inf
    spread: float = np.inf
    n_moves: int = 0
    n_batches: int = 0

    def clear(self) -> None:
        """Let go of the arrays that only further steps need."""
        self.eps = self.batch = self.goal = self.images = None
        self.candidate = self.q


@dataclass
class LargeState:
    """Which of several large states is at work: only one has its arrays in memory."""

    owner: SubspaceNewtonState | None = None

    def take(self, state: SubspaceNewtonState) -> None:
        """Give the memory to a state; the search may have ended the last owner meanwhile."""
        if self.owner is not None and self.owner is not state:
            self.owner.clear()
        self.owner = state


@dataclass(frozen=True)
class SubspaceNewton(Solver):
    """Natural-gradient steps from the curvature's diagonal and few of its directions.

    Requires: a gradient of log p̂; a Gaussian q that moves by a sketch (low-rank, or mean-field in
    dimensions too many for a d×d curvature).

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL that may be lost to the finite number of draws.
    draws
        How many draws one batch has.
    """

    order: ClassVar[int] = 5
    max_steps: int = 400
    tolerance: float = TOLERANCE
    draws: int = FEWEST_DRAWS
    at_work: LargeState = field(default_factory=LargeState, init=False, repr=False, compare=False)

    def accepts(self, q: Distribution) -> bool:
        """Whether q moves by a sketch, and by no d×d curvature."""
        small = isinstance(q, NaturalGaussian) and q.dim <= LARGEST_DENSE
        return isinstance(q, SketchedGaussian) and not small

    def init(
        self, q: SketchedGaussian, info: Info, rng: np.random.Generator
    ) -> SubspaceNewtonState:
        """Prepare no draws: they are made when they are needed."""
        return SubspaceNewtonState(q=q, candidate=q, info=info, rng=rng, n_draws=self.draws)

    def grow(self, state: SubspaceNewtonState) -> bool:
        """Go on with averages over more batches."""
        if state.n_batches >= MOST_BATCHES:
            return False
        state.reason, state.n_batches = None, max(1, state.n_batches)
        state.candidate, state.eps, state.batch = state.q, None, None
        return True

    def step(self, states: list[SubspaceNewtonState], target: Target) -> None:
        """Evaluate one batch of each state; of only the first state if batches are large."""
        large = self.draws * states[0].q.dim > CHUNK_NUMBERS
        if large:
            self.at_work.take(states[0])
        for state in states[:1] if large else states:
            state.steps += 1
            if state.batch is None:
                self._look(state, target)
            else:
                self._measure(state, target)
            self.stop_at_limit(state)
            if state.reason is not None:
                state.clear()

    def _look(self, state: SubspaceNewtonState, target: Target) -> None:
        """Evaluate the candidate; move to it, or shorten the step."""
        q = state.candidate
        if state.eps is None:
            state.eps = structured_draws(state.rng, self.draws, q.dim)[: (self.draws + 1) // 2]
        batch = evaluated(q, state.eps, target, state.info)
        result = batch.outcome
        if not np.isfinite(result.loss):
            self._reject(state)
            return
        chance = float(np.hypot(state.spread, batch.standard_error))
        if result.loss > state.loss + CHANCE_ERRORS * chance + batch.rounding:
            self._reject(state)
            return
        if state.n_batches:
            state.loss += (result.loss - state.loss) / state.n_batches
        elif state.goal is None:
            state.loss = result.loss
        else:
            state.last_step = q.mean - state.q.mean
            state.loss = result.loss
            state.lengthen()
        state.q, state.n_moves = q, state.n_moves + 1
        state.spread = batch.standard_error
        state.batch = batch.estimate(state.eps)

    def _measure(self, state: SubspaceNewtonState, target: Target) -> None:
        """Measure the curvature on the subspace, and choose where to go."""
        q = state.q
        goal = q.towards(self._sketch(state, target))
        state.goal = goal
        before, state.decrement = state.decrement, q.divergence(goal)
        state.record(state.decrement)
        if state.n_batches:
            self._average(state, goal)
        elif state.n_moves >= SEARCH_STEPS or self._arrived(state, before):
            self._end_search(state)
        else:
            state.candidate, state.eps = q.between(goal, state.rho), None

    def _sketch(self, state: SubspaceNewtonState, target: Target) -> Sketch:
        """The sketch of the curvature by draws and by directions; only the sketch is kept."""
        batch, state.batch, state.goal = state.batch, None, None
        assert batch is not None
        assert state.eps is not None
        basis = subspace(state.q, batch, state.eps, state.last_step, state.images)
        columns, noise = self._columns(state, basis, target)
        sketch, error = sketched(state.q, batch, state.eps, basis, columns)
        state.images = columns[:, state.q.directions.shape[1] :].copy()
        state.error = batch.error + error + noise
        return sketch

    def _columns(
        self, state: SubspaceNewtonState, basis: np.ndarray, target: Target
    ) -> tuple[np.ndarray, float]:
        """(H - I) v for each direction v of the basis, and nats of noise in those of q.

        Each is measured by an antithetic pair of draws; those that q has already by two pairs,
        whose difference says how noisy they are.
        """
        assert state.eps is not None
        q = state.q
        r = q.directions.shape[1]
        rows, noise = np.empty((basis.shape[1], q.dim)), 0.0
        for part in pieces(len(rows), 4 * q.dim):
            rows[part] = self._along(state, basis[:, part].T, part.start, target)
        for part in pieces(r, 4 * q.dim):
            again = self._along(state, basis[:, part].T, len(rows) + part.start, target)
            noise += 0.125 * float(np.sum((rows[part] - again) ** 2))
            rows[part] = 0.5 * (rows[part] + again)
        state.info.n_steps += 1
        return rows.T, noise

    def _along(
        self, state: SubspaceNewtonState, v: np.ndarray, place: int, target: Target
    ) -> np.ndarray:
        """(H - I) v for each row v; zero if a density is undefined, as if H were I there."""
        assert state.eps is not None
        q = state.q
        # A draw for each direction, with its component along v put to +1 and to -1: the two nodes.
        around = state.eps[np.arange(place, place + len(v)) % len(state.eps)]
        around = around - np.sum(around * v, axis=1)[:, None] * v
        nodes = np.concatenate([around + v, around - v, v - around, -around - v])
        log_p, gradient = target.value_and_gradient(q.push(nodes))
        state.info.n_gradients += len(nodes)
        state.info.n_zero += int(np.sum(log_p == -np.inf))
        a, b, c, d = np.split(q.whiten(gradient), 4)
        rows = -0.25 * (a - b + c - d) - v
        rows[~np.isfinite(rows).all(axis=1)] = 0.0
        return rows

    def _arrived(self, state: SubspaceNewtonState, before: float) -> bool:
        """Whether what is left is nothing, or noise that no longer falls."""
        if state.decrement <= max(EXACT_NATS * state.q.dim, NEGLIGIBLE_PART * self.tolerance):
            return True
        return bool(0.5 * before < state.decrement <= SETTLED_RATIO * state.error)

    def _end_search(self, state: SubspaceNewtonState) -> None:
        """End if the noise of one batch is small enough; if not, average over more batches."""
        if state.error <= self.tolerance and state.decrement <= SETTLED_RATIO * self.tolerance:
            state.reason = Reason.CONVERGED
            return
        if state.decrement > SETTLED_RATIO * max(state.error, self.tolerance):
            state.stall(fine=False)
            return
        assert state.goal is not None
        state.n_batches, state.eps = 1, None
        state.candidate = state.q.between(state.goal, 1.0)

    def _average(self, state: SubspaceNewtonState, goal: SketchedGaussian) -> None:
        """Move by the 1/t-th part of the t-th step; end when the noise of all is small enough."""
        still = state.decrement <= SETTLED_RATIO * max(state.error, self.tolerance)
        state.error /= state.n_batches
        state.n_draws = self.draws * state.n_batches
        state.n_batches += 1
        state.candidate, state.eps = state.q.between(goal, 1 / state.n_batches), None
        if still and state.error <= self.tolerance:
            state.q, state.reason = state.candidate, Reason.CONVERGED
        elif state.n_batches >= MOST_BATCHES:
            state.q, state.reason = state.candidate, Reason.DRAWS

    def _reject(self, state: SubspaceNewtonState) -> None:
        """Shorten the step; among averages, skip the batch; of a start, halve the width."""
        state.shorten()
        state.eps = None
        if state.n_batches:
            state.n_batches, state.candidate = state.n_batches + 1, state.q
            if state.n_batches >= MOST_BATCHES:
                state.reason = Reason.DRAWS
        elif state.goal is None:
            state.candidate = state.q = state.q.stretched(0.5)
            if state.rho < SMALLEST_STEP:
                state.reason = Reason.LOST
        elif state.decrement <= max(state.error, self.tolerance):
            self._end_search(state)
        elif state.rho < SMALLEST_STEP:
            state.stall(fine=False)
        else:
            state.candidate = state.q.between(state.goal, state.rho)
