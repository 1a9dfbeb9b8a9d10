"""The state of a mixture on its way: its components, their draws, and what the draws cost."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from infimum.checks.weights import Estimate
from infimum.families._dense import factor_error
from infimum.families._distribution import Pooled
from infimum.gaussian.stack import MixtureDensity, Stack
from infimum.gaussian.stack_chart import StackChart
from infimum.objective.draws import structured_draws
from infimum.objective.loss import OUTSIDE_PENALTY
from infimum.solvers._lbfgs import Descent
from infimum.solvers._solver import (
    FEWEST_DRAWS,
    Reason,
    State,
)
from infimum.solvers.stratified_draws.missing_mass import (
    LookDraws,
    MissingMass,
)

FIRST_NATS, KL_PART = 0.02, 0.05
"""Nats that the draws may cost before anything is known of the KL, and part of the KL afterwards.
With 0.05 and a tenth, eight components on a banana ended 1 nat below what their own draws said."""

FIRST_NATS_OF_MANY = 0.1
"""The same for several components, whose KL may still be large."""

MOST_PLACED = 16
"""Most components placed at once; otherwise as many as there are."""

LEAST_WEIGHT = 1e-4
"""Components of less weight are removed: they could add no more than that to any probability."""

SAME_DISTANCE = 0.02
"""Bhattacharyya distance below which two components are one: their means then differ by 0.4 sd at
most, or their sds by a fifth."""


class Purpose(enum.Enum):
    """What the next evaluation is for: a step, the weights, new components' shape, or the end's."""

    REFINE = enum.auto()
    LOOK = enum.auto()
    SHAPE = enum.auto()
    BALANCE = enum.auto()


@dataclass(frozen=True)
class RefinedMixture:
    """A mixture that was refined, and what importance weights say of it.

    Attributes
    ----------
    loss, error
        The loss over its own draws, and what these draws may cost, in nats.
    reason
        How its search ended.
    elbo
        Estimated by fresh draws.
    kl
        KL[q ‖ p*] by importance weights, in nats; NaN where there are none.
    """

    q: Pooled
    loss: float
    error: float
    reason: Reason
    elbo: Estimate
    kl: float


@dataclass(kw_only=True)
class StratifiedState(State):
    """A mixture, the step from it, and the points to evaluate next.

    Attributes
    ----------
    eps
        Base draws of each component, shape (K, M, d).
    purpose, points
        What is evaluated next, and where, shape (n, d).
    chart, descent
        Natural coordinates around some mixture, and the search in them; None until the mixture has
        been evaluated with these draws.
    candidate
        The components to evaluate next.
    anchor
        Gradient of log q in its own parameters at the chart's origin: the control variate.
    error
        Nats that the finite number of draws costs.
    entry, charted
        Loss at the chart's origin, and steps taken in it.
    entries
        Losses at the origins of all charts, for this number of components.
    since
        Steps for this number of components.
    refined
        The best mixture that weights have judged.
    ending
        How the search for these components ended.
    last
        Whether no more components are added.
    look
        The draws that judge the mixture.
    missing
        Where components are wanted.
    """

    q: Pooled
    eps: np.ndarray
    rng: np.random.Generator
    purpose: Purpose = Purpose.REFINE
    chart: StackChart | None = None
    candidate: Stack
    points: np.ndarray = field(default_factory=lambda: np.zeros(0))
    descent: Descent = field(default_factory=Descent)
    anchor: np.ndarray = field(default_factory=lambda: np.zeros(0))
    error: float = np.inf
    entry: float = np.inf
    charted: int = 0
    entries: list[float] = field(default_factory=list)
    since: int = 0
    refined: RefinedMixture | None = None
    ending: Reason = Reason.CONVERGED
    last: bool = False
    look: LookDraws | None = None
    missing: list[MissingMass] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        """The components of q."""
        return self.q.stack()


def component_draws(rng: np.random.Generator, k: int, m: int, dim: int) -> np.ndarray:
    """Structured draws for each of k components, (k, m, d)."""
    return np.array([structured_draws(rng, m, dim) for _ in range(k)])


def first_draws(stack: Stack) -> int:
    """Draws of each component to begin with."""
    fewest = FEWEST_DRAWS if len(stack) == 1 else FEWEST_DRAWS // 2
    return max(fewest, 4 * (stack.dim + 2)) if stack.dense else fewest


def loss_terms(
    mixed: MixtureDensity,
    log_p: np.ndarray,
    gradient: np.ndarray,
    inside: np.ndarray,
    counted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Path gradients (n, d), and terms of the loss (n,), at each draw; zero outside.

    The loss is a mean over the draws inside. A component whose draws lie outside pays
    `OUTSIDE_PENALTY`.

    Parameters
    ----------
    inside
        Which draws have positive density, shape (n,).
    counted
        Weight of each draw, shape (n,).
    """
    share = float(counted @ inside)
    ratio = np.where(inside, mixed.log_q - np.where(inside, log_p, 0.0), 0.0)
    residual = np.where(inside[:, None], gradient - mixed.score, 0.0) / share
    centre = float(counted @ ratio) / share
    return residual, np.where(inside, (ratio - centre - 1) / share - OUTSIDE_PENALTY, 0.0)


def sampling_error(stack: Stack, eps: np.ndarray, pulled: np.ndarray, values: np.ndarray) -> float:
    """Nats that the draws cost: half the trace of the gradient's variance in natural coordinates.

    Parameters
    ----------
    pulled, values
        Whitened path gradient (K, M, d), and log q - log p̂ (K, M), at the draws.
    """
    w, half = stack.weights, eps.shape[1] // 2
    each = 0.5 * (values[:, :half] + values[:, half:])
    variance = each.var(axis=1) / half
    of_weights = 0.5 * float(w @ ((1 - 2 * w) * variance + (w**2) @ variance))
    if stack.dense:
        own = [factor_error(*rows) for rows in zip(eps, pulled, pulled, strict=True)]
    else:
        own = [_diagonal_error(*rows) for rows in zip(eps, pulled, strict=True)]
    return max(of_weights, 0.0) + float(w @ np.array(own))


def _diagonal_error(eps: np.ndarray, pulled: np.ndarray) -> float:
    """`factor_error` for a diagonal component."""
    half = len(eps) // 2
    centred = pulled - pulled.mean(axis=0)
    residual = centred - eps * np.mean(eps * centred, axis=0)
    even = 0.5 * (residual[:half] + residual[half:])
    odd = 0.5 * (residual[:half] - residual[half:]) * eps[:half]
    return float((0.5 * even.var(axis=0).sum() + 0.25 * odd.var(axis=0).sum()) / half)


def tidied(stack: Stack) -> Stack:
    """The stack without components that collapsed or weigh nothing, and with equal ones merged."""
    sound = np.isfinite(stack.means).all(axis=1) & np.isfinite(stack.log_dets())
    sound &= stack.weights >= LEAST_WEIGHT
    if not sound.all():
        stack = stack.taken(np.flatnonzero(sound))
    for k in np.argsort(-stack.log_weights):
        for other in range(len(stack)):
            if other != k and stack.overlap(int(k), other) < SAME_DISTANCE:
                return tidied(stack.merged(int(k), other))
    return stack
