"""Exploring again where what Laplace's marginal lacks moves its mass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families._smooth.warp import Warp

REACH = 6.0
"""Distance in sds beyond which a tilt levels out: farther than it is known it would make a mass of
its own where the marginal falls slowly."""


class Tilt(NamedTuple):
    """A function of θ that is nearly linear where it was fitted, and level far from there.

    Attributes
    ----------
    warp
        The coordinates u of θ.
    slope
        By u, in the middle, shape (h,): sds by which it moves the mass.
    """

    warp: Warp
    slope: Float[np.ndarray, " h"]

    @classmethod
    def of(
        cls, warp: Warp, u: Float[np.ndarray, "n h"], log_p: np.ndarray, lack: np.ndarray
    ) -> Tilt:
        """The tilt that comes nearest to what a density of these logarithms lacks at the points."""
        root = np.exp(0.5 * (log_p - log_p.max())) * np.isfinite(lack)
        terms = np.concatenate([np.ones((len(u), 1)), REACH * np.tanh(u / REACH)], axis=1)
        goal = np.where(root > 0, lack, 0.0)
        return cls(warp, np.linalg.lstsq(root[:, None] * terms, root * goal, rcond=None)[0][1:])

    @property
    def moves(self) -> float:
        """How far it moves the mass, in sds."""
        return float(np.linalg.norm(self.slope))

    def at(
        self, theta: Float[np.ndarray, "n h"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n h"]]:
        """Its values, and its slopes by θ."""
        u = self.warp.u(theta)
        level = np.tanh(u / REACH)
        by_u = self.slope * (1 - level**2)
        by_theta = np.linalg.solve(self.warp.root.T, by_u.T).T / self.warp.stretch(u)[0]
        return REACH * level @ self.slope, by_theta
