"""Scouts: ascents from far points that look for modes which no q covers.

Starts near the origin miss distant modes, and then weights look even although they are wrong. A
scout climbs log p̂ from a far point: some radii away from known ground, in sds of what is known, or
anywhere in a wide cube. It gives up as soon as it walks on known ground. A scout that ends where p̂
is far above the known density has found a mode. The mode's mass is measured by draws of a t with
the local curvature. Scouts are sent until each mode has been found several times: by Good & Turing
the modes that are still unseen are then as rare as those that were seen once (Good 1953).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from infimum.gaussian.stack import Stack, log_sum
from infimum.gaussian.student_t_mixture import StudentTMixture
from infimum.search.ascent import Ascent
from infimum.search.atlas import (
    LEAST_SHARE,
    NEW_GROUND,
    Atlas,
    KnownGround,
    Mode,
    components_of,
    log_known_density,
    log_known_mass,
    stack_of,
)
from infimum.search.sites import party_sites, rings
from infimum.search.whitened import WhitenedTarget
from infimum.structure.differences import curvature_from, difference_steps
from infimum.target.target import Target

PARTY_SIZE = 16
"""Scouts sent together."""

QUIET_PARTIES, COMPONENTS_PER_PARTY = 2, 4
"""Parties in a row that must find nothing new before the search ends: two, two more if a mode was
found, and one more for every four known components."""

LOOK_CLIMBS, MOST_LOOKED = 6, 4
"""Ascents from the highest points around a component, and components that are looked around."""

VISITS = 3
"""Times that every mode must have been reached before the search ends."""

BASE_BUDGET, MODE_BUDGET, WHOLE_BUDGET = 1_000, 200, 20_000
"""Gradients for scouting: if nothing is found, in addition for each mode found, and at most."""

MOST_RISE = 1.0
"""Nats that the top of a mode may be above the end of an ascent. If it is higher, the ascent ended
on a slope."""

PROBES = 64
"""Draws that measure a mode's mass."""

AMID_SDS = 4.0
"""A point is amid a component if |ε|² is at most so many of its sds above its mean d."""

LARGEST_CURVED = 64
"""Largest d for which the curvature at a mode is taken in all directions, by 2d gradients."""

DIFFERENCE_STEP = 1e-3
"""Step of finite differences, in sds of the known component."""

FLATTEST = 1e-4
"""Smallest curvature that counts, as a part of the largest. In directions that are flatter the mode
is given the sd of the known component: on an endless ridge each mode would otherwise be longer than
the last."""


def explore(
    atlas: Atlas,
    target: Target,
    known: KnownGround,
    rng: np.random.Generator,
    pause: Callable[[], None] = lambda: None,
    most_gradients: float = np.inf,
    n_scouts: int | None = None,
) -> None:
    """Send parties of scouts out from known ground until they find nothing new.

    Parameters
    ----------
    atlas
        Takes in the modes that are found, and their cost.
    pause
        Is called before each evaluation, and may raise `Stopped`: the atlas then is what is known.
    most_gradients
        Gradients after which no more are sent, whatever they find.
    n_scouts
        How many are sent, if the user has said so, whatever they find.
    """
    atlas.explored = True
    atlas.modes = atlas.new_modes(known)
    gradients_before = atlas.n_gradients
    expedition = Expedition(atlas, target, known, rng, pause)
    if not np.isfinite(expedition.ground.log_dets()).all():
        return
    expedition.look_around()
    party = quiet_parties = 0
    while n_scouts is None or atlas.n_scouts < n_scouts:
        modes_before = len(atlas.modes)
        left = PARTY_SIZE if n_scouts is None else n_scouts - atlas.n_scouts
        expedition.send(party, min(PARTY_SIZE, left))
        expedition.look_around()
        n_modes = len(atlas.modes)
        atlas.n_once = expedition.visits.count(1)
        quiet_parties = quiet_parties + 1 if n_modes == modes_before else 0
        party += 1
        if n_scouts is not None:
            continue
        budget = min(WHOLE_BUDGET, BASE_BUDGET + MODE_BUDGET * n_modes, most_gradients)
        if atlas.n_gradients - gradients_before - expedition.n_around >= budget:
            return
        enough = QUIET_PARTIES + 2 * (n_modes > 0)
        enough += (len(expedition.ground) + n_modes) // COMPONENTS_PER_PARTY
        if quiet_parties >= enough and min(expedition.visits, default=VISITS) >= VISITS:
            return


@dataclass
class Expedition:
    """Parties of scouts that are sent out from the same known ground.

    Attributes
    ----------
    atlas
        The modes found so far.
    target
        What scouts climb.
    known
        What was known before the first party.
    rng
        The generator of everything random.
    pause
        Is called before each evaluation.
    looked, n_around
        Components that have been looked around, and the gradients that this took.
    visits
        How often each mode was reached by scouts that had not set out near a known component.
    """

    atlas: Atlas
    target: Target
    known: KnownGround
    rng: np.random.Generator
    pause: Callable[[], None]
    looked: int = 0
    n_around: int = 0
    visits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [components_of(q, self.rng) for q, _ in self.known]
        self.ground = Stack(
            np.concatenate([part.means for part in parts]),
            np.concatenate([part.factors for part in parts]),
            np.concatenate([part.log_weights for part in parts]) - np.log(len(parts)),
        )
        self.visits = [0] * len(self.atlas.modes)
        self._chart()

    def _chart(self) -> None:
        """Bring the known density up to date with the atlas."""
        modes, minor = self.atlas.modes, self.atlas.minor
        self.mode_stack = stack_of(modes) if modes else None
        self.log_mode_mass = log_sum([mode.log_mass for mode in modes]) if modes else -np.inf
        both = [*modes, *minor]
        self.chart = stack_of(both) if both else None
        self.log_chart_mass = log_sum([mode.log_mass for mode in both]) if both else -np.inf

    def log_known_density(self, z: np.ndarray) -> np.ndarray:
        """Log of the known density at each row of z, that of all modes in the atlas included."""
        log_known = log_known_density(self.known, z)
        if self.chart is not None:
            log_known = np.logaddexp(log_known, self.chart.log_density(z) + self.log_chart_mass)
        return log_known

    def log_known_mass(self) -> float:
        """Log of the known mass, that of the modes that matter included."""
        return float(np.logaddexp(log_known_mass(self.known), self.log_mode_mass))

    def frames(self) -> Stack:
        """The components that scouts set out from: known ground, and every mode that matters."""
        modes = self.mode_stack
        if modes is None or modes.dense != self.ground.dense:
            return self.ground
        return self.ground.joined(modes, len(modes) / (len(modes) + len(self.ground)))

    def send(self, party: int, size: int) -> None:
        """Let one party climb, and measure the modes that it found."""
        frames = self.frames()
        frame = WhitenedTarget(self.target, frames.taken(np.array([party % len(frames)])))
        points = party_sites(frames, party, size, bool(self.atlas.modes), self.rng)
        eps = frame.stack.pull_back(0, points)
        self._climb(Ascent(eps), frame, frames, size // 2)
        self.atlas.n_scouts += size

    def look_around(self) -> None:
        """Climb from points around known components where p̂ is far above what is known.

        Ascents from afar end in the widest mode, and weights see a spike inside of it by chance. A
        point costs a value, and an ascent many gradients.
        """
        while self.looked < min(len(self.frames()), MOST_LOOKED):
            frames = self.frames()
            frame = WhitenedTarget(self.target, frames.taken(np.array([self.looked])))
            self.looked += 1
            before = self.atlas.n_gradients
            eps = rings(frames.dim, self.rng)
            z = frame.points(eps)
            self.pause()
            log_p = self.target.values(z)
            self.atlas.n_values += len(z)
            new = np.isfinite(log_p) & (log_p - self.log_known_density(z) >= NEW_GROUND)
            best = np.argsort(-np.where(new, log_p, -np.inf), kind="stable")[:LOOK_CLIMBS]
            best = best[new[best]]
            if len(best):
                self._climb(Ascent(eps[best]), frame, frames, len(best))
            self.n_around += self.atlas.n_gradients - before

    def _climb(self, ascent: Ascent, frame: WhitenedTarget, frames: Stack, near: int) -> None:
        """Let scouts climb, the first from near known ground, and measure what they find."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ascent.run(frame, lambda running: self._give_up(ascent, running, frame, frames))
        self.atlas.n_gradients += int(ascent.n_steps.sum())
        self.atlas.n_calls += int(ascent.n_steps.max())
        scouts = np.flatnonzero(np.isfinite(ascent.value))
        if not len(scouts):
            return
        scouts = scouts[np.argsort(-ascent.value[scouts], kind="stable")]
        z, values = frame.points(ascent.x[scouts]), ascent.value[scouts]
        curvature = ascent.curvature()
        # The highest end on new ground is measured first. Its mode then is known ground, so that
        # other scouts at the same mode are not measured again.
        while len(scouts):
            new = np.flatnonzero(values - self.log_known_density(z) >= NEW_GROUND)
            if not len(new):
                break
            best = scouts[new[0]]
            self._measure(ascent.x[best], curvature[best], frame, bool(best >= near))
            rest = np.delete(np.arange(len(scouts)), new[0])
            scouts, z, values = scouts[rest], z[rest], values[rest]
        # Those that set out near known components do not count.
        self._count(z[scouts >= near])

    def _give_up(
        self, ascent: Ascent, running: np.ndarray, frame: WhitenedTarget, frames: Stack
    ) -> None:
        """End scouts on known ground: amid a component, with p̂ not far above the known density."""
        self.pause()
        z = frame.points(ascent.x[running])
        nearest = np.min(
            [(frames.pull_back(k, z) ** 2).sum(axis=1) for k in range(len(frames))], axis=0
        )
        amid = np.flatnonzero(nearest <= frames.dim + AMID_SDS * np.sqrt(2 * frames.dim))
        if len(amid):
            at = running[amid]
            ascent.done[at] |= ascent.value[at] - self.log_known_density(z[amid]) < NEW_GROUND

    def _count(self, z: np.ndarray) -> None:
        """Count visits of scouts that ended at z, each to the mode that is densest there."""
        if self.mode_stack is None or not len(z):
            return
        each = (
            self.mode_stack.log_densities(z)
            + self.mode_stack.log_weights[:, None]
            + self.log_mode_mass
        )
        nearest = np.argmax(each, axis=0)
        for k in nearest[each.max(axis=0) > log_known_density(self.known, z)]:
            self.visits[int(k)] += 1

    def _measure(
        self, x: np.ndarray, curvature: np.ndarray, frame: WhitenedTarget, counted: bool
    ) -> None:
        """Put a new mode into the atlas, among those that matter or those that do not.

        Parameters
        ----------
        x
            Where the scout ended, in whitened coordinates.
        curvature
            Its secant curvature along each coordinate.
        counted
            Whether the scout had not set out near a known component, and counts as a visit.
        """
        mode = self._mode(x, curvature, frame)
        if mode is None:
            return
        least_mass = self.log_known_mass() + np.log(LEAST_SHARE)
        if mode.log_new_mass(self.log_known_density(mode.z)) > least_mass:
            self.atlas.modes.append(mode)
            self.visits.append(int(counted))
        else:
            self.atlas.minor.append(mode)
        self._chart()

    def _mode(self, x: np.ndarray, curvature: np.ndarray, frame: WhitenedTarget) -> Mode | None:
        """The mode at the end of an ascent with its mass; None if there is none to measure."""
        d = len(x)
        if d <= LARGEST_CURVED:
            top = self._top(x, frame)
            if top is None:
                return None
            x, root = top
        else:
            # In many dimensions the curvature that the ascent met has to do.
            root = np.ones(d) if np.isnan(curvature).any() else 1 / np.sqrt(curvature)
        gaussian = _local_gaussian(frame, x, root)
        if not (np.isfinite(gaussian.means).all() and np.isfinite(gaussian.log_dets()).all()):
            return None
        tails = StudentTMixture.around(gaussian)
        z = tails.draw(self.rng, PROBES)
        log_p, _ = self.target.value_and_gradient(z)
        self._book(len(z))
        if np.isnan(log_p).any() or np.any(log_p == np.inf):
            return None
        log_g = tails.log_prob(z)
        amid = (gaussian.pull_back(0, z) ** 2).sum(axis=1) <= d + AMID_SDS * np.sqrt(2 * d)
        log_p = np.where(amid, log_p, -np.inf)  # what lies farther off is not this mode's
        if not (log_p > -np.inf).any():
            return None
        log_mass = float(log_sum(log_p - log_g) - np.log(len(z)))
        return Mode(gaussian.means[0], gaussian.factors[0], log_mass, z, log_p, log_g)

    def _top(
        self, x: Float[np.ndarray, " d"], frame: WhitenedTarget
    ) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]] | None:
        """The top near x and a root of the local covariance; None if x is on a slope.

        The curvature is taken by central differences of the gradient in all directions, and from x
        one Newton step leads to the top.
        """
        d = len(x)
        steps = np.vstack([difference_steps(np.eye(d), DIFFERENCE_STEP), np.zeros(d)])
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = frame.value_and_gradient(x + steps)[1]
        self._book(len(gradient))
        if not np.isfinite(gradient).all():
            return None
        values, vectors = np.linalg.eigh(curvature_from(gradient[:-1], DIFFERENCE_STEP))
        # Flat directions get the scale of the known component, those that curve upwards the size
        # of their curvature: the Gaussian is only drawn from, and has to be proper.
        flat = np.abs(values) < FLATTEST * np.abs(values).max()
        values = np.where(flat, max(1.0, FLATTEST * np.abs(values).max()), np.abs(values))
        if not values.max() > 0:
            return None
        newton = vectors @ ((vectors.T @ gradient[-1]) / values)
        if 0.5 * gradient[-1] @ newton > MOST_RISE:
            return None
        return x + newton, vectors / np.sqrt(values)

    def _book(self, n: int) -> None:
        """Count a batched call of n gradients."""
        self.atlas.n_gradients += n
        self.atlas.n_calls += 1


def _local_gaussian(frame: WhitenedTarget, x: np.ndarray, root: np.ndarray) -> Stack:
    """The Gaussian whose mean and root of the covariance are given in whitened coordinates."""
    spread = frame.stack.spreads[0].scaled(root)
    return Stack(frame.points(x[None]), spread.entries[None], np.zeros(1))
