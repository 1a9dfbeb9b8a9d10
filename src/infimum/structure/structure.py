"""What hangs on what, as a fit shows it: the pattern, its colours, the scales and the blocks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Bool, Int

from infimum.structure.colours import colouring

NAMED_SCALES = 6
"""Scales that a line names at most."""


def block_labels(
    edges: Int[np.ndarray, "2 n"], inside: Bool[np.ndarray, " d"]
) -> Int[np.ndarray, " k"]:
    """The number of the block of each coordinate inside, from 0: blocks are not coupled there."""
    row, column = edges[:, inside[edges].all(axis=0)]
    shape = (len(inside), len(inside))
    graph = scipy.sparse.coo_matrix((np.ones(len(row)), (row, column)), shape=shape)
    label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][inside]
    return np.asarray(np.unique(label, return_inverse=True)[1])


@dataclass(frozen=True)
class Structure:
    """The pattern of the Hessian of log p̂ in the unconstrained coordinates, and what follows.

    Attributes
    ----------
    names
        A name for each of the d coordinates.
    edges
        Pairs (row > column) of coordinates that are coupled, shape (2, n).
    scale_places
        The coordinates on which the curvature of the others hangs, if they were looked for.
    n_colours
        How many colours there are; None if that was not kept, as in files of earlier versions.
    """

    names: tuple[str, ...] = field(repr=False)
    edges: Int[np.ndarray, "2 n"] = field(repr=False)
    scale_places: tuple[int, ...] = ()
    n_colours: int | None = None

    @property
    def pattern(self) -> scipy.sparse.csr_array:
        """Where the Hessian has entries, the diagonal included, shape (d, d)."""
        d, (row, column) = len(self.names), self.edges
        ones = np.ones(len(row), bool)
        below = scipy.sparse.csr_array((ones, (row, column)), shape=(d, d))
        return below + below.T + scipy.sparse.eye_array(d, dtype=bool, format="csr")

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales."""
        return tuple(self.names[i] for i in self.scale_places)

    @functools.cached_property
    def colours(self) -> Int[np.ndarray, " d"]:
        """A number for each coordinate: those of one share a product with the Hessian."""
        return colouring(len(self.names), np.asarray(self.edges)).colours

    @functools.cached_property
    def blocks(self) -> list[Int[np.ndarray, " k"]]:
        """Coordinates of each block that is independent of all others given the scales."""
        inside = np.ones(len(self.names), bool)
        inside[list(self.scale_places)] = False
        rest, label = np.flatnonzero(inside), block_labels(np.asarray(self.edges), inside)
        order = np.argsort(label, kind="stable")
        return np.split(rest[order], np.cumsum(np.bincount(label))[:-1])

    def __str__(self) -> str:
        d, n = len(self.names), self.edges.shape[1]
        line = f"{n:,} of {d * (d - 1) // 2:,} pairs coupled"
        if self.n_colours is not None:  # a large pattern takes seconds to colour again
            line += f", {self.n_colours} colours"
        if not self.scale_places:
            return line
        first = ", ".join(self.scales[:NAMED_SCALES])
        more = ", …" if len(self.scales) > NAMED_SCALES else ""
        count = f"{len(self.scales)} scale{'s' * (len(self.scales) > 1)}"
        blocks = f"{len(self.blocks):,} block{'s' * (len(self.blocks) > 1)}"
        return f"{line}; {count} ({first}{more}), {blocks} given them"
