"""The way of a climb: its next rung, where that starts, and when the climb has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infimum.base.errors import UnsuitableError
from infimum.base.extras import installed
from infimum.base.memory import in_words
from infimum.families import family_of
from infimum.families._distribution import LARGEST_DENSE, Gaussian
from infimum.families._family import Family, Measured, Searched, Stacking
from infimum.fitting.budget import Budget
from infimum.fitting.fit import Fit
from infimum.fitting.ladder import rank_by_promise
from infimum.fitting.request import Request, check_memory, check_search
from infimum.fitting.rung import fit_rung
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.solvers._solver import Info, Reason, State

LADDER = (
    *("nested", "meanfield", "fullrank", "emulated", "sparse", "lowrank"),
    *("noncentred", "mixture", "flow"),
)
"""Rungs of a climb. It begins with the first that suits the target; the others follow as they
promise to pay. Sinh-arcsinh is left out: at two of six seeds eight schools were then "unreliable",
and a flow made of them what it makes of the full-rank fit."""

MANY = 100
"""Dimensions above which a climb begins with "sparse", if the Hessian has zeros: random intercepts
of d = 400 took mean-field 72 s, full-rank 67 s and sparse 11 s; of d = 100 the first two 6.5 s."""


@dataclass
class Way:
    """A climb on its way: the fits so far, and the optima of each."""

    request: Request
    plan: Plan
    tol: float | None
    budget: Budget
    fits: list[Fit] = field(default_factory=list)
    placed: list[list[State]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ended: str = ""

    @property
    def best(self) -> Fit:
        """The nearest fit so far, whatever its verdict: where the next rung starts."""
        return max(self.fits, key=lambda fit: np.nan_to_num(fit.elbo.value, nan=-np.inf))

    def within_reason(self, rungs: list[Family]) -> list[Family]:
        """Those of reasonable size. The others are skipped, and say what memory they would take."""
        dim, kept = self.request.target.dim, []
        for rung in rungs:
            if not all(map(installed, rung.libraries)):
                kept.append(rung)  # it is skipped when its turn comes, if it does
                continue
            size = rung.n_parameters(dim)
            if size <= LARGEST_DENSE**2:
                kept.append(rung)
                continue
            n_bytes = rung.n_bytes(dim) if isinstance(rung, Measured) else 8 * size
            why = f"its {size:,} parameters would take about {in_words(n_bytes)} of memory"
            self.skipped.append((rung.name, why))
            self.budget.watch(Progress("skipped", 0, np.inf, 0, 0, family=rung.name, note=why))
        return kept

    @property
    def begins(self) -> bool:
        """Whether no fit is there yet that another family could go on from."""
        return all(isinstance(fit.family, Searched) for fit in self.fits)

    def decide(self, make: Callable[[], Any]) -> Any:
        """Decide once what depends on time: a resumed climb repeats its decisions."""
        journal = self.request.target.journal
        return make() if journal is None else journal.decide(make)

    def choose(self, rungs: list[Family]) -> tuple[Family, float] | None:
        """The rung that promises the most nats a second, with its seconds; None if none pays."""

        def make() -> tuple[str, float] | None:
            ranking = rank_by_promise(rungs, self.best, self.plan.searched)
            return (ranking[0][0].name, ranking[0][1]) if ranking else None

        choice = self.decide(make)
        if choice is None:
            return None
        name, predicted = choice
        return next(rung for rung in rungs if rung.name == name), predicted

    def too_long(self, predicted: float) -> str:
        """Why a rung of so many seconds does not fit into the budget; empty if it does."""
        limit = self.budget.seconds
        if limit is None or not self.fits:
            return ""
        spent = self.budget.spent
        if spent + predicted <= limit:
            return ""
        return f"it would take about {predicted:.0f} s of the {limit - spent:.0f} s left"

    def go(self, rung: Family, predicted: float) -> None:
        """Fit one rung, or note why it is skipped; see whether the climb has ended."""
        why_not = self.decide(lambda: self.too_long(predicted))
        if why_not:
            self.skipped.append((rung.name, why_not))
            return
        try:
            rung, placed = self._start(rung)
            fit, left = fit_rung(self.request, self.plan, rung, self._timed, placed)
        except UnsuitableError as why:
            self.skipped.append((rung.name, str(why)))
            return
        self.fits.append(fit)
        self.placed.append(left)
        stopped = self.plan.stop.requested
        if self.budget.over() if stopped else self.decide(self.budget.over):
            self.ended = f"the budget of {self.budget.seconds:g} s is spent"
        elif stopped:
            self.ended = "interrupted"
        elif fit.reason is Reason.IMPROPER:
            self.ended = "the posterior is improper"
        elif fit.assessment.nearness == "good" and self.tol is None:
            self.ended = "the verdict is good"
        elif fit.assessment.nearness == "good" and fit.kl.value + 2 * fit.kl.se <= (
            self.tol or 0.0
        ):
            self.ended = f"the KL is below {self.tol:g} nats"

    def _start(self, rung: Family) -> tuple[Family, list[State]]:
        """The rung, and where it starts: from the nearest fit whose q it can take over."""
        nearest = sorted(
            zip(self.fits, self.placed, strict=True), key=lambda pair: -pair[0].elbo.value
        )
        for fit, placed in nearest:
            if isinstance(fit.family, Searched):
                continue
            if isinstance(rung, Searched):
                if isinstance(fit.q, Gaussian):
                    return rung, placed
                continue
            if isinstance(rung, Stacking):
                rung, placed = rung.on(fit.family), [_as_state(fit)]
            try:
                rung.start_from(fit.q)
            except TypeError:
                continue
            return rung, placed
        return rung, []

    def _timed(self, progress: Progress) -> Any:
        """Watch a rung of the climb, and stop when the budget is spent."""
        progress.rung = len(self.fits) + 1
        if self.fits:
            progress.kl = self.fits[-1].kl.value
        return self.budget(progress)


def _as_state(fit: Fit) -> State:
    """A fit as the start of another one."""
    return State(q=fit.q, info=Info("climb"), loss=-fit.elbo.value)


def fit_from_below(request: Request, family: Family, watch: Watch) -> Fit:
    """Fit a family, and before it the one that it starts from."""
    check_memory(request.target, family)
    check_search(request, family)
    plan = request.plan()
    placed: list[State] = []
    begun = False
    if plan.beginning is not None:
        family = plan.beginning.based(family)
        begun = plan.beginning.q_for(family) is not None
    if family.below is not None and request.solver is None and not begun:
        below, placed = fit_rung(request, plan, family_of(family.below), watch)
        if plan.stop.requested:
            return below
    return fit_rung(request, plan, family, watch, placed)[0]
