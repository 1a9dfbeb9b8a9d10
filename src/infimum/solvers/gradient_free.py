"""Natural gradient from values of log p̂ alone, if there is no gradient.

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
    Damped,
    Info,
    Reason,
    Solver,
    apart,
    narrower,
)
from infimum.target.target import Target

NEGLIGIBLE_PART = 0.01
"""Optimisation ends when what is left is this part of the draws' error: 1e-4 nats at the end."""

EXACT_NATS = 1e-12
"""Nats at which it ends if the draws make no error, as for a Gaussian target."""

MOST_DRAWS = 16_384
"""Largest number of draws. With four times as many, eight schools took up to 2.7 million values and
ended no nearer."""

PATIENT_STEPS = 20
"""Steps on the same draws after which these are too few to settle on."""

SMALLEST_STEP = 1e-4
"""Part ρ of a whole step below which there is no way down."""


@dataclass(kw_only=True)
class GradientFreeState(Damped):
    """A start, and the step from it.

    Attributes
    ----------
    candidate
        The q to evaluate next.
    eps
        Base draws, shape (n, d).
    slope, curvature
        Of log p̂ in ε at `q`, shapes (d,) and (d, d); None until q has been evaluated.
    decrement, error
        Nats that are predicted to be left, and what the draws cost.
    patience
        Steps so far on these draws.
    """

    q: NaturalGaussian
    candidate: NaturalGaussian
    eps: np.ndarray
    rng: np.random.Generator
    slope: np.ndarray | None = None
    curvature: np.ndarray | None = None
    decrement: float = np.inf
    error: float = np.inf
    patience: int = 0


@dataclass(frozen=True)
class GradientFree(Solver):
    """Damped natural-gradient steps on quadratics fitted to values.

    Requires: values of log p̂ only, for a target without a gradient; a Gaussian q in so few
    dimensions that `MOST_DRAWS` suffice for a quadratic.

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
        """Whether q is a Gaussian with few enough dimensions for the draws."""
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
        enough = len(state.eps) * min(4.0, max(2.0, 1.5 * state.error / self.tolerance))
        n = min(MOST_DRAWS, int(enough))
        if n <= len(state.eps):
            return False
        state.eps = structured_draws(state.rng, n, state.q.dim)
        state.reason, state.n_draws, state.candidate = None, n, state.q
        state.loss = state.decrement = np.inf
        state.patience = 0
        return True

    def _advance(self, state: GradientFreeState, z: np.ndarray, log_p: np.ndarray) -> None:
        result = outcome(state.candidate.log_prob_base(state.eps), log_p)
        state.count(z, result)
        enough = np.count_nonzero(result.inside) >= 1.5 * n_coefficients(state.q.dim)
        fitted = quadratic(state.eps[result.inside], log_p[result.inside]) if enough else None
        if fitted is None or not np.isfinite(result.loss):
            self._reject(state)
        else:
            self._consider(state, result.loss, fitted)
        state.patience += 1
        if state.reason is None and state.patience > PATIENT_STEPS and not self.grow(state):
            state.stall(fine=False)
        self.stop_at_limit(state)
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
        first = state.curvature is None
        state.q, state.loss, state.error, state.decrement = state.candidate, loss, error, decrement
        state.slope, state.curvature = slope, curvature
        state.record(decrement)
        if first:
            state.rho = 1.0  # what was halved so far is the width of the start
        else:
            state.lengthen()
        part = NEGLIGIBLE_PART if error <= self.tolerance else 1.0
        if decrement <= max(EXACT_NATS, part * error):
            self.settle(state, error <= self.tolerance)

    def _reject(self, state: GradientFreeState) -> None:
        """Shorten the step; a start that has no finite loss yet is narrowed."""
        state.shorten()
        if state.rho >= SMALLEST_STEP:
            if state.curvature is None:
                state.candidate = state.q = narrower(state.q)
            return
        if state.curvature is None:
            state.reason = Reason.LOST
        elif state.decrement <= max(state.error, self.tolerance):
            self.settle(state, state.error <= self.tolerance)
        elif not self.grow(state):
            state.stall(fine=False)
