"""Sums of products of exponentials of the scales: how the precision of x hangs on them exactly."""

from __future__ import annotations

import equinox as eqx
import numpy as np
import scipy.sparse
from jaxtyping import Float, Int


class Terms(eqx.Module):
    """Entry e of a vector is Σ size exp(rates · (θ - centre)) over its terms; others are 0.

    A prior N(0, σ²) adds 1/σ² to the precision: with σ = exp θ its rate is -2.

    Attributes
    ----------
    centre
        Shape (h,).
    rates
        The exponentials that there are, shape (e, h).
    entry, way, size
        Each term's place in the vector, its exponential and its size there, shape (t,).
    """

    centre: Float[np.ndarray, " h"]
    rates: Float[np.ndarray, "e h"]
    entry: Int[np.ndarray, " t"]
    way: Int[np.ndarray, " t"]
    size: Float[np.ndarray, " t"]

    @classmethod
    def none(cls, centre: Float[np.ndarray, " h"]) -> Terms:
        """No terms."""
        empty = np.zeros(0, np.int64)
        return cls(centre, np.zeros((0, len(centre))), empty, empty, np.zeros(0))

    def at(self, theta: Float[np.ndarray, "m h"], n: int) -> Float[np.ndarray, "m n"]:
        """The vector of n entries at each row of θ."""
        shape = (len(self.rates), n)
        sizes = scipy.sparse.csr_array((self.size, (self.way, self.entry)), shape=shape)
        return np.asarray((sizes.T @ np.exp((theta - self.centre) @ self.rates.T).T).T)
