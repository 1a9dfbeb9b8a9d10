"""The verbs: `fit` one family, or `climb` a ladder of families."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.seeds import Seed
from infimum.families import Nested, Sparse, family_of
from infimum.families._family import Family
from infimum.families.nested.nested import SMALLEST_DIM
from infimum.fitting.budget import Budget
from infimum.fitting.climb import Climb
from infimum.fitting.display import display
from infimum.fitting.fit import Fit
from infimum.fitting.ladder import PAYS
from infimum.fitting.request import Request
from infimum.fitting.way import LADDER, MANY, Way, fit_from_below
from infimum.search.progress import Progress
from infimum.solvers._solver import Solver
from infimum.target.target import Target


def fit(
    target: Target,
    family: str | Family = "auto",
    *,
    tol: float | None = None,
    budget: float | None = None,
    seed: Seed = 0,
    start: PyTree = None,
    starts: int | None = None,
    scouts: int | None = None,
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
        "nested", "meanfield", "fullrank", "emulated", "sparse", "lowrank", "noncentred",
        "sinharcsinh", "mixture", "flow" or a `Family`; "auto" climbs, and returns the best rung's
        fit.
    tol
        For "auto": nats of KL that are asked for; see `climb`.
    budget
        Time limit in seconds. When they are spent the search ends, and the best q so far is checked
        and returned; of a family that starts from another one's fit, maybe that fit.
    seed
        Int or JAX key; the same seed gives the same answer, bit for bit.
    start
        Where the search begins, before the model's own example and before random starts. A point:
        the parameters' pytree, as `target.constrain` gives it; a dict may leave parameters out,
        which then begin as they would. Draws: the same with one leading axis, or ArviZ's tree with
        a group `posterior`; q then begins at their mean and spread. Or another `Fit` or
        `Corrected`: its q, or its draws, matched by the names of the unconstrained coordinates.
    starts
        Starts besides the cold one, at random but for `start` and the example; by default 4, or 1
        if d is above 2000.
    scouts
        Ascents from far points that look for modes which q does not cover; with 0, nothing looks
        for them, and no verdict is "good". By default parties of 16 until two in a row find nothing
        new, and four in all above 500 dimensions; nested fits send none.
    draws
        Fresh draws that ELBO, log Z, KL and verdict rest on; by default 4096, or fewer if d is
        above that.
    solver
        One of `infimum.solvers`, or several to run one after another; by default chosen to suit
        the family.
    tolerance
        Nats of KL that the finite number of draws may cost.
    max_steps
        Limit of batched evaluations of each solver.
    progress
        Show progress; by default on a terminal, after a second.
    callback
        Called with a `Progress` after each batched evaluation; returning True stops the fit.
    checkpoint
        A folder that keeps the evaluations, so that a long fit can be resumed: after a crash or
        Ctrl-C the same call goes on, and gives the same answer bit for bit, except for the
        seconds in `work`. Give a new folder, or that of this same job.

    Raises
    ------
    TypeError, ValueError
        Before any optimisation: for wrong use, or for a density that is zero or undefined at
        `start`, or at every start that was tried.
    CheckpointError
        If the folder holds something else, or a checkpoint that is damaged, in use, or of another
        job. Nothing in it is changed.

    Examples
    --------
    >>> target = Target(lambda z: -0.5 * (z**2).sum(), np.zeros(2))
    >>> fit(target, "fullrank").verdict
    'good'
    """
    request = Request(target, seed, starts, draws, solver, tolerance, max_steps, scouts=scouts)
    request = request.starting_at(start)
    auto = isinstance(family, str) and family == "auto"
    _check_limits(tol, budget)
    rung = LADDER if auto else family_of(family)
    checkpointed = request.checkpointed(checkpoint, family=rung, tol=tol, budget=budget)
    with display(progress, callback) as watch, checkpointed as request:
        limit = Budget(request, budget, watch)
        if not isinstance(rung, Family):
            climbed = _climbed(request, None, tol, limit)
            return dataclasses.replace(climbed.best, route=climbed.route)
        return fit_from_below(request, rung, limit)


def climb(
    target: Target,
    ladder: str | Sequence[str | Family] = "auto",
    *,
    tol: float | None = None,
    budget: float | None = None,
    seed: Seed = 0,
    start: PyTree = None,
    starts: int | None = None,
    scouts: int | None = None,
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
        Families to try, smallest first; "auto" chooses the next rung by the nats that it promises
        a second, and leaves out those that do not pay.
    tol
        Nats of KL, two standard errors included, at which the climb ends, if the verdict is "good"
        too. By default a verdict of "good" ends it; with 0 it goes on to the last rung.
    budget
        Time limit in seconds. A rung that is running when they are spent ends there.
    seed, start, starts, scouts, draws, progress, callback
        As for `fit`. `start` is where the first rung begins, and each rung whose family is that of
        a fit given as `start`.
    checkpoint
        As for `fit`. A resumed climb repeats its rungs, and counts the earlier seconds towards
        `budget`.

    Returns
    -------
    The fits; `Climb.best` is the one to use.

    Raises
    ------
    ValueError
        If the ladder is empty, or has an unknown or repeated rung; if tol or budget is not a
        positive number; or as for `fit`.
    """
    request = Request(target, seed, starts, draws, scouts=scouts).starting_at(start)
    _check_limits(tol, budget)
    listed = None if isinstance(ladder, str) and ladder == "auto" else ladder
    rungs = "auto" if listed is None else _rungs(listed)
    checkpointed = request.checkpointed(checkpoint, ladder=rungs, tol=tol, budget=budget)
    with display(progress, callback) as watch, checkpointed as request:
        return _climbed(request, listed, tol, Budget(request, budget, watch))


def _climbed(
    request: Request,
    ladder: str | Sequence[str | Family] | None,
    tol: float | None,
    budget: Budget,
) -> Climb:
    """Climb the rungs of a ladder in their order; without one, those that pay."""
    rungs = _rungs(LADDER if ladder is None else ladder)
    if ladder is None:
        rungs = _first_suited(rungs, request.target.dim)
    way = Way(request, request.plan(), tol, budget)
    rungs = rungs[:1] + way.within_reason(rungs[1:])
    while rungs and not way.ended:
        if way.begins or ladder is not None:
            rung, predicted = rungs[0], 0.0
        else:
            choice = way.choose(rungs)
            if choice is None:
                way.ended = f"no rung promises {PAYS} nats more"
                break
            rung, predicted = choice
        rungs.remove(rung)
        way.go(rung, predicted)
    if not way.fits:
        raise UnsuitableError(way.skipped[-1][1])
    return Climb(tuple(way.fits), tuple(way.skipped), way.ended or "the last rung was tried")


def _first_suited(rungs: list[Family], dim: int) -> list[Family]:
    """The rungs in the order in which a climb in so many dimensions would begin with them."""
    if dim < SMALLEST_DIM:
        rungs = [rung for rung in rungs if not isinstance(rung, Nested)]
    if dim <= MANY:
        return rungs
    return sorted(
        rungs, key=lambda rung: (not isinstance(rung, Nested), not isinstance(rung, Sparse))
    )


def _check_limits(tol: float | None, budget: float | None) -> None:
    for name, value, least in (("tol", tol, "nats, 0 or more"), ("budget", budget, "seconds")):
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and math.isfinite(value)
        if not number or value < 0 or (name == "budget" and value == 0):
            raise coded_error(
                ValueError, "E303", f"{name} is {value!r}, expected a positive number of {least}"
            )


def _rungs(ladder: str | Sequence[str | Family]) -> list[Family]:
    if isinstance(ladder, str):
        raise coded_error(
            ValueError, "E305", f"ladder is {ladder!r}, expected 'auto' or a list of families"
        )
    rungs = [family_of(rung) for rung in ladder]
    names = [rung.name for rung in rungs]
    if not rungs:
        raise coded_error(ValueError, "E305", "the ladder is empty: give at least one family")
    if len(set(names)) < len(names):
        raise coded_error(
            ValueError, "E305", f"the ladder {names} has a rung twice: leave one of them out"
        )
    return rungs
