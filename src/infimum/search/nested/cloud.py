"""Points where the marginal of more than two scales has its mass, and the density they make.

A smooth function goes through the values and slopes at a star around the mode. Draws of its
exponential say how far it is off, and are points of the next one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families._smooth import radial
from infimum.families._smooth.density import FEW_PILOTS, PILOTS, SmoothDensity
from infimum.families._smooth.warp import Warp, growth
from infimum.search.nested.marginal import Sloped, Sloping, star_around
from infimum.search.nested.modes import Modes, Rows

WAVE = 16
"""Draws that are evaluated at a time."""

NEAR_ENOUGH = 0.01
"""Nats that the density may be from the marginal: half the variance of what the function is off."""

OUTWARD, FAR_OFF = 1.5, 1.0
"""How much farther out than draws further points are taken, and the nats that the function may be
off there. Of 300 binary groups of two, three rows each, 32 draws more left KL 0.05 and a heavy
tail, "unreliable"; 16 and 16 farther out left 0.018, "good"."""

MOST_WAVES = 8
"""Waves at most; five crossed effects took one with 1,500 rows, and five with 300."""

FALLEN_AT, SHORT, LONGEST_TAIL = 3.0, 0.3, 50.0
"""Distance in sds at which a normal's tails are compared with the marginal's, by how much these may
be longer, and how far they are followed."""

FARTHEST = 20.0
"""Nats from the top beyond which a point tells nothing of the mass."""

BOX, INSIDE, AT_THE_EDGE = 6.0, 0.99, 0.9
"""Half the width of the box in sds, the part of it that points are kept in, and the part beyond
which is its edge."""

LEAST_ACCEPTANCE = 1e-3
"""Share of draws that must be kept; it was 0.2 to 0.6 on eight hierarchies. Where it is less, the
function has left its points."""

MOST_AT_THE_EDGE = 0.005
"""Share of draws there that the last density may have."""

EDGE_DRAWS = 1000
"""Draws of which the share is taken."""


class Cloud(NamedTuple):
    """The marginal where its mass is.

    Attributes
    ----------
    warp
        The coordinates u of θ.
    u, sloped
        The points, shape (n, h), and the marginal there, with slopes by θ.
    off
        Nats that the last density was from the marginal.
    closed
        Whether its mass is within the box.
    """

    warp: Warp
    u: Float[np.ndarray, "n h"]
    sloped: Sloped
    off: float
    closed: bool

    @property
    def values(self) -> Float[np.ndarray, " n"]:
        """log marginal at the points."""
        return self.sloped.values

    @property
    def modes(self) -> Modes:
        """The modes of x there."""
        return self.sloped.modes

    @property
    def box(self) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
        """The range of u."""
        side = np.full(self.u.shape[1], BOX)
        return -side, side

    @property
    def best(self) -> Modes:
        """The mode of x at the largest value."""
        return self.modes.of([int(np.argmax(self.values))])

    def heights(self) -> Float[np.ndarray, " n"]:
        """log of the marginal's density of u at the points."""
        return np.asarray(self.values + self.warp.stretch(self.u)[1])

    def joined(self, u: Float[np.ndarray, "m h"], sloped: Sloped) -> Cloud:
        """The same with further points."""
        return self._replace(u=np.concatenate([self.u, u]), sloped=self.sloped.joined(sloped))

    def of(self, rows: Rows) -> Cloud:
        """Some of the points."""
        return self._replace(u=self.u[rows], sloped=self.sloped.of(rows))

    def with_values(self, values: Float[np.ndarray, " n"]) -> Cloud:
        """The same with better values, and slopes of what they add; only finite ones count."""
        values = np.where(np.isfinite(values), values, -np.inf)
        lack = np.where(np.isfinite(values), values - self.values, 0.0)
        n, h = self.u.shape
        m = 1 + h + (h * (h + 1) // 2 if n > (h + 1) * (h + 2) // 2 else 0)
        smooth = np.linalg.lstsq(radial.quadratic_terms(self.u)[:, :m], lack, rcond=None)[0]
        slopes = (radial.quadratic_slopes(self.u)[:, :, :m] @ smooth).T
        by_theta = (
            self.sloped.slopes
            + np.linalg.solve(self.warp.root.T, slopes.T).T / self.warp.stretch(self.u)[0]
        )
        return self._replace(sloped=self.sloped._replace(values=values, slopes=by_theta))


def cloud_around(
    sloping: Sloping,
    centre: Float[np.ndarray, " h"],
    root: Float[np.ndarray, "h h"],
    rng: np.random.Generator,
    n_far: int = 0,
    most_waves: int = MOST_WAVES,
    n_good: int = 1,
) -> Cloud:
    """Points around the mode, until a function through them is near enough to the log density.

    Parameters
    ----------
    n_far
        Draws of each wave that are taken farther out, where no value may be far from the function.
    n_good
        Waves one after the other that have to be near enough.
    """
    sloped = sloping.look(centre + star_around(len(centre)) @ root.T, root)
    sloped, left, right = _tails(sloping, centre, root, sloped)
    warp = Warp(centre, root, left, right)
    u = warp.u(sloped.modes.z[:, sloping.places])
    cloud = Cloud(warp, u, sloped, np.inf, True)
    streak = 0
    for _ in range(most_waves):
        density = density_of(cloud, FEW_PILOTS)
        if not density.acceptance > LEAST_ACCEPTANCE:
            return cloud._replace(closed=False)
        fresh = spread_draws(density, rng, WAVE, n_far)
        latest = sloping.look(warp.theta(fresh), root)
        wave = Cloud(warp, fresh, latest, np.inf, True)
        error = wave.heights() - cloud.heights().max() - density.height(fresh)
        near, far = error[:WAVE], error[WAVE:]
        off = 0.5 * float(np.var(near)) if np.isfinite(near).all() else np.inf
        cloud = cloud.joined(fresh, latest)._replace(off=off)
        cloud = cloud.of(cloud.values > cloud.values.max() - FARTHEST)
        lost = np.isneginf(far)  # no smooth function is -inf there, and nothing is lost by it
        good = off < NEAR_ENOUGH and (np.abs(far - near.mean())[~lost] < FAR_OFF).all()
        streak = streak + 1 if good else 0
        if streak == n_good:
            break
    density = density_of(cloud)
    if not density.acceptance > LEAST_ACCEPTANCE:
        return cloud._replace(closed=False)
    last = density.draw_inside(rng, EDGE_DRAWS)
    beyond = (np.abs(last) > AT_THE_EDGE * BOX).any(axis=1).mean()
    return cloud._replace(closed=bool(beyond < MOST_AT_THE_EDGE))


def spread_draws(
    density: SmoothDensity, rng: np.random.Generator, n: int, n_far: int
) -> Float[np.ndarray, "m h"]:
    """Draws of u; and as many more as are asked for, taken farther out."""
    u = density.draw_inside(rng, n + n_far)
    u[n:] = np.clip(OUTWARD * u[n:], -INSIDE * BOX, INSIDE * BOX)
    return u


def _tails(
    sloping: Sloping,
    centre: Float[np.ndarray, " h"],
    root: Float[np.ndarray, "h h"],
    star: Sloped,
) -> tuple[Sloped, Float[np.ndarray, " h"], Float[np.ndarray, " h"]]:
    """Points to either side along each scale where the marginal has fallen, beside those of a star.

    Returns
    -------
    All points; and by how much the tails to the left and to the right are longer than a normal's.
    """
    h = len(centre)
    sd = 1 / np.sqrt(np.diag(np.linalg.inv(root @ root.T)))
    ways = np.concatenate([-np.diag(sd), np.diag(sd)])
    far, longest = np.full(2 * h, FALLEN_AT), np.full(2 * h, FALLEN_AT)
    top, going = float(star.values[0]), np.arange(2 * h)
    before = np.tile([0.0, 0.0], (2 * h, 1))
    while going.size:
        theta = centre + far[going, None] * ways[going]
        latest = sloping.look(theta, root)
        fallen = np.where(np.isfinite(latest.values), top - latest.values, np.inf)
        star = star.joined(latest.of(fallen < FARTHEST))
        root_fallen = np.sqrt(2 * np.maximum(fallen, 0.0))
        done = (root_fallen > FALLEN_AT - SHORT) | (far[going] > LONGEST_TAIL)
        for row, place in zip(np.flatnonzero(done), going[done], strict=True):
            known = np.array([before[place], [far[place], min(root_fallen[row], FARTHEST)]])
            longest[place] = np.interp(FALLEN_AT, known[:, 1], known[:, 0])
        before[going] = np.stack([far[going], root_fallen], axis=1)
        far[going] *= 2
        going = going[~done]
    tail = np.maximum(longest - FALLEN_AT, 0.0) / growth(np.array(FALLEN_AT))
    return star, tail[:h], tail[h:]


def density_of(cloud: Cloud, n_pilots: int = PILOTS) -> SmoothDensity:
    """q(θ) ∝ the exponential of the function through the values and slopes."""
    warp, u = cloud.warp, cloud.u
    slopes = warp.pulled(u, cloud.sloped.slopes) + warp.stretch(u)[2]
    return SmoothDensity.through(warp, u, cloud.heights(), slopes, BOX, n_pilots)
