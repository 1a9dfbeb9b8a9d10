"""TODO."""

from __future__ import annotations

import warnings

import numpy as np

from infimum.base.extras import required

HUBS = (8, 32, 128, 512)
"""Entries in a row above which a coordinate has a product of its own; the best of these is taken.
Without it greedy colours two hubs alike, and then needs a colour for each of their neighbours."""


def coloured(dim: int, edges: np.ndarray) -> np.ndarray:
    """A colour for each coordinate, such that products of colours hold every entry on its own."""
    degree = np.bincount(edges.ravel(), minlength=dim)
    best = None
    seen: set[int] = set()
    for most in HUBS:
        hubs = np.flatnonzero(degree > most)
        if len(hubs) in seen:
            continue
        seen.add(len(hubs))
        colours = _greedy(dim, edges[:, (degree[edges] <= most).all(axis=0)])
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


def readable(dim: int, edges: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which colour's product holds each entry alone, and at which coordinate.

    Entry (i, j) stands in the product of j's colour at i unless i is coupled to another coordinate
    of that colour; then it stands in that of i's colour at j.
    """
    itself = np.arange(dim)
    n = int(colours.max()) + 1
    rows = np.concatenate([itself, edges[0], edges[1]])
    columns = np.concatenate([itself, edges[1], edges[0]])
    cells = rows * n + colours[columns]
    _, back, counts = np.unique(cells, return_inverse=True, return_counts=True)
    alone = counts[back] == 1
    size = edges.shape[1]
    own, there, mirrored = alone[:dim], alone[dim : dim + size], alone[dim + size :]
    if not (own.all() and (there | mirrored).all()):
        raise AssertionError("colours that hold two entries in one place")
    colour = np.where(there, colours[edges[1]], colours[edges[0]])
    place = np.where(there, edges[0], edges[1])
    return np.concatenate([colours, colour]), np.concatenate([itself, place])
