"""Interpolation between the scales at which something of x is known."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from infimum.families._smooth.warp import Warp

LEAST_BEND = 1e-4
"""Least size of a term that is not straight: those of scales that are known to 1 % are below."""

POWERS = (-2, -1, 1, 2)
"""Powers of a scale by which a precision may change with it."""


class Known(eqx.Module):
    """The θ at which something of x is known.

    Attributes
    ----------
    warp
        The coordinates u of θ.
    u
        Shape (n, h).
    low, high
        The box in u beyond which x is what it is at its sides, shapes (h,).
    steep
        1 for θ_j whose powers exp(±θ_j) and exp(±2 θ_j) are among what is exact, else 0, shape
        (h,).
    """

    warp: Warp
    u: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steep: np.ndarray

    def shares(self, theta: Float[np.ndarray, "m h"]) -> Float[np.ndarray, "m n"]:
        """The share that each known θ has in what is interpolated at others."""
        u = np.clip(self.warp.u(theta), self.low, self.high)
        terms, further = self._terms(self.u, u)
        m = terms.shape[1]
        system = np.block([[cdist(self.u, self.u) ** 3, terms], [terms.T, np.zeros((m, m))]])
        right = np.concatenate([cdist(self.u, u) ** 3, further.T])
        return np.asarray(np.linalg.solve(system, right)[: len(self.u)].T)

    def _terms(
        self, known: Float[np.ndarray, "n h"], u: Float[np.ndarray, "m h"]
    ) -> tuple[Float[np.ndarray, "n t"], Float[np.ndarray, "m t"]]:
        """What is interpolated exactly, at the known points and at others.

        1 and u; log(1 + exp(-2 θ)), which is how the log of a precision bends that is 1/σ² where
        σ = exp θ is small, and that of the data where it is not; powers of exp θ where it is steep;
        and θ where a tail is long. Of the last three only what the first do not have, if it is not
        nothing.
        """
        (plain, bent), (more_plain, more_bent) = map(self._parts, (known, u))
        along = np.linalg.lstsq(plain, bent, rcond=None)[0]
        bent, more_bent = bent - plain @ along, more_bent - more_plain @ along
        size = np.abs(bent).max(axis=0)
        kept = size > LEAST_BEND
        return (
            np.concatenate([plain, bent[:, kept] / size[kept]], axis=1),
            np.concatenate([more_plain, more_bent[:, kept] / size[kept]], axis=1),
        )

    def _parts(self, u: Float[np.ndarray, "n h"]) -> tuple[np.ndarray, np.ndarray]:
        long = (self.warp.left + self.warp.right) > 0
        away = self.warp.theta(u) - self.warp.centre
        plain = np.concatenate([np.ones((len(u), 1)), u], axis=1)
        powers = [np.exp(rate * away[:, self.steep == 1]) for rate in POWERS]
        return plain, np.concatenate([np.logaddexp(0, -2 * away), away[:, long], *powers], axis=1)
