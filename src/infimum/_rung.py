"""One rung: fit one family, from starts of its own or from the optima of another, and check it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infimum import _memory, _processes, families, solvers
from infimum._beyond import LARGEST, Beyond, beyond
from infimum._dense import raw_of
from infimum._errors import coded
from infimum._family import (
    LARGEST_DENSE,
    Adaptive,
    Branching,
    Directed,
    Distribution,
    Family,
    Gaussian,
    Growing,
    NaturalGaussian,
    Pooled,
    Pooling,
    Stacking,
)
from infimum._fit import Fit
from infimum._forecast import forecast
from infimum._improper import direction
from infimum._journal import Journal, described, digest
from infimum._loop import (
    ADAPT_STREAM,
    CHECK_STREAM,
    CURVATURE_STREAM,
    OVER,
    RIVAL,
    ROWS_STREAM,
    SCOUT_STREAM,
    Progress,
    Search,
    begin,
    choose,
    search,
)
from infimum._objective import (
    Seed,
    generator,
    n_coefficients,
    quadratic,
    structured_draws,
    words,
)
from infimum._passes import Large
from infimum._program import CLOCK
from infimum._proposal import Proposal, joined, propose
from infimum._record import StartReport, Work
from infimum._scouts import Atlas, Known, Mode, log_total, moved
from infimum._solver import FEWEST, Info, Reason, Solver, State
from infimum._space import columns
from infimum._standin import MOST_PASSES, StandIn
from infimum._target import Target
from infimum.checks import quantities

STARTS = 4
"""Ascents of a fit, besides its cold start; the best of four solved 45 of 46 posteriors."""

REVISITS = 2
"""Times that a mixture takes in modes that scouts find beyond it."""

MOST_SCOUTED = 500
"""Largest d for scouts: at d = 1,500 they took half of a sparse fit's 33 s, at d = 100,000 they
took 0.37 GB more than the fit."""

CHECK_DRAWS = 4096
"""Fresh draws that every estimate of a fit rests on: an ELBO's se is then near sqrt(KL/2000)."""

CHECK_NUMBERS = 2**24
"""Numbers in all check draws of one component: fewer draws where d is above 4096. At d = 30,003
with 240,000 rows 4096 densities take longer than the fit, and no weight of theirs is of use."""


CHECK_ROWS = 2**29
"""Rows times draws of a check: where rows are 10 million, 512 draws take 5 minutes as it is."""

FEWEST_CHECKED = 512
"""Check draws where d is largest: with fewer than 400 effective ones no fit is trusted. At
d = 100,000 an exact one, of 167 draws, was not."""

NAMED = 8
"""Names of coordinates that a checkpoint spells out; of the others it has a digest."""

LEAST_DRAWS = 100
"""Fresh draws without which no tail can be judged; a check cut short by Ctrl-C takes no more."""


def check_number(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless a setting is a whole number of at least so much."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            coded("E302", f"{name} is {value!r}, expected an integer of at least {least}")
        )


@dataclass(frozen=True)
class Options:
    """What a user chose, checked."""

    target: Target
    seed: Seed
    starts: int | None
    draws: int | None
    solver: Solver | Sequence[Solver] | None = None
    tolerance: float | None = None
    max_steps: int | None = None
    atlas: Atlas = field(default_factory=Atlas)
    stand_ins: list[StandIn] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.target, Target):
            raise TypeError(
                coded(
                    "E301",
                    f"expected an infimum.Target, not {self.target!r}: wrap a log density with "
                    "infimum.Target(log_density, example), a NumPyro model with "
                    "infimum.from_numpyro(model, *args)",
                )
            )
        generator(self.seed)
        for name, least in (("starts", 1), ("draws", LEAST_DRAWS), ("max_steps", 1)):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, least)
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(
                coded(
                    "E303", f"tolerance is {self.tolerance!r}, expected a positive number of nats"
                )
            )

    @contextlib.contextmanager
    def kept(self, folder: str | Path | None, **job: Any) -> Iterator[Options]:
        """The same, with the target seen through the journal in a folder, if one is given.

        Parameters
        ----------
        job
            The other arguments, for the journal to tell one job from another.
        """
        if folder is None:
            yield self
            return
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise TypeError(
                coded("E701", f"checkpoint is {folder!r}, expected the path of a folder")
            )
        told = {name: described(value) for name, value in job.items()}
        place = Path(folder)
        if self.shared:
            told["process"] = f"{_processes.rank()} of {_processes.count()}"
            place /= f"process-{_processes.rank()}"
        journal = Journal.open(place, {**self._told(), **told}, self.shared)
        try:
            yield dataclasses.replace(self, target=self.target.remembered(journal))
        finally:
            journal.close()

    def _told(self) -> dict[str, str]:
        names = self.target.space.free_names
        own = {name: described(getattr(self, name)) for name in ("starts", "draws", "solver")}
        return {
            "target": self.target.name,
            "dimension": str(self.target.dim),
            "parameters": f"{', '.join(names[:NAMED])} {digest(' '.join(names), ()).hex()[:8]}",
            "gradient": str(self.target.differentiable),
            "seed": " ".join(map(str, words(self.seed))),
            **own,
            "tolerance": str(self.tolerance),
            "max_steps": str(self.max_steps),
        }

    @property
    def n_starts(self) -> int:
        """How many random starts."""
        large = self.target.dim > LARGEST_DENSE
        return int(self.starts or (1 if large else STARTS))

    @property
    def n_draws(self) -> int:
        """How many check draws."""
        fitting = CHECK_NUMBERS // self.target.dim
        if self.target.large is not None:
            fitting = min(fitting, CHECK_ROWS // self.target.large.n_rows)
        return int(self.draws or min(CHECK_DRAWS, max(FEWEST_CHECKED, fitting)))

    @property
    def shared(self) -> bool:
        """Whether several processes work on this together, and must do the same."""
        return self.target.large is not None and _processes.count() > 1

    @property
    def searched(self) -> Options:
        """The same for what is searched: of many rows a part that stands for all."""
        large = self.target.large
        if large is None or not large.by_part:
            return self
        if not self.stand_ins:
            self.stand_ins.append(StandIn(self.target, self.seed, ROWS_STREAM))
        return dataclasses.replace(self, target=self.stand_ins[0].target)

    def plan(self, q: Distribution) -> list[Solver]:
        """The solvers to use, with the user's limits."""
        given: Any = self.solver
        if isinstance(given, Solver | str):  # a name is none, and is refused whole
            given = [given]
        differentiable = self.target.differentiable
        chosen = solvers.plan(q, differentiable) if given is None else list(given)
        for solver in chosen:
            if not isinstance(solver, Solver):
                known = ", ".join(member.__name__ for member in solvers.members())
                raise TypeError(coded("E310", f"{solver!r} is not a solver; known: {known}"))
            if not solver.accepts(q):
                raise ValueError(
                    coded(
                        "E310",
                        f"{type(solver).__name__} can't move a {type(q).__name__}: leave solver "
                        "out, to have the right ones chosen",
                    )
                )
            if solver.needs_gradient and not differentiable:
                raise ValueError(
                    coded(
                        "E110",
                        f"{type(solver).__name__} needs a gradient, and the target has none: give "
                        "it one, or leave out solver",
                    )
                )
        limits = {"tolerance": self.tolerance, "max_steps": self.max_steps}
        return [_limited(solver, limits) for solver in chosen]


def _limited(solver: Any, limits: dict[str, Any]) -> Solver:
    """The solver with those of the limits that it knows and that were given."""
    known = {k: v for k, v in limits.items() if v is not None and hasattr(solver, k)}
    limited: Solver = dataclasses.replace(solver, **known)
    return limited


def family_of(given: Any) -> Family:
    """The family that a name, a type or a family says."""
    if isinstance(given, str):
        return families.named(given)
    if isinstance(given, type) and issubclass(given, Family):
        return given()
    if not isinstance(given, Family):
        known = ", ".join(families.members())
        raise TypeError(
            coded("E201", f"{given!r} is not a family: give a name (auto, {known}) or a Family")
        )
    return given


def check_memory(options: Options, family: Family) -> None:
    """Refuse a family that the machine has no memory for; a climb skips it."""
    known = [families.named(name) for name in families.members()]
    _memory.check(family, known, options.target.dim)


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
        others = _rivals(found, best)
        if improper is None:
            others += _scouted(options, family, found, best)
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
        visits = (_revisited(options, family, found, watch) for _ in range(REVISITS))
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


def optima(found: Search) -> list[State]:
    """The optima that a search has left, where the next family starts."""
    left_out = (*OVER, Reason.LOST, Reason.OUTRUN)
    return [state for state in found.states if state.reason not in left_out]


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
    known += [(_gaussian(mode), mode.log_mass) for mode in options.atlas.beyond(known)]
    q = family.start_from_all(*zip(*known, strict=True))
    return Search([State(q=q, info=Info("climb"))])


def _gaussian(mode: Mode) -> Distribution:
    """The Gaussian at a mode that a scout found."""
    factor = mode.factor if mode.factor.ndim == 2 else np.diag(mode.factor)
    arrays = {"mean": mode.mean, "raw": raw_of(factor)}
    return families.named("fullrank").from_arrays(arrays)


def _improper(target: Target, best: State) -> str | None:
    """Where a search has run away to, if the posterior is improper there."""
    ran = best.reason is not None and not best.reason.converged
    if not (ran and isinstance(best.q, NaturalGaussian) and best.q.dim <= LARGEST_DENSE):
        return None
    found = direction(target, best.q)
    if found is not None:
        best.reason = Reason.IMPROPER
    return found


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


def _revisited(options: Options, family: Pooling, found: Search, watch: Callable[..., Any]) -> bool:
    """Scout from a mixture, take in what it does not cover, and refine; False if that is none."""
    atlas, best = options.atlas, min(found.states, key=lambda state: state.loss)
    settled = best.reason is not None and best.reason.converged and options.target.differentiable
    if found.interrupted or not (settled and isinstance(best.q, Pooled)):
        return False
    known = [(best.q, -float(best.loss))]
    _explored(options, found, known)
    missed = [(_gaussian(mode), mode.log_mass) for mode in atlas.beyond(known)]
    if not missed or len(best.q.stack()) + len(missed) > best.q.most:
        return False
    news = family.start_from_all(*zip(*missed, strict=True)).stack()
    share = 1 / (1 + np.exp(known[0][1] - log_total(missed)))
    joined = best.q.restacked(best.q.stack().joined(news, share))
    found.states = [State(q=joined, info=best.info)]
    search(options.target, found, options.plan(joined), options.seed, watch)
    return True


def _explored(options: Options, found: Search, known: Known) -> None:
    """Send scouts out from known ground.

    Of many rows they see a part as it was drawn: a correction holds near q only, and would hide
    modes that are images of q's. What they find is then looked at on all rows.
    """
    atlas = options.atlas
    calls, gradients = atlas.n_calls, atlas.n_gradients
    rng = generator(options.seed, SCOUT_STREAM)
    if options.stand_ins:
        stand_in = options.stand_ins[0]
        atlas.explore(stand_in.part, known, rng)
        atlas.modes = moved(atlas.modes, stand_in.exact)
    else:
        atlas.explore(options.target, known, rng)
    found.n_calls += atlas.n_calls - calls
    found.n_scouted += atlas.n_gradients - gradients


def _scouted(options: Options, family: Family, found: Search, best: State) -> list[Distribution]:
    """Modes that no start found and q does not cover; scouts are sent out once in a climb.

    None beyond `MOST_SCOUTED` dimensions.
    """
    target, atlas = options.target, options.atlas
    if target.dim > MOST_SCOUTED:
        return []
    settled = best.reason is not None and best.reason.converged
    if not (settled and target.differentiable and np.isfinite(best.loss)):
        return []
    states = [best, *(s for s in optima(found) if s is not best and np.isfinite(s.loss))]
    known = [(state.q, -float(state.loss)) for state in states]
    if not atlas.explored:
        _explored(options, found, known)
    return [_member(family, _gaussian(mode)) for mode in atlas.beyond(known)]


def _member(family: Family, q: Distribution) -> Distribution:
    """The member of a family that a Gaussian is, by way of what the family stands on."""
    if isinstance(family, Stacking) and family.below is not None:
        q = family_of(family.below).start_from(q)
    return family.start_from(q)


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
