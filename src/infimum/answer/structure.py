"""What a q shows of its target's structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infimum.families._distribution import Distribution, SparseGaussian
from infimum.families._host import Conditioned
from infimum.structure.structure import Structure


def known_structure(q: Distribution, names: Sequence[str]) -> Structure | None:
    """The structure that q was built on; None if it was built on none.

    Parameters
    ----------
    names
        A name for each coordinate.
    """
    if isinstance(q, Conditioned):
        return Structure(tuple(names), np.asarray(q.edges), tuple(int(i) for i in q.theta))
    if isinstance(q, SparseGaussian):
        return Structure(tuple(names), np.asarray(q.edges))
    return None
