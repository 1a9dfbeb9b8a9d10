"""The marginal of a hierarchy's scales, log ∫ p̂(θ, x) dx: values, slopes and its mode."""

from __future__ import annotations

import abc
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from infimum.search.nested.field import Field
from infimum.search.nested.modes import Modes, Rows
from infimum.search.nested.tilt import Tilt

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

STEADY = 0.7
"""Change of the log of a curvature below which a quadratic is taken for the same as the last."""

MOST_FALL = 20.0
"""Nats that the marginal may be lower after a step by slopes: from afar a quadratic overshoots."""

CHANGE = 20.0
"""Factor by which a quadratic may change a curvature along any axis at a time."""

STAR = 0.5
"""Distance in sds of the points around the mode at which slopes are taken."""

CROSS_STEP = 1e-3
"""Longest part, in typical sizes of x, of the step of the difference that tells how the slope by θ
changes with x."""


class Sloped(NamedTuple):
    """The marginal at n points, with its slopes.

    Attributes
    ----------
    modes
        Of x.
    values, slopes
        log marginal, shape (n,), and its slopes by θ, shape (n, h).
    log_det_slopes
        Of log |H|, shape (n, d).
    """

    modes: Modes
    values: Float[np.ndarray, " n"]
    slopes: Float[np.ndarray, "n h"]
    log_det_slopes: Float[np.ndarray, "n d"]

    def joined(self, other: Sloped) -> Sloped:
        """These points and those of another."""
        pairs = zip(self[1:], other[1:], strict=True)
        values, slopes, log_det = (np.concatenate(pair) for pair in pairs)
        return Sloped(self.modes.joined([other.modes]), values, slopes, log_det)

    def of(self, rows: Rows) -> Sloped:
        """Some of the points."""
        return Sloped(self.modes.of(rows), *(x[rows] for x in self[1:]))


class Sloping(abc.ABC):
    """A log density of few coordinates θ, with slopes.

    Attributes
    ----------
    centre
        Where its mode is looked for, shape (h,).
    places
        The coordinates of θ in z, shape (h,).
    """

    centre: Float[np.ndarray, " h"]
    places: Int[np.ndarray, " h"]

    @abc.abstractmethod
    def look(self, theta: Float[np.ndarray, "n h"], root: Float[np.ndarray, "h h"]) -> Sloped:
        """Values and slopes; `root` is a root of the covariance of θ."""

    def sloped_summit(
        self, root: Float[np.ndarray, "h h"]
    ) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
        """Near the mode, and a root of its inverse curvature there, by slopes at stars."""
        h = len(self.centre)
        centre, best, before = self.centre, -np.inf, (self.centre, root)
        for _ in range(SUMMIT_TURNS):
            star = self.look(centre + star_around(h) @ root.T, root)
            if not np.isfinite(star.values).all() or star.values[0] < best - MOST_FALL:
                centre, root = 0.5 * (before[0] + centre), 0.5 * root
                continue
            best, before = max(best, float(star.values[0])), (centre, root)
            slopes = star.slopes @ root
            curved = (slopes[1 + h :] - slopes[1 : 1 + h]) / (2 * STAR)
            centre, root, there = _advanced(centre, root, slopes[0], 0.5 * (curved + curved.T))
            if there:
                break
        return centre, root


class Marginal(Sloping):
    """log ∫ p̂(θ, x) dx by Laplace, from Newton's method for x; and what tilts add to it.

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
        self.places = field.theta
        self.tilts: list[Tilt] = []
        self.last_modes: tuple[np.ndarray, np.ndarray] | None = None

    def look(self, theta: Float[np.ndarray, "n h"], root: Float[np.ndarray, "h h"]) -> Sloped:
        """Values and slopes at the modes of x."""
        return self.sloped(self.modes(theta, root))

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
        value = self.field.laplace(modes) + self.field.gain(modes) + self.tilt(modes)[0]
        return np.where(np.isfinite(value), value, -np.inf)

    def tilt(self, modes: Modes) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n h"]]:
        """What the tilts add, and its slopes by θ."""
        theta = modes.z[:, self.field.theta]
        value, slopes = np.zeros(len(theta)), np.zeros(theta.shape)
        for tilt in self.tilts:
            more, by_theta = tilt.at(theta)
            value, slopes = value + more, slopes + by_theta
        return value, slopes

    def sloped(self, modes: Modes) -> Sloped:
        """The marginal's values and slopes: exact to the error of the mode squared.

        With t the slopes of log |H|, ∂_θ log p̂ - ½ t_θ + ∂²_{θx} log p̂ · p, where p is the pull of
        the mean: what is left of the Newton step, and -½ H⁻¹ t_x.
        """
        field = self.field
        slopes = field.log_det_slopes(modes, field.exact_probes)
        pull = field.pull(modes, slopes)
        longest = np.abs(pull / field.scale).max(axis=1, keepdims=True)
        step = CROSS_STEP / np.maximum(longest, np.finfo(float).tiny)
        sides = [
            field.place(modes.z[:, field.theta], modes.z[:, field.rest] + side * step * pull)
            for side in (1, -1)
        ]
        ahead, behind = np.split(field.gradients_at(np.concatenate(sides)), 2)
        cross = (ahead - behind)[:, field.theta] / (2 * step)
        rise = field.inverse_times(modes.precision, modes.gradient[:, field.rest])
        values = self.values(modes) - 0.5 * (slopes[:, field.rest] * rise).sum(axis=1)
        by_theta = modes.gradient[:, field.theta] - 0.5 * slopes[:, field.theta] + cross
        by_theta = by_theta + self.tilt(modes)[1]
        fine = np.isfinite(values) & np.isfinite(by_theta).all(axis=1)
        return Sloped(modes, np.where(fine, values, -np.inf), by_theta, slopes)

    def summit(
        self, root: Float[np.ndarray, "h h"]
    ) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
        """Near the mode of the marginal, and a root of its inverse curvature there, by values."""
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
            centre, root, there = _advanced(centre, root, *_quadratic(values, len(centre)))
            if there:
                break
        return centre, root


class Refined(Marginal):
    """A better marginal, which goes on from Laplace's."""

    def __init__(self, laplace: Marginal) -> None:
        super().__init__(laplace.field, laplace.centre, laplace.mean, laplace.slope)
        self.last_modes = laplace.last_modes


def _stencil(h: int) -> Float[np.ndarray, "n h"]:
    """The centre, a unit to either side along each axis, and the sums of two axes."""
    eye = np.eye(h)
    pairs = [eye[i] + eye[j] for i in range(h) for j in range(i)]
    return np.array([np.zeros(h), *eye, *-eye, *pairs])


def star_around(h: int) -> Float[np.ndarray, "n h"]:
    """The centre, and points to either side along each axis."""
    eye = STAR * np.eye(h)
    return np.array([np.zeros(h), *eye, *-eye])


def _quadratic(
    values: Float[np.ndarray, " n"], h: int
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"]]:
    """Slope and negative curvature in the middle of a quadratic through a stencil."""
    middle, plus, minus = values[0], values[1 : 1 + h], values[1 + h : 1 + 2 * h]
    slope, curved = 0.5 * (plus - minus), np.diag(2 * middle - plus - minus)
    pairs = [(i, j) for i in range(h) for j in range(i)]
    for (i, j), value in zip(pairs, values[1 + 2 * h :], strict=True):
        curved[i, j] = curved[j, i] = plus[i] + plus[j] - middle - value
    return slope, curved


def _advanced(
    centre: Float[np.ndarray, " h"],
    root: Float[np.ndarray, "h h"],
    slope: Float[np.ndarray, " h"],
    curved: Float[np.ndarray, "h h"],
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, "h h"], bool]:
    """After a Newton step that is not too long, with curvatures that do not change too much.

    Returns
    -------
    The centre, a root of the inverse curvature there, and whether the mode is near.
    """
    curvature, axes = np.linalg.eigh(curved)
    curvature = np.clip(np.abs(curvature), 1 / CHANGE, CHANGE)
    move = axes @ ((axes.T @ slope) / curvature)
    length = float(np.linalg.norm(move))
    move /= max(1.0, length / SUMMIT_REACH)
    steady = np.abs(np.log(curvature)).max() < STEADY
    near = bool(np.linalg.norm(move) < NEAR_SUMMIT and steady)
    return centre + root @ move, root @ (axes / np.sqrt(curvature)), near
