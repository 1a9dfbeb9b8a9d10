"""Natural gradient in a subspace: for Gaussians in dimensions where no d×d curvature can be formed.

H = -E_q[Lᵀ ∇²log p̂ L] is seen in two ways. Antithetic draws z± = mean ± L ε give
H ε = -½ Lᵀ(∇log p̂(z₊) - ∇log p̂(z₋)), which shows where H is not I: its diagonal, as Hutchinson
(1990), and the directions that it bends most. On those few orthonormal directions v, and on the
ones that q has already, H v is then measured with draws whose component along v is put to ±1:
Stein's identity by the two nodes of a Gauss-Hermite rule. The step goes to the Gaussian that this
sketch of H implies. What H did to the last directions, the mean's gradient and its last step are
always among the next ones, so that mean and directions converge as by conjugate gradients.

Every step has fresh draws. A Gaussian log p̂ has the same H at all of them: there the noise
vanishes with the distance. Otherwise steps end in noise; from there the t-th batch moves q by the
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
from infimum.solvers._solver import FEWEST_DRAWS, TOLERANCE, Info, Reason, Solver, State
from infimum.solvers.subspace_newton.curvature import (
    BatchEstimate,
    evaluated,
    pieces,
    sketched,
    subspace,
)
from infimum.target.target import Target

SETTLED_RATIO = 4.0
"""Times a batch's own noise that a step may promise and yet be nothing but noise: the optima of two
batches are twice that apart in the mean."""

NEGLIGIBLE_PART = 1e-4
"""Part of the tolerance that is not worth a step: means then move by at most 1.4e-3 sds."""

EXACT_NATS = 1e-13
"""Nats for each dimension that are rounding."""

CHANCE_ERRORS = 3.0
"""Standard errors of two batches by which the loss may rise in a step. Each step has draws of its
own: those that chose its directions would find its loss too low."""

SEARCH_STEPS = 60
"""Steps after which the search ends wherever it is."""

MOST_BATCHES = 128
"""Most batches: 8192 draws, as many as other solvers take."""

SMALLEST_STEP = 1e-4
"""A damping below this has found no way down."""


@dataclass(kw_only=True)
class SubspaceNewtonState(State):
    """`candidate` is evaluated next, unless `seen` waits for the directions to be measured.

    `eps` is half of the base draws, (n/2, d); the other half are their negatives.
    """

    q: SketchedGaussian
    candidate: SketchedGaussian
    rng: np.random.Generator
    eps: np.ndarray | None = None
    seen: BatchEstimate | None = None
    goal: SketchedGaussian | None = None
    last: np.ndarray | None = None
    recalled: np.ndarray | None = None
    decrement: float = np.inf
    error: float = np.inf
    spread: float = np.inf
    rho: float = 1.0
    steps: int = 0
    moves: int = 0
    rounds: int = 0

    def clear(self) -> None:
        """Let go of what only further steps need."""
        self.eps = self.seen = self.goal = self.recalled = None
        self.candidate = self.q


@dataclass
class LargeState:
    """Which of several large states is at work; the arrays of one alone are held."""

    owner: SubspaceNewtonState | None = None

    def take(self, state: SubspaceNewtonState) -> None:
        """Clear it for another state; the last one may have been ended by the loop."""
        if self.owner is not None and self.owner is not state:
            self.owner.clear()
        self.owner = state


@dataclass(frozen=True)
class SubspaceNewton(Solver):
    """Natural-gradient steps from the curvature's diagonal and few of its directions.

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
    desk: LargeState = field(default_factory=LargeState, init=False, repr=False, compare=False)

    def accepts(self, q: Distribution) -> bool:
        """Gaussians that move by a sketch, where no d×d curvature moves them."""
        small = isinstance(q, NaturalGaussian) and q.dim <= LARGEST_DENSE
        return isinstance(q, SketchedGaussian) and not small

    def init(
        self, q: SketchedGaussian, info: Info, rng: np.random.Generator
    ) -> SubspaceNewtonState:
        """Draws are made when they are needed."""
        return SubspaceNewtonState(q=q, candidate=q, info=info, rng=rng, n_draws=self.draws)

    def grow(self, state: SubspaceNewtonState) -> bool:
        """Go on with the next batches, to half of the noise."""
        if state.rounds >= MOST_BATCHES:
            return False
        state.reason, state.rounds = None, max(1, state.rounds)
        state.candidate, state.eps, state.seen = state.q, None, None
        return True

    def step(self, states: list[SubspaceNewtonState], target: Target) -> None:
        """Evaluate one batch of each state; of one state at a time where batches are large."""
        large = self.draws * states[0].q.dim > CHUNK_NUMBERS
        if large:
            self.desk.take(states[0])
        for state in states[:1] if large else states:
            state.steps += 1
            if state.seen is None:
                self._look(state, target)
            else:
                self._measure(state, target)
            if state.steps >= self.max_steps and state.reason is None:
                state.reason = Reason.STEPS
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
        if state.rounds:
            state.loss += (result.loss - state.loss) / state.rounds
        elif state.goal is None:
            state.loss = result.loss
        else:
            state.last = q.mean - state.q.mean
            state.loss = result.loss
            state.rho = min(1.0, 2 * state.rho)
        state.q, state.moves = q, state.moves + 1
        state.spread = batch.standard_error
        state.seen = batch.seen(state.eps)

    def _measure(self, state: SubspaceNewtonState, target: Target) -> None:
        """Measure the curvature on the subspace, and choose where to go."""
        q = state.q
        goal = q.towards(self._sketch(state, target))
        state.goal = goal
        before, state.decrement = state.decrement, q.divergence(goal)
        state.info.record(state.loss, state.decrement, q)
        if state.rounds:
            self._average(state, goal)
        elif state.moves >= SEARCH_STEPS or self._arrived(state, before):
            self._settle(state)
        else:
            state.candidate, state.eps = q.between(goal, state.rho), None

    def _sketch(self, state: SubspaceNewtonState, target: Target) -> Sketch:
        """The curvature as it is seen, and measured; of its arrays only the sketch is held."""
        seen, state.seen, state.goal = state.seen, None, None
        assert seen is not None
        assert state.eps is not None
        basis = subspace(state.q, seen, state.eps, state.last, state.recalled)
        columns, noise = self._columns(state, basis, target)
        sketch, error = sketched(state.q, seen, state.eps, basis, columns)
        state.recalled = columns[:, state.q.directions.shape[1] :].copy()
        state.error = seen.error + error + noise
        return sketch

    def _columns(
        self, state: SubspaceNewtonState, basis: np.ndarray, target: Target
    ) -> tuple[np.ndarray, float]:
        """(H - I) v for each direction v of the basis, and nats of noise in those of q.

        Over an antithetic pair of draws each, over two pairs for the directions that q has.
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
        """(H - I) v for each row v; zero where the density is undefined, as if H were I there."""
        assert state.eps is not None
        q = state.q
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
        return 0.5 * before < state.decrement <= SETTLED_RATIO * state.error

    def _settle(self, state: SubspaceNewtonState) -> None:
        """End if the noise of one batch is small enough; go on with the next ones if not."""
        if state.error <= self.tolerance and state.decrement <= SETTLED_RATIO * self.tolerance:
            state.reason = Reason.CONVERGED
            return
        if state.decrement > SETTLED_RATIO * max(state.error, self.tolerance):
            state.reason = Reason.STALLED
            return
        assert state.goal is not None
        state.rounds, state.eps = 1, None
        state.candidate = state.q.between(state.goal, 1.0)

    def _average(self, state: SubspaceNewtonState, goal: SketchedGaussian) -> None:
        still = state.decrement <= SETTLED_RATIO * max(state.error, self.tolerance)
        state.error /= state.rounds
        state.n_draws = self.draws * state.rounds
        state.rounds += 1
        state.candidate, state.eps = state.q.between(goal, 1 / state.rounds), None
        if still and state.error <= self.tolerance:
            state.q, state.reason = state.candidate, Reason.CONVERGED
        elif state.rounds >= MOST_BATCHES:
            state.q, state.reason = state.candidate, Reason.DRAWS

    def _reject(self, state: SubspaceNewtonState) -> None:
        state.rho, state.eps = 0.5 * state.rho, None
        if state.rounds:
            state.rounds, state.candidate = state.rounds + 1, state.q
            if state.rounds >= MOST_BATCHES:
                state.reason = Reason.DRAWS
        elif state.goal is None:
            state.candidate = state.q = state.q.stretched(0.5)
            if state.rho < SMALLEST_STEP:
                state.reason = Reason.LOST
        elif state.decrement <= max(state.error, self.tolerance):
            self._settle(state)
        elif state.rho < SMALLEST_STEP:
            state.reason = Reason.STALLED
        else:
            state.candidate = state.q.between(state.goal, state.rho)
