"""The marginal of a hierarchy's scales: where its mass is, found from values on a lattice.

Rue, Martino & Chopin (2009) explore the scales so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from infimum.families.nested.cells import cells_at
from infimum.families.nested.conditional import Predictor
from infimum.families.nested.field import Field, Modes
from infimum.families.nested.table import Table

MOST_STEPS = 20
"""Newton steps to a mode of x, each shortened until log p̂ rises."""

HALVINGS = 8
"""Times that one step is shortened, to a third each time."""

LEFT = 1e-4
"""Nats that a further Newton step would gain at which the mode is reached."""

SUMMIT_TURNS = 30
"""Quadratics that are fitted on the way to the marginal's mode."""

SUMMIT_REACH = 3.0
"""Longest step to the mode, in the sds of the last quadratic."""

NEAR_SUMMIT = 0.2
"""Step to the mode, in sds, below which the lattice may begin."""

CHANGE = 20.0
"""Factor by which a quadratic may change a curvature along any axis at a time."""

DROP = 9.0
"""Nats below the largest value at which the lattice ends: beyond are 1e-4 of a normal's mass in two
dimensions."""

SPACING = {1: 1.0, 2: 1.25, 3: 1.9}
"""Distance of the lattice's points in sds, by the number of scales. With three scales 1.6 took a
fifth more gradients on radon with slopes, for 980 effective draws of 1,000 instead of 975; 2.2 was
too coarse for pilots."""

CELLS = {1: 800, 2: 200, 3: 64}
"""Cells of the table along each axis, by the number of scales."""

MOST_POINTS = 500
"""Most points of a lattice; a marginal that takes more has no end."""

FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
"""What the fourth difference is made of."""

ROUGH_WITHIN, MOST_ROUGH = 5.0, 0.8
"""Nats from the top within which a lattice must be smooth, and by how many a value may stand out.
Of six hierarchies none did so by more than 0.44; of a Gaussian process whose length jumps between
two modes one did by 1.5."""

MOST_TABULATED = max(CELLS)
"""Most coordinates of a table."""


class Lattice(NamedTuple):
    """The marginal's values around its mode.

    Attributes
    ----------
    centre, root
        θ = centre + root u, shapes (h,) and (h, h).
    u
        The points, shape (n, h).
    values
        log marginal there, shape (n,).
    modes
        The modes of x there.
    closed
        Whether the values fall by `DROP` on all sides.
    """

    centre: Float[np.ndarray, " h"]
    root: Float[np.ndarray, "h h"]
    u: Float[np.ndarray, "n h"]
    values: Float[np.ndarray, " n"]
    modes: Modes
    closed: bool

    @property
    def best(self) -> Modes:
        """The mode of x at the largest value."""
        return self.modes.of([int(np.argmax(self.values))])

    @property
    def roughness(self) -> float:
        """Nats by which a value that matters stands out from its four neighbours, at most.

        A sixth of the fourth difference along an axis. Of a marginal that a table can hold it is
        small; where x has several modes, values that belong to different ones stand beside each
        other.
        """
        places = np.rint(self.u / SPACING[self.u.shape[1]]).astype(int)
        row = {tuple(place): i for i, place in enumerate(places.tolist())}
        worst = 0.0
        for i in np.flatnonzero(self.values > self.values.max() - ROUGH_WITHIN):
            for axis in np.eye(places.shape[1], dtype=int):
                five = [row.get(tuple((places[i] + k * axis).tolist())) for k in range(-2, 3)]
                if None in five:
                    continue
                difference = abs(float(FOURTH @ self.values[np.array(five, int)])) / 6
                worst = max(worst, difference if np.isfinite(difference) else 0.0)
        return worst


class Marginal:
    """log ∫ p̂(θ, x) dx by Laplace, from Newton's method for x.

    Parameters
    ----------
    mean, slope
        Where x is expected at `centre`, shape (k,), and how it moves with θ, shape (k, h).
    """

    def __init__(
        self,
        field: Field,
        centre: Float[np.ndarray, " h"],
        mean: Float[np.ndarray, " k"],
        slope: Float[np.ndarray, "k h"],
    ) -> None:
        self.field, self.centre, self.mean, self.slope = field, centre, mean, slope
        self.last_modes: tuple[np.ndarray, np.ndarray] | None = None

    def modes(self, theta: Float[np.ndarray, "n h"], root: Float[np.ndarray, "h h"]) -> Modes:
        """The modes of x, from those of the nearest θ before."""
        field = self.field
        modes = field.look(field.place(theta, self._begin(theta, root)))
        for _ in range(MOST_STEPS):
            going = np.flatnonzero((field.gain(modes) > LEFT) & np.isfinite(modes.log_p))
            if not going.size:
                break
            moved = self._stepped(modes.of(going))
            better = moved.log_p > modes.log_p[going]
            if not better.any():
                break
            modes = modes.with_rows(going[better], moved.of(better))
        self.last_modes = theta, modes.z[:, field.rest]
        return modes

    def _begin(
        self, theta: Float[np.ndarray, "n h"], root: Float[np.ndarray, "h h"]
    ) -> Float[np.ndarray, "n k"]:
        if self.last_modes is None:
            return self.mean + (theta - self.centre) @ self.slope.T
        before, x = self.last_modes
        u, v = (np.linalg.solve(root, (a - self.centre).T).T for a in (theta, before))
        return x[cKDTree(v).query(u)[1]]

    def _stepped(self, modes: Modes) -> Modes:
        """After a Newton step, shortened where log p̂ would fall."""
        field, step = self.field, self.field.step(modes)
        z = modes.z.copy()
        z[:, field.rest] += step
        moved = field.look(z)
        for _ in range(HALVINGS):
            worse = np.flatnonzero(~(moved.log_p >= modes.log_p))
            if not worse.size:
                break
            step[worse] /= 3
            z = modes.z[worse].copy()
            z[:, field.rest] += step[worse]
            moved = moved.with_rows(worse, field.look(z))
        return moved

    def values(self, modes: Modes) -> Float[np.ndarray, " n"]:
        """Laplace's log marginal, a last Newton step added; -inf where log p̂ is not finite."""
        value = self.field.laplace(modes) + self.field.gain(modes)
        return np.where(np.isfinite(value), value, -np.inf)

    def summit(
        self, root: Float[np.ndarray, "h h"]
    ) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
        """Near the mode of the marginal, and a root of its inverse curvature there."""
        centre, best, before = self.centre, -np.inf, (self.centre, root)
        for _ in range(SUMMIT_TURNS):
            modes = self.modes(centre + _stencil(len(centre)) @ root.T, root)
            values = self.values(modes)
            if not np.isfinite(values).all() or values[0] < best - 1e-3:
                centre, root = 0.5 * (before[0] + centre), 0.5 * root
                if np.isfinite(values[0]):
                    best = min(best, float(values[0]))
                continue
            best, before = float(values[0]), (centre, root)
            move, curvature, axes = _quadratic(values, len(centre))
            root = root @ (axes / np.sqrt(curvature))
            centre = centre + before[1] @ move
            steady = np.abs(np.log(curvature)).max() < 0.7
            if np.linalg.norm(move) < NEAR_SUMMIT and steady:
                break
        return centre, root

    def explored(self, centre: Float[np.ndarray, " h"], root: Float[np.ndarray, "h h"]) -> Lattice:
        """A lattice around the mode, grown as far as its values matter."""
        h = len(centre)
        spacing = SPACING[h]
        unit = np.concatenate([np.eye(h, dtype=int), -np.eye(h, dtype=int)])
        wave, places = np.zeros((1, h), int), np.zeros((0, h), int)
        values, modes, top = np.zeros(0), [], -np.inf
        while len(wave) and len(places) < MOST_POINTS:
            latest = self.modes(centre + spacing * wave @ root.T, root)
            value = self.values(latest)
            modes.append(latest)
            places, values = np.concatenate([places, wave]), np.concatenate([values, value])
            top = max(top, float(values.max()))
            inner = places[values > top - DROP]
            around = np.unique((inner[:, None] + unit).reshape(-1, h), axis=0)
            old = set(map(tuple, places.tolist()))
            fresh = [point for point in around.tolist() if tuple(point) not in old]
            wave = np.array(fresh, int).reshape(-1, h)
        joined = modes[0].joined(modes[1:])
        return Lattice(centre, root, spacing * places, values, joined, not len(wave))


def with_shapes(lattice: Lattice, inner: Field) -> Lattice:
    """The lattice with exact integrals over the coordinates that are independent given the rest."""
    values = lattice.values.copy()
    modes = inner.look(lattice.modes.z)
    laplace = inner.laplace(modes)
    for rows, cells in cells_at(inner, modes):
        values[rows] += cells.log_integral - laplace[rows]
    return lattice._replace(values=np.where(np.isfinite(values), values, -np.inf))


def table_of(lattice: Lattice) -> Table:
    """q(θ): the lattice's values, interpolated in every cell near one of its points."""
    h = lattice.u.shape[1]
    kept = np.isfinite(lattice.values)
    u, values = lattice.u[kept], lattice.values[kept]
    between = RBFInterpolator(u, values, kernel="cubic", degree=2 if len(u) > 3 * (h + 2) else 1)
    half = 0.5 * SPACING[h]
    low, high, n = u.min(axis=0) - half, u.max(axis=0) + half, CELLS[h]
    width = (high - low) / n
    cells = Table.centres(low, width, (n,) * h)
    near = cKDTree(u).query(cells)[0] <= half * np.sqrt(h) + width.max()
    log_density = np.full(len(cells), -np.inf)
    log_density[near] = between(cells[near])
    return Table.of(lattice.centre, lattice.root, low, width, log_density.reshape((n,) * h))


def predictor_of(lattice: Lattice, field: Field) -> Predictor:
    """Interpolates the modes of x."""
    centre, root = lattice.centre, lattice.root
    x = lattice.modes.z[:, field.rest]
    between = RBFInterpolator(lattice.u, x, kernel="cubic", degree=1)
    low, high = lattice.u.min(axis=0), lattice.u.max(axis=0)

    def predicted(theta: np.ndarray) -> np.ndarray:
        u = np.linalg.solve(root, (theta - centre).T).T
        return np.asarray(between(np.clip(u, low, high)))

    return predicted


def _stencil(h: int) -> Float[np.ndarray, "n h"]:
    """The centre, a unit to either side along each axis, and the sums of two axes."""
    eye = np.eye(h)
    pairs = [eye[i] + eye[j] for i in range(h) for j in range(i)]
    return np.array([np.zeros(h), *eye, *-eye, *pairs])


def _quadratic(
    values: Float[np.ndarray, " n"], h: int
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
    """The Newton step of a quadratic through a stencil, its curvatures and their axes."""
    middle, plus, minus = values[0], values[1 : 1 + h], values[1 + h : 1 + 2 * h]
    slope, curved = 0.5 * (plus - minus), np.diag(2 * middle - plus - minus)
    pairs = [(i, j) for i in range(h) for j in range(i)]
    for (i, j), value in zip(pairs, values[1 + 2 * h :], strict=True):
        curved[i, j] = curved[j, i] = plus[i] + plus[j] - middle - value
    curvature, axes = np.linalg.eigh(curved)
    curvature = np.clip(np.abs(curvature), 1 / CHANGE, CHANGE)
    move = axes @ ((axes.T @ slope) / curvature)
    length = float(np.linalg.norm(move))
    return move / max(1.0, length / SUMMIT_REACH), curvature, axes
