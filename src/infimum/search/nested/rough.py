"""A rough fit of everything, which shows the scales and where their marginal may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.base.seeds import ADAPT_STREAM, START_STREAM, generator
from infimum.base.stopping import Stopped
from infimum.families._distribution import SparseGaussian
from infimum.families.nested.nested import Nested, aside
from infimum.families.nested.precision import NONE
from infimum.families.sparse.sparse import Sparse
from infimum.search.loop import Search, run_solvers
from infimum.search.nested.field import Field
from infimum.search.nested.marginal import Marginal
from infimum.search.nested.natural import moves_by_powers
from infimum.search.nested.scales import (
    MOST_SCALES,
    ROLE_SPREAD,
    chosen_scales,
    marked_scales,
    named_places,
    scale_rows,
)
from infimum.search.path import best_on_path
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.starts import RADIUS
from infimum.solvers._solver import Info, State
from infimum.solvers.sparse_newton import SparseNewton
from infimum.structure.pattern import find_edges, finite_point
from infimum.structure.soft import soft_sum
from infimum.target.target import Target

PATHS = 2
"""Ascents from random points; the better of two had the scales of seven hierarchies of seven."""

ROUGH_STEPS, ROUGH_TOLERANCE = 25, 1.0
"""Newton steps of the rough fit, and the nats a hundred coordinates that it may be off: it only
shows what is a scale, and where the search begins."""


WEAK_ROLE, MOST_WEAK = 0.05, 16
"""Marks from which on a coordinate may be a scale that the rough fit does not show, and how many of
these are looked at."""


class Rough(NamedTuple):
    """A sparse Gaussian of everything, near enough to show what is a scale.

    Attributes
    ----------
    q, info
        The Gaussian, and what it cost.
    theta
        The scales.
    soft
        The weights of a soft constraint, shape (d,); zeros if there is none.
    pause
        Function that is called with further gradients as they are taken, and may raise `Stopped`.
    """

    q: SparseGaussian
    info: Info
    theta: Int[np.ndarray, " h"]
    soft: Float[np.ndarray, " d"]
    pause: Callable[[int], None]


def rough_start(plan: Plan, target: Target, watch: Watch) -> tuple[State, Float[np.ndarray, " d"]]:
    """A sparse Gaussian of everything, after few Newton steps from the better of two paths.

    Returns
    -------
    It; and the weights a of a soft constraint, zeros if there is none. The Gaussian then is of the
    density without it, where each a_i z_i is held to N(0, 1) instead.
    """
    rng = generator(plan.seed, START_STREAM)
    watch(Progress("starting", PATHS, np.inf, 0, 0))
    looking = generator(plan.seed, ADAPT_STREAM)
    soft = soft_sum(target, finite_point(target, looking), looking)
    if soft is None:
        soft = np.zeros(target.dim)
    else:
        target = target.freed(soft, soft**2)
    edges = find_edges(target, looking, dense=True)
    sparse = Sparse.on(target.dim, edges)
    starts = [rng.uniform(-RADIUS, RADIUS, target.dim) for _ in range(PATHS)]
    first = target.example if plan.beginning is None else plan.beginning.point
    if first is not None:
        starts[0] = first
    paths = [best_on_path(target, edges, start, rng) for start in starts]
    best = max(paths, key=lambda path: path.elbo)
    if not np.isfinite(best.elbo):
        raise aside(target, "no point on two ascents has a Gaussian of finite density around it")
    info = Info("ascent", n_gradients=sum(path.n_gradients for path in paths))
    search = Search([State(q=sparse.init(best.mean, best.scale), info=info)])
    solver = SparseNewton(max_steps=ROUGH_STEPS, tolerance=ROUGH_TOLERANCE)
    run_solvers(target, search, [solver], plan.seed, watch, plan.stop)
    return search.states[0], soft


def with_scales(
    plan: Plan,
    target: Target,
    family: Nested,
    state: State,
    soft: Float[np.ndarray, " d"],
    watch: Watch,
) -> Rough:
    """The rough fit with the scales that it shows, or that the user has named.

    Raises
    ------
    UnsuitableError
        If there are none, or too many, or a scale is softly constrained.
    """
    assert isinstance(state.q, SparseGaussian)
    info = state.info

    def pause(more: int) -> None:
        plan.stop.check()
        if watch(Progress("fitting", 1, state.loss, 1, info.n_gradients + more)):
            raise Stopped

    if family.scales:
        rough = Rough(state.q, info, chosen_scales(target, family.scales), soft, pause)
    else:
        rng = generator(plan.seed, ADAPT_STREAM, 1)
        theta, marked = marked_scales(target, state.q, info, rng)
        rough = _with_powers(target, Rough(state.q, info, theta, soft, pause), marked, rng)
    if soft[rough.theta].any():
        raise aside(target, f"{named_places(target, rough.theta)} are in a sum that is held near 0")
    return rough


def _with_powers(
    target: Target, rough: Rough, marked: Float[np.ndarray, " d"], rng: np.random.Generator
) -> Rough:
    """With the coordinates of weak marks that the curvature hangs on by nothing but powers.

    These are scales, however little the rough fit says of them.
    """
    order = np.argsort(-np.where(rough.soft > 0, 0.0, marked), kind="stable")
    weak = [j for j in order[:MOST_WEAK] if marked[j] > WEAK_ROLE and j not in rough.theta]
    room = MOST_SCALES - len(rough.theta)
    if not weak or not room:
        return rough
    field = field_of(target, rough, np.sort([*rough.theta, *weak]))
    mean = np.asarray(rough.q.mean)
    other = np.asarray(rough.q.push(ROLE_SPREAD * rng.standard_normal((1, target.dim))))[0]
    other[field.theta] = mean[field.theta]
    powers = field.theta[moves_by_powers(field, np.stack([mean, other]))]
    rough.info.n_gradients += field.n_gradients
    more = [j for j in weak if j in powers][:room]
    return rough._replace(theta=np.sort([*rough.theta, *more]).astype(int))


def field_of(target: Target, rough: Rough, theta: Int[np.ndarray, " h"]) -> Field:
    """x given θ, on the pattern of the rough fit."""
    rest = np.setdiff1d(np.arange(target.dim), theta)
    place = np.full(target.dim, -1)
    place[rest] = np.arange(len(rest))
    ends = place[np.asarray(rough.q.edges)]
    inside = ends[:, (ends >= 0).all(axis=0)]
    edges = np.stack([inside.max(axis=0), inside.min(axis=0)]) if inside.size else inside
    scale = 1 / np.sqrt(rough.q.precision()[: target.dim])
    soft = rough.soft[rest] if rough.soft.any() else NONE
    field = Field(target, theta, rest, edges.reshape(2, -1), scale[rest], soft)
    field.pause = rough.pause
    return field


def root_of(rough: Rough) -> Float[np.ndarray, "h h"]:
    """A root of the scales' covariance under the rough fit."""
    rows = scale_rows(rough.q, rough.theta)
    return np.linalg.cholesky(rows @ rows.T)


def first_marginal(field: Field, rough: Rough) -> Marginal:
    """The marginal, with the rough fit's own prediction of x."""
    rows = scale_rows(rough.q, rough.theta)
    across = np.asarray(rough.q.spread(rows))[:, field.rest]
    mean = np.asarray(rough.q.mean)
    slope = np.linalg.solve(rows @ rows.T, across).T
    return Marginal(field, mean[field.theta], mean[field.rest], slope)
