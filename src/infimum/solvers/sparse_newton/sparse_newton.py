"""Natural gradient with the exact expected Hessian on a sparse pattern.

q = N(m, Λ⁻¹) minimises KL[q ‖ p̂] where E_q[∇log p̂] = 0 and Λ = A = -E_q[∇²log p̂] (Bonnet 1964;
Price 1958; Opper & Archambeau 2009). A step replaces Λ by A and m by m + Λ⁻¹ E_q[∇log p̂], both
expectations over few antithetic draws: exact for a Gaussian target with any number of them. Steps
are damped until the loss falls, and accelerated by what the last few have shown (Anderson 1965).

The loss is estimated with the quadratic of curvature A as a control variate, whose expectation
under q is known, so that the loss is as exact as the steps are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._distribution import Distribution, SparseGaussian
from infimum.objective.loss import outcome
from infimum.solvers._solver import TOLERANCE, Info, Reason, Solver
from infimum.solvers.sparse_newton.acceleration import MeanPrecision
from infimum.solvers.sparse_newton.averaging import BATCHES_EACH, FLATTEST, Averaging
from infimum.solvers.sparse_newton.expected_hessian import (
    GROUPS,
    TOLERANCE_DIM,
    GroupEstimates,
    bounded,
    decrease,
    look,
    sampling_error,
    stratified_draws,
)
from infimum.solvers.sparse_newton.profile import profile_at, scales_of
from infimum.solvers.sparse_newton.state import SparseNewtonState
from infimum.structure.hessian import Evaluated, hessians
from infimum.structure.pattern import incomplete_rows
from infimum.target.target import Target

FIRST_DRAWS = 8
"""Draws to begin with: the Hessian is averaged, so that these already give every curvature."""

MOST_DRAWS = 8192
"""Largest number of draws."""

MOST_NUMBERS = 2**24
"""Most numbers in a batch of draws (128 MB)."""

NEGLIGIBLE_PART = 1e-3
"""Optimisation ends when what is left is this part of the draws' error. On three models (intercepts
of d = 3,003, a walk of 2,000, crossed effects of 1,543; two seeds) 1e-2 saved 7 % of the gradients
for one, 1e-4 cost 4 % more for another."""

ROUGH_PART = 1.0
"""The same for draws that are too few and will be replaced by more, as a part of their whole error.
With a third of that, two crossed sets of effects at d = 20,003 took 59 steps, 22 of them on too few
draws."""

ROUGH_NATS = 0.2
"""The same in nats for every hundred coordinates, if an average over fresh draws follows."""

NEAR_NATS = 1.0
"""Nats for every hundred coordinates that may be left where a rejected step lets fresh draws
follow."""

EXACT_PART = 1e-3
"""Part of the tolerance below which the first draws are enough, and nothing follows: their error is
an estimate from four groups, and was up to twenty times too small after a fit to eight draws."""

SETTLED_PART = 0.1
"""Part of the draws' error below which a search that finds no way down has arrived. The loss and
the steps are estimated from the same draws in two ways, which agree no better than that."""

NEARER_FACTOR = 0.9
"""Factor by which what is left must fall for a step to be accepted if noise of the loss hides its
gain. On the same models 0.7 and 0.97 took the same steps, except in one fit: 8 % fewer with 0.7."""

EXACT_NATS = 1e-14
"""Nats at which optimisation ends if the draws make no error, as for a Gaussian target."""

SMALLEST_STEP = 1e-6
"""Part ρ of a whole step below which there is no way down."""

HIDDEN_STEP = 0.1
"""Part ρ of a whole step below which the noise of too few draws hides the way down. On the same
models only a walk was affected: 17 % more gradients with 0.01, 14 % fewer with 0.4."""

MOST_NOISE = 0.5
"""Nats of sampling error, for every `TOLERANCE_DIM` coordinates, above which the estimate says
nothing yet: q is far from the optimum. On the same models 0.1 took the same steps."""

HOPELESS_FACTOR = 100.0
BEHIND_NATS = 50.0
"""A start ends if it is behind another one by so many times what it is about to gain, and by so
many nats. Hierarchies have a second optimum where a scale is nearly zero, in which ascents end. It
is wide and flat, and its loss is hundreds of nats higher."""

MOST_NARROWINGS = 20
"""Times that a start is made half as wide because too few of its draws have a density: the last is
1e-6 as wide."""


@dataclass(frozen=True)
class SparseNewton(Solver):
    """Damped, accelerated natural-gradient steps on 8 draws, and what follows if these are too few.

    Requires: second derivatives of log p̂; a Gaussian q with a sparse precision, whose edges hold
    every entry of the Hessian.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL, for every hundred coordinates, that may be lost to the finite number of draws.
    draws
        How many draws to begin with, rounded up to a multiple of 8.
    end
        What follows where the first draws end if they are too few for the tolerance: "multiply"
        them; "average" the points that fresh draws lead to, which takes fewer; or "stop".
    at_once
        Whether to average from the start, because q is near the optimum.
    """

    order: ClassVar[int] = 1
    max_steps: int = 150
    tolerance: float = TOLERANCE
    draws: int = FIRST_DRAWS
    end: Literal["multiply", "average", "stop"] = "multiply"
    at_once: bool = False

    def accepts(self, q: Distribution) -> bool:
        """Whether q is a Gaussian with a sparse precision."""
        return isinstance(q, SparseGaussian)

    def init(self, q: SparseGaussian, info: Info, rng: np.random.Generator) -> SparseNewtonState:
        """Fix the first draws."""
        eps = stratified_draws(rng, self.draws, q.dim)
        point = MeanPrecision(np.asarray(q.mean), q.precision())
        return SparseNewtonState(
            q=q,
            info=info,
            rng=rng,
            eps=eps,
            point=point,
            trial=point,
            candidate=q,
            n_draws=len(eps),
            average=Averaging() if self.at_once else None,
        )

    def step(self, states: list[SparseNewtonState], target: Target) -> None:
        """Evaluate every candidate; move to it or damp the step."""
        for state in states:
            if state.average is not None and not state.average.n_batches:
                self._find_profile(state, state.average, target)
            z = state.candidate.push(state.eps)
            scale = 1 / np.sqrt(state.trial.precision[: state.q.dim])
            evaluated = hessians(target, state.q.edges, z, GROUPS, scale)
            self._advance(state, z, evaluated)
            state.info.n_gradients += evaluated.n_more
            if state.reason is not None and state.reason.converged:
                self._verify(state, target)
        best = min((state.loss + state.doubt for state in states), default=np.inf)
        for state in states:
            behind = state.loss - state.doubt - best
            if state.reason is None and behind > max(
                HOPELESS_FACTOR * state.decrement, BEHIND_NATS
            ):
                state.reason = Reason.OUTRUN

    def grow(self, state: SparseNewtonState) -> bool:
        """Go on with as many draws as the error calls for, at least twice as many; or average."""
        if self.end != "multiply":
            return self.end == "average" and self._go_on(state)
        growth = 2.0 ** np.ceil(np.log2(max(2.0, min(4.0, state.error / self.tolerance))))
        most = min(MOST_DRAWS, MOST_NUMBERS // state.q.dim)
        n = int(min(most // (2 * GROUPS) * 2 * GROUPS, growth * len(state.eps)))
        if n <= len(state.eps):
            return False
        state.eps = stratified_draws(state.rng, n, state.q.dim)
        # What the old draws said of q is void; how steps changed from point to point is kept.
        state.n_draws, state.reason, state.goal, state.acceleration.last = n, None, None, None
        state.trial, state.candidate, state.rho = state.point, state.q, 1.0
        return True

    def _verify(self, state: SparseNewtonState, target: Target) -> None:
        """Raise UnsuitableError if the Hessian where q is has entries outside the pattern."""
        z = state.q.push(state.rng.standard_normal((1, state.q.dim)))
        scale = 1 / np.sqrt(state.point.precision[: state.q.dim])
        rows = incomplete_rows(target, state.q.edges, z, state.rng, scale)[0]
        if rows.size:
            names = ", ".join(repr(target.space.free_names[i]) for i in rows[:5])
            raise coded_error(
                UnsuitableError,
                "E223",
                f"the Hessian of {target.name!r} couples coordinates at the optimum that it "
                f"does not couple elsewhere, in {rows.size} rows ({names}): give the sparse "
                'family all pairs as edges, or fit "fullrank" or "lowrank"',
            )

    def _advance(self, state: SparseNewtonState, z: np.ndarray, evaluated: Evaluated) -> None:
        q = state.candidate
        log_q = np.asarray(q.log_prob_base(state.eps))
        result = outcome(log_q, evaluated.log_p, evaluated.gradient)
        state.count(z, result)
        estimates = None
        if np.isfinite(result.loss):
            estimates = look(q, state.eps, z, evaluated, result)
        if state.average is not None:
            self._take_in(state, state.average, estimates)
        elif estimates is None:
            self._reject(state)
        else:
            log_p = evaluated.log_p[result.inside]
            self._judge(state, estimates, 8 * np.finfo(float).eps * float(np.abs(log_p).max()))
        self.stop_at_limit(state)

    def _judge(self, state: SparseNewtonState, estimates: GroupEstimates, rounding: float) -> None:
        """Move to the candidate if the loss falls; or if noise may hide that, and q is nearer.

        The loss is taken at two standard errors above its estimate. If p̂ has tails in which few
        draws say little, the control variate can make a bad q look good; the groups of draws then
        disagree, and the standard error is large.
        """
        q, pull = state.candidate, estimates.pulls.mean(axis=0)
        precision, goal = bounded(q, state.trial.precision, estimates.curvatures.mean(axis=0))
        decrement = decrease(q, pull, precision, goal)
        gain = state.loss + state.doubt - estimates.loss - estimates.doubt
        hidden = gain >= -state.total - state.rounding
        nearer = hidden and decrement < NEARER_FACTOR * state.decrement
        if state.goal is not None and not (gain > state.rounding or nearer):
            self._reject(state)
            return
        state.q, state.point, state.loss, state.decrement = (
            q,
            state.trial,
            estimates.loss,
            decrement,
        )
        state.pull, state.rounding, state.doubt = pull, rounding, estimates.doubt
        state.goal = MeanPrecision(goal.push(goal.whiten(pull)), precision)
        state.error, state.total = sampling_error(q, estimates, state.rng)
        state.record(decrement)
        state.acceleration.succeed()
        state.lengthen()
        state.trust *= 2
        state.acceleration.remember(state.point, state.goal)
        if not self._settled(state):
            self._aim(state)

    def _go_on(self, state: SparseNewtonState) -> bool:
        """Go on with fresh draws; if there were some before, to a smaller error."""
        if state.average is None:
            state.average = Averaging()
        else:
            state.average.factor *= 0.5
        if state.average.n_draws >= MOST_DRAWS:
            return False
        state.trial, state.candidate, state.reason = state.point, state.q, None
        state.eps = stratified_draws(state.rng, len(state.eps), state.q.dim)
        return True

    def _find_profile(self, state: SparseNewtonState, average: Averaging, target: Target) -> None:
        """See which coordinates are scales, and how the others follow them."""
        before = target.counter.n_gradients
        theta = scales_of(target, state.q, state.rng)
        goal = (
            None if state.goal is None else state.q.placed(state.point.mean, state.goal.precision)
        )
        average.profile = (
            profile_at(target, goal or state.q, theta, FLATTEST) if len(theta) else None
        )
        state.info.n_gradients += target.counter.n_gradients - before

    def _take_in(
        self, state: SparseNewtonState, average: Averaging, estimates: GroupEstimates | None
    ) -> None:
        """Put where fresh draws lead into the average; end, or go on from there."""
        lost = estimates is None or estimates.loss - estimates.doubt > state.loss + BEHIND_NATS
        batch = average.batch(state.candidate, state.trial, None if lost else estimates)
        n = len(state.eps)
        if batch is None or estimates is None:  # back to the average, and on in shorter steps
            average.part *= 0.5
            state.trial, state.candidate = state.point, state.q
        else:
            errors = sampling_error(state.candidate, estimates, state.rng)
            state.trial, state.candidate = batch
            state.point = average.add(state.trial, estimates.loss, *errors, n)
            state.q = state.candidate.placed(*state.point) or state.candidate
            state.loss, state.n_draws = average.loss, average.n_draws
            state.error, state.total = average.error, average.total
            state.decrement = state.total
            state.record(state.total)
            n *= 1 if average.n_batches % BATCHES_EACH else 2
        if average.part < SMALLEST_STEP:
            state.stall(False)
        elif average.drifts:
            state.average = Averaging(part=average.part, factor=average.factor)
            state.point, state.q = state.trial, state.candidate
        elif average.settled(self.tolerance):
            state.reason = Reason.CONVERGED
        elif average.n_draws >= MOST_DRAWS:
            state.reason = Reason.DRAWS
        else:
            most = max(1, MOST_NUMBERS // state.q.dim // (2 * GROUPS)) * 2 * GROUPS
            state.eps = stratified_draws(state.rng, min(n, most), state.q.dim)

    def _aim(self, state: SparseNewtonState) -> None:
        """Next try an accelerated step, if whole steps succeed; else a plain one."""
        ahead = state.acceleration.trial(state.q) if state.rho == 1.0 else None
        state.acceleration.in_use = ahead is not None
        if ahead is None:
            self._damp(state)
        else:
            state.trial, state.candidate = ahead

    def _settled(self, state: SparseNewtonState) -> bool:
        """End, or go on with more draws, if next to nothing is left; False if something is."""
        hundreds = max(1.0, state.q.dim / TOLERANCE_DIM)
        noise = min(state.total, MOST_NOISE * hundreds)
        if self.end == "multiply":
            enough = state.error <= self.tolerance
            rough = ROUGH_PART * noise
        else:
            enough = state.error <= EXACT_PART * self.tolerance
            rough = max(noise, ROUGH_NATS * hundreds)
        part = NEGLIGIBLE_PART * state.error if enough else rough
        left = max(EXACT_NATS, state.rounding / 8, part)
        if state.decrement > left:
            return False
        self.settle(state, enough)
        return True

    def _damp(self, state: SparseNewtonState) -> None:
        """Next try the part ρ of the whole step, no coordinate further than `trust`."""
        assert state.goal is not None
        assert state.pull is not None
        rho, point = state.rho, state.point
        precision = (1 - rho) * point.precision + rho * state.goal.precision
        moved = state.q.placed(point.mean, precision)
        if moved is None:  # by rounding alone: both are positive definite
            state.reason = Reason.STALLED
            return
        step = np.asarray(state.q.pull_back(moved.push(rho * moved.whiten(state.pull))))
        mean = np.asarray(state.q.push(np.clip(step, -state.trust, state.trust)))
        state.trial = MeanPrecision(mean, precision)
        state.candidate = eqx.tree_at(lambda q: q.mean, moved, mean)

    def _reject(self, state: SparseNewtonState) -> None:
        """Go back to the plain step, or try a shorter one, or end."""
        if state.goal is None:
            self._narrow(state)
            return
        accelerated = state.acceleration.in_use
        if accelerated:
            state.acceleration.fail()
        else:
            state.shorten()
            state.trust *= 0.5
        # Far down a damping, ask whether noise is all that is in the way. With enough draws, and
        # little left, the search has arrived.
        hidden = state.rho < HIDDEN_STEP and self.tolerance < state.error <= MOST_NOISE
        enough = state.error <= self.tolerance
        little = max(
            SETTLED_PART * state.total, self.tolerance * max(1.0, state.q.dim / TOLERANCE_DIM)
        )
        if state.rho < HIDDEN_STEP and enough and state.decrement <= little:
            state.reason = Reason.CONVERGED
            return
        # With too few draws that say something, their noise hides the way down: take more.
        lost = state.rho < SMALLEST_STEP or state.decrement <= state.total
        near = state.decrement <= NEAR_NATS * max(1.0, state.q.dim / TOLERANCE_DIM)
        inexact = self.end != "multiply" and state.error > EXACT_PART * self.tolerance
        if inexact and near and not accelerated:
            self.settle(state, False)
            return
        if hidden and lost and self.grow(state):
            return
        # A step this short gains less than the rounding of the loss: there is no way down.
        if state.rho * state.decrement <= state.rounding or state.rho < SMALLEST_STEP:
            fine = state.decrement <= max(100 * state.rounding, 0.1 * min(state.error, MOST_NOISE))
            state.stall(fine)
            return
        self._damp(state)

    def _narrow(self, state: SparseNewtonState) -> None:
        """Halve the width of a start of which too few draws have a density."""
        state.narrowings += 1
        precision = 4.0 * state.trial.precision
        narrow = state.candidate.placed(state.trial.mean, precision)
        if narrow is None or state.narrowings > MOST_NARROWINGS:
            state.reason = Reason.LOST
            return
        state.trial, state.candidate = MeanPrecision(state.trial.mean, precision), narrow
