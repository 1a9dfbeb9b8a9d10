"""One rung: fit one family, from starts of its own or from the optima of another, and check it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infimum.answer.proposal import Proposal, joined, propose
from infimum.answer.record import StartReport, Work
from infimum.answer.unseen import LARGEST, Beyond, beyond
from infimum.base.program import CLOCK
from infimum.base.seeds import (
    ADAPT_STREAM,
    CHECK_STREAM,
    CURVATURE_STREAM,
    SCOUT_STREAM,
    Seed,
    generator,
)
from infimum.checks import quantities
from infimum.families._distribution import (
    LARGEST_DENSE,
    Distribution,
    Gaussian,
    NaturalGaussian,
)
from infimum.families._family import (
    Adaptive,
    Branching,
    Directed,
    Family,
    Growing,
    Pooling,
)
from infimum.fitting.fit import Fit
from infimum.fitting.forecast import forecast
from infimum.fitting.modes import REVISITS, gaussian_at, revisit, rival_modes, scouted_modes
from infimum.fitting.request import LEAST_DRAWS, Options, check_memory
from infimum.objective.draws import structured_draws
from infimum.objective.quadratic import n_coefficients, quadratic
from infimum.search.improper import direction
from infimum.search.loop import Search, begin, choose, optima, search
from infimum.search.progress import Progress
from infimum.search.surrogate import MOST_PASSES, StandIn
from infimum.solvers._solver import FEWEST, Info, Reason, State
from infimum.target.large import Large
from infimum.target.space import columns
from infimum.target.target import Target


def fit_rung(
    options: Options,
    family: Family,
    tell: Callable[[Progress], Any],
    placed: Sequence[State] = (),
) -> tuple[Fit, Search]:
    """Fit one family, from starts of its own or from the members of another family."""
    target, seed = options.target, options.seed

    expected = np.nan

    def watch(progress: Progress) -> Any:
        to_go = float(np.maximum(0.0, expected - (time.perf_counter() - clock)))
        return tell(dataclasses.replace(progress, family=family.name, to_go=to_go))

    check_memory(options, family)
    target.failures.clear()
    clock, compiled = time.perf_counter(), CLOCK.compile_seconds
    if isinstance(family, Adaptive):
        watch(Progress("starting", 0, np.inf, 0, 0))
        family = family.adapted(options.searched.target, generator(seed, ADAPT_STREAM))
    expected = _foretell(options, family, watch)
    found = _begun(options.searched, family, placed, watch)
    best = _searched(options.searched, family, found, watch)
    if options.stand_ins:
        best = _corrected(options, family, found, best, watch)
    exact, options = options, options.searched
    improper = _improper(options.target, best)
    watch(Progress("checking", 0, best.loss, found.n_calls, best.info.n_gradients))
    n_draws = exact.n_draws
    if isinstance(family, Growing):
        family = family.settled(best.q)
    try:
        others = rival_modes(found, best)
        if improper is None:
            others += scouted_modes(options, family, found, best)
        proposal = propose(best.q, _curvature(options.target, best.q, seed), others)
        densities = _densities(target, proposal, n_draws, seed)
    except KeyboardInterrupt:
        best.reason, n_draws = Reason.INTERRUPTED, LEAST_DRAWS
        proposal = propose(best.q, None)
        densities = _densities(target, proposal, n_draws, seed)
    compiling = CLOCK.compile_seconds - compiled
    work = _work(exact, found, improper, compiling, time.perf_counter() - clock - compiling)
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
        target=target.plain,
    )
    seen = _beyond(result, target, found)
    if seen is not None:
        running = time.perf_counter() - clock - compiling
        result = dataclasses.replace(
            result, beyond=seen, work=_work(exact, found, improper, compiling, running)
        )
    return result, found


def _beyond(fit: Fit, target: Target, found: Search) -> Beyond | None:
    """What lies beyond the largest weight, where weights are believed and it can be looked for."""
    small = fit.q.dim <= LARGEST and target.large is None  # each look would be a pass over all rows
    if not (fit.trusted and target.differentiable and small):
        return None
    z = np.concatenate([z for z, *_ in fit.check_chunks()])
    rng = generator(fit.seed, SCOUT_STREAM, 1)
    draws = (z, fit.log_p, fit.log_r)
    try:
        seen, spent = beyond(target, fit.proposal, fit.n_draws, draws, rng)
    except KeyboardInterrupt:  # the fit is made, and ends whatever it is a part of
        found.interrupted = True
        return None
    found.n_scouted += spent
    if seen is None or not len(seen.z):
        return seen
    values = columns(fit.space.draws(seen.z))
    return seen._replace(lacking=quantities.lacking(fit.comparison, values, seen.mass))


def _foretell(options: Options, family: Family, watch: Callable[..., Any]) -> float:
    """Seconds that a fit will take; said, if they are many."""
    exact, searched = options.target.plain, options.searched.target
    part = None if searched is options.target else searched
    seconds, note = forecast(exact, family, options.n_starts, options.n_draws, part)
    exact.failures.clear()
    if note is not None:
        watch(Progress("begun", 0, np.inf, 0, 0, note=note))
    return seconds


def _searched(options: Options, family: Family, found: Search, watch: Callable[..., Any]) -> State:
    """Minimise from every start, and choose the best."""
    target, seed = options.target, options.seed
    search(target, found, options.plan(found.states[0].q), seed, watch)
    if isinstance(family, Pooling):
        visits = (revisit(options, family, found, watch) for _ in range(REVISITS))
        all(visits)  # until one brings nothing
    return choose(target, found, seed) if len(found.states) > 1 else found.states[0]


def _corrected(
    options: Options, family: Family, found: Search, best: State, watch: Callable[..., Any]
) -> State:
    """Correct what stands in for the target by passes over all rows, and search it anew."""
    stand_in = options.stand_ins[0]
    for _ in range(MOST_PASSES):
        if not (isinstance(best.q, Gaussian) and np.isfinite(best.loss)):
            return best
        try:
            if found.interrupted:
                raise KeyboardInterrupt
            watch(Progress("reading", 0, best.loss, found.n_calls, best.info.n_gradients))
            settled = stand_in.correct(best.q)
        except KeyboardInterrupt:
            found.interrupted = True
            best.reason = Reason.INTERRUPTED  # of a part it may have converged
            return best
        best = _again(options.searched, family, found, watch)
        if settled:
            return best
    return _again(options, family, found, watch)


def _again(options: Options, family: Family, found: Search, watch: Callable[..., Any]) -> State:
    """Search on from the optima so far, on a target that has changed."""
    found.states = [State(q=state.q, info=state.info) for state in optima(found)] or found.states
    return _searched(options, family, found, watch)


def _starts_from(options: Options, family: Family, q: Distribution) -> list[Distribution]:
    """Where a family goes on from a member of another one."""
    if isinstance(family, Directed):
        return [family.start_at(q, options.target, generator(options.seed, ADAPT_STREAM))]
    return family.starts_from(q) if isinstance(family, Branching) else [family.start_from(q)]


def _begun(
    options: Options, family: Family, placed: Sequence[State], watch: Callable[..., Any]
) -> Search:
    """Starts of a family's own; or the optima of another one, apart or pooled."""
    if not placed:
        return begin(options.target, family, options.n_starts, options.seed, watch)
    if not isinstance(family, Pooling):
        return Search(
            [
                State(q=member, info=Info("climb", branch))
                for branch, state in enumerate(placed)
                for member in _starts_from(options, family, state.q)
            ]
        )
    known = [(state.q, -state.loss) for state in placed]
    known += [(gaussian_at(mode), mode.log_mass) for mode in options.atlas.beyond(known)]
    q = family.start_from_all(*zip(*known, strict=True))
    return Search([State(q=q, info=Info("climb"))])


def _improper(target: Target, best: State) -> str | None:
    """Where a search has run away to, if the posterior is improper there."""
    ran = best.reason is not None and not best.reason.converged
    if not (ran and isinstance(best.q, NaturalGaussian) and best.q.dim <= LARGEST_DENSE):
        return None
    found = direction(target, best.q)
    if found is not None:
        best.reason = Reason.IMPROPER
    return found


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
    chunks = proposal.evaluated(target, n, seed, CHECK_STREAM)
    log_p, log_q, log_r = joined(densities for _, *densities in chunks)
    return log_p, log_q, log_r


def _report(state: State) -> StartReport:
    info = state.info
    reason = state.reason or Reason.INTERRUPTED
    return StartReport(info.kind, -float(state.loss), reason, info.n_gradients, info.n_steps)


def _work(
    options: Options, found: Search, improper: str | None, compiling: float, running: float
) -> Work:
    target = options.target
    failures = target.failures
    infos = [state.info for state in found.states]
    undefined = [i.first_undefined for i in infos if i.first_undefined is not None]
    return Work(
        n_gradients=found.n_scouted + sum(info.n_gradients for info in infos),
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
        improper=improper,
        differentiated=target.differentiable,
        rows=None if target.large is None else _rows(target.large, options.stand_ins),
    )


def _rows(large: Large, stand_ins: Sequence[StandIn]) -> str:
    """How many rows were gone through, where, and how often."""
    if not stand_ins:
        return f"{large.told()}, each evaluation a pass over them"
    return (
        f"{large.told()}; searched on {large.n_part:,} of them, corrected by "
        f"{stand_ins[0].passes} passes over all"
    )
