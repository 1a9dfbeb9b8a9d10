"""The exact marginal of the scales, where all other coordinates are independent given them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.search.nested.cells import Cells, cells_at
from infimum.search.nested.cloud import Cloud
from infimum.search.nested.marginal import Marginal, Refined, Sloped
from infimum.search.nested.modes import Modes

FORWARD = 1e-4
"""Step of the differences that give slopes, in sds of θ. Over 3,000 Poisson effects a slope was
3e-5 nats a sd off, and rounding a ten-thousandth of that."""


class Shaped(Refined):
    """log ∫ p̂(θ, x) dx, from the shape of each group of coordinates of x.

    It keeps the shapes at each θ.

    Parameters
    ----------
    root
        A root of the covariance of θ, shape (h, h).
    """

    def __init__(self, laplace: Marginal, root: Float[np.ndarray, "h h"]) -> None:
        super().__init__(laplace)
        self._sd = np.sqrt((root**2).sum(axis=1))
        self._shapes: dict[bytes, Cells] = {}

    def values(self, modes: Modes) -> Float[np.ndarray, " n"]:
        """log of the integral; -inf where it is not finite."""
        value = self.cells(modes).log_integral
        return np.where(np.isfinite(value), value, -np.inf)

    def instead(self, cloud: Cloud) -> Cloud:
        """A cloud with these integrals in the place of its values."""
        return cloud.with_values(self.values(cloud.modes))

    def cells(self, modes: Modes) -> Cells:
        """The shapes at each mode."""
        keys = [row.tobytes() for row in modes.z]
        fresh = [i for i, key in enumerate(keys) if key not in self._shapes]
        if fresh:
            computed = cells_at(self.field, modes.of(fresh))
            for row, i in enumerate(fresh):
                self._shapes[keys[i]] = Cells(*(x[row] for x in computed))
        return Cells(*(np.stack(rows) for rows in zip(*map(self._shapes.get, keys), strict=True)))

    def sloped(self, modes: Modes) -> Sloped:
        """The integrals with their slopes, by differences; those of log |H| are left 0."""
        values, slopes = self.values(modes), np.empty((len(modes.z), len(self._sd)))
        for j, place in enumerate(self.field.theta):
            z = modes.z.copy()
            z[:, place] += FORWARD * self._sd[j]
            log_p, gradient = self.field.evaluate(z)
            moved = Modes(z, log_p, gradient, modes.precision)
            rise = cells_at(self.field, moved).log_integral - values
            slopes[:, j] = rise / (FORWARD * self._sd[j])
        fine = np.isfinite(slopes).all(axis=1)
        return Sloped(modes, np.where(fine, values, -np.inf), slopes, np.zeros(modes.z.shape))
