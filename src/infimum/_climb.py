"""The verbs: `fit` one family, or `climb` the ladder of families from where the last one ended."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infimum import families, solvers
from infimum._family import LARGEST_DENSE, Adaptive, Distribution, Family, NaturalGaussian
from infimum._fit import Fit, StartReport, Work
from infimum._loop import (
    ADAPT_STREAM,
    CHECK_STREAM,
    CURVATURE_STREAM,
    RIVAL,
    Progress,
    Search,
    begin,
    choose,
    search,
)
from infimum._objective import Seed, generator, n_coefficients, quadratic, structured_draws
from infimum._program import CLOCK
from infimum._progress import display
from infimum._proposal import Proposal, propose
from infimum._solver import FEWEST, Info, Reason, Solver, State
from infimum._target import Target

LADDER = ("meanfield", "fullrank")
"""Rungs in the order of their cost."""

NEAR_ENOUGH = 0.05
"""Nats of KL at which a climb for one answer stops."""

STARTS = 4
"""Ascents of a fit, besides its cold start; the best of four solved 45 of 46 posteriors."""

CHECK_DRAWS = 4096
"""Fresh draws that every estimate of a fit rests on: an ELBO's se is then near sqrt(KL/2000)."""


LEAST_DRAWS = 100
"""Fresh draws without which no tail can be judged; a check cut short by Ctrl-C takes no more."""


@dataclass(frozen=True, eq=False)
class Climb:
    """Every rung that was tried, lowest first. Iterating gives the fits.

    Attributes
    ----------
    fits
        A fit a rung.
    skipped
        Rungs not tried, with the reason.
    """

    fits: tuple[Fit, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def best(self) -> Fit:
        """The fit of highest ELBO."""
        return max(self.fits, key=lambda fit: np.nan_to_num(fit.elbo.value, nan=-np.inf))

    def table(self) -> str:
        """A line a rung: family, ELBO, log Z, KL, ESS, verdict, seconds."""
        head = ("family", "ELBO", "log Z", "KL (nats)", "ESS", "verdict", "gradients", "seconds")
        rows = [head, *(_row(fit) for fit in self.fits)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*lines, *(f"{name}: skipped, {why}" for name, why in self.skipped)])

    def plot(self, **options: Any) -> Any:
        """KL left against seconds spent, a point a rung; see `infimum.plots`."""
        from infimum.plots import plot_climb

        return plot_climb(self, **options)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __str__(self) -> str:
        return self.table()


def fit(
    target: Target,
    family: str | Family = "auto",
    *,
    seed: Seed = 0,
    starts: int = STARTS,
    draws: int = CHECK_DRAWS,
    solver: Solver | Sequence[Solver] | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    progress: bool | None = None,
    callback: Callable[[Progress], Any] | None = None,
) -> Fit:
    """Find the member q of a family that minimises KL[q ‖ p̂].

    Parameters
    ----------
    target
        What to approximate.
    family
        "meanfield", "fullrank", "sinharcsinh" or a `Family`; "auto" climbs until the KL is below
        0.05 nats.
    seed
        Int or JAX key; the same seed gives the same answer, bit for bit.
    starts
        Random starts, besides the cold one.
    draws
        Fresh draws that ELBO, log Z, KL and verdict rest on.
    solver
        One of `infimum.solvers`, or several to run one after another; chosen by the family if not
        given.
    tolerance
        Nats of KL that the finite number of draws may cost.
    max_steps
        Limit of batched evaluations of each solver.
    progress
        Show progress; by default on a terminal, after a second.
    callback
        Called with a `Progress` after each batched evaluation; returning True stops the fit.

    Raises
    ------
    TypeError, ValueError
        Before any optimisation, for wrong use and for a density that is zero or undefined at every
        start tried.

    Examples
    --------
    >>> target = Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    >>> fit(target, "fullrank").verdict
    'good'
    """
    options = _Options(target, seed, starts, draws, solver, tolerance, max_steps)
    with display(progress, callback) as watch:
        if isinstance(family, str) and family == "auto":
            return _climbed(options, LADDER, watch, NEAR_ENOUGH).best
        return _from_below(options, _family(family), watch)


def climb(
    target: Target,
    ladder: Sequence[str | Family] = LADDER,
    *,
    seed: Seed = 0,
    starts: int = STARTS,
    draws: int = CHECK_DRAWS,
    progress: bool | None = None,
    callback: Callable[[Progress], Any] | None = None,
) -> Climb:
    """Fit every rung of a ladder of families, each from where the last one ended.

    Parameters
    ----------
    target
        What to approximate.
    ladder
        Families, smallest first.
    seed, starts, draws, progress, callback
        As for `fit`.

    Returns
    -------
    The fits; `Climb.best` is the nearest.

    Raises
    ------
    ValueError
        If the ladder is empty, or has an unknown or repeated rung; and as `fit` does.
    """
    options = _Options(target, seed, starts, draws)
    with display(progress, callback) as watch:
        return _climbed(options, ladder, watch, None)


@dataclass(frozen=True)
class _Options:
    """What a user chose, checked."""

    target: Target
    seed: Seed
    starts: int
    draws: int
    solver: Solver | Sequence[Solver] | None = None
    tolerance: float | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.target, Target):
            raise TypeError(
                f"expected an infimum.Target, not {self.target!r}: wrap a log density with "
                "infimum.Target(log_density, example), a NumPyro model with "
                "infimum.from_numpyro(model, *args)"
            )
        generator(self.seed)
        for name, least in (("starts", 1), ("draws", LEAST_DRAWS), ("max_steps", 1)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | np.integer) and value >= least):
                raise ValueError(f"{name} is {value!r}, expected an integer of at least {least}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance!r}, expected a positive number of nats")

    def plan(self, q: Distribution) -> list[Solver]:
        """The solvers to use, with the user's limits."""
        given = [self.solver] if isinstance(self.solver, Solver) else self.solver
        differentiable = self.target.differentiable
        chosen = solvers.plan(q, differentiable) if given is None else list(given)
        for solver in chosen:
            if not isinstance(solver, Solver):
                known = ", ".join(member.__name__ for member in solvers.members())
                raise TypeError(f"{solver!r} is not a solver; known: {known}")
            if not solver.accepts(q):
                raise ValueError(f"{type(solver).__name__} can't move a {type(q).__name__}")
            if solver.needs_gradient and not differentiable:
                raise ValueError(
                    f"{type(solver).__name__} needs a gradient, and the target has none"
                )
        limits = {"tolerance": self.tolerance, "max_steps": self.max_steps}
        return [_limited(solver, limits) for solver in chosen]


def _limited(solver: Any, limits: dict[str, Any]) -> Solver:
    """The solver with those of the limits that it knows and that were given."""
    known = {k: v for k, v in limits.items() if v is not None and hasattr(solver, k)}
    limited: Solver = dataclasses.replace(solver, **known)
    return limited


def _family(given: Any) -> Family:
    if isinstance(given, str):
        return families.named(given)
    if isinstance(given, type) and issubclass(given, Family):
        return given()
    if not isinstance(given, Family):
        known = ", ".join(families.members())
        raise TypeError(f"{given!r} is not a family: give a name (auto, {known}) or a Family")
    return given


def _climbed(
    options: _Options, ladder: Sequence[str | Family], watch: Callable[..., Any], near: float | None
) -> Climb:
    rungs = [_family(rung) for rung in ladder]
    names = [rung.name for rung in rungs]
    if not rungs:
        raise ValueError("the ladder is empty: give at least one family")
    if len(set(names)) < len(names):
        raise ValueError(f"the ladder {names} has a rung twice")
    fits: list[Fit] = []
    skipped: list[tuple[str, str]] = []
    placed: list[Distribution] = []
    for rung in rungs:
        size = rung.n_parameters(options.target.dim)
        if fits and size > LARGEST_DENSE**2:
            skipped.append((rung.name, f"it has {size:,} parameters ({8e-9 * size:.1f} GB)"))
            continue
        done, found = _one(options, rung, watch, placed)
        fits.append(done)
        placed = _placed(found)
        close = near is not None and done.kl.value + 2 * done.kl.se <= near
        if found.interrupted or (close and done.verdict == "good"):
            break
    return Climb(tuple(fits), tuple(skipped))


def _from_below(options: _Options, family: Family, watch: Callable[..., Any]) -> Fit:
    """Fit a family, and before it the one that it starts from."""
    placed: list[Distribution] = []
    if family.below is not None and options.solver is None:
        below, found = _one(options, _family(family.below), watch)
        placed = _placed(found)
        if found.interrupted:
            return below
    return _one(options, family, watch, placed)[0]


def _placed(found: Search) -> list[Distribution]:
    """The optima that a search has left, where the next family starts."""
    left_out = (Reason.MERGED, Reason.LOST, Reason.OUTRUN)
    return [state.q for state in found.states if state.reason not in left_out]


def _one(
    options: _Options,
    family: Family,
    watch: Callable[..., Any],
    placed: Sequence[Distribution] = (),
) -> tuple[Fit, Search]:
    """Fit one family, from starts of its own or from the members of another family."""
    target, seed = options.target, options.seed
    target.failures.clear()
    clock, compiled = time.perf_counter(), CLOCK.compile_seconds
    if isinstance(family, Adaptive):
        family = family.adapted(target, generator(seed, ADAPT_STREAM))
    if placed:
        found = Search([State(q=family.start_from(q), info=Info("climb")) for q in placed])
    else:
        found = begin(target, family, options.starts, seed, watch)
    search(target, found, options.plan(found.states[0].q), seed, watch)
    best = choose(target, found, seed) if len(found.states) > 1 else found.states[0]
    watch(Progress("checking", 0, best.loss, found.n_calls, best.info.n_gradients))
    n_draws = options.draws
    try:
        proposal = propose(best.q, _curvature(target, best.q, seed), _rivals(found, best))
        densities = _densities(target, proposal, n_draws, seed)
    except KeyboardInterrupt:
        best.reason, n_draws = Reason.INTERRUPTED, LEAST_DRAWS
        proposal = propose(best.q, None)
        densities = _densities(target, proposal, n_draws, seed)
    compiling = CLOCK.compile_seconds - compiled
    work = _work(target, found, compiling, time.perf_counter() - clock - compiling)
    result = Fit(
        family=family,
        q=best.q,
        space=target.space,
        name=target.name,
        seed=seed,
        reason=best.reason or Reason.INTERRUPTED,
        starts=tuple(_report(state) for state in found.states),
        work=work,
        proposal=proposal,
        n_draws=n_draws,
        log_p=densities[0],
        log_q=densities[1],
        log_r=densities[2],
        trace=tuple((n, -loss) for n, loss, _, _ in best.info.trace),
        path=tuple(best.info.trace),
        model=target.model,
        target=target,
    )
    return result, found


def _rivals(found: Search, best: State) -> list[Distribution]:
    """Other optima whose mass may matter."""
    return [
        state.q
        for state in found.states
        if state is not best
        and state.reason is not None
        and state.reason.converged
        and state.loss < best.loss + RIVAL
    ]


def _curvature(target: Target, q: Distribution, seed: Seed) -> np.ndarray | None:
    """-E_q[Lᵀ ∇²log p̂ L], from gradients or values; None where a d×d matrix is too large."""
    if not isinstance(q, NaturalGaussian) or q.dim > LARGEST_DENSE:
        return None
    rng = generator(seed, CURVATURE_STREAM)
    if not target.differentiable:
        eps = structured_draws(rng, 2 * n_coefficients(q.dim), q.dim)
        log_p = target.values(q.push(eps))
        return -quadratic(eps, log_p).curvature if np.isfinite(log_p).all() else None
    eps = structured_draws(rng, max(FEWEST, 4 * (q.dim + 2)), q.dim)
    log_p, gradient = target.value_and_gradient(q.push(eps))
    if not (np.isfinite(log_p).all() and np.isfinite(gradient).all()):
        return None
    return q.curvature(eps, gradient)


def _densities(
    target: Target, proposal: Proposal, n: int, seed: Seed
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p̂, log q and log r at fresh draws of the proposal, which nothing was fitted to."""
    rows = [
        (target.values(z), log_q, log_r)
        for z, log_q, log_r in proposal.draws(n, seed, CHECK_STREAM)
    ]
    log_p, log_q, log_r = (np.concatenate(part) for part in zip(*rows, strict=True))
    return log_p, log_q, log_r


def _report(state: State) -> StartReport:
    info = state.info
    reason = state.reason or Reason.INTERRUPTED
    return StartReport(info.kind, -float(state.loss), reason, info.n_gradients, info.n_steps)


def _work(target: Target, found: Search, compiling: float, running: float) -> Work:
    failures = target.failures
    infos = [state.info for state in found.states]
    undefined = [i.first_undefined for i in infos if i.first_undefined is not None]
    return Work(
        n_gradients=sum(info.n_gradients for info in infos),
        n_calls=found.n_calls,
        compile_seconds=compiling,
        run_seconds=running,
        n_zero=sum(info.n_zero for info in infos),
        n_undefined=sum(info.n_undefined for info in infos),
        first_undefined=target.describe(undefined[0]) if undefined else None,
        n_failed=failures.count,
        first_failure=f"{failures.meaning}; the first: {failures.first}"
        if failures.first
        else None,
        differentiated=target.differentiable,
    )


def _row(fit: Fit) -> tuple[str, ...]:
    seconds = fit.work.compile_seconds + fit.work.run_seconds
    return (
        fit.family.name,
        str(fit.elbo),
        str(fit.log_evidence),
        str(fit.kl),
        f"{fit.ess:.0f}/{fit.n_draws}",
        fit.verdict,
        f"{fit.work.n_gradients:,}",
        f"{seconds:.2f}",
    )
