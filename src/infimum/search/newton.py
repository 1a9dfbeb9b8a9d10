"""Gaussians by Newton steps on the pattern of the Hessian: the search of "fullrank" and "sparse".

The precision of the best of all Gaussians is E_q[-∇²log p̂], and so has the zeros of the Hessian.
Where there are many of them, a few gradients give the Hessian at a point, one for each colour of
the pattern, and the best full-rank Gaussian is found on it. The search begins with the best
Gaussians on the paths of a few ascents. From each of them go Newton steps with the same few draws;
from those that are near the best, steps with fresh draws, whose average is q.

Khan & Rue (2023) for the steps; Zhang, Carpenter, Gelman & Vehtari (2022) for the paths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from infimum.base.errors import UnsuitableError
from infimum.base.extras import installed
from infimum.base.seeds import ADAPT_STREAM, CURVATURE_STREAM, START_STREAM, generator
from infimum.base.stopping import Stopped
from infimum.families._distribution import LARGEST_DENSE, Distribution, SparseGaussian
from infimum.families._family import Family
from infimum.families.fullrank import FullRank
from infimum.families.sparse.sparse import Sparse
from infimum.search.leaps import leap
from infimum.search.loop import (
    DROPPED_REASONS,
    RIVAL_GAP,
    Search,
    choose_best,
    merge_starts,
    run_solvers,
)
from infimum.search.path import Local, best_on_path, raised_start
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.starts import random_points, usable_points
from infimum.solvers._solver import Info, Reason, State
from infimum.solvers.sparse_newton import SparseNewton
from infimum.structure.colours import colouring
from infimum.structure.pattern import probed_edges, widened
from infimum.target.target import Target

SMALLEST_DIM = 12
"""Dimensions from which the pattern is looked for. Below, every search is cheap, and a tenth of a
nat decides whether weights are of use: for the eight schools (d = 10) this search, 750 gradients in
place of 15,000 to 32,000, ended 0.05 to 0.35 nats lower, and no verdict was "reweight"."""

MOST_COLOURS = 0.4
"""Colours of the pattern, as a part of d, up to which "fullrank" is searched on it. Beyond, much
is coupled to much, and gradients at draws say as much of the curvature as differences do."""

TOLERANCE = 0.05
"""Nats for every hundred coordinates that the finite number of draws may cost."""

LOOKS, LOOK_DRAWS = 10, 4
"""Points of a path at which an ELBO is estimated, and draws of each estimate."""

PATH_GAIN, PATH_ITERATIONS = 1e-6, 100
"""Relative gain of log p̂ at which an ascent ends, and its iterations at most: the mass is met
before."""

PATH = (LOOKS, LOOK_DRAWS, PATH_GAIN, PATH_ITERATIONS)
"""How a path is looked at."""

ROUGH_STEPS = 25
"""Newton steps with the same few draws: more of them fit these draws."""

NEAR_SDS = 5.0
"""sds of a q within which the start of another search leads to the same q, and is left out."""

STARTS_A_PATH = 2
"""Random starts of a fit for each ascent whose path is looked at: two for the default of four."""


def newton_optima(
    plan: Plan, family: Family, watch: Watch, below: Sequence[State]
) -> Search | None:
    """The optima of a Gaussian family, best first; None if other solvers have to find them.

    Parameters
    ----------
    below
        Optima of another family to start from; without any, starts are found.
    """
    if not _suits(plan, family):
        return None
    target = plan.searched
    target = target.by_gradients() if isinstance(family, FullRank) else target
    before = target.counter.n_gradients
    watch(Progress("starting", 0, np.inf, 0, 0))
    sparse = None
    with plan.stop.cut_short():
        sparse = _on_pattern(plan, target, family)
    if sparse is None:
        return None
    search = Search()
    with plan.stop.cut_short():
        search.states = _below(sparse, below) if below else _starts(plan, target, sparse)
    if not search.states:
        return None
    booked = sum(state.info.n_gradients for state in search.states)
    search.n_scouted = max(0, target.counter.n_gradients - before - booked)
    try:
        _search(plan, target, search, watch)
    except UnsuitableError:  # the pattern has lacked an entry
        if isinstance(family, Sparse):
            raise
        return None
    best = search.states[0]
    if not (plan.stop.requested or (best.reason is not None and best.reason.converged)):
        return None
    if isinstance(family, FullRank):
        for state in search.states:
            state.q = family.start_from(state.q)
    return search


def _suits(plan: Plan, family: Family) -> bool:
    """Whether the family is a Gaussian one whose search may be this one."""
    target = plan.target
    return (
        isinstance(family, FullRank | Sparse)
        and SMALLEST_DIM <= target.dim <= LARGEST_DENSE
        and target.differentiable
        and target.large is None
        and not plan.own_solvers
        and all(map(installed, Sparse.libraries))
    )


def _on_pattern(plan: Plan, target: Target, family: Family) -> Sparse | None:
    """The sparse family on the target's pattern; None if that has too many colours."""
    if isinstance(family, Sparse):
        return family
    try:
        edges = probed_edges(target, generator(plan.seed, ADAPT_STREAM))
        few = colouring(target.dim, edges).n_colours <= MOST_COLOURS * target.dim
        return Sparse.on(target.dim, edges) if few else None
    except UnsuitableError:
        return None


def _below(sparse: Sparse, below: Sequence[State]) -> list[State]:
    """States at the optima of another family; none if the search can't begin at one of them."""
    try:
        return [
            State(q=sparse.start_from(state.q), info=Info("climb", branch))
            for branch, state in enumerate(below)
        ]
    except TypeError:
        return []


def _starts(plan: Plan, target: Target, sparse: Sparse) -> list[State]:
    """The best Gaussians on the paths of a few ascents; what the user gave comes first."""
    rng = generator(plan.seed, START_STREAM)
    n, states, elbos = -(-plan.n_starts // STARTS_A_PATH), [], []
    beginning = plan.beginning
    placed = None if beginning is None else beginning.member(sparse)
    points = random_points(target.dim, rng)
    log_p, _gradient, usable = usable_points(target, points)
    if np.any(log_p == np.inf):
        return []  # other searches say what is wrong with that
    kinds = ["ascent"] * n
    chosen = list(points[usable][:n])
    if beginning is not None and placed is None:
        kinds, chosen = ["start", *kinds][:n], [beginning.point, *chosen][:n]
    elif target.example is not None:
        kinds, chosen = ["example", *kinds][:n], [target.example, *chosen][:n]
    if placed is not None:
        states.append(State(q=placed, info=Info("start")))
        elbos.append(np.inf)
        chosen = chosen[: n - 1]
    for k, (kind, start) in enumerate(zip(kinds, chosen, strict=False)):
        before = target.counter.n_gradients
        edges = np.asarray(sparse.edges)
        begun = raised_start(target, edges, start) if k % 2 else start
        raising = target.counter.n_gradients - before
        local = best_on_path(target, edges, begun, rng, *PATH)
        if not np.isfinite(local.elbo):
            continue
        before = target.counter.n_gradients
        sparse = _widened(target, sparse, local, rng)
        spent = raising + local.n_gradients + target.counter.n_gradients - before
        info = Info(kind, n_gradients=spent)
        states.append(State(q=sparse.init(local.mean, local.scale), info=info))
        elbos.append(local.elbo)
    top = max((elbo for elbo in elbos if elbo < np.inf), default=-np.inf)
    for state, elbo in zip(states, elbos, strict=True):
        state.q, state.loss = sparse.start_from(state.q), np.inf if elbo == np.inf else -elbo
        if elbo < top - RIVAL_GAP:
            state.reason = Reason.OUTRUN
    order = sorted(range(len(states)), key=lambda i: -elbos[i])
    return [states[i] for i in order]


def _widened(target: Target, sparse: Sparse, local: Local, rng: np.random.Generator) -> Sparse:
    """The family on the pattern with the entries that show where the mass is.

    At points far out differences of huge gradients hide small entries.
    """
    edges: Int[np.ndarray, "2 m"] = np.asarray(sparse.edges)
    z: Float[np.ndarray, " d"] = local.mean + local.scale * rng.standard_normal(target.dim)
    more = widened(target, edges, z, local.scale, rng)
    return sparse if more.shape == edges.shape else Sparse.on(target.dim, more)


def _search(plan: Plan, target: Target, search: Search, watch: Watch) -> None:
    """Newton steps from all starts, then averages from those that are near the best."""
    [solver] = plan.solvers_for(search.states[0].q)
    assert isinstance(solver, SparseNewton)
    tolerance = TOLERANCE if plan.tolerance is None else plan.tolerance
    steps = min(solver.max_steps, ROUGH_STEPS)
    rough = dataclasses.replace(solver, tolerance=tolerance, end="stop", max_steps=steps)
    waiting, search.states = search.states[1:], search.states[:1]
    _advance(plan, target, search, rough, watch)
    first = search.states[0]
    for state in waiting:
        if state.reason is None and _near(first.q, state.q):
            state.reason = Reason.MERGED
    if not plan.stop.requested and any(state.reason is None for state in waiting):
        more = Search([state for state in waiting if state.reason is None])
        _advance(plan, target, more, rough, watch)
        search.states += more.states
        search.n_calls, search.n_checks = search.n_calls + more.n_calls, more.n_checks
        merge_starts(search.states)
    behind = [state for state in waiting if all(state is not x for x in search.states)]
    behind = [state for state in behind if state.reason is not None]
    if plan.stop.requested:
        search.states.sort(key=lambda state: (state.reason in DROPPED_REASONS, state.loss))
        search.states += behind
        return
    kept = _near_best(plan, target, search)
    others = [state for state in search.states if all(state is not x for x in kept)]
    search.states = kept
    steps = solver.max_steps
    fine = dataclasses.replace(rough, end="average", at_once=True, max_steps=steps)
    run_solvers(target, search, [fine], plan.seed, watch, plan.stop)
    merge_starts(search.states)
    best = choose_best(target, search, plan.seed)
    rest = [state for state in search.states if state is not best]
    search.states = [best, *rest, *others, *behind]


def _advance(plan: Plan, target: Target, search: Search, rough: SparseNewton, watch: Watch) -> None:
    """Newton steps with few draws, and then leaps of the scales."""
    run_solvers(target, search, [rough], plan.seed, watch, plan.stop)
    with plan.stop.cut_short():
        plan.stop.check()
        for state in search.states:
            if state.reason in (*DROPPED_REASONS, Reason.LOST, Reason.OUTRUN):
                continue
            leap(target, state, generator(plan.seed, CURVATURE_STREAM, 1))
            if watch(Progress("fitting", 1, state.loss, search.n_calls, state.info.n_gradients)):
                raise Stopped


def _near(q: Distribution, other: Distribution) -> bool:
    """Whether the mean of one Gaussian is where the other has mass."""
    assert isinstance(q, SparseGaussian)
    assert isinstance(other, SparseGaussian)
    return bool(np.abs(q.pull_back(np.asarray(other.mean))).max() <= NEAR_SDS)


def _near_best(plan: Plan, target: Target, search: Search) -> list[State]:
    """The starts that may be the best, or an optimum beside it; the others are outrun."""
    best = choose_best(target, search, plan.seed)
    for state in search.states:
        if state.reason not in DROPPED_REASONS and state.loss > best.loss + RIVAL_GAP:
            state.reason = Reason.OUTRUN
    gone = (*DROPPED_REASONS, Reason.OUTRUN)
    return [state for state in search.states if state.reason not in gone]
