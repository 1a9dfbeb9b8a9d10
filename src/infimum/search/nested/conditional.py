"""x given the scales by exact shapes, as it is known where their marginal was explored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from infimum.families.nested.groups import LARGEST_GROUP, Groups
from infimum.families.nested.known import Known
from infimum.families.nested.shaped import ShapedField
from infimum.search.nested.cells import cells_at
from infimum.search.nested.cloud import Cloud
from infimum.search.nested.field import Field
from infimum.search.nested.lattice import MOST_TABULATED, Lattice
from infimum.search.nested.modes import Rows
from infimum.search.nested.scales import MOST_SCALES
from infimum.search.nested.shaped import Shaped

Explored = Lattice | Cloud
"""Where the marginal was evaluated."""

NEAR = 3.0
"""Nats from the top of a lattice within which its modes say how x follows the scales."""

SHAPE_PAYS, DEAR_SHAPE_PAYS = 0.02, 0.2
"""Nats that the exact shapes of x must be worth to be used: of E KL[q(x | θ) ‖ p*], and of the sd
over θ of what Laplace's log marginal lacks. The second where the scales and the coordinates that
the others are coupled by are too many for a table: on seeds 994 of 1,000 draws were effective
without the shapes."""

MOST_COMPARED = 16
"""Points at which they are compared with Gaussians: one costs as many gradients as its nodes."""

MOST_BEYOND = 0.01
"""Mass beyond the ends of the exact shapes' grids, over all coordinates, above which they are not
used: q would have none there, and no weight would show it."""

MOST_DENSE = 12
"""Most coordinates of x that the others may be coupled by, if they are to be groups independent
given them."""

MOST_SLOPES = 2**26
"""Slopes of all groups at all explored scales above which exact shapes are not used: 512 MB."""

DROPPED = 1e-3
"""Root of the sum, over all groups and nodes, of the squares of what slopes may be off when few
combinations of them stand for those at all scales."""


def dense_with_shapes(field: Field, explored: Explored) -> Int[np.ndarray, " b"] | None:
    """The coordinates that the others are coupled by, if exact shapes of these pay; else None."""
    dense = coupling(field)
    if dense is None or field.soft.size:
        return None
    others = np.setdiff1d(np.arange(len(field.rest)), dense)
    theta = np.concatenate([field.theta, field.rest[dense]])
    if len(theta) > MOST_SCALES:
        return None
    edges = _edges_among(others, field.edges)
    inner = Field(field.target, theta, field.rest[others], edges, field.scale[others])
    near = _compared(explored.values)
    groups = inner.groups
    if groups is None or sum(groups.n_slopes) * len(explored.values) > MOST_SLOPES:
        return None
    inner.pause = field.pause
    modes = inner.look(explored.modes.z[near])
    cells = cells_at(inner, modes)
    field.n_gradients += inner.n_gradients
    weight = np.exp(explored.values[near] - explored.values.max())
    weight /= weight.sum()
    lack = cells.log_integral - inner.laplace(modes)
    worth = max(weight @ cells.excess(groups), np.sqrt(weight @ (lack - weight @ lack) ** 2))
    pays = SHAPE_PAYS if len(theta) <= MOST_TABULATED else DEAR_SHAPE_PAYS
    return dense if worth > pays and weight @ cells.tails < MOST_BEYOND else None


def shaped_field(shaped: Shaped, explored: Explored) -> ShapedField | None:
    """x as groups with exact shapes; None if too much lies beyond their grids."""
    cells, groups = shaped.cells(explored.modes), shaped.field.groups
    assert groups is not None
    weight = np.exp(explored.values - explored.values.max())
    if not weight @ cells.tails < MOST_BEYOND * weight.sum():
        return None
    weights, parts = _few(cells.slopes)
    return ShapedField(
        known=known_at(explored),
        mode=explored.modes.z[:, shaped.field.rest],
        log_sd=cells.log_sd,
        lean=cells.lean,
        members=groups.members,
        sizes=groups.sizes,
        weights=weights,
        parts=parts,
    )


def _few(
    slopes: Float[np.ndarray, "n s"],
) -> tuple[Float[np.ndarray, "n r"], Float[np.ndarray, "r s"]]:
    """The fewest combinations from which all rows follow, by a singular value decomposition."""
    squares, axes = np.linalg.eigh(slopes @ slopes.T)
    left = np.cumsum(np.maximum(squares, 0.0))
    axes = axes[:, left > DROPPED**2]
    return axes, axes.T @ slopes


def known_at(
    explored: Explored, rows: Rows = slice(None), steep: Int[np.ndarray, " h"] | None = None
) -> Known:
    """The explored θ, or some of them; by default none is steep."""
    u = explored.u[rows]
    steep = np.zeros(u.shape[1], np.int64) if steep is None else steep
    return Known(explored.warp, u, *explored.box, steep)


def coupling(field: Field) -> Int[np.ndarray, " b"] | None:
    """The fewest coordinates of x, most coupled first, without which the others are groups."""
    k, edges = len(field.rest), field.edges
    taken = np.zeros(k, bool)
    while True:
        others = np.flatnonzero(~taken)
        if Groups.of(len(others), _edges_among(others, edges), np.arange(len(others))) is not None:
            return np.flatnonzero(taken)
        coupled = np.bincount(edges.ravel(), minlength=k)
        top = int(np.argmax(coupled))
        if taken.sum() == min(MOST_DENSE, k - 1) or coupled[top] < LARGEST_GROUP:
            return None
        taken[top] = True
        edges = edges[:, ~taken[edges].any(axis=0)]


def _edges_among(
    places: Int[np.ndarray, " k"], edges: Int[np.ndarray, "2 m"]
) -> Int[np.ndarray, "2 e"]:
    """The edges between some coordinates, by their places among them."""
    inside = np.isin(edges, places).all(axis=0)
    return np.searchsorted(places, edges[:, inside])


def _compared(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Rows near the top, evenly taken from the highest to the lowest if they are many."""
    order = np.argsort(-values, kind="stable")
    near = order[: int((values > values.max() - NEAR).sum())]
    return near[:: 1 + (len(near) - 1) // MOST_COMPARED]
