"""Find the optima of one family: place starts, run solvers, correct a surrogate, choose the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infimum.base.seeds import ADAPT_STREAM, generator
from infimum.families._distribution import LARGEST_DENSE, Distribution, Gaussian, NaturalGaussian
from infimum.families._family import Branching, Directed, Family, Pooling
from infimum.search.improper import direction
from infimum.search.loop import Search, begin, choose, optima, run_solvers
from infimum.search.modes import gaussian_at, take_in_modes
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.surrogate import MOST_PASSES
from infimum.solvers._solver import Info, Reason, State
from infimum.target.target import Target

REVISITS = 2
"""Times that a mixture takes in modes that scouts find beyond it."""


def find_optima(
    plan: Plan, family: Family, watch: Watch, placed: Sequence[State] = ()
) -> tuple[Search, State]:
    """Every optimum that the starts of a family reach, and the best of them.

    Parameters
    ----------
    placed
        The optima of another family to start from; without any the family has starts of its own.
    """
    search = _placed(plan, family, watch, placed)
    best = _minimised(plan, plan.searched, family, search, watch)
    if plan.surrogate is not None:
        best = _corrected(plan, family, search, best, watch)
    return search, best


def improper_direction(plan: Plan, best: State) -> str | None:
    """Where a search has run away to, if the posterior is improper there."""
    ran_away = best.reason is not None and not best.reason.converged
    if not (ran_away and isinstance(best.q, NaturalGaussian) and best.q.dim <= LARGEST_DENSE):
        return None
    endless = direction(plan.searched, best.q)
    if endless is not None:
        best.reason = Reason.IMPROPER
    return endless


def _placed(plan: Plan, family: Family, watch: Watch, placed: Sequence[State]) -> Search:
    """Starts of a family's own; or the optima of another one, apart or pooled."""
    if not placed:
        return begin(plan.searched, family, plan.n_starts, plan.seed, watch, plan.stop)
    if isinstance(family, Pooling):
        known = [(state.q, -state.loss) for state in placed]
        known += [(gaussian_at(mode), mode.log_mass) for mode in plan.atlas.beyond(known)]
        return Search(
            [State(q=family.start_from_all(*zip(*known, strict=True)), info=Info("climb"))]
        )
    return Search(
        [
            State(q=member, info=Info("climb", branch))
            for branch, state in enumerate(placed)
            for member in _starts_from(plan, family, state.q)
        ]
    )


def _starts_from(plan: Plan, family: Family, q: Distribution) -> list[Distribution]:
    """Where a family goes on from a member of another one."""
    if isinstance(family, Directed):
        return [family.start_at(q, plan.searched, generator(plan.seed, ADAPT_STREAM))]
    return family.starts_from(q) if isinstance(family, Branching) else [family.start_from(q)]


def _minimised(plan: Plan, target: Target, family: Family, search: Search, watch: Watch) -> State:
    """Minimise from every start, and choose the best."""
    solvers = plan.solvers_for(search.states[0].q)
    run_solvers(target, search, solvers, plan.seed, watch, plan.stop)
    if isinstance(family, Pooling):
        visits = (take_in_modes(plan, target, family, search, watch) for _ in range(REVISITS))
        all(visits)  # ends with the first visit that brings nothing
    return choose(target, search, plan.seed) if len(search.states) > 1 else search.states[0]


def _corrected(plan: Plan, family: Family, search: Search, best: State, watch: Watch) -> State:
    """Correct the surrogate by passes over all rows, and search it again, until both agree.

    A surrogate that does not settle, or whose q has no quadratic, leaves the last word to exact
    passes.
    """
    assert plan.surrogate is not None
    for _ in range(MOST_PASSES):
        if not (isinstance(best.q, Gaussian) and np.isfinite(best.loss)):
            return best
        settled = False
        with plan.stop.cut_short():
            plan.stop.check()
            watch(Progress("reading", 0, best.loss, search.n_calls, best.info.n_gradients))
            settled = plan.surrogate.correct(best.q)
        if plan.stop.requested:
            best.reason = Reason.INTERRUPTED  # it may have converged, but on a part of the rows
            return best
        best = _searched_again(plan, plan.searched, family, search, watch)
        if settled:
            return best
    return _searched_again(plan, plan.target, family, search, watch)


def _searched_again(
    plan: Plan, target: Target, family: Family, search: Search, watch: Watch
) -> State:
    """Search on from the optima so far, on a target that has changed."""
    search.states = [State(q=x.q, info=x.info) for x in optima(search)] or search.states
    return _minimised(plan, target, family, search, watch)
