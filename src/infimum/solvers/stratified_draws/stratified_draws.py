"""Quasi-Newton on fixed draws of every component, to refine mixtures and let them grow.

loss = Σ_k w_k mean_i [log q(z_ki) - log p̂(z_ki)], z_ki = m_k + L_k ε_ki, with the draws ε fixed and
structured for each component. It is a smooth function of means, factors and weights; L-BFGS
minimises it in the natural coordinates of `StackChart`. On average over q, the gradient of log q in
its own parameters is 0; over fixed draws it is not. Its value at the chart's origin is subtracted
as a control variate, after which the draws make no error if q = p* (Roeder, Wu & Duvenaud 2017).

Importance weights from a wider proposal then judge q. Where they say that mass is missing,
components are placed, and all components are refined together (Guo et al. 2016; Miller, Foti &
Adams 2017; Arenz et al. 2023), for as long as that pays. Components that have lost their weight, or
that have come to lie on one another, are removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from infimum.families._distribution import Distribution, Pooled
from infimum.gaussian.stack import Stack
from infimum.gaussian.stack_chart import StackChart
from infimum.objective.loss import Outcome, outcome
from infimum.solvers._solver import (
    TOLERANCE,
    Info,
    Reason,
    Solver,
    evaluate_together,
)
from infimum.solvers.stratified_draws.components import (
    FIRST_NATS,
    FIRST_NATS_OF_MANY,
    KL_PART,
    MOST_PLACED,
    Purpose,
    RefinedMixture,
    StratifiedState,
    component_draws,
    first_draws,
    loss_terms,
    sampling_error,
    tidied,
)
from infimum.solvers.stratified_draws.missing_mass import (
    LARGEST_SHAPED_DIM,
    balanced,
    divergence,
    find_missing,
    look_draws,
    probes,
    shaped,
)
from infimum.target.target import Target

NEGLIGIBLE_PART = 1e-6
"""Part of the draws' error below which a search for one component ends, as for every Gaussian."""

CHART_STEPS = 8
"""Steps on the same draws for several components. Components can lower log q at their own draws by
moving weight to where there are no draws: on one set of draws, sixteen on a banana seemed to gain
0.06 nats more than they did, thirty-two 0.2."""

EXACT_NATS = 1e-14
"""Nats at which a search ends if the draws make no error."""

MOST_DRAWS = 8192
"""Most draws of all components together."""

ENOUGH_KL = TOLERANCE
"""Nats of KL at which no more components are tried: what the draws may cost."""

MOST_GRADIENTS = 200_000
"""Gradients after which no more components are tried. Two rings take 150,000 to 24 components."""

LEAST_PART, LEAST_GAIN = 0.25, 0.1
"""More components pay if they lower the KL by this part, or by so many nats."""

PATIENT_CHARTS = 4
"""Sets of new draws that may pass without the loss falling by the tolerance."""

ROUND_STEPS, LAST_ROUND_STEPS = 40, 120
"""Steps for each new number of components, and for the last."""

FIRST_PLACED = 2
"""Components placed beside a single one; later as many as there are, at most `MOST_PLACED`."""

LEAST_SHARE, LARGEST_SHARE = 0.05, 0.5
"""Limits of the weight that new components begin with, which is the part of Z that is missing."""


@dataclass(frozen=True)
class StratifiedDraws(Solver):
    """L-BFGS on draws of every component; components are added while that pays.

    Requires: a gradient of log p̂; a q that is a mixture of Gaussians.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL that may be lost to the finite number of draws.
    """

    order: ClassVar[int] = 2
    max_steps: int = 600
    tolerance: float = TOLERANCE

    def accepts(self, q: Distribution) -> bool:
        """Whether q is a mixture of Gaussians."""
        return isinstance(q, Pooled)

    def init(self, q: Pooled, info: Info, rng: np.random.Generator) -> StratifiedState:
        """Fix the first draws."""
        stack = q.stack()
        eps = component_draws(rng, len(stack), first_draws(stack), q.dim)
        return StratifiedState(
            q=q, info=info, eps=eps, rng=rng, candidate=stack, n_draws=eps[..., 0].size
        )

    def step(self, states: list[StratifiedState], target: Target) -> None:
        """Evaluate a batch of every state: a candidate, a look, or new components' shape."""
        for state in states:
            self._prepare(state)
        outcomes = evaluate_together(target, [state.points for state in states])
        for state, (log_p, gradient) in zip(states, outcomes, strict=True):
            state.steps += 1
            if state.purpose is Purpose.REFINE:
                self._refine(state, log_p, gradient)
            elif state.purpose is Purpose.LOOK:
                self._judge(state, log_p)
            elif state.purpose is Purpose.BALANCE:
                self._balance(state, log_p)
            else:
                self._place(state, gradient)
            if state.reason is None and state.steps >= self.max_steps:
                self._stop(state)

    def grow(self, state: StratifiedState) -> bool:
        """Go on with twice as many draws, or four times as many if the error calls for more."""
        k, m = len(state.stack), state.eps.shape[1]
        factor = 2 if state.error <= 8 * self.tolerance else 4
        more = min(factor * m, max(MOST_DRAWS, 8 * state.q.dim) // k)
        if more <= m:
            return False
        state.eps = component_draws(state.rng, k, more, state.q.dim)
        state.chart, state.reason, state.n_draws = None, None, k * more
        state.purpose, state.candidate, state.since = Purpose.REFINE, state.stack, 0
        state.entries = []
        return True

    def _prepare(self, state: StratifiedState) -> None:
        """Choose the points to evaluate."""
        if state.purpose is Purpose.REFINE:
            if state.chart is None:
                state.candidate = state.stack
            else:
                state.candidate = state.chart.move(state.descent.trial())
            state.points = state.candidate.push(state.eps).reshape(-1, state.q.dim)
        elif state.purpose in (Purpose.LOOK, Purpose.BALANCE):
            kl = np.inf if state.refined is None else state.refined.kl
            state.look = look_draws(state.stack, state.rng, kl)
            state.points = state.look.z
        else:
            state.points = probes(state.stack, state.missing)

    # ---- refining ------------------------------------------------------------------------------

    def _refine(self, state: StratifiedState, log_p: np.ndarray, gradient: np.ndarray) -> None:
        """Move to the candidate if the loss falls, or shorten the step."""
        stack, (k, m, d) = state.candidate, state.eps.shape
        counted = np.repeat(stack.weights / m, m)
        mixed = stack.evaluate(state.points)
        result = outcome(mixed.log_q, log_p, gradient, counted)
        state.info.count(state.points, result)
        state.since += 1
        theta = state.descent.trial()
        first = state.chart is None
        if first:
            state.chart = StackChart(stack)
            theta = np.zeros(state.chart.size)
        if not np.isfinite(result.loss):
            self._reject(state, first)
            return
        assert state.chart is not None
        inside = result.inside
        share = float(counted @ inside)
        residual, values = loss_terms(mixed, log_p, gradient, inside, counted)
        residual, values = residual.reshape(k, m, d), values.reshape(k, m)
        own = state.chart.of_density(theta, state.points, mixed.shares, counted * inside / share)
        if first:
            state.anchor = own
        loss = result.loss - float(theta @ state.anchor)
        if not first and not state.descent.falls(state.loss, loss):
            self._reject(state, first)
            return
        slope = state.chart.along_draws(theta, state.eps, residual, values) + own - state.anchor
        if first:
            state.descent.begin(slope, log_p[inside])
        else:
            state.descent.move(theta, slope)
        state.q, state.loss = state.q.restacked(stack), loss
        state.entry, state.charted = (loss, 0) if first else (state.entry, state.charted + 1)
        state.error = sampling_error(stack, state.eps, stack.whiten(residual), values)
        self._aim(state, first)

    def _aim(self, state: StratifiedState, first: bool) -> None:
        """Choose the next direction, or go on to look, or ask for more draws."""
        assert state.chart is not None
        decrement = state.descent.aim()
        state.record(decrement)
        part = 0.1 if state.error > self._wanted(state) else NEGLIGIBLE_PART
        left = max(EXACT_NATS, state.descent.rounding / 8, part * state.error)
        # A climb starts at the optimum of one component: what is left there is the draws' error.
        arrived = first and state.refined is None and state.info.kind == "climb"
        if len(state.chart.stack) > 1:
            if decrement <= left or state.charted >= CHART_STEPS:
                self._leave_chart(state)
        elif decrement <= left or (arrived and decrement <= state.error <= self._wanted(state)):
            self._exhaust(state, Reason.CONVERGED)
        elif state.since >= ROUND_STEPS:
            self._refined(state, Reason.STEPS)
        if state.chart is None:
            return
        state.descent.limit(float(np.abs(state.chart.steps(state.descent.direction)).max()))

    def _wanted(self, state: StratifiedState) -> float:
        """Error of the draws that is small enough; while components are added, a larger one is."""
        if state.last:
            return self.tolerance
        first = FIRST_NATS if len(state.stack) == 1 else FIRST_NATS_OF_MANY
        return max(self.tolerance, first if state.refined is None else KL_PART * state.refined.kl)

    def _leave_chart(self, state: StratifiedState) -> None:
        """Go on around the new q with new draws, unless the gain was no more than what they make.

        Minimised over the same n draws a loss falls by as much as these draws cost, on average.
        """
        gain = state.entry - state.loss
        left = self.tolerance if state.last else NEGLIGIBLE_PART
        state.entries.append(state.entry)
        old, new = state.entries[:-PATIENT_CHARTS], state.entries[-PATIENT_CHARTS:]
        idle = bool(old) and min(new) > min(old) - self.tolerance
        if idle or gain <= max(2 * state.error + left, state.descent.rounding):
            self._exhaust(state, Reason.CONVERGED)
        elif state.since >= (LAST_ROUND_STEPS if state.last else ROUND_STEPS):
            self._refined(state, Reason.CONVERGED if gain <= self.tolerance else Reason.STEPS)
        else:
            self._restart(state, state.stack)

    def _exhaust(self, state: StratifiedState, reason: Reason) -> None:
        """These draws have no more to say: take more draws, or go on to the weights."""
        enough = state.error <= self._wanted(state)
        if enough or not self.grow(state):
            self._refined(state, reason if enough else Reason.DRAWS)

    def _reject(self, state: StratifiedState, first: bool) -> None:
        """Shorten the step; if that is hopeless, this is as far as the draws lead."""
        assert state.chart is not None
        if first:
            if state.refined is None:
                state.reason = Reason.LOST
            else:
                self._end(state)
            return
        descent = state.descent
        if not descent.shorten():
            fine = descent.left <= max(100 * descent.rounding, self.tolerance)
            if not fine and descent.forget():
                self._aim(state, False)
            elif len(state.chart.stack) > 1:
                self._leave_chart(state)
            else:
                self._exhaust(state, Reason.ROUNDING if fine else Reason.STALLED)

    # ---- more and fewer components -------------------------------------------------------------

    def _refined(self, state: StratifiedState, reason: Reason) -> None:
        """Remove superfluous components; then look, or end."""
        fewer = tidied(state.stack)
        if len(fewer) < len(state.stack):
            if state.since < ROUND_STEPS and not state.last:
                self._restart(state, fewer)
                return
            state.q = state.q.restacked(fewer)
        if state.last and len(fewer) == 1:
            state.reason = reason
        elif state.last:
            state.purpose, state.ending = Purpose.BALANCE, reason
        else:
            state.purpose, state.ending = Purpose.LOOK, reason

    def _restart(self, state: StratifiedState, stack: Stack) -> None:
        """Refine these components, with new draws for each."""
        state.q, state.candidate = state.q.restacked(stack), stack
        m = max(first_draws(stack), min(state.eps.shape[1], MOST_DRAWS // len(stack)))
        state.eps = component_draws(state.rng, len(stack), m, stack.dim)
        state.n_draws = state.eps[..., 0].size
        state.chart, state.purpose = None, Purpose.REFINE

    def _judge(self, state: StratifiedState, log_p: np.ndarray) -> None:
        """Compare with fewer components; place more if that may pay."""
        assert state.look is not None
        state.info.count(state.points, Outcome(np.nan, log_p > -np.inf))
        before, stack, n_components = state.refined, state.stack, len(state.stack)
        elbo, kl = divergence(state.look, log_p)
        state.refined = RefinedMixture(
            state.q, state.loss, state.error, state.ending, elbo, kl.value
        )
        if before is not None:
            gain = elbo.value - before.elbo.value
            noise = 2 * float(np.hypot(before.elbo.se, elbo.se))
            pays = gain > max(noise, min(LEAST_PART * before.kl, LEAST_GAIN))
            if not pays:
                if not gain > noise or len(before.q.stack()) == 1:
                    state.refined = before
                self._end(state)
                return
        room = state.q.max_components - n_components
        n = min(max(FIRST_PLACED, n_components), MOST_PLACED, room)
        if not kl.value > ENOUGH_KL or n < 1 or state.info.n_gradients > MOST_GRADIENTS:
            self._end(state)
            return
        state.missing = find_missing(state.look, log_p, stack, n, state.rng)
        if not state.missing:
            self._end(state)
        elif state.q.dim > LARGEST_SHAPED_DIM:
            self._place(state, None)
        else:
            state.purpose = Purpose.SHAPE

    def _place(self, state: StratifiedState, gradient: np.ndarray | None) -> None:
        """Add the new components and refine all."""
        if gradient is not None:
            state.info.n_steps += 1
            state.info.n_gradients += len(gradient)
        new = shaped(state.stack, state.missing, gradient)
        state.since, state.eps, state.entries = 0, state.eps[:, :0], []
        mass = sum(place.mass for place in state.missing)
        self._restart(
            state, state.stack.joined(new, float(np.clip(mass, LEAST_SHARE, LARGEST_SHARE)))
        )

    def _balance(self, state: StratifiedState, log_p: np.ndarray) -> None:
        """Give every component the mass that importance weights find at it, and end."""
        assert state.look is not None
        state.info.count(state.points, Outcome(np.nan, log_p > -np.inf))
        state.q = state.q.restacked(balanced(state.look, log_p, state.stack))
        state.reason = state.ending

    def _stop(self, state: StratifiedState) -> None:
        """At the limit of steps: settle the best so far, or stop where it is."""
        if state.refined is None or (state.last and state.since >= LAST_ROUND_STEPS):
            state.reason = Reason.STEPS
        elif not state.last:
            self._end(state)

    def _end(self, state: StratifiedState) -> None:
        """Return to the best mixture that was judged; settle it on more draws if it has too few."""
        assert state.refined is not None
        best = state.refined
        state.q, state.loss, state.error, state.last = best.q, best.loss, best.error, True
        state.reason = None
        if state.error > self.tolerance:
            if not self.grow(state):
                self._refined(state, Reason.DRAWS)
        elif not best.reason.converged:
            state.since = 0
            self._restart(state, state.stack)
        else:
            self._refined(state, best.reason)
