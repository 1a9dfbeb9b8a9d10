"""The verbs: `fit` one family, or `climb` the ladder of families from where the last one ended."""

from __future__ import annotations

import dataclasses
import html
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infimum import _processes
from infimum._errors import coded
from infimum._family import LARGEST_DENSE, Family, Measured, Stacking, UnsuitableError
from infimum._fit import Fit
from infimum._ladder import PAYS, ranked
from infimum._loop import Progress
from infimum._memory import in_words
from infimum._objective import Seed
from infimum._progress import display
from infimum._record import Route, RungReport
from infimum._rung import Options, check_memory, family_of, fit_rung, optima
from infimum._solver import Info, Reason, Solver, State
from infimum._target import Target
from infimum.checks.quantities import VERDICTS
from infimum.families import Sparse

LADDER = ("meanfield", "fullrank", "sparse", "lowrank", "noncentred", "mixture", "flow")
"""Rungs of a climb. The first is where it begins; the others follow as they promise to pay.
Sinh-arcsinh is left out: at two of six seeds eight schools were then "unreliable", and a flow made
of them what it makes of the full-rank fit."""

MANY = 100
"""Dimensions above which a climb begins with "sparse", if the Hessian has zeros: random intercepts
of d = 400 took mean-field 72 s, full-rank 67 s and sparse 11 s; of d = 100 the first two 6.5 s."""

NEAR_ENOUGH = 0.05
"""Nats of KL at which a climb stops."""


@dataclass(frozen=True, eq=False)
class Climb:
    """Every rung that was tried, lowest first. Iterating gives the fits.

    Attributes
    ----------
    fits
        A fit a rung.
    skipped
        Rungs not tried, with the reason.
    ended
        Why the climb ended.
    """

    fits: tuple[Fit, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    ended: str = ""

    @property
    def best(self) -> Fit:
        """The fit of the best verdict, and among these of the highest ELBO."""
        return max(self.fits, key=_worth)

    @property
    def route(self) -> Route:
        """The climb in numbers, as its best fit keeps it."""
        rungs = [
            RungReport(f.family.name, f.elbo, f.kl, f.verdict, f.work.seconds) for f in self.fits
        ]
        return Route(tuple(rungs), self.skipped, self.ended)

    def table(self) -> str:
        """A line a rung: family, ELBO, log Z, KL, ESS, verdict, gradients, seconds."""
        head = ("family", "ELBO", "log Z", "KL (nats)", "ESS", "verdict", "gradients", "seconds")
        rows = [head, *(_row(fit) for fit in self.fits)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        told = [f"{name}: skipped, {why}" for name, why in self.skipped]
        return "\n".join([*lines, *told, *([f"ended: {self.ended}"] if self.ended else [])])

    def plot(self, **options: Any) -> Any:
        """KL left against seconds spent, a point a rung; see `infimum.plots`."""
        from infimum.plots import plot_climb

        return plot_climb(self, **options)

    def report(self, path: str | Path, *, title: str | None = None) -> Path:
        """Write the report of the best fit, with the ladder that led to it; see `Fit.report`."""
        best = dataclasses.replace(self.best, route=self.route)
        return best.report(path, title=title)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.table())}</pre>{self.best._repr_html_()}"


def fit(
    target: Target,
    family: str | Family = "auto",
    *,
    tol: float = NEAR_ENOUGH,
    budget: float | None = None,
    seed: Seed = 0,
    starts: int | None = None,
    draws: int | None = None,
    solver: Solver | Sequence[Solver] | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    progress: bool | None = None,
    callback: Callable[[Progress], Any] | None = None,
    checkpoint: str | Path | None = None,
) -> Fit:
    """Find the member q of a family that minimises KL[q ‖ p̂].

    Parameters
    ----------
    target
        What to approximate.
    family
        "meanfield", "fullrank", "sparse", "lowrank", "noncentred", "sinharcsinh", "mixture", "flow"
        or a `Family`; "auto" climbs, and gives the best rung's fit.
    tol, budget
        For "auto": nats of KL at which the climb ends, and seconds it may take; see `climb`.
    seed
        Int or JAX key; the same seed gives the same answer, bit for bit.
    starts
        Random starts, besides the cold one; by default 4, or 1 where d is above 2000.
    draws
        Fresh draws that ELBO, log Z, KL and verdict rest on; by default 4096, or fewer where d is
        above that.
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
    checkpoint
        A folder that keeps what took long to evaluate, so that a fit that was killed or interrupted
        goes on when it is called again with the same arguments. Its answer is that of a fit in one
        go, bit for bit, but for the seconds in `work`. A new folder, or that of this same job.

    Raises
    ------
    TypeError, ValueError
        Before any optimisation, for wrong use and for a density that is zero or undefined at every
        start tried.
    CheckpointError
        If the folder holds something else, or a checkpoint that is damaged, in use, or of another
        job; nothing in it is changed.

    Examples
    --------
    >>> target = Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    >>> fit(target, "fullrank").verdict
    'good'
    """
    options = Options(target, seed, starts, draws, solver, tolerance, max_steps)
    auto = isinstance(family, str) and family == "auto"
    if auto:
        _check_limits(tol, budget)
    rung = LADDER if auto else family_of(family)
    kept = options.kept(checkpoint, family=rung, tol=tol, budget=budget)
    with display(progress, callback) as watch, kept as options:
        if not isinstance(rung, Family):
            climbed = _climbed(options, None, tol, budget, watch)
            return dataclasses.replace(climbed.best, route=climbed.route)
        return _from_below(options, rung, watch)


def climb(
    target: Target,
    ladder: str | Sequence[str | Family] = "auto",
    *,
    tol: float = NEAR_ENOUGH,
    budget: float | None = None,
    seed: Seed = 0,
    starts: int | None = None,
    draws: int | None = None,
    progress: bool | None = None,
    callback: Callable[[Progress], Any] | None = None,
    checkpoint: str | Path | None = None,
) -> Climb:
    """Fit larger and larger families, each from where the last one ended.

    Parameters
    ----------
    target
        What to approximate.
    ladder
        Families, smallest first, each of which is tried; "auto" chooses the next rung by the nats
        that it promises a second, and leaves out what does not pay.
    tol
        Nats of KL, two standard errors included, at which the climb ends if the verdict is "good"
        too. With 0 it goes on to the last rung.
    budget
        Seconds that the climb may take. A rung on its way when they are spent ends there.
    seed, starts, draws, progress, callback
        As for `fit`.
    checkpoint
        As for `fit`. A climb that goes on takes the rungs that it took before, and counts the
        seconds of before towards `budget`.

    Returns
    -------
    The fits; `Climb.best` is the one to use.

    Raises
    ------
    ValueError
        If the ladder is empty, or has an unknown or repeated rung; if tol or budget is no positive
        number; and as `fit` does, for `checkpoint` too.
    """
    options = Options(target, seed, starts, draws)
    _check_limits(tol, budget)
    given = None if isinstance(ladder, str) and ladder == "auto" else ladder
    rungs = "auto" if given is None else _rungs(given)
    kept = options.kept(checkpoint, ladder=rungs, tol=tol, budget=budget)
    with display(progress, callback) as watch, kept as options:
        return _climbed(options, given, tol, budget, watch)


def _climbed(
    options: Options,
    given: str | Sequence[str | Family] | None,
    tol: float,
    budget: float | None,
    watch: Callable[..., Any],
) -> Climb:
    """Climb the rungs given, in their order; or, with None, those that pay."""
    rungs = _rungs(LADDER if given is None else given)
    if given is None and options.target.dim > MANY:
        rungs.sort(key=lambda rung: not isinstance(rung, Sparse))
    way = _Way(options, tol, budget, watch)
    rungs = rungs[:1] + way.within_reason(rungs[1:])
    while rungs and not way.ended:
        if not way.fits or given is not None:
            rung, predicted = rungs[0], 0.0
        else:
            chosen = way.chosen(rungs)
            if chosen is None:
                way.ended = f"no rung promises {PAYS} nats more"
                break
            rung, predicted = chosen
        rungs.remove(rung)
        way.go(rung, predicted)
    if not way.fits:
        raise UnsuitableError(way.skipped[-1][1])
    return Climb(tuple(way.fits), tuple(way.skipped), way.ended or "the last rung was tried")


def _check_limits(tol: float, budget: float | None) -> None:
    for name, value, least in (("tol", tol, "nats, 0 or more"), ("budget", budget, "seconds")):
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and math.isfinite(value)
        if not number or value < 0 or (name == "budget" and value == 0):
            raise ValueError(
                coded("E303", f"{name} is {value!r}, expected a positive number of {least}")
            )


def _rungs(ladder: str | Sequence[str | Family]) -> list[Family]:
    if isinstance(ladder, str):
        raise ValueError(
            coded("E305", f"ladder is {ladder!r}, expected 'auto' or a list of families")
        )
    rungs = [family_of(rung) for rung in ladder]
    names = [rung.name for rung in rungs]
    if not rungs:
        raise ValueError(coded("E305", "the ladder is empty: give at least one family"))
    if len(set(names)) < len(names):
        raise ValueError(
            coded("E305", f"the ladder {names} has a rung twice: leave one of them out")
        )
    return rungs


@dataclass
class _Way:
    """A climb on its way: the fits so far, and the optima of each."""

    options: Options
    tol: float
    budget: float | None
    watch: Callable[..., Any]
    begun: float = field(default_factory=time.perf_counter)
    fits: list[Fit] = field(default_factory=list)
    placed: list[list[State]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ended: str = ""

    @property
    def best(self) -> Fit:
        """The nearest fit so far, whatever its verdict: where the next rung starts."""
        return max(self.fits, key=lambda fit: np.nan_to_num(fit.elbo.value, nan=-np.inf))

    def within_reason(self, rungs: list[Family]) -> list[Family]:
        """Those of reasonable size; of the others the estimate is told before the work."""
        dim, fitting = self.options.target.dim, []
        for rung in rungs:
            size = rung.n_parameters(dim)
            if size <= LARGEST_DENSE**2:
                fitting.append(rung)
                continue
            n_bytes = rung.n_bytes(dim) if isinstance(rung, Measured) else 8 * size
            why = f"its {size:,} parameters would take about {in_words(n_bytes)} of memory"
            self.skipped.append((rung.name, why))
            self.watch(Progress("skipped", 0, np.inf, 0, 0, family=rung.name, note=why))
        return fitting

    @property
    def spent(self) -> float:
        """Seconds of this climb, and of the runs that it goes on from."""
        journal = self.options.target.journal
        seconds = time.perf_counter() - self.begun if journal is None else journal.seconds
        return _processes.same(seconds) if self.options.shared else seconds

    def decide(self, make: Callable[[], Any]) -> Any:
        """What depends on time is decided once: a climb that goes on takes the same way."""
        journal = self.options.target.journal
        return make() if journal is None else journal.decide(make)

    def chosen(self, rungs: list[Family]) -> tuple[Family, float] | None:
        """The rung that promises most nats a second, and its seconds; None if none pays."""

        def make() -> tuple[str, float] | None:
            paying = ranked(rungs, self.best, self.options.searched.target)
            return (paying[0][0].name, paying[0][1]) if paying else None

        chosen = self.decide(make)
        if chosen is None:
            return None
        name, predicted = chosen
        return next(rung for rung in rungs if rung.name == name), predicted

    def too_long(self, predicted: float) -> str:
        """Why a rung of so many seconds does not fit into the budget; nothing if it does."""
        if self.budget is None or not self.fits:
            return ""
        spent = self.spent
        if spent + predicted <= self.budget:
            return ""
        return f"it would take about {predicted:.0f} s of the {self.budget - spent:.0f} s left"

    def go(self, rung: Family, predicted: float) -> None:
        """Fit one rung, or note why it is skipped; see whether the climb has ended."""
        told = self.decide(lambda: self.too_long(predicted))
        if told:
            self.skipped.append((rung.name, told))
            return
        try:
            rung, placed = self._start(rung)
            done, found = fit_rung(self.options, rung, self._timed, placed)
        except UnsuitableError as why:
            self.skipped.append((rung.name, str(why)))
            return
        self.fits.append(done)
        self.placed.append(optima(found))
        if self._over() if found.interrupted else self.decide(self._over):
            self.ended = f"the budget of {self.budget:g} s is spent"
        elif found.interrupted:
            self.ended = "interrupted"
        elif done.reason is Reason.IMPROPER:
            self.ended = "the posterior is improper"
        elif done.kl.value + 2 * done.kl.se <= self.tol and done.verdict == "good":
            self.ended = f"the KL is below {self.tol:g} nats"

    def _start(self, rung: Family) -> tuple[Family, list[State]]:
        """The rung and where it starts: on the nearest fit that it can take over."""
        nearest = sorted(
            zip(self.fits, self.placed, strict=True), key=lambda pair: -pair[0].elbo.value
        )
        for fit, placed in nearest:
            if isinstance(rung, Stacking):
                rung, placed = rung.on(fit.family), [_as_state(fit)]
            try:
                rung.start_from(fit.q)
            except TypeError:
                continue
            return rung, placed
        return rung, []

    def _timed(self, progress: Progress) -> Any:
        """Watch, and stop when the budget is spent."""
        journal = self.options.target.journal
        progress.rung = len(self.fits) + 1
        if self.fits:
            progress.kl = self.fits[-1].kl.value
        if self.budget is None:
            return self.watch(progress)
        progress.left = max(0.0, self.budget - (time.perf_counter() - self.begun))
        over = self._over() if journal is None else journal.over(self._over)
        return self.watch(progress) or over

    def _over(self) -> bool:
        """Whether the budget is spent."""
        return self.budget is not None and bool(self.spent >= self.budget)


def _as_state(fit: Fit) -> State:
    """A fit as a place to start from."""
    return State(q=fit.q, info=Info("climb"), loss=-fit.elbo.value)


def _worth(fit: Fit) -> tuple[int, float]:
    """Of two rungs the one that can be believed is the better answer."""
    return VERDICTS.index(fit.verdict), float(np.nan_to_num(fit.elbo.value, nan=-np.inf))


def _from_below(options: Options, family: Family, watch: Callable[..., Any]) -> Fit:
    """Fit a family, and before it the one that it starts from."""
    check_memory(options, family)
    placed: list[State] = []
    if family.below is not None and options.solver is None:
        below, found = fit_rung(options, family_of(family.below), watch)
        placed = optima(found)
        if found.interrupted:
            return below
    return fit_rung(options, family, watch, placed)[0]


def _row(fit: Fit) -> tuple[str, ...]:
    return (
        fit.family.name,
        str(fit.elbo),
        str(fit.log_evidence),
        str(fit.kl),
        f"{fit.ess:.0f}/{fit.n_draws}",
        fit.verdict,
        f"{fit.work.n_gradients:,}",
        f"{fit.work.seconds:.2f}",
    )
