"""Quasi-Newton on fixed draws: the deterministic way from near the optimum to the optimum.

With its base draws fixed the loss is a plain function of q. L-BFGS minimises it in natural
coordinates of the family, where its Hessian is near I, until what is left is a millionth of the
error that the finite number of draws makes. That error is estimated from the draws themselves; as
long as it is above `TOLERANCE` nats the draws are multiplied and the search goes on.

Giordano, Ingram & Broderick (2024) for fixed draws; the growth of the draws is this project's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from infimum.families._distribution import LARGEST_DENSE, Chart, Charted, Distribution
from infimum.families._sketch import SketchedGaussian
from infimum.objective.draws import structured_draws
from infimum.objective.loss import outcome
from infimum.solvers._lbfgs import History
from infimum.solvers._solver import (
    FEWEST_DRAWS,
    TOLERANCE,
    Info,
    Reason,
    Solver,
    State,
    evaluate_together,
)
from infimum.target.target import Target

NEGLIGIBLE_PART = 1e-6
"""Optimisation ends when it has left this part of the draws' error. In other units of the
parameters means then move by at most 7e-5 sds; with 1e-3 by 6e-4, for a batch or two less."""

SETTLED_PART = 1e-3
"""Part of the tolerance below which a search that finds no way down has arrived all the same. Also
the part of the draws' error that is left where q is flat: the last thousandth of a nat took 100
batches of 150 there."""

EXACT_NATS = 1e-14
"""Nats at which optimisation ends where the draws make no error: a Gaussian target."""

MOST_DRAWS = 8192
"""Largest number of draws, unless 8·d is more."""

LONGEST_STEP = 2.0
"""Longest step along any natural coordinate, where 1 is about one sd of q."""


@dataclass(kw_only=True)
class FixedDrawsState(State):
    """A point `theta` of `chart`, what is known there, and the q to try next."""

    q: Charted
    eps: np.ndarray
    rng: np.random.Generator
    chart: Chart | None = None
    theta: np.ndarray = field(default_factory=lambda: np.zeros(0))
    gradient: np.ndarray = field(default_factory=lambda: np.zeros(0))
    direction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    length: float = 1.0
    history: History = field(default_factory=History)
    error: float = np.inf
    rounding: float = 0.0
    steps: int = 0

    def candidate(self) -> Charted:
        """The q to evaluate next."""
        if self.chart is None:
            return self.q
        return self.chart.move(self.theta + self.length * self.direction)


@dataclass(frozen=True)
class FixedDraws(Solver):
    """L-BFGS on max(64, 4(d + 2)) structured draws, doubled while they are too few.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL that may be lost to the finite number of draws.
    draws
        How many draws to begin with; None chooses by the dimension.
    """

    order: ClassVar[int] = 2
    max_steps: int = 150
    tolerance: float = TOLERANCE
    draws: int | None = None

    def accepts(self, q: Distribution) -> bool:
        """Every pushforward with a chart; large ones that move by a sketch do better by that."""
        sketched = isinstance(q, SketchedGaussian) and q.dim > LARGEST_DENSE
        return isinstance(q, Charted) and not sketched

    def init(self, q: Charted, info: Info, rng: np.random.Generator) -> FixedDrawsState:
        """Fix the first draws."""
        enough = 4 * (q.dim + 2) if q.dim <= LARGEST_DENSE else 0
        eps = structured_draws(rng, self.draws or max(FEWEST_DRAWS, enough), q.dim)
        return FixedDrawsState(q=q, info=info, eps=eps, rng=rng, n_draws=len(eps))

    def step(self, states: list[FixedDrawsState], target: Target) -> None:
        """Evaluate every candidate; move to it or shorten the step."""
        candidates = [state.candidate() for state in states]
        batches = [q.push(s.eps) for q, s in zip(candidates, states, strict=True)]
        outcomes = evaluate_together(target, batches)
        for state, q, z, values in zip(states, candidates, batches, outcomes, strict=True):
            self._advance(state, q, z, *values)

    def grow(self, state: FixedDrawsState) -> bool:
        """Go on with twice as many draws, or four times where the error calls for more."""
        factor = 2 if state.error <= 8 * self.tolerance else 4
        n = min(max(MOST_DRAWS, 8 * state.q.dim), factor * len(state.eps))
        if n <= len(state.eps):
            return False
        state.eps = structured_draws(state.rng, n, state.q.dim)
        state.chart, state.reason, state.n_draws = None, None, n
        return True

    def _advance(
        self,
        state: FixedDrawsState,
        candidate: Charted,
        z: np.ndarray,
        log_p: np.ndarray,
        gradient: np.ndarray,
    ) -> None:
        result = outcome(candidate.log_prob_base(state.eps), log_p, gradient)
        state.info.count(z, result)
        state.steps += 1
        score = np.where(result.inside[:, None], gradient, 0.0)
        score = score * (len(score) / max(1, int(np.count_nonzero(result.inside))))
        if not np.isfinite(result.loss):
            self._reject(state)
        elif state.chart is None:
            self._enter_chart(state, result.loss, score, log_p[result.inside])
        else:
            slope = float(state.gradient @ state.direction)
            if result.loss > state.loss + 1e-4 * state.length * slope + state.rounding:
                self._reject(state)
            else:
                self._accept(state, candidate, result.loss, score)
        if state.reason is None and state.steps >= self.max_steps:
            state.reason = Reason.STEPS

    def _enter_chart(
        self, state: FixedDrawsState, loss: float, score: np.ndarray, log_p: np.ndarray
    ) -> None:
        """Take coordinates at q, now that its curvature is known."""
        state.chart = state.q.chart(state.q.curvature(state.eps, score))
        state.theta = np.zeros(state.chart.size)
        state.history = History()
        state.loss = loss
        state.rounding = 8 * np.finfo(float).eps * float(np.abs(log_p).max())
        state.gradient = state.chart.pull(state.theta, state.eps, score)
        state.error = state.q.sampling_error(state.eps, score)
        self._aim(state)

    def _accept(
        self, state: FixedDrawsState, candidate: Charted, loss: float, score: np.ndarray
    ) -> None:
        assert state.chart is not None
        theta = state.theta + state.length * state.direction
        gradient = state.chart.pull(theta, state.eps, score)
        state.history.add(theta - state.theta, gradient - state.gradient)
        state.q, state.loss, state.theta, state.gradient = candidate, loss, theta, gradient
        state.error = candidate.sampling_error(state.eps, score)
        self._aim(state)

    def _aim(self, state: FixedDrawsState) -> None:
        """Choose the next direction, or end, or ask for more draws."""
        state.direction = state.history.direction(state.gradient)
        decrement = -0.5 * float(state.gradient @ state.direction)
        state.info.record(state.loss, decrement, state.q)
        enough = state.error <= self.tolerance
        part = SETTLED_PART if state.q.flat else NEGLIGIBLE_PART
        left = max(EXACT_NATS, state.rounding / 8, (part if enough else 0.1) * state.error)
        if decrement <= left:
            if enough:
                state.reason = Reason.CONVERGED
            elif not self.grow(state):
                state.reason = Reason.DRAWS
        longest = float(np.abs(state.direction).max())
        state.length = min(1.0, LONGEST_STEP / longest) if longest > 0 else 1.0

    def _reject(self, state: FixedDrawsState) -> None:
        if state.chart is None:
            state.reason = Reason.LOST
            return
        state.length *= 0.4
        slope = -float(state.gradient @ state.direction)
        if state.length * slope <= state.rounding or state.length < 1e-8:
            fine = 0.5 * slope <= max(100 * state.rounding, self.tolerance * SETTLED_PART)
            if state.history.steps and not fine:
                state.history = History()
                self._aim(state)
            else:
                state.reason = Reason.ROUNDING if fine else Reason.STALLED
