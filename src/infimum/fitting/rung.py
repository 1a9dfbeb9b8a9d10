"""One rung: the pipeline from a target and a family to a fit.

    target → family made ready → optima found → proposal → draws weighed → assessment → fit

Each step is a value that the next one takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infimum.answer.assessment import assess
from infimum.answer.proposal import propose
from infimum.answer.record import StartReport, Work
from infimum.answer.structure import n_colours
from infimum.answer.weighed import WeighedDraws, weigh
from infimum.base.program import CLOCK
from infimum.base.seeds import ADAPT_STREAM, CURVATURE_STREAM, SCOUT_STREAM, Seed, generator
from infimum.checks import quantities
from infimum.families._distribution import (
    LARGEST_DENSE,
    Distribution,
    NaturalGaussian,
    SparseGaussian,
)
from infimum.families._family import Adaptive, Family, Growing, Searched
from infimum.families.fullrank import DenseGaussian, FullRank
from infimum.families.sparse.sparse import Sparse
from infimum.fitting.fit import Fit
from infimum.fitting.forecast import forecast
from infimum.fitting.request import LEAST_DRAWS, Request, check_memory, check_search
from infimum.objective.draws import structured_draws
from infimum.objective.quadratic import n_coefficients, quadratic
from infimum.search.loop import Search, remaining_optima
from infimum.search.maxima import count_modes
from infimum.search.modes import rival_optima, scouted_modes
from infimum.search.optima import find_optima, improper_direction
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.solvers._solver import FEWEST_DRAWS, Reason, State
from infimum.target.target import Target

LEAST_MORE, MOST_MORE = 3.0, 8.0
"""How many times more draws may be taken where they lack nothing but number; more than the first
only if the search took as many gradients. Of a q that was cut short none are taken: of an item
response model (d = 144) a flow's weights then passed, and 5 of 120 sds were 15 to 20 % off."""


def fit_rung(
    request: Request, plan: Plan, family: Family, tell: Watch, placed: Sequence[State] = ()
) -> tuple[Fit, list[State]]:
    """Fit one family, and say how near its q is.

    Parameters
    ----------
    tell
        Is called with a `Progress` after each batched evaluation; True stops the fit.
    placed
        The optima of another family to start from; without any the family has starts of its own.

    Returns
    -------
    The fit, and the optima from which another family may go on.
    """
    target = request.target
    check_memory(target, family)
    check_search(request, family)
    target.failures.clear()
    watch = _Watch(tell, family)
    before = plan.searched.counter.n_gradients
    family = _make_ready(request, plan, family, watch)
    pattern = plan.searched.counter.n_gradients - before
    search, best = find_optima(plan, family, watch, placed)
    search.n_scouted += pattern
    improper = improper_direction(plan, search, best)
    family = _family_of(best.q, family)
    draws = _weigh(request, plan, family, search, best, improper, watch)
    compiling = CLOCK.compile_seconds - watch.compiled
    assessment, spent = assess(target, draws, best.reason or Reason.INTERRUPTED, plan.stop)
    search.n_checks += spent
    assessment = dataclasses.replace(assessment, looked=search.looked)
    fit = Fit(
        family=family,
        name=target.name,
        assessment=assessment,
        starts=tuple(_start_report(state) for state in search.states),
        work=_work(plan, search, improper, compiling, watch.seconds - compiling),
        trace=tuple((n, -loss) for n, loss, _, _ in best.info.trace),
        path=tuple(best.info.trace),
        model=target.model,
        target=target.plain,
        _n_colours=n_colours(best.q),
    )
    return fit, remaining_optima(search)


@dataclass
class _Watch:
    """Passes progress on, with the family's name and the seconds that are left of it."""

    tell: Watch
    family: Family
    begun: float = field(default_factory=time.perf_counter)
    compiled: float = field(default_factory=lambda: CLOCK.compile_seconds)
    expected: float = np.nan

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    def __call__(self, progress: Progress) -> Any:
        to_go = float(np.maximum(0.0, self.expected - self.seconds))
        return self.tell(dataclasses.replace(progress, family=self.family.name, to_go=to_go))


def _make_ready(request: Request, plan: Plan, family: Family, watch: _Watch) -> Family:
    """The family, adapted to its target; says how long its fit will take, if that is long."""
    if isinstance(family, Adaptive):
        watch(Progress("starting", 0, np.inf, 0, 0))
        family = family.adapted(plan.searched, generator(plan.seed, ADAPT_STREAM))
    plain = request.target.plain
    part = None if plan.surrogate is None else plan.searched
    watch.expected, note = forecast(plain, family, request.n_starts, request.n_draws, part)
    plain.failures.clear()
    if note is not None:
        watch(Progress("begun", 0, np.inf, 0, 0, note=note))
    return family


def _family_of(q: Distribution, family: Family) -> Family:
    """The family that q is a member of: another one if a stop left where the search began."""
    if isinstance(q, SparseGaussian):
        return Sparse.on(q.dim, np.asarray(q.edges))
    if isinstance(q, DenseGaussian) and isinstance(family, Searched):
        return FullRank()
    return family.settled(q) if isinstance(family, Growing) else family


def _weigh(
    request: Request,
    plan: Plan,
    family: Family,
    search: Search,
    best: State,
    improper: str | None,
    watch: Watch,
) -> WeighedDraws:
    """Fresh draws of a proposal around the best q; few of q alone, if a stop comes meanwhile."""
    target, seed, scouted = request.target, request.seed, search.n_scouted
    draws = None
    with plan.stop.cut_short():
        others = rival_optima(search, best)
        if improper is None:
            others += scouted_modes(plan, family, search, best, watch)
        watch(Progress("checking", 0, best.loss, search.n_calls, best.info.n_gradients))
        rng = generator(seed, SCOUT_STREAM, 2)
        search.n_modes, spent = count_modes(plan.searched, best.q, others, rng)
        search.n_checks += spent
        curvature, spent = _curvature(plan.searched, best.q, seed)
        search.n_checks += spent
        proposal, n = propose(best.q, curvature, others), request.n_draws_of(best.q)
        draws = weigh(target, proposal, n, seed)
        cut_short = best.reason in (None, Reason.INTERRUPTED)
        if not (request.draws or cut_short or target.large is not None):
            growth = _growth(draws, search.n_gradients)
            if growth > 1:
                search.n_checks += len(draws.log_p)
                draws = weigh(target, proposal, int(np.ceil(growth * n)), seed)
    if draws is None:
        best.reason = Reason.INTERRUPTED
        draws = weigh(target, propose(best.q, None), LEAST_DRAWS, seed)
    # These scouts looked for what q does not cover; those of a mixture's search found it.
    search.n_checks += search.n_scouted - scouted + len(draws.log_p)
    search.n_scouted = scouted
    return draws


def _growth(draws: WeighedDraws, n_gradients: int) -> float:
    """How many times as many draws are taken, where they lack nothing but number."""
    most = 1 + min(MOST_MORE, max(LEAST_MORE, n_gradients / len(draws.log_p)))
    log_w = draws.log_w, draws.log_weights
    growth = quantities.growth_needed(*log_w, most)
    if growth > 1 or not quantities.trusted(*log_w):
        return growth
    judged = draws.space.judged
    heavy = quantities.heavy_limit(*log_w, int(judged.sum()))
    compared = quantities.Comparison(*(x[judged] for x in draws.comparison))
    return quantities.growth_of_rows(compared, heavy, most)


def _curvature(target: Target, q: Distribution, seed: Seed) -> tuple[np.ndarray | None, int]:
    """-E_q[Lᵀ ∇²log p̂ L], None if a d×d matrix is too large; and the evaluations it took."""
    if not isinstance(q, NaturalGaussian) or q.dim > LARGEST_DENSE:
        return None, 0
    rng = generator(seed, CURVATURE_STREAM)
    if not target.differentiable:
        eps = structured_draws(rng, 2 * n_coefficients(q.dim), q.dim)
        log_p = target.values(q.push(eps))
        known = np.isfinite(log_p).all()
        return (-quadratic(eps, log_p).curvature if known else None), len(eps)
    eps = structured_draws(rng, max(FEWEST_DRAWS, 4 * (q.dim + 2)), q.dim)
    log_p, gradient = target.value_and_gradient(q.push(eps))
    known = np.isfinite(log_p).all() and np.isfinite(gradient).all()
    return (q.curvature(eps, gradient) if known else None), len(eps)


def _start_report(state: State) -> StartReport:
    info = state.info
    reason = state.reason or Reason.INTERRUPTED
    return StartReport(info.kind, -float(state.loss), reason, info.n_gradients, info.n_steps)


def _work(
    plan: Plan, search: Search, improper: str | None, compiling: float, running: float
) -> Work:
    target = plan.target
    failures = target.failures
    infos = [state.info for state in search.states]
    undefined = [i.first_undefined for i in infos if i.first_undefined is not None]
    first_failure = f"{failures.meaning}; the first: {failures.first}" if failures.first else None
    return Work(
        n_gradients=search.n_gradients,
        n_calls=search.n_calls,
        n_checks=search.n_checks,
        n_modes=search.n_modes,
        sought=search.sought,
        compile_seconds=compiling,
        run_seconds=running,
        n_zero=sum(info.n_zero for info in infos),
        n_undefined=sum(info.n_undefined for info in infos),
        first_undefined=target.describe(undefined[0]) if undefined else None,
        n_failed=failures.count,
        first_failure=first_failure,
        improper=improper,
        differentiated=target.differentiable,
        rows=_rows_sentence(plan),
    )


def _rows_sentence(plan: Plan) -> str | None:
    """How many rows were read, where, and how often; None if the target has no rows."""
    large, surrogate = plan.target.large, plan.surrogate
    if large is None:
        return None
    if surrogate is None:
        return f"{large.description()}, each evaluation a pass over them"
    return (
        f"{large.description()}; searched on {large.n_part:,} of them, corrected by "
        f"{surrogate.passes} passes over all"
    )
