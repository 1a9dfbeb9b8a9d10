"""The only loop: solvers advance all starts together until each has a reason to stop."""

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
from infimum.search.progress import Progress, Watch
from infimum.search.starts import ascend, find_starts
from infimum.solvers._solver import Reason, Solver, State
from infimum.target.target import Target

PATIENCE = 3
"""A start that is behind one that has converged goes on until it has cost this many times as much.
On fifteen posteriors the dearest start that still won cost 2.4 times the cheapest."""

RIVAL = 5.0
"""Nats by which one optimum must be worse than another for its mass (below 1 %) not to matter."""

MOST_CALLS = 190
"""Batched calls after which starts still on their way are given up, if one has converged."""

MEETING = 5
"""Batched calls between two looks at which starts have met; a look costs more than a step of q."""

SAME_LOSS = 0.5
SAME_PLACE = 1.0
"""Two q within these many nats, and sds of each other's mean, are on the way to one optimum."""

OVERFIT = 0.05
"""Nats by which fresh draws may find q worse than its own fixed draws do before these grow."""

CHOICE_DRAWS = 256
"""Fresh draws that choose among starts and check the fixed ones."""

OVER = (Reason.MERGED, Reason.BEHIND)
"""A start that ended so takes no further part."""


@dataclass
class Search:
    """All starts of one fit, and what they cost together.

    Attributes
    ----------
    states
        One a start.
    n_calls
        Batched calls of the target.
    n_scouted
        Gradients that scouts took, who belong to no start.
    """

    states: list[State] = field(default_factory=list)
    n_calls: int = 0
    n_scouted: int = 0


def begin(
    target: Target, family: Family, n_starts: int, seed: Seed, watch: Watch, stop: Stop
) -> Search:
    """Place a q at every start; a stop ends the ascents where they are."""
    starts = find_starts(target, n_starts, generator(seed, START_STREAM))
    watch(Progress("starting", len(starts), np.inf, 1, len(starts)))
    with stop.cut_short():
        ascend(starts, target)
    return Search(
        states=[State(q=family.init(start.x, start.scale), info=start.info) for start in starts],
        n_calls=max(start.info.n_steps for start in starts),
    )


def run_solvers(
    target: Target,
    search: Search,
    solvers: Sequence[Solver],
    seed: Seed,
    watch: Watch,
    stop: Stop,
) -> None:
    """Run the solvers one after another on every start; a stop leaves the best so far."""
    with stop.cut_short():
        stop.check()
        for solver in solvers:
            rng = generator(seed, DRAW_STREAM, solver.order)
            _prune(target, search, seed)
            ended = [state for state in search.states if state.reason in OVER]
            alive = [state for state in search.states if state.reason not in OVER]
            fresh = [solver.init(state.q, state.info, _twin(rng)) for state in alive]
            search.states = fresh + ended
            _advance(solver, fresh, target, search, watch)
        _check_with_fresh_draws(solvers[-1], target, search, seed, watch)
    if stop.requested:
        for state in search.states:
            state.reason = state.reason or Reason.INTERRUPTED


def _prune(target: Target, search: Search, seed: Seed) -> None:
    """Of the ways on from one fit keep the best by fresh draws, once a solver has moved them."""
    branches: dict[int, list[State]] = {}
    for state in search.states:
        if state.info.branch is not None and state.reason not in (None, *OVER):
            branches.setdefault(state.info.branch, []).append(state)
    for states in branches.values():
        if len(states) > 1:
            best = choose(target, Search(states), seed)
            for state in states:
                state.reason = state.reason if state is best else Reason.BEHIND


def _twin(rng: np.random.Generator) -> np.random.Generator:
    """A generator in the same state: every start draws the same base draws."""
    copy = np.random.Generator(type(rng.bit_generator)())
    copy.bit_generator.state = rng.bit_generator.state
    return copy


def _advance(
    solver: Solver, states: list[Any], target: Target, search: Search, watch: Watch
) -> None:
    while running := [state for state in states if state.reason is None]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solver.step(running, target)  # what is not finite is rejected and counted there
        search.n_calls += 1
        if search.n_calls % MEETING == 0 or not any(s.reason is None for s in states):
            merge(states)
        _give_up(states, search.n_calls)
        gradients = sum(state.info.n_gradients for state in search.states)
        best = min(states, key=lambda state: state.loss)
        noise = best.info.spread / np.sqrt(best.n_draws)
        if watch(Progress("fitting", len(running), best.loss, search.n_calls, gradients, noise)):
            raise Stopped


def _give_up(states: list[State], n_calls: int) -> None:
    """End starts that are behind one that has converged, and have cost far more."""
    settled = [s for s in states if s.reason is not None and s.reason.converged]
    for state in states:
        if state.reason is not None:
            continue
        ahead = [
            s
            for s in settled
            if s.loss < state.loss - RIVAL
            and PATIENCE * s.info.n_gradients < state.info.n_gradients
        ]
        if ahead or (settled and n_calls >= MOST_CALLS):
            state.reason = Reason.OUTRUN


def merge(states: Sequence[State]) -> None:
    """Of starts on the way to one optimum keep the one that got there at the least cost."""
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
    q, p = state.q, other.q
    if not (isinstance(q, Gaussian) and isinstance(p, Gaussian)):
        return False
    if not (np.isfinite(other.loss) and abs(state.loss - other.loss) <= SAME_LOSS):
        return False
    apart = max(np.abs(p.pull_back(q.mean)).max(), np.abs(q.pull_back(p.mean)).max())
    return bool(apart <= SAME_PLACE)


def _check_with_fresh_draws(
    solver: Solver, target: Target, search: Search, seed: Seed, watch: Watch
) -> None:
    """Grow the draws of the best start while fresh ones find it worse than its own do."""
    while True:
        best = min(search.states, key=lambda state: state.loss)
        if best.reason is None or not best.reason.converged:
            return
        z, log_q = next(fresh_draws(best.q, CHOICE_DRAWS, seed, CHOICE_STREAM))
        log_p = target.values(z)
        result = outcome(log_q, log_p)
        search.n_calls += 1
        if not np.isfinite(result.loss):
            return
        spread = float(np.std((log_q - log_p)[result.inside]))
        noise = spread * np.sqrt(1 / len(z) + 1 / best.n_draws)  # both estimates are noisy
        if result.loss - best.loss <= max(OVERFIT, 4 * noise) or not solver.grow(best):
            return
        _advance(solver, [best], target, search, watch)


def choose(target: Target, search: Search, seed: Seed) -> State:
    """The start whose q is best by fresh draws; also sets every start's loss to that estimate."""
    left = [state for state in search.states if state.reason not in OVER]
    for state in left if len(left) > 1 else []:
        z, log_q = next(fresh_draws(state.q, CHOICE_DRAWS, seed, CHOICE_STREAM))
        result = outcome(log_q, target.values(z))
        state.loss = result.loss if not np.isnan(result.loss) else np.inf
    return min(search.states, key=lambda state: (state.reason in OVER, state.loss))


def optima(search: Search) -> list[State]:
    """The optima that a search has left, where the next family starts."""
    left_out = (*OVER, Reason.LOST, Reason.OUTRUN)
    return [state for state in search.states if state.reason not in left_out]
