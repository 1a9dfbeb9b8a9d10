"""Colours: coordinates that share one product with the Hessian."""

from __future__ import annotations

import functools
import warnings
from typing import NamedTuple

import numpy as np

from infimum.base.extras import required

HUB_SIZES = (8, 16, 32, 64, 128, 256, 512)
"""Entries in a row above which a coordinate gets a colour of its own; the size that needs the
fewest colours is taken. Without it the greedy colouring gives two hubs one colour, and then needs
a colour for each of their neighbours."""


class Colouring(NamedTuple):
    """Which coordinates move together, and where each entry of the Hessian is then read.

    Values of the Hessian are its diagonal, then an entry for each edge.

    Attributes
    ----------
    colours
        A colour for each coordinate, shape (d,).
    entry_colours, places
        Each value stands alone in the product of this colour, at this coordinate.
    columns
        The coordinate of that colour which the value belongs to.
    """

    colours: np.ndarray
    entry_colours: np.ndarray
    places: np.ndarray
    columns: np.ndarray

    @property
    def n_colours(self) -> int:
        """How many colours there are."""
        return int(self.colours.max()) + 1


def colouring(dim: int, edges: np.ndarray) -> Colouring:
    """The colouring of a pattern; the last four are kept."""
    return _colouring(dim, np.ascontiguousarray(edges, np.int64).tobytes())


@functools.lru_cache(maxsize=4)
def _colouring(dim: int, content: bytes) -> Colouring:
    edges = np.frombuffer(content, np.int64).reshape(2, -1)
    colours = colour(dim, edges)
    entry_colours, places = entry_places(dim, edges, colours)
    other = np.where(places[dim:] == edges[0], edges[1], edges[0])
    return Colouring(colours, entry_colours, places, np.concatenate([np.arange(dim), other]))


def colour(dim: int, edges: np.ndarray) -> np.ndarray:
    """A colour for each coordinate, such that every entry can be read from some colour's product.

    Parameters
    ----------
    edges
        Pairs (row > column) of the symmetric pattern, shape (2, n).
    """
    degree = np.bincount(edges.ravel(), minlength=dim)
    best = None
    tried_counts: set[int] = set()
    for size in HUB_SIZES:
        hubs = np.flatnonzero(degree > size)
        if len(hubs) in tried_counts:
            continue
        tried_counts.add(len(hubs))
        colours = _greedy(dim, edges[:, (degree[edges] <= size).all(axis=0)])
        colours[hubs] = 1 + colours.max() + np.arange(len(hubs))
        colours = np.unique(colours, return_inverse=True)[1]
        if best is None or colours.max() < best.max():
            best = colours
    assert best is not None
    return best


def _greedy(dim: int, edges: np.ndarray) -> np.ndarray:
    """Star colouring (Gebremedhin, Tarafdar, Manne & Pothen 2007), by asdex."""
    asdex = required("asdex", "sparse")
    itself = np.arange(dim)
    rows = np.concatenate([itself, edges[0], edges[1]]).astype(np.int32)
    columns = np.concatenate([itself, edges[1], edges[0]]).astype(np.int32)
    order = np.lexsort((columns, rows))
    pattern = asdex.SparsityPattern(rows[order], columns[order], (dim, dim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", asdex.DenseColoringWarning)
        return np.asarray(asdex.color_symmetric(pattern)[0], np.int64)


def entry_places(dim: int, edges: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value of the Hessian, diagonal then edges, stands alone: colour and coordinate.

    Entry (i, j) stands in the product of j's colour at i. If i is coupled to another coordinate of
    that colour, it stands in the product of i's colour at j.
    """
    itself = np.arange(dim)
    n = int(colours.max()) + 1
    rows = np.concatenate([itself, edges[0], edges[1]])
    columns = np.concatenate([itself, edges[1], edges[0]])
    # One cell for each coordinate of each product: an entry is alone if its cell holds one entry.
    cells = rows * n + colours[columns]
    _, cell_of, counts = np.unique(cells, return_inverse=True, return_counts=True)
    alone = counts[cell_of] == 1
    size = edges.shape[1]
    diagonal, entry, mirrored = alone[:dim], alone[dim : dim + size], alone[dim + size :]
    if not (diagonal.all() and (entry | mirrored).all()):
        raise AssertionError("colours that hold two entries in one place")
    colour_of_edge = np.where(entry, colours[edges[1]], colours[edges[0]])
    place_of_edge = np.where(entry, edges[0], edges[1])
    return np.concatenate([colours, colour_of_edge]), np.concatenate([itself, place_of_edge])
