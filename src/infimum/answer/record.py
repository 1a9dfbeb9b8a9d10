"""The record of how a fit was made: its starts, its work, and the climb that led to it."""

from __future__ import annotations

from dataclasses import dataclass

from infimum.base.errors import plain
from infimum.checks.weights import Estimate
from infimum.solvers._solver import Reason


@dataclass(frozen=True)
class StartReport:
    """How one start ended.

    Attributes
    ----------
    kind
        "start", "ascent", "cold", "example" or "climb".
    elbo
        By fresh draws, the same base draws for every start.
    reason
        Why it stopped.
    n_gradients, n_steps
        Its own cost.
    """

    kind: str
    elbo: float
    reason: Reason
    n_gradients: int
    n_steps: int


@dataclass(frozen=True)
class Work:
    """What a fit cost.

    Attributes
    ----------
    n_gradients, n_calls
        Gradients of log p̂ over all starts, and the batched calls that held them.
    n_checks
        Other evaluations of log p̂, values and gradients, that judged q: for fresh draws, other
        modes and unseen mass. 0 in files of earlier versions.
    compile_seconds, run_seconds
        Time in JAX's compiler, and the rest.
    n_zero, n_undefined
        Draws on the way with zero density, and steps rejected for a NaN or +inf.
    first_undefined
        The parameters at the first such draw, in words.
    n_failed, first_failure
        Points at which the user's own code raised an error, and the message of the first.
    improper
        The direction along which p̂ can't be integrated, in words, if there is one.
    differentiated
        Whether gradients were used; if not, n_gradients counts values of log p̂.
    n_modes
        Modes that q and the other optima that were found belong to. 1 in files of earlier versions.
    sought
        How other modes were looked for, in words; empty in files of earlier versions.
    rows
        Of a target of many rows: how many, where they are and how they were read, in words.
    """

    n_gradients: int
    n_calls: int
    compile_seconds: float
    run_seconds: float
    n_zero: int = 0
    n_undefined: int = 0
    first_undefined: str | None = None
    n_failed: int = 0
    first_failure: str | None = None
    improper: str | None = None
    differentiated: bool = True
    rows: str | None = None
    n_checks: int = 0
    n_modes: int = 1
    sought: str = ""

    @property
    def seconds(self) -> float:
        """Compiling and running."""
        return self.compile_seconds + self.run_seconds


@dataclass(frozen=True)
class RungReport:
    """A rung of the climb that led to a fit."""

    family: str
    elbo: Estimate
    kl: Estimate
    verdict: str
    seconds: float


@dataclass(frozen=True)
class Route:
    """The climb that a fit came from.

    Attributes
    ----------
    rungs
        Those tried, in their order.
    skipped
        Those not tried, with the reason.
    ended
        Why the climb ended.
    """

    rungs: tuple[RungReport, ...]
    skipped: tuple[tuple[str, str], ...]
    ended: str

    @property
    def seconds(self) -> float:
        """Of all rungs."""
        return sum(rung.seconds for rung in self.rungs)

    def __str__(self) -> str:
        steps = " → ".join(f"{rung.family} {rung.kl.value:.2g}" for rung in self.rungs)
        skipped = "".join(f"; {name} skipped{_cure(why)}" for name, why in self.skipped)
        return f"KL {steps} nats in {self.seconds:.1f} s{skipped}; ended: {self.ended}"


def _cure(why: str) -> str:
    """The reason that a rung was skipped, if it is a library that the user can install."""
    return f": {plain(why)}" if why.endswith("[E602]") else ""
