"""Modes of x at many θ, and the precisions of x there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families.nested.precision import Precision

Rows = slice | Sequence[int] | np.ndarray
"""Which rows of an array."""


class Modes(NamedTuple):
    """Where fields have their modes, and how they are curved there.

    Attributes
    ----------
    z
        Points with θ, and x at its mode, shape (n, d).
    log_p, gradient
        log p̂ and its gradient there.
    precision
        H of x.
    """

    z: Float[np.ndarray, "n d"]
    log_p: Float[np.ndarray, " n"]
    gradient: Float[np.ndarray, "n d"]
    precision: Precision

    def of(self, rows: Rows) -> Modes:
        """Some of the rows."""
        precision = Precision(*(x[rows] for x in self.precision))
        return Modes(self.z[rows], self.log_p[rows], self.gradient[rows], precision)

    def joined(self, others: Sequence[Modes]) -> Modes:
        """All rows of these and of others."""
        every = [self, *others]
        z, log_p, gradient, *precision = (
            np.concatenate(parts)
            for parts in zip(*((*m[:3], *m.precision) for m in every), strict=True)
        )
        return Modes(z, log_p, gradient, Precision(*precision))

    def with_rows(self, rows: Rows, other: Modes) -> Modes:
        """These rows replaced by those of another."""
        mine, theirs = (*self[:3], *self.precision), (*other[:3], *other.precision)
        whole = []
        for a, b in zip(mine, theirs, strict=True):
            whole.append(a.copy())
            whole[-1][rows] = b
        z, log_p, gradient, *precision = whole
        return Modes(z, log_p, gradient, Precision(*precision))
