"""The optima of one family: starts are placed, solvers run, and the best start is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infimum.base.seeds import ADAPT_STREAM, generator
from infimum.families._distribution import LARGEST_DENSE, Distribution, Gaussian, NaturalGaussian
from infimum.families._family import Branching, Directed, Family, Pooling
from infimum.families.emulated import Emulated
from infimum.families.nested import Nested
from infimum.search.emulated import emulated_optimum
from infimum.search.improper import direction
from infimum.search.loop import Search, choose_best, place_starts, remaining_optima, run_solvers
from infimum.search.modes import gaussian_at, take_in_modes
from infimum.search.nested import nested_optimum
from infimum.search.newton import newton_optima
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.surrogate import MOST_PASSES
from infimum.solvers._solver import Info, Reason, State
from infimum.target.target import Target

REVISITS = 2
"""Times that scouts are sent out from a mixture, to find modes that it does not cover."""


def find_optima(
    plan: Plan, family: Family, watch: Watch, below: Sequence[State] = ()
) -> tuple[Search, State]:
    """Every optimum that the starts of a family reach, and the best of them.

    Parameters
    ----------
    below
        Optima of another family to start from; without any, random starts are placed.
    """
    if isinstance(family, Nested):
        return nested_optimum(plan, family, watch)
    if isinstance(family, Emulated):
        return emulated_optimum(plan, family, watch, below)
    before = plan.searched.counter.n_gradients
    optima = newton_optima(plan, family, watch, below)
    if optima is not None:
        return optima, optima.states[0]
    spent = plan.searched.counter.n_gradients - before
    search = _begin(plan, family, watch, below)
    search.n_scouted += spent
    best = _minimise(plan, plan.searched, family, search, watch)
    if plan.surrogate is not None:
        best = _correct_surrogate(plan, family, search, best, watch)
    return search, best


def improper_direction(plan: Plan, search: Search, best: State) -> str | None:
    """A direction along which the posterior is improper, found from this q or from one before.

    Then the search's reason becomes `Reason.IMPROPER`. A q that was cut short may be too narrow for
    its sds to say what is far; many rows are looked at only if q ran away.
    """
    reason, q = best.reason, best.q
    ran_away = reason is not None and not reason.converged
    looks = isinstance(q, NaturalGaussian) and q.dim <= LARGEST_DENSE
    looks &= reason is not None and reason is not Reason.INTERRUPTED
    looks &= ran_away or plan.target.large is None
    if plan.endless is None and looks:
        assert isinstance(q, NaturalGaussian)
        plan.endless, spent = direction(plan.searched, q)
        search.n_checks += spent
    if plan.endless is not None:
        best.reason = Reason.IMPROPER
    return plan.endless


def _begin(plan: Plan, family: Family, watch: Watch, below: Sequence[State]) -> Search:
    """A search from starts of its own; or from the optima of another family, and the user's fit."""
    beginning = plan.beginning
    if below:
        search = _begin_from(plan, family, below)
        own = None if beginning is None else beginning.own_member(family)
        if own is not None:
            search.states.append(State(q=own, info=Info("start")))
        return search
    q = None if beginning is None else beginning.q_for(family)
    if family.below is not None and q is not None:
        members = _starts_from(plan, family, q)
        return Search([State(q=member, info=Info("start", 0)) for member in members])
    options = (plan.n_starts, plan.seed, watch, plan.stop, beginning)
    return place_starts(plan.searched, family, *options)


def _begin_from(plan: Plan, family: Family, below: Sequence[State]) -> Search:
    """A search from the optima of another family, one by one or pooled."""
    if isinstance(family, Pooling):
        known = [(state.q, -state.loss) for state in below]
        known += [(gaussian_at(mode), mode.log_mass) for mode in plan.atlas.new_modes(known)]
        return Search(
            [State(q=family.start_from_all(*zip(*known, strict=True)), info=Info("climb"))]
        )
    return Search(
        [
            State(q=member, info=Info("climb", branch))
            for branch, state in enumerate(below)
            for member in _starts_from(plan, family, state.q)
        ]
    )


def _starts_from(plan: Plan, family: Family, q: Distribution) -> list[Distribution]:
    """Members of a family to start from, made of a member of another family."""
    if isinstance(family, Directed):
        return [family.start_at(q, plan.searched, generator(plan.seed, ADAPT_STREAM))]
    return family.starts_from(q) if isinstance(family, Branching) else [family.start_from(q)]


def _minimise(plan: Plan, target: Target, family: Family, search: Search, watch: Watch) -> State:
    """Minimise from every start; the best start by fresh draws."""
    solvers = plan.solvers_for(search.states[0].q)
    run_solvers(target, search, solvers, plan.seed, watch, plan.stop)
    if isinstance(family, Pooling):
        visits = (take_in_modes(plan, target, family, search, watch) for _ in range(REVISITS))
        all(visits)  # ends with the first visit that adds no mode
    return choose_best(target, search, plan.seed) if len(search.states) > 1 else search.states[0]


def _correct_surrogate(
    plan: Plan, family: Family, search: Search, best: State, watch: Watch
) -> State:
    """Correct the surrogate by a pass over all rows and search again, until it is exact near q.

    If `MOST_PASSES` corrections are not enough, the last search uses the target itself.
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
        best = _search_again(plan, plan.searched, family, search, watch)
        if settled:
            return best
    return _search_again(plan, plan.target, family, search, watch)


def _search_again(
    plan: Plan, target: Target, family: Family, search: Search, watch: Watch
) -> State:
    """Search on from the optima so far, because the target has changed."""
    search.states = [State(q=x.q, info=x.info) for x in remaining_optima(search)] or search.states
    return _minimise(plan, target, family, search, watch)
