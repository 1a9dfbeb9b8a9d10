"""The only loop: solvers advance all starts together until each start has a reason to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infimum.base.seeds import CHOICE_STREAM, DRAW_STREAM, START_STREAM, Seed, generator
from infimum.base.stopping import Stop, Stopped
from infimum.families._distribution import Gaussian
from infimum.families._family import Family
from infimum.objective.draws import fresh_draws
from infimum.objective.loss import outcome
from infimum.search.beginning import Beginning
from infimum.search.progress import Progress, Watch
from infimum.search.starts import ascend, find_starts
from infimum.solvers._solver import Reason, Solver, State
from infimum.target.target import Target

PATIENCE = 3
"""Cost at which a start is given up that is behind a converged start, in units of that start's
cost. On fifteen posteriors the most expensive start that still won cost 2.4 times the cheapest."""

RIVAL_GAP = 5.0
"""Nats by which an optimum is worse than another if its mass (below 1 %) does not matter."""

MOST_CALLS = 190
"""Batched calls after which starts that still move are given up, if another has converged."""

CALLS_PER_MERGE = 5
"""Batched calls between two comparisons of all starts, which cost more than a step of q."""

SAME_LOSS = 0.5
SAME_MEAN = 1.0
"""Largest distance of two q that are on the way to one optimum: in nats of their losses, and in sds
of their means."""

MOST_OVERFIT = 0.05
"""Nats by which q may be worse by fresh draws than by its own fixed draws; above it the fixed draws
grow."""

CHOICE_DRAWS = 256
"""Fresh draws that choose among starts, and check fixed draws."""

DROPPED_REASONS = (Reason.MERGED, Reason.BEHIND)
"""Reasons of starts that take no further part."""


@dataclass
class Search:
    """All starts of one fit, with their common cost.

    Attributes
    ----------
    states
        The state of each start.
    n_calls
        Batched calls of the target.
    n_scouted
        Gradients that scouts and the pattern of the Hessian took; they belong to no start.
    n_checks
        Evaluations of log p̂ that moved no q, but judged one.
    n_modes
        Modes that q and the other optima belong to.
    sought, looked
        How other modes were looked for, in words, and whether they were.
    """

    states: list[State] = field(default_factory=list)
    n_calls: int = 0
    n_scouted: int = 0
    n_checks: int = 0
    n_modes: int = 1
    sought: str = ""
    looked: bool = True

    @property
    def n_gradients(self) -> int:
        """Gradients of all starts, and of scouts and the pattern."""
        return self.n_scouted + sum(state.info.n_gradients for state in self.states)


def place_starts(
    target: Target,
    family: Family,
    n_starts: int,
    seed: Seed,
    watch: Watch,
    stop: Stop,
    beginning: Beginning | None = None,
) -> Search:
    """Find starts, climb from them to a mode, and place a q at each.

    A stop ends the ascents where they are.
    """
    starts = find_starts(target, n_starts, generator(seed, START_STREAM), beginning)
    watch(Progress("starting", len(starts), np.inf, 1, len(starts)))
    with stop.cut_short():
        ascend(starts, target)
    placed = None if beginning is None else beginning.member(family)
    states = []
    for start in starts:
        q = placed if start.info.kind == "start" else None
        q = family.init(start.x, start.scale) if q is None else q
        states.append(State(q=q, info=start.info))
    return Search(states, n_calls=max(start.info.n_steps for start in starts))


def run_solvers(
    target: Target,
    search: Search,
    solvers: Sequence[Solver],
    seed: Seed,
    watch: Watch,
    stop: Stop,
) -> None:
    """Run the solvers one after another on every start; a stop leaves the best q so far."""
    with stop.cut_short():
        stop.check()
        for solver in solvers:
            rng = generator(seed, DRAW_STREAM, solver.order)
            _prune(target, search, seed)
            dropped = [state for state in search.states if state.reason in DROPPED_REASONS]
            kept = [state for state in search.states if state.reason not in DROPPED_REASONS]
            running = [solver.init(state.q, state.info, _copied(rng)) for state in kept]
            search.states = running + dropped
            _advance(solver, running, target, search, watch)
        _check_with_fresh_draws(solvers[-1], target, search, seed, watch)
    if stop.requested:
        for state in search.states:
            state.reason = state.reason or Reason.INTERRUPTED


def _prune(target: Target, search: Search, seed: Seed) -> None:
    """Keep one start of each branch: the best by fresh draws, once a solver has moved them all."""
    branches: dict[int, list[State]] = {}
    for state in search.states:
        if state.info.branch is not None and state.reason not in (None, *DROPPED_REASONS):
            branches.setdefault(state.info.branch, []).append(state)
    for states in branches.values():
        if len(states) > 1:
            trial = Search(states)
            best = choose_best(target, trial, seed)
            search.n_checks += trial.n_checks
            for state in states:
                state.reason = state.reason if state is best else Reason.BEHIND


def _copied(rng: np.random.Generator) -> np.random.Generator:
    """A generator in the same state, so that every start gets the same base draws."""
    copy = np.random.Generator(type(rng.bit_generator)())
    copy.bit_generator.state = rng.bit_generator.state
    return copy


def _advance(
    solver: Solver, states: list[Any], target: Target, search: Search, watch: Watch
) -> None:
    """Step until every start has a reason to stop.

    Raises
    ------
    Stopped
        If `watch` asks for it.
    """
    while running := [state for state in states if state.reason is None]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solver.step(running, target)  # what is not finite is rejected and counted there
        search.n_calls += 1
        if search.n_calls % CALLS_PER_MERGE == 0 or not any(s.reason is None for s in states):
            merge_starts(states)
        _give_up(states, search.n_calls)
        gradients = sum(state.info.n_gradients for state in search.states)
        best = min(states, key=lambda state: state.loss)
        noise = best.info.spread / np.sqrt(best.n_draws)
        if watch(Progress("fitting", len(running), best.loss, search.n_calls, gradients, noise)):
            raise Stopped


def _give_up(states: list[State], n_calls: int) -> None:
    """End starts that are behind a converged start and have cost far more."""
    converged = [s for s in states if s.reason is not None and s.reason.converged]
    for state in states:
        if state.reason is not None:
            continue
        outrun = any(
            s.loss < state.loss - RIVAL_GAP
            and PATIENCE * s.info.n_gradients < state.info.n_gradients
            for s in converged
        )
        if outrun or (converged and n_calls >= MOST_CALLS):
            state.reason = Reason.OUTRUN


def merge_starts(states: Sequence[State]) -> None:
    """End all but one of the starts that approach the same optimum.

    A converged start is kept before one that moves, and the cheaper before the more expensive.
    """
    kept: list[State] = []

    def cost(state: State) -> tuple[bool, int]:
        return not (state.reason is not None and state.reason.converged), state.info.n_gradients

    for state in sorted(states, key=cost):
        if state.reason is Reason.MERGED:
            continue
        if any(_same(state, other) for other in kept):
            state.reason = Reason.MERGED
        else:
            kept.append(state)


def _same(state: State, other: State) -> bool:
    """Whether two starts approach the same optimum; only Gaussians can tell."""
    q, p = state.q, other.q
    if not (isinstance(q, Gaussian) and isinstance(p, Gaussian)):
        return False
    if not (np.isfinite(other.loss) and abs(state.loss - other.loss) <= SAME_LOSS):
        return False
    apart = max(np.abs(p.pull_back(q.mean)).max(), np.abs(q.pull_back(p.mean)).max())
    return bool(apart <= SAME_MEAN)


def _check_with_fresh_draws(
    solver: Solver, target: Target, search: Search, seed: Seed, watch: Watch
) -> None:
    """Grow the fixed draws of the best start until fresh draws find it no worse than they do."""
    while True:
        best = min(search.states, key=lambda state: state.loss)
        if best.reason is None or not best.reason.converged:
            return
        z, log_q = next(fresh_draws(best.q, CHOICE_DRAWS, seed, CHOICE_STREAM))
        log_p = target.values(z)
        result = outcome(log_q, log_p)
        search.n_calls += 1
        search.n_checks += len(z)
        if not np.isfinite(result.loss):
            return
        spread = float(np.std((log_q - log_p)[result.inside]))
        noise = spread * np.sqrt(1 / len(z) + 1 / best.n_draws)  # both estimates are noisy
        if result.loss - best.loss <= max(MOST_OVERFIT, 4 * noise) or not solver.grow(best):
            return
        _advance(solver, [best], target, search, watch)


def choose_best(target: Target, search: Search, seed: Seed) -> State:
    """The start whose q is best by fresh draws; every start's loss is set to that estimate."""
    kept = [state for state in search.states if state.reason not in DROPPED_REASONS]
    for state in kept if len(kept) > 1 else []:
        z, log_q = next(fresh_draws(state.q, CHOICE_DRAWS, seed, CHOICE_STREAM))
        result = outcome(log_q, target.values(z))
        search.n_checks += len(z)
        state.loss = result.loss if not np.isnan(result.loss) else np.inf
    return min(search.states, key=lambda state: (state.reason in DROPPED_REASONS, state.loss))


def remaining_optima(search: Search) -> list[State]:
    """The starts whose q may be an optimum of its own: where the next family starts."""
    failures = (*DROPPED_REASONS, Reason.LOST, Reason.OUTRUN)
    return [state for state in search.states if state.reason not in failures]
