"""The scales of a hierarchy: named by the user, or marked around a rough fit."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from infimum.base.errors import coded_error
from infimum.families._distribution import SparseGaussian
from infimum.families.nested.nested import aside
from infimum.solvers._solver import Info
from infimum.structure.colours import colouring
from infimum.structure.roles import (
    LEAST_FIRST_ROLE,
    LEAST_ROLE,
    log_det_slopes,
    marks,
    own_slopes,
)
from infimum.target.target import Target

ROLE_POINTS, ROLE_MOVES = 4, 16
"""Points, and draws of q at each, from which the marks of scales are taken."""

MOST_SCALES = 12
"""Most scales; of more the marginal takes hundreds of points."""

MANY_MEMBERS, HALF = 9, 0.5
"""Members of a parameter from which on they are effects unless at least half are marked as scales.
Of 60 crossed Poisson effects five had marks of up to 0.5."""

WHOLE = "~"
"""What stands before the number of a coordinate that is no element of its parameter."""

ROLE_SPREAD = 0.5
"""How far these points are from q's mean, in its own spread."""


def named_places(target: Target, places: Int[np.ndarray, " n"]) -> str:
    """The names of these coordinates, in a sentence."""
    return ", ".join(repr(target.space.free_names[i]) for i in places)


def chosen_scales(target: Target, patterns: tuple[str, ...]) -> Int[np.ndarray, " h"]:
    """The coordinates that the user calls scales."""
    names = target.space.free_names
    places: set[int] = set()
    for pattern in patterns:
        own = {i for i, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)}
        if not own:
            known = ", ".join(names[:8])
            raise coded_error(
                ValueError, "E226", f"no coordinate is called {pattern!r}; there are {known}, …"
            )
        places |= own
    if len(places) == target.dim:
        raise coded_error(
            ValueError, "E226", "all coordinates are called scales: leave some for them to scale"
        )
    return np.array(sorted(places))


def marked_scales(
    target: Target, q: SparseGaussian, info: Info, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " h"], Float[np.ndarray, " d"]]:
    """The coordinates that are marked as scales at points around q's mean.

    They are chosen one by one, the others' covariance being that given those chosen: what is marked
    only because a scale moves it is then marked no longer.

    Returns
    -------
    They, and the marks of all others.

    Raises
    ------
    UnsuitableError
        If there is none, or there are too many.
    """

    def gradients_at(z: np.ndarray) -> np.ndarray:
        info.n_gradients += len(z)
        return target.value_and_gradient(z)[1]

    theta: list[int] = []
    while True:
        marked = _marks_around(q, np.array(theta, int), gradients_at, rng)
        marked = without_effects(target, marked)
        top = int(np.argmax(marked))
        if marked[top] <= (LEAST_ROLE if theta else LEAST_FIRST_ROLE):
            break
        if len(theta) == MOST_SCALES:
            raise aside(
                target,
                f"it hangs on more than {MOST_SCALES} scales "
                f"({named_places(target, np.array([*theta, top]))} among them)",
            )
        theta.append(top)
    if not theta:
        raise aside(
            target,
            f"no coordinate is a scale ({target.space.free_names[top]!r} comes nearest, with a "
            f"mark of {marked[top]:.2f} where {LEAST_FIRST_ROLE:g} is needed)",
        )
    return _with_siblings(target, theta), marked


def _with_siblings(target: Target, theta: list[int]) -> Int[np.ndarray, " h"]:
    """The scales, and the other members of parameters of which at least half are scales.

    The coordinates of a simplex, an ordered vector or a Cholesky factor stay together: all are
    scales if one is, or none if there is no room for them.
    """
    every, kept = set(theta), set(theta)
    for own in _members(target):
        share = len(kept.intersection(own)) / len(own)
        whole = WHOLE in target.space.free_names[own[0]]
        if (share >= HALF or (whole and share > 0)) and len(own) < target.dim:
            every |= set(own)
        if whole and share < 1:
            kept -= set(own)
    return np.array(sorted(every if len(every) <= MOST_SCALES else kept or theta))


def _members(target: Target) -> list[list[int]]:
    """The coordinates of each parameter."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(target.space.free_names):
        places.setdefault(re.split(r"[\[~]", name)[0], []).append(place)
    return list(places.values())


def without_effects(target: Target, marked: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """The marks, 0 where few of the many members of one parameter have one: it is of effects.

    Effects that a nonlinear likelihood bends differ in how much they have of a scale; the members
    of a vector of scales are all scales.
    """
    kept = marked.copy()
    for own in _members(target):
        if MANY_MEMBERS <= len(own) < target.dim and np.mean(marked[own] > LEAST_ROLE) < HALF:
            kept[own] = 0.0
    return kept


def _marks_around(
    q: SparseGaussian,
    theta: Int[np.ndarray, " h"],
    gradients_at: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
) -> Float[np.ndarray, " d"]:
    """How much of a scale each coordinate is, given some scales; 0 for these."""
    d = q.dim
    rows = scale_rows(q, theta)
    inner, across = rows @ rows.T, np.asarray(q.spread(rows))
    follow = np.linalg.solve(inner, across) if len(theta) else across
    sd = np.sqrt(np.maximum(q.variance() - (follow * across).sum(axis=0), 0.0))
    eps = ROLE_SPREAD * rng.standard_normal((ROLE_POINTS, d))
    eps[0] = 0.0
    # Signs in place of normal draws: a coordinate that is coupled to none has no noise then.
    moves = np.asarray(q.spread(rng.choice([-1.0, 1.0], (ROLE_POINTS * ROLE_MOVES, d))))
    moves = moves - moves[:, theta] @ follow
    moves = moves.reshape(ROLE_POINTS, ROLE_MOVES, d) / np.sqrt(ROLE_MOVES)
    slopes = log_det_slopes(gradients_at, np.asarray(q.push(eps)), moves)
    fine = np.isfinite(slopes).all(axis=1)
    colours = colouring(d, np.asarray(q.edges)).colours
    own = own_slopes(gradients_at, np.asarray(q.mean), sd, colours)
    slope = slopes[fine].mean(axis=0) - own if fine.any() else np.zeros(d)
    slope = np.where(np.isfinite(slope), slope, 0.0)
    moved = np.asarray(q.spread(q.whiten(slope[None])))[0] - (across @ slope) @ follow
    least = np.finfo(float).eps * np.sqrt(q.variance())
    marked = marks(slope, moved, np.maximum(sd, least))
    marked[theta] = 0.0
    return marked


def scale_rows(q: SparseGaussian, theta: Int[np.ndarray, " h"]) -> Float[np.ndarray, "h d"]:
    """Lᵀ e_j for the scales j: their covariances are products of these rows."""
    units = np.zeros((len(theta), q.dim))
    units[np.arange(len(theta)), theta] = 1.0
    return np.asarray(q.whiten(units)) if len(theta) else units
