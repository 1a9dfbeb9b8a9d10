"""The exact shapes of coordinates that are independent given the rest, at the modes of a field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families.nested.shapes import NODES, POINTS, Shapes, rule
from infimum.search.nested.field import LARGEST_CHUNK, Field
from infimum.search.nested.modes import Modes


class Cells(NamedTuple):
    """Shapes at n modes.

    Attributes
    ----------
    log_sd
        log of the unit of each coordinate, shape (n, k).
    slopes
        Derivatives of the log densities at the nodes, in these units, shape (n, m, k).
    log_integral
        log ∫ p̂ over all coordinates, shape (n,).
    tails
        The mass beyond their grids, see `Shapes`, shape (n,).
    """

    log_sd: Float[np.ndarray, "n k"]
    slopes: Float[np.ndarray, "n m k"]
    log_integral: Float[np.ndarray, " n"]
    tails: Float[np.ndarray, " n"]

    def excess(self) -> Float[np.ndarray, " n"]:
        """What the shapes are worth over Gaussians, in nats; see `Shapes`."""
        pairs = zip(
            np.exp(self.log_sd)[:, None], self.slopes.transpose(0, 2, 1)[:, None], strict=True
        )
        return np.concatenate([Shapes.of(*pair).excess() for pair in pairs])


def cells_at(field: Field, modes: Modes) -> Cells:
    """The shapes at each of some modes of a field without edges: `NODES` gradients a mode."""
    n, k, d = len(modes.z), len(field.rest), modes.z.shape[1]
    log_sd = np.empty((n, k))
    log_sd[:, field.analysis.layout.order] = -0.5 * np.log(modes.precision.pivots)
    slopes = np.empty((n, NODES, k))
    totals = np.empty((2, n))
    size = max(1, LARGEST_CHUNK // (NODES * d + 4 * POINTS * k))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        sd = np.exp(log_sd[rows])
        z = np.repeat(modes.z[rows][:, None], NODES, axis=1)
        z[:, :, field.rest] += rule().nodes[:, None] * sd[:, None]
        there = field.gradients_at(z.reshape(-1, d)).reshape(z.shape)[:, :, field.rest]
        slopes[rows] = there * sd[:, None]
        shapes = Shapes.of(sd, slopes[rows].transpose(0, 2, 1))
        integral = modes.log_p[rows] + shapes.log_integral
        totals[:, rows] = integral, shapes.tails()
    return Cells(log_sd, slopes, *totals)
