"""A density of few coordinates, tabulated: constant in each cell of a grid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.families._host import HostOnly


class Table(HostOnly):
    """q(θ) = w_c / volume of the cell c that θ is in; 0 outside the grid.

    θ = mean + root u, and the cells are boxes in u.

    Attributes
    ----------
    mean, root
        Shapes (h,) and (h, h).
    low, width
        Where the grid begins, and the size of a cell, in u: shapes (h,).
    log_mass
        log w of every cell, which sum to 1; an axis for each coordinate of u.
    """

    mean: np.ndarray
    root: np.ndarray
    low: np.ndarray
    width: np.ndarray
    log_mass: np.ndarray

    @classmethod
    def of(
        cls,
        mean: Float[np.ndarray, " h"],
        root: Float[np.ndarray, "h h"],
        low: Float[np.ndarray, " h"],
        width: Float[np.ndarray, " h"],
        log_density: np.ndarray,
    ) -> Table:
        """The table of a log density at the centres of all cells, up to a constant."""
        top = log_density.max()
        total = top + np.log(np.exp(log_density - top).sum())
        return cls(mean, root, low, width, log_density - total)

    @staticmethod
    def centres(
        low: Float[np.ndarray, " h"], width: Float[np.ndarray, " h"], shape: tuple[int, ...]
    ) -> Float[np.ndarray, "n h"]:
        """Centres of all cells in u, the last axis running fastest."""
        axes = [a + w * (np.arange(n) + 0.5) for a, w, n in zip(low, width, shape, strict=True)]
        return np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=1)

    @property
    def dim(self) -> int:
        """h."""
        return int(np.shape(self.mean)[-1])

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n h"]:
        """Cells by stratified draws, in random order; uniform within each."""
        mass = np.exp(self.log_mass)
        levels = np.cumsum(mass.ravel())
        spots = rng.permutation((np.arange(n) + rng.random(n)) / n) * levels[-1]
        cell = np.minimum(np.searchsorted(levels, spots), mass.size - 1)
        place = np.stack(np.unravel_index(cell, mass.shape), axis=1) + rng.random((n, self.dim))
        return np.asarray(self.mean + (self.low + self.width * place) @ self.root.T)

    def log_density(self, z: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """The density of the cell that each row is in."""
        u = np.linalg.solve(self.root, (z - self.mean).T).T
        place = np.floor((u - self.low) / self.width)
        shape = np.array(np.shape(self.log_mass))
        inside = ((place >= 0) & (place < shape)).all(axis=1)
        index = tuple(np.clip(place, 0, shape - 1).astype(int).T)
        volume = np.log(self.width).sum() + np.linalg.slogdet(self.root)[1]
        return np.where(inside, self.log_mass[index] - volume, -np.inf)
