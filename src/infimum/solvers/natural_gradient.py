"""Natural gradient on few fixed draws: from a start to the neighbourhood of the optimum.

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
from infimum.objective.loss import Outcome, outcome
from infimum.solvers._solver import Damped, Info, Reason, Solver, evaluate_together, narrower
from infimum.target.target import Target

HANDOVER_NATS = 0.05
"""Nats of predicted decrease below which a quasi-Newton method on more draws takes over. Few draws
until 0.05 nats, then more draws, reached 0.1 nats after a median of 188 gradients on 47
posteriors."""

MOST_NOISE = 0.5
"""Nats of sampling error up to which few draws may end on their own noise. If the estimate is
larger, q is far from the optimum and the error says nothing yet."""

SMALLEST_STEP = 1e-6
"""Part ρ of a whole step below which there is no way down."""


@dataclass(kw_only=True)
class NaturalGradientState(Damped):
    """A start, and the step from it.

    Attributes
    ----------
    eps
        Base draws, shape (n, d).
    candidate
        The q to evaluate next.
    pull, curvature
        Mean slope (d,) and whitened curvature (d, d) at `q`; None until q has been evaluated.
    """

    q: NaturalPushforward
    eps: np.ndarray
    candidate: NaturalPushforward
    pull: np.ndarray | None = None
    curvature: np.ndarray | None = None


@dataclass(frozen=True)
class NaturalGradient(Solver):
    """Damped natural-gradient steps on M = 2(d + 2) whitened draws.

    Requires: a gradient of log p̂; a q with a d×d curvature, Gaussian or made from a Gaussian, of at
    most `LARGEST_DENSE` dimensions.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    handover
        Predicted decrease in nats at which it ends; the sampling error of the draws may end it
        earlier.
    """

    order: ClassVar[int] = 1
    max_steps: int = 40
    handover: float = HANDOVER_NATS

    def accepts(self, q: Distribution) -> bool:
        """Whether q has a d×d curvature that can be formed."""
        return isinstance(q, NaturalPushforward) and q.dim <= LARGEST_DENSE

    def init(
        self, q: NaturalPushforward, info: Info, rng: np.random.Generator
    ) -> NaturalGradientState:
        """Fix the draws."""
        eps = structured_draws(rng, 2 * (q.dim + 2), q.dim)
        return NaturalGradientState(q=q, info=info, eps=eps, candidate=q, n_draws=len(eps))

    def grow(self, state: NaturalGradientState) -> bool:
        """Never: more draws are the next solver's work."""
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
        state.count(z, result)
        if result.loss <= state.loss and np.isfinite(result.loss):
            self._accept(state, result, gradient)
        else:
            self._reject(state)
        self.stop_at_limit(state)
        if state.curvature is not None and state.pull is not None:
            state.candidate = state.q.natural_step(state.pull, state.curvature, state.rho)

    def _accept(self, state: NaturalGradientState, result: Outcome, gradient: np.ndarray) -> None:
        """Move to the candidate; end if little is left, or only noise."""
        if state.curvature is None:
            state.rho = 1.0  # what was halved so far is the width of the start
        else:
            state.lengthen()
        score = np.where(result.inside[:, None], gradient, 0.0)
        slope = state.candidate.slope(state.eps, score)
        inside = np.count_nonzero(result.inside)
        state.q, state.loss = state.candidate, result.loss
        state.pull = slope.sum(axis=0) / inside
        state.curvature = -(slope.T @ state.eps) / inside
        decrement = state.q.decrement(state.pull, state.curvature)
        state.record(decrement)
        error = state.q.sampling_error(state.eps, score)
        if decrement <= max(self.handover, min(error, MOST_NOISE)):
            state.reason = Reason.CONVERGED

    def _reject(self, state: NaturalGradientState) -> None:
        """Shorten the step; of a start that has no finite loss yet, halve the width."""
        state.shorten()
        if state.curvature is None:
            state.candidate = state.q = narrower(state.q)
            if state.rho < SMALLEST_STEP:
                state.reason = Reason.LOST
        elif state.rho < SMALLEST_STEP:
            state.stall(fine=False)
