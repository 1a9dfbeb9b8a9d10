"""Natural gradient with the exact expected Hessian on a sparse pattern.

q = N(m, Λ⁻¹) minimises KL[q ‖ p̂] where E_q[∇log p̂] = 0 and Λ = A = -E_q[∇²log p̂] (Bonnet 1964;
Price 1958; Opper & Archambeau 2009). A step replaces Λ by A and m by m + Λ⁻¹ E_q[∇log p̂], both
expectations over few antithetic draws: exact for a Gaussian target with any number of them. Steps
are damped until the loss falls, and accelerated by what the last few have shown (Anderson 1965):
plain ones converge slowly along scales of hierarchies, whose optimum moves with what they scale.

The loss is estimated with the quadratic of curvature A as a control variate, whose expectation
under q is known, so that it is as exact as the steps are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import equinox as eqx
import numpy as np

from infimum.base.errors import UnsuitableError, coded
from infimum.families._distribution import Distribution, SparseGaussian
from infimum.objective.loss import outcome
from infimum.solvers._solver import TOLERANCE, Info, Reason, Solver, State
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
from infimum.structure.hessian import Evaluated, hessians
from infimum.structure.pattern import missing
from infimum.target.target import Target

FIRST_DRAWS = 8
"""Draws to begin with: the Hessian is averaged, so that these already give every curvature."""

MOST_DRAWS = 8192
"""Largest number of draws."""

MOST_NUMBERS = 2**24
"""Numbers in a batch of draws (128 MB) that they do not outgrow."""

NEGLIGIBLE_PART = 1e-3
"""Optimisation ends when it has left this part of the draws' error. Of three models (intercepts of
d = 3,003, a walk of 2,000, crossed effects of 1,543; two seeds) 1e-2 spared 7 % of the gradients
of one, 1e-4 cost 4 % more of another."""

ROUGH_PART = 1.0
"""The same for draws that are too few and will be replaced by more, of their error in all: with a
third of that two crossed sets of effects at d = 20,003 took 59 steps, of which 22 at too few."""

SETTLED_PART = 0.1
"""Part of the draws' error at which a search that finds no way down has arrived, if that is not
within the tolerance anyway: the loss and the steps are estimated from the same draws in two ways,
which agree no better than that."""

NEARER_FACTOR = 0.9
"""Factor by which what is left must fall for a step that the noise of the loss hides. On the same
models 0.7 and 0.97 took the same steps but in one fit, 8 % fewer with 0.7."""

EXACT_NATS = 1e-14
"""Nats at which optimisation ends where the draws make no error: a Gaussian target."""

REMEMBERED_STEPS = 5
"""Steps that acceleration remembers. On the same models 0, 2 and 10 ended one walk each at the
limit of steps, and took up to twice the gradients elsewhere."""

SMALLEST_STEP = 1e-6
"""A damping below this has found no way down."""

HIDDEN_STEP = 0.1
"""A damping below this, while draws are too few, says that their noise hides the way down. On the
same models only a walk noticed: 17 % more gradients with 0.01, 14 % fewer with 0.4."""

MOST_NOISE = 0.5
"""Nats of sampling error, for every `TOLERANCE_DIM` coordinates, above which the estimate says
nothing yet: q is far from the optimum. On the same models 0.1 took the same steps."""

FIRST_TRUST = 2.0
"""sds of q that the first step may move any coordinate, given those that come after it in the
order; a step that succeeds doubles it, one that fails halves it. Scales of hierarchies of 30,000
groups otherwise leap, from a cold start, to where the density overflows. On smaller models 0.5 and
10 took the same steps."""

HOPELESS_FACTOR = 100.0
BEHIND_NATS = 50.0
"""A start ends that is so many times what it is about to gain, and so many nats, behind another.
Hierarchies have a second optimum where a scale is nearly zero, in which ascents end: it is wide and
flat, and hundreds of nats below."""

DEPENDENT_PART = 1e-8
"""Singular values, as a part of the largest, below which remembered steps say nothing new."""

FIRST_REACH = 3.0
"""sds of q that the first accelerated step may move any coordinate; each that succeeds doubles it,
each that fails halves it twice. On the same models 0.5 and 20 took the same steps."""

MOST_NARROWINGS = 20
"""Times that a start is made half as wide for want of draws with a density: 1e-6 of its width."""


class MeanPrecision(NamedTuple):
    """Where q may be: mean (d,) and values of the precision, its diagonal and its edges."""

    mean: np.ndarray
    precision: np.ndarray

    def plus(self, other: MeanPrecision, factor: float = 1.0) -> MeanPrecision:
        """Entry by entry."""
        return MeanPrecision(
            self.mean + factor * other.mean, self.precision + factor * other.precision
        )


@dataclass(kw_only=True)
class SparseNewtonState(State):
    """`place` is that of q; `candidate`, at `trial`, is evaluated next.

    Attributes
    ----------
    pull
        Mean score under q.
    goal
        Where a whole step from q leads; None before q has been evaluated with these draws.
    error
        Nats for every `TOLERANCE_DIM` coordinates that the draws' sampling error costs.
    total
        Nats that it costs in all.
    last
        The last place seen with these draws, and the whole step from there.
    changes
        How place and whole step have changed from one place to the next.
    """

    q: SparseGaussian
    rng: np.random.Generator
    eps: np.ndarray
    place: MeanPrecision
    trial: MeanPrecision
    candidate: SparseGaussian
    pull: np.ndarray | None = None
    goal: MeanPrecision | None = None
    decrement: float = np.inf
    doubt: float = 0.0
    error: float = np.inf
    total: float = np.inf
    rounding: float = 0.0
    rho: float = 1.0
    accelerated: bool = False
    reach: float = FIRST_REACH
    trust: float = FIRST_TRUST
    last: tuple[MeanPrecision, MeanPrecision] | None = None
    changes: list[tuple[MeanPrecision, MeanPrecision]] = field(default_factory=list)
    steps: int = 0
    failures: int = 0


@dataclass(frozen=True)
class SparseNewton(Solver):
    """Damped, accelerated natural-gradient steps on 8 draws, multiplied while they are too few.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL, for every hundred coordinates, that may be lost to the finite number of draws.
    draws
        How many draws to begin with, rounded up to a multiple of 8.
    """

    order: ClassVar[int] = 1
    max_steps: int = 150
    tolerance: float = TOLERANCE
    draws: int = FIRST_DRAWS

    def accepts(self, q: Distribution) -> bool:
        """Gaussians with a sparse precision."""
        return isinstance(q, SparseGaussian)

    def init(self, q: SparseGaussian, info: Info, rng: np.random.Generator) -> SparseNewtonState:
        """Fix the first draws."""
        eps = stratified_draws(rng, self.draws, q.dim)
        place = MeanPrecision(np.asarray(q.mean), q.precision())
        return SparseNewtonState(
            q=q,
            info=info,
            rng=rng,
            eps=eps,
            place=place,
            trial=place,
            candidate=q,
            n_draws=len(eps),
        )

    def step(self, states: list[SparseNewtonState], target: Target) -> None:
        """Evaluate every candidate; move to it or damp the step."""
        for state in states:
            z = state.candidate.push(state.eps)
            evaluated = hessians(target, state.q.edges, z, GROUPS)
            self._advance(state, z, evaluated)
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
        """Go on with as many draws as the error calls for, at least twice as many."""
        wanted = 2.0 ** np.ceil(np.log2(max(2.0, min(4.0, state.error / self.tolerance))))
        most = min(MOST_DRAWS, MOST_NUMBERS // state.q.dim)
        n = int(min(most // (2 * GROUPS) * 2 * GROUPS, wanted * len(state.eps)))
        if n <= len(state.eps):
            return False
        state.eps = stratified_draws(state.rng, n, state.q.dim)
        state.n_draws, state.reason, state.goal, state.last = len(state.eps), None, None, None
        state.trial, state.candidate, state.rho = state.place, state.q, 1.0
        return True

    def _verify(self, state: SparseNewtonState, target: Target) -> None:
        """Check the pattern where q is."""
        z = state.q.push(state.rng.standard_normal((1, state.q.dim)))
        rows = missing(target, state.q.edges, z, state.rng)[0]
        if rows.size:
            names = ", ".join(repr(target.space.free_names[i]) for i in rows[:5])
            raise UnsuitableError(
                coded(
                    "E223",
                    f"the Hessian of {target.name!r} couples coordinates at the optimum that it "
                    f"does not couple elsewhere, in {rows.size} rows ({names}): give the sparse "
                    'family all pairs as edges, or fit "fullrank" or "lowrank"',
                )
            )

    def _advance(self, state: SparseNewtonState, z: np.ndarray, evaluated: Evaluated) -> None:
        q = state.candidate
        log_q = np.asarray(q.log_prob_base(state.eps))
        result = outcome(log_q, evaluated.log_p, evaluated.gradient)
        state.info.count(z, result)
        state.steps += 1
        seen = None
        if np.isfinite(result.loss):
            seen = look(q, state.eps, z, evaluated, result)
        if seen is None:
            self._reject(state)
        else:
            log_p = evaluated.log_p[result.inside]
            self._judge(state, seen, 8 * np.finfo(float).eps * float(np.abs(log_p).max()))
        if state.reason is None and state.steps >= self.max_steps:
            state.reason = Reason.STEPS

    def _judge(self, state: SparseNewtonState, seen: GroupEstimates, rounding: float) -> None:
        """Move to the candidate if the loss, taken high, falls; or noise hides it and q is nearer.

        Few draws from a q with heavy tails under p̂ can make a bad q look good by the control
        variate; they then disagree, so the loss is taken at two standard errors above.
        """
        q, pull = state.candidate, seen.pulls.mean(axis=0)
        precision, goal = bounded(q, state.trial.precision, seen.curvatures.mean(axis=0))
        decrement = decrease(q, pull, precision, goal)
        gain = state.loss + state.doubt - seen.loss - seen.doubt
        hidden = gain >= -state.total - state.rounding
        nearer = hidden and decrement < NEARER_FACTOR * state.decrement
        if state.goal is not None and not (gain > state.rounding or nearer):
            self._reject(state)
            return
        state.q, state.place, state.loss, state.decrement = q, state.trial, seen.loss, decrement
        state.pull, state.rounding, state.doubt = pull, rounding, seen.doubt
        state.goal = MeanPrecision(goal.push(goal.whiten(pull)), precision)
        state.error, state.total = sampling_error(q, seen, state.rng)
        state.info.record(state.loss, decrement, q)
        state.reach *= 2.0 if state.accelerated else 1.0
        state.rho, state.trust = min(1.0, 2 * state.rho), 2 * state.trust
        self._remember(state)
        if self._ended(state):
            return
        state.accelerated = state.rho == 1.0 and self._accelerate(state)
        if not state.accelerated:
            self._damp(state)

    def _ended(self, state: SparseNewtonState) -> bool:
        """Say why the search ends, if it does; or go on with more draws."""
        enough = state.error <= self.tolerance
        noise = min(state.total, MOST_NOISE * max(1.0, state.q.dim / TOLERANCE_DIM))
        part = NEGLIGIBLE_PART * state.error if enough else ROUGH_PART * noise
        left = max(EXACT_NATS, state.rounding / 8, part)
        if state.decrement > left:
            return False
        if enough:
            state.reason = Reason.CONVERGED
        elif not self.grow(state):
            state.reason = Reason.DRAWS
        return True

    def _damp(self, state: SparseNewtonState) -> None:
        """Next try a part rho of the whole step."""
        assert state.goal is not None
        assert state.pull is not None
        rho, place = state.rho, state.place
        precision = (1 - rho) * place.precision + rho * state.goal.precision
        moved = state.q.placed(place.mean, precision)
        if moved is None:  # by rounding alone: both are positive definite
            state.reason = Reason.STALLED
            return
        step = np.asarray(state.q.pull_back(moved.push(rho * moved.whiten(state.pull))))
        mean = np.asarray(state.q.push(np.clip(step, -state.trust, state.trust)))
        state.trial = MeanPrecision(mean, precision)
        state.candidate = eqx.tree_at(lambda q: q.mean, moved, mean)

    def _remember(self, state: SparseNewtonState) -> None:
        """Keep how the whole step has changed since the last place seen with these draws."""
        assert state.goal is not None
        step = state.goal.plus(state.place, -1.0)
        if state.last is not None:
            place, before = state.last
            change = (state.place.plus(place, -1.0), step.plus(before, -1.0))
            state.changes = [*state.changes, change][-REMEMBERED_STEPS:]
        state.last = (state.place, step)

    def _accelerate(self, state: SparseNewtonState) -> bool:
        """Next try where the whole step, seen as linear in the place, would vanish.

        If that is uphill the loss curves downwards, and the way of the last step is gone further.
        Distances are measured by q: the mean whitened, the precision's diagonal relative to itself.
        """
        if not state.changes or state.last is None:
            return False
        d = state.q.dim

        def seen_from_q(step: MeanPrecision) -> np.ndarray:
            mean = np.asarray(state.q.pull_back(state.place.mean + step.mean))
            diagonal = step.precision[:d] / state.place.precision[:d]
            return np.concatenate([mean, diagonal / np.sqrt(2)])

        place, step = state.last
        columns = np.stack([seen_from_q(change) for _, change in state.changes], axis=1)
        way = seen_from_q(step)
        weights = np.linalg.lstsq(columns, way, rcond=DEPENDENT_PART)[0]
        move = step
        for weight, (moved, changed) in zip(weights, state.changes, strict=True):
            move = move.plus(moved, -weight).plus(changed, -weight)
        last = state.changes[-1][0]
        along = seen_from_q(last)
        if seen_from_q(move) @ way <= 0 and along @ way > 0:  # where it vanishes is no minimum
            further = state.reach / float(np.abs(along).max())
            move = MeanPrecision(step.mean + further * last.mean, step.precision)
        far = float(np.abs(seen_from_q(move)).max())
        trial = place.plus(move, min(1.0, state.reach / far) if far > 0 else 1.0)
        candidate = state.q.placed(*trial)
        if candidate is None:
            trial = MeanPrecision(trial.mean, place.plus(step).precision)
            candidate = state.q.placed(*trial)
        if candidate is None or not np.isfinite(trial.mean).all():
            return False
        state.trial, state.candidate = trial, candidate
        return True

    def _reject(self, state: SparseNewtonState) -> None:
        """Back to the plain step, or a shorter one; a start whose draws see nothing is narrowed."""
        if state.goal is None:
            state.failures += 1
            precision = 4.0 * state.trial.precision
            narrow = state.candidate.placed(state.trial.mean, precision)
            if narrow is None or state.failures > MOST_NARROWINGS:
                state.reason = Reason.LOST
                return
            state.trial, state.candidate = MeanPrecision(state.trial.mean, precision), narrow
            return
        if state.accelerated:
            state.accelerated, state.changes, state.reach = False, [], 0.25 * state.reach
        else:
            state.rho, state.trust = 0.5 * state.rho, 0.5 * state.trust
        hidden = state.rho < HIDDEN_STEP and self.tolerance < state.error <= MOST_NOISE
        enough = state.error <= self.tolerance
        little = max(
            SETTLED_PART * state.total, self.tolerance * max(1.0, state.q.dim / TOLERANCE_DIM)
        )
        if state.rho < HIDDEN_STEP and enough and state.decrement <= little:
            state.reason = Reason.CONVERGED
            return
        lost = state.rho < SMALLEST_STEP or state.decrement <= state.total
        if hidden and lost and self.grow(state):
            return
        if state.rho * state.decrement <= state.rounding or state.rho < SMALLEST_STEP:
            fine = state.decrement <= max(100 * state.rounding, 0.1 * min(state.error, MOST_NOISE))
            state.reason = Reason.ROUNDING if fine else Reason.STALLED
            return
        self._damp(state)
