"""The search of the nested family, from a rough fit to its scales and what hangs on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from infimum.base.seeds import ADAPT_STREAM, START_STREAM, generator
from infimum.base.stopping import Stopped
from infimum.families._distribution import SparseGaussian
from infimum.families.nested.conditional import GaussianField, Known, ShapedField
from infimum.families.nested.emulated import Emulated
from infimum.families.nested.nested import SMALLEST_DIM, Nested, NestedDistribution
from infimum.families.nested.table import Table
from infimum.families.sparse.sparse import Sparse
from infimum.gaussian.sparse import SparseFactor
from infimum.search.loop import Search, run_solvers
from infimum.search.nested.cells import cells_at
from infimum.search.nested.cloud import Cloud, cloud_around, density_of
from infimum.search.nested.field import MOST_EXACT, Field, aside
from infimum.search.nested.lattice import (
    DROP,
    MOST_ROUGH,
    MOST_TABULATED,
    SPACING,
    Lattice,
    lattice_around,
    table_of,
)
from infimum.search.nested.marginal import Marginal
from infimum.search.nested.scales import (
    MOST_SCALES,
    chosen_scales,
    marked_scales,
    named_places,
    scale_rows,
    without_effects,
)
from infimum.search.path import best_on_path
from infimum.search.plan import Plan
from infimum.search.progress import Progress, Watch
from infimum.search.starts import RADIUS
from infimum.solvers._solver import Info, Reason, State
from infimum.solvers.sparse_newton import SparseNewton
from infimum.structure.pattern import find_edges
from infimum.structure.roles import LEAST_ROLE, marks, own_slopes
from infimum.target.target import Target

Explored = Lattice | Cloud
"""Where the marginal was evaluated."""

PATHS = 2
"""Ascents from random points; the better of two had the scales of seven hierarchies of seven."""

ROUGH_STEPS, ROUGH_TOLERANCE = 25, 1.0
"""Newton steps of the rough fit, and the nats a hundred coordinates that it may be off: it only
shows what is a scale, and where the search begins."""

SHAPE_PAYS, DEAR_SHAPE_PAYS = 0.02, 0.2
"""Nats that the exact shapes of x must be worth to be used: of E KL[q(x | θ) ‖ p*], and of the sd
over θ of what Laplace's log marginal lacks. The second where the scales and the coordinates that
the others are coupled by are too many for a table: on seeds 994 of 1,000 draws were effective
without the shapes."""

MOST_GRADIENTS, MOST_CLOUD_GRADIENTS = 50_000, 400_000
"""Gradients that the marginal of few scales may take, and of many. On nine hierarchies the whole
search took 800 to 8,000, and on five crossed effects 45,000 and 170,000; where the field has no
mode of its own, or hangs together as a whole, it takes far more."""

MOST_OFF = 0.1
"""Nats that the density of many scales may be from their marginal."""

MOST_BEYOND = 0.01
"""Mass beyond the ends of the exact shapes' grids, over all coordinates, above which they are not
used: q would have none there, and no weight would show it."""

NEAR = 3.0
"""Nats from the top of a lattice within which its modes say how x follows the scales."""

MOST_LEFT = 0.1
"""Nats that a Newton step may still gain at a mode."""

MOST_DENSE = 12
"""Most coordinates of x that the others may be coupled by, if they are to be independent given
them."""


class Rough(NamedTuple):
    """A sparse Gaussian of everything, near enough to show what is a scale.

    Attributes
    ----------
    q, info
        The Gaussian, and what it cost.
    theta
        The scales.
    """

    q: SparseGaussian
    info: Info
    theta: Int[np.ndarray, " h"]


def nested_optimum(plan: Plan, family: Nested, watch: Watch) -> tuple[Search, State]:
    """The member of the nested family for this target; a stop leaves the rough Gaussian.

    Raises
    ------
    UnsuitableError
        If the target is no hierarchy that hangs on few scales.
    """
    target = plan.searched.by_gradients()
    if target.dim < SMALLEST_DIM:
        raise aside(target, f"it has {target.dim} dimensions, fewer than {SMALLEST_DIM}")
    if target.large is not None:
        raise aside(target, "its rows are read from blocks")
    state = _rough_start(plan, target, watch)
    with plan.stop.cut_short():
        plan.stop.check()
        rough = _with_scales(plan, target, family, state)
        if watch(Progress("fitting", 1, state.loss, 1, state.info.n_gradients)):
            raise Stopped
        q, loss = _member(plan, target, family, rough)
        state = State(q=q, info=rough.info, loss=loss, reason=Reason.CONVERGED)
        state.record(0.0)
    if plan.stop.requested:
        state.reason = Reason.INTERRUPTED
    return Search([state], 1), state


def _member(
    plan: Plan, target: Target, family: Nested, rough: Rough
) -> tuple[NestedDistribution, float]:
    """The q of the family, and its loss."""
    field = _field(target, rough, rough.theta)
    marginal, root = _first_marginal(field, rough), _root(rough)
    while True:
        explored = _explored(plan, field, marginal, root)
        dense = _dense_with_shapes(field, explored)
        rough.info.n_gradients += field.n_gradients
        more = _further_scales(field, explored, dense, bool(family.scales))
        if not more.size:
            break
        field, marginal, root = _widened(target, rough, field, explored, more)
    conditional: GaussianField | ShapedField
    before = field.n_gradients
    if dense is not None and not dense.size:
        explored, conditional = _with_shapes(field, explored)
    else:
        conditional = _gaussian(field, explored)
    rough.info.n_gradients += field.n_gradients - before
    q = NestedDistribution(
        outer=table_of(explored) if isinstance(explored, Lattice) else density_of(explored),
        conditional=conditional,
        theta=field.theta,
        rest=field.rest,
        edges=np.asarray(rough.q.edges),
    )
    return q, -_log_mass(explored, q.outer)


def _explored(
    plan: Plan, field: Field, marginal: Marginal, root: Float[np.ndarray, "h h"]
) -> Explored:
    """The scales' marginal where its mass is.

    Raises
    ------
    UnsuitableError
        If it has no end, or x has no mode there.
    """
    few = len(field.theta) <= MOST_TABULATED
    field.most_gradients = MOST_GRADIENTS if few else MOST_CLOUD_GRADIENTS
    explored = _around_mode(plan, field, marginal, root, few)
    if not (explored.closed and np.isfinite(explored.values).any()):
        raise aside(
            field.target,
            f"the marginal of {named_places(field.target, field.theta)} has no end within "
            f"{len(explored.values)} points, or does not fall by {DROP:g} nats on all sides",
        )
    if (trouble := _trouble(field, explored)) is not None:
        raise aside(field.target, trouble)
    if isinstance(explored, Lattice):
        off, most = explored.roughness, MOST_ROUGH
    else:
        off, most = explored.off, MOST_OFF
    if not off <= most:
        top = field.target.describe(explored.best.z[0])
        raise aside(
            field.target,
            f"the marginal of {named_places(field.target, field.theta)} is not smooth: it jumps by "
            f"{off:.1f} nats, because the others have several modes given it. Look at {top}",
        )
    field.most_gradients = np.inf
    return explored


def _around_mode(
    plan: Plan, field: Field, marginal: Marginal, root: Float[np.ndarray, "h h"], few: bool
) -> Explored:
    """A lattice around the mode of the marginal, or a cloud where the scales are many."""
    if few:
        return lattice_around(marginal, *marginal.summit(root))
    if field.exact_probes is None:
        raise aside(
            field.target,
            f"the slopes of the marginal of {named_places(field.target, field.theta)} take more "
            f"than {MOST_EXACT} moves of the others, which hang together as a whole",
        )
    rng = generator(plan.seed, ADAPT_STREAM, 2)
    return cloud_around(marginal, *marginal.sloped_summit(root), rng)


def _trouble(field: Field, explored: Explored) -> str | None:
    """What is wrong with the modes of x near the top; None if nothing is."""
    near = np.flatnonzero(explored.values > explored.values.max() - NEAR)
    modes = explored.modes.of(near)
    bad = np.flatnonzero(modes.precision.turned | (field.gain(modes) > MOST_LEFT))
    if not bad.size:
        return None
    first = field.target.describe(modes.z[bad[0]])
    return (
        f"given {named_places(field.target, field.theta)} the others have no mode that Newton's "
        f"method reaches, or their Hessian is not negative definite there. Look at {first}"
    )


def _further_scales(
    field: Field, explored: Explored, dense: Int[np.ndarray, " b"] | None, named: bool
) -> Int[np.ndarray, " b"]:
    """Places in x of what should be among the scales as well.

    These are coordinates that are marked as scales where the others are at their best: around a
    rough fit some may not show. If there is none, they are those that the others are coupled by,
    where these have shapes of their own: nothing is then left that is taken for Gaussian.
    """
    room = MOST_SCALES - len(field.theta)
    marked = np.zeros(0, int) if named else np.flatnonzero(_marks_within(field, explored))
    if 0 < len(marked) <= room:
        return marked
    return np.zeros(0, int) if dense is None else dense


def _marks_within(field: Field, explored: Explored) -> Bool[np.ndarray, " k"]:
    """Which coordinates of x are marked as scales, at the best point of all."""
    best = explored.best
    d, rest, precision = field.target.dim, field.rest, best.precision
    slope = field.log_det_slopes(best, field.exact_probes)
    factor = SparseFactor(precision.below[0], precision.pivots[0])
    sd = np.sqrt(field.analysis.inverse(factor)[: len(rest)])
    moves, colours = np.zeros(d), np.zeros(d, int)
    moves[rest], colours[rest] = sd, field.colouring.colours
    own = own_slopes(field.gradients_at, best.z[0], moves, colours)
    others = (slope[0] - np.where(np.isfinite(own), own, 0.0))[rest]
    moved = field.inverse_times(precision, others[None])[0]
    marked = np.zeros(d)
    marked[rest] = marks(others, moved, sd)
    return np.asarray(without_effects(field.target, marked)[rest] > LEAST_ROLE)


def _widened(
    target: Target, rough: Rough, field: Field, explored: Explored, more: Int[np.ndarray, " b"]
) -> tuple[Field, Marginal, Float[np.ndarray, "g g"]]:
    """The field with some of x among the scales, their marginal, and a root of its covariance."""
    h = len(field.theta)
    both = np.concatenate([field.theta, field.rest[more]])
    theta, order, best = np.sort(both), np.argsort(both), explored.best
    near = explored.values > explored.values.max() - NEAR
    away = explored.modes.z[near] - best.z
    slope = np.linalg.lstsq(away[:, field.theta], away[:, field.rest[more]], rcond=None)[0].T
    units = np.zeros((len(more), len(field.rest)))
    units[np.arange(len(more)), more] = 1.0
    precision = best.of([0] * len(more)).precision
    within = field.inverse_times(precision, units)[:, more]
    root = np.zeros((len(both), len(both)))
    root[:h, :h], root[h:, :h] = explored.warp.root, slope @ explored.warp.root
    root[h:, h:] = np.linalg.cholesky(0.5 * (within + within.T))
    wider = _field(target, rough, theta)
    still = np.zeros((len(wider.rest), len(theta)))
    marginal = Marginal(wider, best.z[0, theta], best.z[0, wider.rest], still)
    return wider, marginal, np.linalg.cholesky((root @ root.T)[np.ix_(order, order)])


def _rough_start(plan: Plan, target: Target, watch: Watch) -> State:
    """A sparse Gaussian of everything, after few Newton steps from the better of two paths."""
    rng = generator(plan.seed, START_STREAM)
    watch(Progress("starting", PATHS, np.inf, 0, 0))
    edges = find_edges(target, generator(plan.seed, ADAPT_STREAM), dense=True)
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
    return search.states[0]


def _with_scales(plan: Plan, target: Target, family: Nested, state: State) -> Rough:
    """The rough fit with the scales that it shows, or that the user has named."""
    assert isinstance(state.q, SparseGaussian)
    if family.scales:
        theta = chosen_scales(target, family.scales)
    else:
        rng = generator(plan.seed, ADAPT_STREAM, 1)
        theta = marked_scales(target, state.q, state.info, rng)
    return Rough(state.q, state.info, theta)


def _field(target: Target, rough: Rough, theta: Int[np.ndarray, " h"]) -> Field:
    """x given θ, on the pattern of the rough fit."""
    rest = np.setdiff1d(np.arange(target.dim), theta)
    place = np.full(target.dim, -1)
    place[rest] = np.arange(len(rest))
    ends = place[np.asarray(rough.q.edges)]
    inside = ends[:, (ends >= 0).all(axis=0)]
    edges = np.stack([inside.max(axis=0), inside.min(axis=0)]) if inside.size else inside
    scale = 1 / np.sqrt(rough.q.precision()[: target.dim])
    return Field(target, theta, rest, edges.reshape(2, -1), scale[rest])


def _root(rough: Rough) -> Float[np.ndarray, "h h"]:
    """A root of the scales' covariance under the rough fit."""
    rows = scale_rows(rough.q, rough.theta)
    return np.linalg.cholesky(rows @ rows.T)


def _first_marginal(field: Field, rough: Rough) -> Marginal:
    """The marginal, with the rough fit's own prediction of x."""
    rows = scale_rows(rough.q, rough.theta)
    across = np.asarray(rough.q.spread(rows))[:, field.rest]
    mean = np.asarray(rough.q.mean)
    slope = np.linalg.solve(rows @ rows.T, across).T
    return Marginal(field, mean[field.theta], mean[field.rest], slope)


def _dense_with_shapes(field: Field, explored: Explored) -> Int[np.ndarray, " b"] | None:
    """The coordinates that the others are coupled by, if exact shapes of these pay; else None."""
    dense = _dense(field)
    if dense is None:
        return None
    others = np.setdiff1d(np.arange(len(field.rest)), dense)
    theta = np.concatenate([field.theta, field.rest[dense]])
    if len(theta) > MOST_SCALES:
        return None
    uncoupled = np.zeros((2, 0), np.int64)
    inner = Field(field.target, theta, field.rest[others], uncoupled, field.scale[others])
    near = np.flatnonzero(explored.values > explored.values.max() - NEAR)
    modes = inner.look(explored.modes.z[near])
    cells = cells_at(inner, modes)
    field.n_gradients += inner.n_gradients
    weight = np.exp(explored.values[near] - explored.values.max())
    weight /= weight.sum()
    lack = cells.log_integral - inner.laplace(modes)
    worth = max(weight @ cells.excess, np.sqrt(weight @ (lack - weight @ lack) ** 2))
    pays = SHAPE_PAYS if len(theta) <= MOST_TABULATED else DEAR_SHAPE_PAYS
    return dense if worth > pays and weight @ cells.tails < MOST_BEYOND else None


def _with_shapes(field: Field, explored: Explored) -> tuple[Explored, ShapedField]:
    """Exact integrals over x in the place of Laplace's, and the shapes of x."""
    modes = field.look(explored.modes.z)
    cells = cells_at(field, modes)
    conditional = ShapedField(_known(explored), modes.z[:, field.rest], cells.log_sd, cells.slopes)
    values = explored.values + cells.log_integral - field.laplace(modes)
    return explored.with_values(np.where(np.isfinite(values), values, -np.inf)), conditional


def _gaussian(field: Field, explored: Explored) -> GaussianField:
    """x as a Gaussian, its mean moved for its skew."""
    modes = explored.modes
    if isinstance(explored, Cloud):
        slopes = explored.sloped.log_det_slopes
    else:
        slopes = field.log_det_slopes(modes)
    mean = modes.z[:, field.rest] + field.pull(modes, slopes)
    precision, layout = modes.precision, field.analysis.layout
    return GaussianField.of(_known(explored), mean, precision.pivots, precision.below, layout)


def _known(explored: Explored) -> Known:
    return Known(explored.warp, explored.u, *explored.box)


def _dense(field: Field) -> Int[np.ndarray, " b"] | None:
    """The fewest coordinates of x, most coupled first, without which none are coupled."""
    k, edges = len(field.rest), field.edges
    taken = np.zeros(k, bool)
    while edges.size:
        if taken.sum() == min(MOST_DENSE, k - 1):
            return None
        taken[np.argmax(np.bincount(edges.ravel(), minlength=k))] = True
        edges = edges[:, ~taken[edges].any(axis=0)]
    return np.flatnonzero(taken)


def _log_mass(explored: Explored, outer: Table | Emulated) -> float:
    """log Z: on a lattice each value stands for its cell, in a cloud the density's norm."""
    if isinstance(explored, Cloud) and isinstance(outer, Emulated):
        return float(explored.heights().max() + outer.log_norm)
    assert isinstance(explored, Lattice)
    top = explored.values.max()
    h, volume = explored.u.shape[1], np.linalg.slogdet(explored.warp.root)[1]
    cells = np.log(np.exp(explored.values - top).sum()) + h * np.log(SPACING[h])
    return float(top + cells + volume)
