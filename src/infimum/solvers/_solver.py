"""The contract of a solver: what minimises KL[q ‖ p̂] over a family.

A solver advances several starts at once, so that all their draws go into one batched call of the
target. `State` holds what the next step needs, `Info` what a person wants to see of it.

Each step of a start has one of few outcomes, and each is booked in one place:

evaluated   `State.count`: a batch of draws
accepted    `State.record`: q and its loss enter the trace
rejected    `Damped.shorten`, or `Descent.shorten` of a line search: a shorter step is tried
settled     `Solver.settle`: converged if the draws are enough, else more of them
stalled     `State.stall`: no shorter step lowers the loss
limited     `Solver.stop_at_limit`: no more steps are allowed
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from infimum.families._distribution import Charted, Distribution
from infimum.objective.loss import Outcome
from infimum.target.target import Target

LARGEST_TRACED = 100_000
"""Numbers in a q above which the path of a fit keeps its losses only."""

TOLERANCE = 0.01
"""Nats of KL that the finite number of draws may cost. On fifteen posteriors this keeps every seed
within 0.1 nats of the best known ELBO, where 0.04 loses up to 0.2."""

FEWEST_DRAWS = 64
"""Smallest number of draws; 16 lost up to 0.8 nats on posteriors of 5 to 203 dimensions."""


class Reason(enum.Enum):
    """Why a fit stopped."""

    CONVERGED = "converged: what is left to gain is below the tolerance"
    ROUNDING = "converged: the loss can't fall further at the precision of its floating-point sum"
    STEPS = "stopped at the limit of steps"
    DRAWS = "stopped at the limit of draws: more draws would change q by more than the tolerance"
    STALLED = "stalled: no step lowers the loss, though its gradient is not zero"
    LOST = "lost: the density was zero or undefined at every draw"
    IMPROPER = "improper: the density does not fall along a direction, and the ELBO has no bound"
    OUTRUN = "given up: behind another start, which had cost less or was far ahead"
    MERGED = "merged: another start had reached the same q"
    BEHIND = "given up: another way from the same fit was better"
    INTERRUPTED = "interrupted"

    @property
    def converged(self) -> bool:
        """Whether q is the minimiser, up to the tolerance."""
        return self in (Reason.CONVERGED, Reason.ROUNDING)


@dataclass
class Info:
    """What happened to one start so far.

    Attributes
    ----------
    kind
        Where it began: "start", "ascent", "cold", "example", "climb".
    branch
        Starts of one number are ways on from the same fit, of which the best is kept; None for a
        start of its own.
    n_steps
        Batched calls of the target that this start took part in.
    n_gradients
        Gradients of log p̂ evaluated for it, its ascent included.
    n_zero
        Draws among them with zero density.
    n_undefined
        Draws among them with a NaN or +inf density or gradient; each such step was rejected.
    first_undefined
        The first such point, shape (d,).
    spread
        Standard deviation of log q − log p̂ in the last batch, in nats; NaN where it is not known.
    trace
        (n_gradients, loss, predicted decrease, q or None) after each accepted step.
    """

    kind: str
    branch: int | None = None
    n_steps: int = 0
    n_gradients: int = 0
    n_zero: int = 0
    n_undefined: int = 0
    first_undefined: np.ndarray | None = None
    spread: float = np.nan
    trace: list[tuple[int, float, float, Distribution | None]] = field(default_factory=list)

    def record(self, loss: float, decrement: float, q: Distribution) -> None:
        """Enter an accepted step into the trace; a large q is left out."""
        size = sum(np.size(leaf) for leaf in jax.tree_util.tree_leaves(q))
        kept = q if size <= LARGEST_TRACED else None
        self.trace.append((self.n_gradients, loss, decrement, kept))

    def count(self, z: np.ndarray, result: Outcome) -> None:
        """Count one batch of evaluations at z, shape (n, d)."""
        self.n_steps += 1
        self.n_gradients += len(z)
        self.n_zero += int(np.sum(~result.inside))
        self.spread = result.spread
        if result.undefined is not None:
            self.n_undefined += 1
            if self.first_undefined is None:
                self.first_undefined = np.array(z[result.undefined])


@dataclass(kw_only=True)
class State:
    """One start on its way. A solver's own state extends this.

    Attributes
    ----------
    q
        The best member so far.
    loss
        Its estimated KL[q ‖ p̂] in nats, over this start's own draws.
    n_draws
        How many draws that estimate rests on.
    steps
        Batched evaluations that this solver has made for it.
    reason
        Why it stopped; None while it is running.
    """

    q: Distribution
    info: Info
    loss: float = np.inf
    n_draws: int = 1
    steps: int = 0
    reason: Reason | None = None

    def count(self, z: np.ndarray, result: Outcome) -> None:
        """Book one batch of draws z, shape (n, d)."""
        self.info.count(z, result)
        self.steps += 1

    def record(self, decrement: float) -> None:
        """Book q, which was accepted, and the nats that it predicts to be left."""
        self.info.record(self.loss, decrement, self.q)

    def stall(self, fine: bool) -> None:
        """End, because no shorter step lowers the loss.

        Parameters
        ----------
        fine
            Whether what is predicted to be left is rounding, or too little to matter.
        """
        self.reason = Reason.ROUNDING if fine else Reason.STALLED


@dataclass(kw_only=True)
class Damped(State):
    """A start whose next step is the part ρ of a whole one."""

    rho: float = 1.0

    def lengthen(self) -> None:
        """After a step that succeeded: twice the part, up to the whole."""
        self.rho = min(1.0, 2 * self.rho)

    def shorten(self) -> None:
        """After a step that failed: half the part."""
        self.rho *= 0.5


class Solver(abc.ABC):
    """Minimises KL[q ‖ p̂] over the family of the q it is given.

    Attributes
    ----------
    order
        Solvers that accept the same q run one after another in this order, each from where the
        last ended.
    general
        Whether it moves any q; such a solver is used only where no other is able.
    needs_gradient
        Whether it uses gradients of log p̂. One that does not is used only if there are none.
    max_steps
        Limit of batched evaluations of a start.
    """

    order: ClassVar[int]
    general: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = True
    max_steps: int

    @abc.abstractmethod
    def accepts(self, q: Distribution) -> bool:
        """Whether this solver can move a q of this kind."""

    @abc.abstractmethod
    def init(self, q: Any, info: Info, rng: np.random.Generator) -> Any:
        """Prepare the state before the first step.

        Starts given generators in the same state share their base draws.
        """

    @abc.abstractmethod
    def step(self, states: list[Any], target: Target) -> None:
        """Advance every state by one batched evaluation, in place; set `reason` if it ends."""

    @abc.abstractmethod
    def grow(self, state: Any) -> bool:
        """Let a start that has ended go on with more draws; False if that is of no use."""

    def settle(self, state: State, enough: bool) -> None:
        """End a start that its draws can't improve: converged if they are enough, else more draws.

        Parameters
        ----------
        enough
            Whether the error of the draws is within the tolerance.
        """
        if enough:
            state.reason = Reason.CONVERGED
        elif not self.grow(state):
            state.reason = Reason.DRAWS

    def stop_at_limit(self, state: State) -> None:
        """End a start that has had all its steps."""
        if state.reason is None and state.steps >= self.max_steps:
            state.reason = Reason.STEPS


@runtime_checkable
class Differentiable(Protocol):
    """What has a value and a gradient: log p̂, as a target or in other coordinates."""

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The value (n,) and gradient (n, d) at each row of z, shape (n, d)."""


def evaluate_together(
    target: Differentiable, batches: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """log p̂ and its gradient over several batches of points, in one call of the target."""
    log_p, gradient = target.value_and_gradient(np.concatenate(batches))
    return list(zip(apart(log_p, batches), apart(gradient, batches), strict=True))


def apart(rows: np.ndarray, batches: list[np.ndarray]) -> list[np.ndarray]:
    """The rows of batches that were evaluated together, a batch at a time."""
    return np.split(rows, np.cumsum([len(z) for z in batches])[:-1])


def narrower(q: Charted) -> Any:
    """Half as wide: for a start whose draws leave the region of positive density."""
    theta = np.zeros(q.chart(None).size)
    theta[q.dim : 2 * q.dim] = -np.sqrt(2) * np.log(2)
    return q.chart(None).move(theta)
