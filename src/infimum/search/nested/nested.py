"""The search of the nested family, from a rough fit to its scales and what hangs on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.base.errors import UnsuitableError
from infimum.base.seeds import ADAPT_STREAM, generator
from infimum.families._smooth.density import SmoothDensity
from infimum.families.nested.conditional import Conditional
from infimum.families.nested.nested import Nested, NestedDistribution, aside
from infimum.families.nested.shaped import ShapedField
from infimum.families.nested.table import Table
from infimum.search.loop import Search
from infimum.search.nested.cells import refine_groups
from infimum.search.nested.cloud import WAVE, Cloud, cloud_around, density_of
from infimum.search.nested.conditional import (
    NEAR,
    Explored,
    coupling,
    dense_with_shapes,
    shaped_field,
)
from infimum.search.nested.field import MOST_EXACT, Field
from infimum.search.nested.gaussian import gaussian_field
from infimum.search.nested.grown import grown
from infimum.search.nested.lattice import (
    DROP,
    MOST_ROUGH,
    MOST_TABULATED,
    SPACING,
    Lattice,
    lattice_around,
    table_of,
)
from infimum.search.nested.marginal import Marginal, star_around
from infimum.search.nested.rough import (
    Rough,
    field_of,
    first_marginal,
    root_of,
    rough_start,
    with_scales,
)
from infimum.search.nested.scales import MOST_SCALES, named_places
from infimum.search.nested.shaped import Shaped
from infimum.search.nested.skew import Skewed, skewed, with_skew
from infimum.search.nested.tilt import Tilt
from infimum.search.plan import Plan
from infimum.search.progress import Watch
from infimum.solvers._solver import Reason, State
from infimum.target.target import Target

MOST_GRADIENTS, MOST_CLOUD_GRADIENTS = 50_000, 400_000
"""Gradients that the marginal of few scales may take, and of many. On nine hierarchies the whole
search took 800 to 8,000, and on five crossed effects 45,000 and 170,000; where the field has no
mode of its own, or hangs together as a whole, it takes far more."""

MOST_OFF = 0.1
"""Nats that the density of many scales may be from their marginal."""

SETTLED, MOST_TURNS = 0.5, 6
"""By how many sds what Laplace's marginal lacks may move the mass of many scales before they are
explored again, and how often."""

AGAIN = 3
"""How many times the gradients before it exploring many scales again may come to. Of an item
response model it took 125,000 after 36,000, in vain."""

MOST_LEFT = 0.1
"""Nats that a Newton step may still gain at a mode."""


class Pieces(NamedTuple):
    """A member of the family in its pieces, and where the marginal was evaluated for it."""

    field: Field
    explored: Explored
    outer: Table | SmoothDensity
    conditional: Conditional


def nested_optimum(plan: Plan, family: Nested, watch: Watch) -> tuple[Search, State]:
    """The member of the nested family for this target; a stop leaves the rough Gaussian.

    Raises
    ------
    UnsuitableError
        If the target is no hierarchy that hangs on few scales.
    """
    target = plan.searched.by_gradients()
    state, soft = rough_start(plan, target, watch)
    with plan.stop.cut_short():
        plan.stop.check()
        rough = with_scales(plan, target, family, state, soft, watch)
        # Far from the mass densities and slopes may be infinite; such points are left out.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
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
    try:
        pieces = _by_laplace(plan, target, rough)
    except UnsuitableError:
        exact = _by_shapes(plan, target, rough)
        if exact is None:
            raise
        pieces = exact
    field = pieces.field
    rough.info.n_gradients += field.n_gradients
    q = NestedDistribution(
        outer=pieces.outer,
        conditional=pieces.conditional,
        theta=field.theta,
        rest=field.rest,
        edges=np.asarray(rough.q.edges),
    )
    return q, -_log_mass(pieces.explored, q.outer)


def _by_laplace(plan: Plan, target: Target, rough: Rough) -> Pieces:
    """From Laplace's marginal on to what is nearer, where that pays."""
    field = field_of(target, rough, rough.theta)
    marginal, root = first_marginal(field, rough), root_of(rough)
    while True:
        explored = _explored(plan, marginal, root)
        dense = dense_with_shapes(field, explored)
        if dense is None or not dense.size:
            break
        # With what the others are coupled by, nothing is left that is taken for Gaussian.
        rough.info.n_gradients += field.n_gradients
        field, marginal, root = _widened(target, rough, field, explored, dense)
    conditional: Conditional | None = None
    if dense is not None and not dense.size:
        explored, conditional = _with_shapes(plan, marginal, explored)
    if conditional is None:
        explored = _with_skew(plan, marginal, explored)
    outer = _density(explored)
    if conditional is None:
        rng = generator(plan.seed, ADAPT_STREAM, 4)
        conditional = gaussian_field(marginal, explored, outer, rng)
    return Pieces(field, explored, outer, conditional)


def _by_shapes(plan: Plan, target: Target, rough: Rough) -> Pieces | None:
    """By exact shapes from the beginning, where x need not have a mode; None if they do not suit.

    They are those of groups that are independent given the scales and what couples the others.
    """
    dense = coupling(field_of(target, rough, rough.theta))
    if dense is None or rough.soft.any():
        return None
    rest = np.setdiff1d(np.arange(target.dim), rough.theta)
    rough = rough._replace(theta=np.sort([*rough.theta, *rest[dense]]))
    field = field_of(target, rough, rough.theta)
    if len(rough.theta) > MOST_SCALES or field.groups is None:
        return None
    laplace, root = first_marginal(field, rough), root_of(rough)
    refine_groups(field, laplace.modes(laplace.centre + star_around(len(root)) @ root.T, root))
    explored, conditional = _shapes_around(plan, Shaped(laplace, root), root)
    if explored is None or conditional is None:
        return None
    return Pieces(field, explored, _density(explored), conditional)


def _density(explored: Explored) -> Table | SmoothDensity:
    """q(θ)."""
    return table_of(explored) if isinstance(explored, Lattice) else density_of(explored)


def _explored(
    plan: Plan,
    marginal: Marginal,
    root: Float[np.ndarray, "h h"],
    most_gradients: float | None = None,
) -> Explored:
    """The scales' marginal where its mass is.

    Parameters
    ----------
    most_gradients
        Gradients that the field may have taken in the end; by default as many as few or many scales
        need.

    Raises
    ------
    UnsuitableError
        If it has no end, or x has no mode there.
    """
    field = marginal.field
    few = len(field.theta) <= MOST_TABULATED
    if most_gradients is None:
        most_gradients = MOST_GRADIENTS if few else MOST_CLOUD_GRADIENTS
    field.most_gradients = most_gradients
    try:
        explored = _around_mode(plan, marginal, root, few)
    finally:
        field.most_gradients = np.inf
    if not (explored.closed and np.isfinite(explored.values).any()):
        raise aside(
            field.target,
            f"the marginal of {named_places(field.target, field.theta)} has no end within "
            f"{len(explored.values)} points, or does not fall by {DROP:g} nats on all sides",
        )
    # Exact shapes take no mode of x for granted.
    trouble = None if isinstance(marginal, Shaped) else _trouble(field, explored)
    if trouble is not None:
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
    return explored


def _with_shapes(
    plan: Plan, laplace: Marginal, explored: Explored
) -> tuple[Explored, ShapedField | None]:
    """The exact marginal and the shapes of x; what was before, and None, where they fail."""
    groups = laplace.field.groups
    assert groups is not None
    refine_groups(laplace.field, explored.modes.of(_middle_and_ends(explored)))
    shaped = Shaped(laplace, explored.warp.root)
    exact: Explored | None
    if isinstance(explored, Cloud) and groups.depth > 1:
        cloud = _tilted(plan, laplace, explored, shaped.instead)[0]
        exact, conditional = grown(laplace, shaped, cloud, generator(plan.seed, ADAPT_STREAM, 5))
    else:
        exact, conditional = _shapes_around(plan, shaped, explored.warp.root)
    return (explored, None) if exact is None or conditional is None else (exact, conditional)


def _shapes_around(
    plan: Plan, shaped: Shaped, root: Float[np.ndarray, "h h"]
) -> tuple[Explored | None, ShapedField | None]:
    """The exact marginal where its mass is, and x by shapes there; None where they fail."""
    explored = _again(plan, shaped, root)
    return explored, None if explored is None else shaped_field(shaped, explored)


def _with_skew(plan: Plan, laplace: Marginal, explored: Explored) -> Explored:
    """The marginal with what Laplace's lacks for the skew of x, where that has its mass."""
    field = laplace.field
    if not skewed(field, explored.modes.of(_middle_and_ends(explored))):
        return explored
    if isinstance(explored, Lattice):
        return _again(plan, Skewed(laplace), explored.warp.root) or explored
    return _tilted(plan, laplace, explored, functools.partial(with_skew, laplace))[1]


def _tilted(
    plan: Plan, laplace: Marginal, cloud: Cloud, better: Callable[[Cloud], Cloud]
) -> tuple[Cloud, Cloud]:
    """Laplace's marginal of many scales where better values have their mass; and these there."""
    there = cloud
    for _ in range(MOST_TURNS):
        cloud, best = there, better(there)
        tilt = Tilt.of(cloud.warp, cloud.u, cloud.values, best.values - cloud.values)
        if tilt.moves < SETTLED:
            break
        laplace.tilts.append(tilt)
        further = _again(plan, laplace, cloud.warp.root, AGAIN * laplace.field.n_gradients)
        if further is None:
            break
        assert isinstance(further, Cloud)
        there = further
    return cloud, best


def _middle_and_ends(explored: Explored) -> Int[np.ndarray, " n"]:
    """Rows of the best point, and of those that are farthest along each scale and still matter."""
    near = np.flatnonzero(explored.values > explored.values.max() - NEAR)
    u = explored.u[near]
    ends = [near[extreme(u, axis=0)] for extreme in (np.argmin, np.argmax)]
    return np.unique(np.concatenate([[np.argmax(explored.values)], *ends]))


def _again(
    plan: Plan,
    marginal: Marginal,
    root: Float[np.ndarray, "h h"],
    most_gradients: float | None = None,
) -> Explored | None:
    """A better marginal, explored from where the one before was; None if that has no end."""
    try:
        return _explored(plan, marginal, root, most_gradients)
    except UnsuitableError:
        return None


def _around_mode(
    plan: Plan, marginal: Marginal, root: Float[np.ndarray, "h h"], few: bool
) -> Explored:
    """A lattice around the mode of the marginal, or a cloud where the scales are many."""
    if few:
        return lattice_around(marginal, *marginal.summit(root))
    field = marginal.field
    if field.exact_probes is None:
        raise aside(
            field.target,
            f"the slopes of the marginal of {named_places(field.target, field.theta)} take more "
            f"than {MOST_EXACT} moves of the others, which hang together as a whole",
        )
    rng = generator(plan.seed, ADAPT_STREAM, 2)
    # What is beyond the draws of an exact marginal is looked at: no other value comes after it.
    n_far = WAVE if isinstance(marginal, Shaped) else 0
    return cloud_around(marginal, *marginal.sloped_summit(root), rng, n_far)


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
    wider = field_of(target, rough, theta)
    still = np.zeros((len(wider.rest), len(theta)))
    marginal = Marginal(wider, best.z[0, theta], best.z[0, wider.rest], still)
    return wider, marginal, np.linalg.cholesky((root @ root.T)[np.ix_(order, order)])


def _log_mass(explored: Explored, outer: Table | SmoothDensity) -> float:
    """log Z: on a lattice each value stands for its cell, in a cloud the density's norm."""
    if isinstance(explored, Cloud) and isinstance(outer, SmoothDensity):
        return float(explored.heights().max() + outer.log_norm)
    assert isinstance(explored, Lattice)
    top = explored.values.max()
    h, volume = explored.u.shape[1], np.linalg.slogdet(explored.warp.root)[1]
    cells = np.log(np.exp(explored.values - top).sum()) + h * np.log(SPACING[h])
    return float(top + cells + volume)
