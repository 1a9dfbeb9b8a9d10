"""Quasi-Newton on fixed draws: from near the optimum to the optimum, without noise.

With its base draws fixed the loss is a plain function of q. L-BFGS minimises this function in
natural coordinates of the family, where its Hessian is near I, until what is left is a millionth of
the error that the finite number of draws makes. That error is estimated from the draws themselves.
As long as it is above the tolerance, the draws are multiplied and the search goes on.

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
from infimum.solvers._lbfgs import Descent
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
"""Optimisation ends when what is left is this part of the draws' error. If the parameters have
other units, means then move by at most 7e-5 sds; with 1e-3 by 6e-4, for a batch or two less."""

SETTLED_PART = 1e-3
"""Part of the tolerance below which a search that finds no way down has arrived all the same. Also
the part of the draws' error that is left if q is flat: the last thousandth of a nat took 100
batches of 150 there."""

EXACT_NATS = 1e-14
"""Nats at which optimisation ends if the draws make no error, as for a Gaussian target."""

MOST_DRAWS = 8192
"""Largest number of draws, unless 8·d is more."""


@dataclass(kw_only=True)
class FixedDrawsState(State):
    """A point of natural coordinates around some q, and the step from it.

    Attributes
    ----------
    eps
        Base draws, shape (n, d).
    chart
        The coordinates; None until q has been evaluated with these draws.
    descent
        The point, and the step to try.
    error
        Nats that the finite number of draws costs.
    """

    q: Charted
    eps: np.ndarray
    rng: np.random.Generator
    chart: Chart | None = None
    descent: Descent = field(default_factory=Descent)
    error: float = np.inf

    def candidate(self) -> Charted:
        """The q to evaluate next."""
        if self.chart is None:
            return self.q
        return self.chart.move(self.descent.trial())


@dataclass(frozen=True)
class FixedDraws(Solver):
    """L-BFGS on max(64, 4(d + 2)) structured draws, doubled while they are too few.

    Requires: a gradient of log p̂; a q that is the image of a standard normal, with a chart.

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
        """Whether q has a chart; a large q that moves by a sketch is left to `SubspaceNewton`."""
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
        """Go on with twice as many draws, or four times as many if the error calls for more."""
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
        state.count(z, result)
        # Draws of zero density have no score; the others stand for all.
        score = np.where(result.inside[:, None], gradient, 0.0)
        score = score * (len(score) / max(1, int(np.count_nonzero(result.inside))))
        if not np.isfinite(result.loss):
            self._reject(state)
        elif state.chart is None:
            self._enter_chart(state, result.loss, score, log_p[result.inside])
        elif state.descent.falls(state.loss, result.loss):
            self._accept(state, candidate, result.loss, score)
        else:
            self._reject(state)
        self.stop_at_limit(state)

    def _enter_chart(
        self, state: FixedDrawsState, loss: float, score: np.ndarray, log_p: np.ndarray
    ) -> None:
        """Take coordinates at q, now that its curvature is known."""
        state.chart = state.q.chart(state.q.curvature(state.eps, score))
        state.loss = loss
        state.descent.begin(state.chart.pull(np.zeros(state.chart.size), state.eps, score), log_p)
        state.error = state.q.sampling_error(state.eps, score)
        self._aim(state)

    def _accept(
        self, state: FixedDrawsState, candidate: Charted, loss: float, score: np.ndarray
    ) -> None:
        assert state.chart is not None
        theta = state.descent.trial()
        state.descent.move(theta, state.chart.pull(theta, state.eps, score))
        state.q, state.loss = candidate, loss
        state.error = candidate.sampling_error(state.eps, score)
        self._aim(state)

    def _aim(self, state: FixedDrawsState) -> None:
        """Choose the next direction, or end, or ask for more draws."""
        descent = state.descent
        decrement = descent.aim()
        state.record(decrement)
        enough = state.error <= self.tolerance
        part = SETTLED_PART if state.q.flat else NEGLIGIBLE_PART
        left = max(EXACT_NATS, descent.rounding / 8, (part if enough else 0.1) * state.error)
        if decrement <= left:
            self.settle(state, enough)
        descent.limit(float(np.abs(descent.direction).max()))

    def _reject(self, state: FixedDrawsState) -> None:
        """Shorten the step; if that is hopeless, try along the gradient, or end."""
        descent = state.descent
        if state.chart is None:
            state.reason = Reason.LOST
        elif not descent.shorten():
            fine = descent.left <= max(100 * descent.rounding, self.tolerance * SETTLED_PART)
            if not fine and descent.forget():
                self._aim(state)
            else:
                state.stall(fine)
