"""Coordinates in which a marginal of scales is nearly standard normal, long tails included.

log σ falls slowly to the left where the data do not exclude σ = 0: by so many nats a unit, and not
with the square. θ_j = centre_j + s_j T(w_j) with w = C u, where T is the identity near 0 and grows
with the square beyond, as much as is asked for on either side; s_j C_j are the rows of `root`.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Float

TURNS = 60
"""Newton steps of the inverse of T, from the far side of the root: they stop before at rounding."""


def growth(x: np.ndarray) -> np.ndarray:
    """What T adds at a distance x from 0 for a unit of tail: x³/(1 + x), 0 below 0."""
    x = np.maximum(x, 0.0)
    return np.asarray(x**3 / (1 + x))


def _growth_slope(x: np.ndarray) -> np.ndarray:
    x = np.maximum(x, 0.0)
    return np.asarray(x**2 * (3 + 2 * x) / (1 + x) ** 2)


def _growth_bend(x: np.ndarray) -> np.ndarray:
    x = np.maximum(x, 0.0)
    return np.asarray(2 * x * (3 + 3 * x + x**2) / (1 + x) ** 3)


class Warp(eqx.Module):
    """The coordinates u of θ.

    Attributes
    ----------
    centre, root
        Shapes (h,) and (h, h).
    left, right
        By how much the tails of each θ_j are longer than a normal's, 0 or more, shape (h,).
    """

    centre: np.ndarray
    root: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def straight(cls, centre: Float[np.ndarray, " h"], root: np.ndarray) -> Warp:
        """Without longer tails: θ = centre + root u."""
        return cls(centre, root, np.zeros(len(centre)), np.zeros(len(centre)))

    @property
    def scale(self) -> Float[np.ndarray, " h"]:
        """s."""
        return np.asarray(np.sqrt((self.root**2).sum(axis=1)))

    def theta(self, u: np.ndarray) -> np.ndarray:
        """θ at each row."""
        w = u @ (self.root / self.scale[:, None]).T
        moved = w + self.right * growth(w) - self.left * growth(-w)
        return np.asarray(self.centre + self.scale * moved)

    def u(self, theta: np.ndarray) -> np.ndarray:
        """u at each row of θ."""
        away = (theta - self.centre) / self.scale
        tail, goal = np.where(away < 0, self.left, self.right), np.abs(away)
        x = goal.copy()
        for _ in range(TURNS if tail.any() else 0):
            step = (x + tail * growth(x) - goal) / (1 + tail * _growth_slope(x))
            x = x - step
            if not (np.abs(step) > np.finfo(float).eps * (1 + x)).any():
                break
        w = np.copysign(x, away)
        return np.asarray(np.linalg.solve(self.root / self.scale[:, None], w.T).T)

    def stretch(self, u: np.ndarray) -> tuple[np.ndarray, Float[np.ndarray, " n"], np.ndarray]:
        """How θ follows u.

        Returns
        -------
        T' at each coordinate of w, shape (n, h); log |det ∂θ/∂u|; and its slopes by u.
        """
        unit = self.root / self.scale[:, None]
        w = u @ unit.T
        slope = 1 + self.right * _growth_slope(w) + self.left * _growth_slope(-w)
        bend = self.right * _growth_bend(w) - self.left * _growth_bend(-w)
        log_det = np.log(slope).sum(axis=1) + np.linalg.slogdet(self.root)[1]
        return slope, np.asarray(log_det), np.asarray((bend / slope) @ unit)

    def pulled(self, u: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Slopes by u of a function with these slopes by θ."""
        return np.asarray((slopes * self.stretch(u)[0]) @ self.root)
