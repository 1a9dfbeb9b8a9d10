"""Natural gradient on few fixed draws: the way from a start to the neighbourhood of the optimum.

q = N(m, LLᵀ) with z_i = m + L ε_i and whitened scores g_i = Lᵀ∇log p̂(z_i). By Stein's identity
-(1/M) Σ g_i ε_iᵀ estimates the whitened curvature -E_q[Lᵀ ∇²log p̂ L] from gradients alone, exactly
so for quadratic log p̂ when the draws are whitened. The minimiser has curvature I and mean score 0;
steps towards it are damped until the loss over the fixed draws falls.

Opper & Archambeau (2009); Khan & Rue (2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from infimum.families._distribution import LARGEST_DENSE, Distribution, NaturalPushforward
from infimum.objective.draws import structured_draws
from infimum.objective.loss import outcome
from infimum.solvers._solver import Info, Reason, Solver, State, evaluate_together, narrower
from infimum.target.target import Target

HANDOVER_NATS = 0.05
"""Nats of predicted decrease below which a quasi-Newton method on more draws takes over. Few draws
until 0.05 nats, then more, reached 0.1 nats after a median of 188 gradients on 47 posteriors."""

MOST_NOISE = 0.5
"""Nats of sampling error up to which few draws may end on their own noise; where the estimate is
larger, q is far from the optimum and the error says nothing yet."""

SMALLEST_STEP = 1e-6
"""A damping below this has found no way down."""


@dataclass(kw_only=True)
class NaturalGradientState(State):
    """`candidate` is evaluated next; `pull` and `curvature` belong to `q`."""

    q: NaturalPushforward
    eps: np.ndarray
    candidate: NaturalPushforward
    pull: np.ndarray | None = None
    curvature: np.ndarray | None = None
    rho: float = 1.0
    steps: int = 0


@dataclass(frozen=True)
class NaturalGradient(Solver):
    """Damped natural-gradient steps on M = 2(d + 2) whitened draws.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    handover
        Predicted decrease in nats at which it ends; sampling error of the draws ends it earlier.
    """

    order: ClassVar[int] = 1
    max_steps: int = 40
    handover: float = HANDOVER_NATS

    def accepts(self, q: Distribution) -> bool:
        """Gaussians, and what is made from one, of up to `LARGEST_DENSE` dimensions."""
        return isinstance(q, NaturalPushforward) and q.dim <= LARGEST_DENSE

    def init(
        self, q: NaturalPushforward, info: Info, rng: np.random.Generator
    ) -> NaturalGradientState:
        """Fix the draws."""
        eps = structured_draws(rng, 2 * (q.dim + 2), q.dim)
        return NaturalGradientState(q=q, info=info, eps=eps, candidate=q, n_draws=len(eps))

    def grow(self, state: NaturalGradientState) -> bool:
        """Few draws are this solver's point: it never takes more."""
        return False

    def step(self, states: list[NaturalGradientState], target: Target) -> None:
        """Evaluate every candidate; move to it or damp the step."""
        batches = [state.candidate.push(state.eps) for state in states]
        outcomes = evaluate_together(target, batches)
        for state, z, (log_p, gradient) in zip(states, batches, outcomes, strict=True):
            self._advance(state, z, log_p, gradient)

    def _advance(
        self, state: NaturalGradientState, z: np.ndarray, log_p: np.ndarray, gradient: np.ndarray
    ) -> None:
        result = outcome(state.candidate.log_prob_base(state.eps), log_p, gradient)
        state.info.count(z, result)
        state.steps += 1
        if result.loss <= state.loss and np.isfinite(result.loss):
            first = state.curvature is None
            score = np.where(result.inside[:, None], gradient, 0.0)
            slope = state.candidate.slope(state.eps, score)
            inside = np.count_nonzero(result.inside)
            state.q, state.loss = state.candidate, result.loss
            state.pull = slope.sum(axis=0) / inside
            state.curvature = -(slope.T @ state.eps) / inside
            decrement = state.q.decrement(state.pull, state.curvature)
            state.info.record(state.loss, decrement, state.q)
            error = state.q.sampling_error(state.eps, score)
            if decrement <= max(self.handover, min(error, MOST_NOISE)):
                state.reason = Reason.CONVERGED
            state.rho = 1.0 if first else min(1.0, 2 * state.rho)
        else:
            state.rho *= 0.5
            if state.curvature is None:
                state.candidate = state.q = narrower(state.q)
            if state.rho < SMALLEST_STEP:
                state.reason = Reason.LOST if state.curvature is None else Reason.STALLED
        if state.steps >= self.max_steps and state.reason is None:
            state.reason = Reason.STEPS
        if state.curvature is not None and state.pull is not None:
            state.candidate = state.q.natural_step(state.pull, state.curvature, state.rho)
