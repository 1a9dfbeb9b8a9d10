"""x given the scales by exact shapes, as it is known where their marginal was explored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from infimum.families.nested.conditional import ShapedField
from infimum.families.nested.known import Known
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

MOST_BEYOND = 0.01
"""Mass beyond the ends of the exact shapes' grids, over all coordinates, above which they are not
used: q would have none there, and no weight would show it."""

MOST_DENSE = 12
"""Most coordinates of x that the others may be coupled by, if they are to be independent given
them."""


def dense_with_shapes(field: Field, explored: Explored) -> Int[np.ndarray, " b"] | None:
    """The coordinates that the others are coupled by, if exact shapes of these pay; else None."""
    dense = _dense(field)
    if dense is None or field.soft.size:
        return None
    others = np.setdiff1d(np.arange(len(field.rest)), dense)
    theta = np.concatenate([field.theta, field.rest[dense]])
    if len(theta) > MOST_SCALES:
        return None
    uncoupled = np.zeros((2, 0), np.int64)
    inner = Field(field.target, theta, field.rest[others], uncoupled, field.scale[others])
    inner.pause = field.pause
    near = np.flatnonzero(explored.values > explored.values.max() - NEAR)
    modes = inner.look(explored.modes.z[near])
    cells = cells_at(inner, modes)
    field.n_gradients += inner.n_gradients
    weight = np.exp(explored.values[near] - explored.values.max())
    weight /= weight.sum()
    lack = cells.log_integral - inner.laplace(modes)
    worth = max(weight @ cells.excess(), np.sqrt(weight @ (lack - weight @ lack) ** 2))
    pays = SHAPE_PAYS if len(theta) <= MOST_TABULATED else DEAR_SHAPE_PAYS
    return dense if worth > pays and weight @ cells.tails < MOST_BEYOND else None


def shaped_field(shaped: Shaped, explored: Explored) -> ShapedField | None:
    """x as independent coordinates with exact shapes; None if too much lies beyond their grids."""
    cells = shaped.cells(explored.modes)
    weight = np.exp(explored.values - explored.values.max())
    if not weight @ cells.tails < MOST_BEYOND * weight.sum():
        return None
    x = explored.modes.z[:, shaped.field.rest]
    return ShapedField(known_at(explored), x, cells.log_sd, cells.slopes)


def known_at(
    explored: Explored, rows: Rows = slice(None), steep: Int[np.ndarray, " h"] | None = None
) -> Known:
    """The explored θ, or some of them; by default none is steep."""
    u = explored.u[rows]
    steep = np.zeros(u.shape[1], np.int64) if steep is None else steep
    return Known(explored.warp, u, *explored.box, steep)


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
