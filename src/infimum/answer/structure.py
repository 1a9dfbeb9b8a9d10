"""What a q shows of its target's structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infimum.families._distribution import Distribution, SparseGaussian
from infimum.families._host import Conditioned
from infimum.structure.colours import colouring
from infimum.structure.structure import Structure


def known_structure(
    q: Distribution, names: Sequence[str], n_colours: int | None = None
) -> Structure | None:
    """The structure that q was built on; None if it was built on none.

    Parameters
    ----------
    names
        A name for each coordinate.
    n_colours
        How many colours its pattern has, if that is known.
    """
    if isinstance(q, Conditioned):
        return Structure(
            tuple(names), np.asarray(q.edges), tuple(int(i) for i in q.theta), n_colours
        )
    if isinstance(q, SparseGaussian):
        return Structure(tuple(names), np.asarray(q.edges), n_colours=n_colours)
    return None


def n_colours(q: Distribution) -> int | None:
    """How many colours the pattern of q has; the search for q has coloured it already."""
    edges = q.edges if isinstance(q, Conditioned | SparseGaussian) else None
    return None if edges is None else colouring(q.dim, np.asarray(edges)).n_colours
