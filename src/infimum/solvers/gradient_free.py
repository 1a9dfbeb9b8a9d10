"""Natural gradient from values of log p̂ alone, for want of a gradient.

q = N(m, LLᵀ) with z_i = m + L ε_i. The quadratic in ε nearest to log p̂(z_i) over whitened,
structured draws gives the expected whitened gradient and Hessian by Stein's identity, free of noise
where log p̂ is quadratic; a damped natural-gradient step follows. As q settles, the draws are
multiplied until what they may cost is below the tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from infimum.families._distribution import Distribution, NaturalGaussian
from infimum.objective.draws import structured_draws
from infimum.objective.loss import outcome
from infimum.objective.quadratic import Quadratic, n_coefficients, quadratic
from infimum.solvers._solver import (
    FEWEST_DRAWS,
    TOLERANCE,
    Info,
    Reason,
    Solver,
    State,
    apart,
    narrower,
)
from infimum.target.target import Target

NEGLIGIBLE_PART = 0.01
"""Optimisation ends when it has left this part of the draws' error, 1e-4 nats at the end."""

EXACT_NATS = 1e-12
"""Nats at which it ends where the draws make no error: a Gaussian target."""

MOST_DRAWS = 16_384
"""Largest number of draws. With four times as many, eight schools took up to 2.7 million values and
ended no nearer."""

PATIENT_STEPS = 20
"""Steps on the same draws after which these are too few to settle on."""

SMALLEST_STEP = 1e-4
"""A damping below this has found no way down."""


@dataclass(kw_only=True)
class GradientFreeState(State):
    """`candidate` is evaluated next; `slope` and `curvature` belong to `q`."""

    q: NaturalGaussian
    candidate: NaturalGaussian
    eps: np.ndarray
    rng: np.random.Generator
    slope: np.ndarray | None = None
    curvature: np.ndarray | None = None
    decrement: float = np.inf
    error: float = np.inf
    rho: float = 1.0
    level: int = 0
    steps: int = 0


@dataclass(frozen=True)
class GradientFree(Solver):
    """Damped natural-gradient steps on quadratics fitted to values.

    Parameters
    ----------
    max_steps
        Limit of batched evaluations.
    tolerance
        Nats of KL that may be lost to the finite number of draws.
    """

    order: ClassVar[int] = 4
    needs_gradient: ClassVar[bool] = False
    max_steps: int = 150
    tolerance: float = TOLERANCE

    def accepts(self, q: Distribution) -> bool:
        """Gaussians in as many dimensions as the draws suffice for."""
        return isinstance(q, NaturalGaussian) and 4 * n_coefficients(q.dim) <= MOST_DRAWS

    def init(self, q: NaturalGaussian, info: Info, rng: np.random.Generator) -> GradientFreeState:
        """Fix the first draws."""
        eps = structured_draws(rng, max(FEWEST_DRAWS, 4 * n_coefficients(q.dim)), q.dim)
        return GradientFreeState(q=q, candidate=q, info=info, eps=eps, rng=rng, n_draws=len(eps))

    def step(self, states: list[GradientFreeState], target: Target) -> None:
        """Evaluate every candidate; move to it or damp the step."""
        batches = [state.candidate.push(state.eps) for state in states]
        values = apart(target.values(np.concatenate(batches)), batches)
        for state, z, log_p in zip(states, batches, values, strict=True):
            self._advance(state, z, log_p)

    def grow(self, state: GradientFreeState) -> bool:
        """Go on with as many draws as the error calls for."""
        wanted = len(state.eps) * min(4.0, max(2.0, 1.5 * state.error / self.tolerance))
        n = min(MOST_DRAWS, int(wanted))
        if n <= len(state.eps):
            return False
        state.eps = structured_draws(state.rng, n, state.q.dim)
        state.reason, state.n_draws, state.candidate = None, n, state.q
        state.loss = state.decrement = np.inf
        state.level = 0
        return True

    def _advance(self, state: GradientFreeState, z: np.ndarray, log_p: np.ndarray) -> None:
        result = outcome(state.candidate.log_prob_base(state.eps), log_p)
        state.info.count(z, result)
        state.steps += 1
        enough = np.count_nonzero(result.inside) >= 1.5 * n_coefficients(state.q.dim)
        fitted = quadratic(state.eps[result.inside], log_p[result.inside]) if enough else None
        if fitted is None or not np.isfinite(result.loss):
            self._reject(state)
        else:
            self._consider(state, result.loss, fitted)
        state.level += 1
        if state.reason is None and state.level > PATIENT_STEPS and not self.grow(state):
            state.reason = Reason.STALLED
        if state.reason is None and state.steps >= self.max_steps:
            state.reason = Reason.STEPS
        if state.reason is None and state.curvature is not None and state.slope is not None:
            state.candidate = state.q.natural_step(state.slope, state.curvature, state.rho)

    def _consider(self, state: GradientFreeState, loss: float, fitted: Quadratic) -> None:
        """Move if the loss falls, or if, within its noise, less is left to gain."""
        d = state.q.dim
        slope, curvature = fitted.slope, -fitted.curvature
        error = fitted.noise * d * (d + 3) / 4 / len(state.eps)
        decrement = state.candidate.decrement(slope, curvature)
        closer = loss <= state.loss + error and decrement < state.decrement
        if not (loss <= state.loss or closer):
            self._reject(state)
            return
        moved = state.curvature is not None
        state.q, state.loss, state.error, state.decrement = state.candidate, loss, error, decrement
        state.slope, state.curvature = slope, curvature
        state.info.record(loss, decrement, state.q)
        state.rho = min(1.0, 2 * state.rho) if moved else 1.0
        left = NEGLIGIBLE_PART if error <= self.tolerance else 1.0
        if decrement <= max(EXACT_NATS, left * error):
            self._end(state)

    def _end(self, state: GradientFreeState) -> None:
        if state.error <= self.tolerance:
            state.reason = Reason.CONVERGED
        elif not self.grow(state):
            state.reason = Reason.DRAWS

    def _reject(self, state: GradientFreeState) -> None:
        state.rho *= 0.5
        if state.rho >= SMALLEST_STEP:
            if state.curvature is None:
                state.candidate = state.q = narrower(state.q)
            return
        if state.curvature is None:
            state.reason = Reason.LOST
        elif state.decrement <= max(state.error, self.tolerance):
            self._end(state)
        elif not self.grow(state):
            state.reason = Reason.STALLED
