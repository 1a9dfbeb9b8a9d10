"""Scouts: looking for modes that no q has seen.

Starts near the origin miss what is far away, and then weights look even and are wrong. Scouts climb
log p̂ from wide points, at several radii in units of the parameters and in sds of what is known, and
give up as soon as they walk on known ground. One that ends where p̂ is far above all that is known
has found a mode; its mass is that of a t around it with the local curvature. Scouts are sent until
every mode that was found has been found several times: by Good & Turing what is unseen is then as
rare as what was seen once (Good 1953).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from infimum.gaussian.stack import Stack, Tails, log_sum
from infimum.search.ascent import Ascent
from infimum.search.atlas import (
    LACKING,
    MATTERS,
    Atlas,
    Known,
    Mode,
    ground,
    log_known,
    log_total,
    stacked,
)
from infimum.target.target import Target

PARTY = 16
"""Scouts sent together."""

LEAST_PARTIES, CROWDED = 2, 4
"""Parties that find nothing new before no more are sent: one more for every four components that
are known."""

REACH = (1.0, 2.0, 4.0, 8.0)
"""Radii of scouts in sds of what is known."""

RANGE = (3.0, 10.0, 30.0, 100.0)
"""Half the widths of cubes around the origin that scouts start in, in units of the parameters."""

BOX = 2.0
"""The same in widths of the box around all known modes."""


SEEN_ENOUGH = 3
"""Times that every mode must have been reached."""

BUDGET, EACH, GENEROUS = 1_000, 200, 20_000
"""Gradients for scouting where nothing is found, for each mode that turns up, and in all."""

TOP = 1.0
"""Nats by which the top may be above where a scout ended: farther below it is on a slope."""

PROBES = 64
"""Draws by which a mode's mass is measured."""

AMID = 4.0
"""Standard deviations of |ε|² about its mean d within which a point is amid a component."""

CURVED = 64
"""Largest d for which the curvature at a mode is taken in all directions, by 2d gradients."""

STEP = 1e-3
"""Of finite differences, in sds of what is known."""

FLATTEST = 1e-4
"""Curvatures below this part of the largest are taken for none, and the mode for no longer there
than what is known: on an endless ridge each mode would otherwise be longer than the last."""


class _Frame:
    """log p̂ in the whitened coordinates of one Gaussian."""

    def __init__(self, target: Target, stack: Stack) -> None:
        self.target = target
        self.stack = stack

    def out(self, eps: np.ndarray) -> np.ndarray:
        return self.stack.push(eps[None])[0]

    def value_and_gradient(self, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_p, gradient = self.target.value_and_gradient(self.out(eps))
        return log_p, self.stack.whiten(gradient[None])[0]


def explore(atlas: Atlas, target: Target, known: Known, rng: np.random.Generator) -> None:
    """Send scouts out from known ground, for as long as they bring news."""
    atlas.explored = True
    atlas.modes = atlas.beyond(known)
    spent = atlas.n_gradients
    expedition = Expedition(atlas, target, known, rng)
    if not np.isfinite(expedition.ground.log_dets()).all():
        return
    party = quiet = 0
    while True:
        before = len(atlas.modes)
        expedition.send(party)
        quiet = quiet + 1 if len(atlas.modes) == before else 0
        party += 1
        if atlas.n_gradients - spent >= min(GENEROUS, BUDGET + EACH * len(atlas.modes)):
            return
        enough = LEAST_PARTIES + (len(expedition.ground) + len(atlas.modes)) // CROWDED
        if quiet >= enough and min(expedition.reached, default=SEEN_ENOUGH) >= SEEN_ENOUGH:
            return


@dataclass
class Expedition:
    atlas: Atlas
    target: Target
    known: Known
    rng: np.random.Generator
    reached: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [ground(q, self.rng) for q, _ in self.known]
        self.ground = Stack(
            np.concatenate([part.means for part in parts]),
            np.concatenate([part.factors for part in parts]),
            np.concatenate([part.log_weights for part in parts]) - np.log(len(parts)),
        )
        self.reached = [0] * len(self.atlas.modes)
        self._note()

    def _note(self) -> None:
        """Put the atlas's modes together, and its minor ones."""
        modes, minor = self.atlas.modes, self.atlas.minor
        self.found = stacked(modes) if modes else None
        self.log_found = log_sum([mode.log_mass for mode in modes]) if modes else -np.inf
        both = [*modes, *minor]
        self.charted = stacked(both) if both else None
        self.log_charted = log_sum([mode.log_mass for mode in both]) if both else -np.inf

    def log_known(self, z: np.ndarray) -> np.ndarray:
        """Log density of all that is known, in the units of p̂."""
        known = log_known(self.known, z)
        if self.charted is not None:
            known = np.logaddexp(known, self.charted.log_density(z) + self.log_charted)
        return known

    def log_total(self) -> float:
        """Log of all mass that is known."""
        return float(np.logaddexp(log_total(self.known), self.log_found))

    def frames(self) -> Stack:
        """The ground, and every mode."""
        found = self.found
        if found is None or found.dense != self.ground.dense:
            return self.ground
        return self.ground.joined(found, len(found) / (len(found) + len(self.ground)))

    def send(self, party: int) -> None:
        """One party of scouts: climb, and look at where they ended."""
        frames = self.frames()
        frame = _Frame(self.target, frames.taken(np.array([party % len(frames)])))
        points = self._points(frames, party)
        eps = frame.stack.pull_back(0, points)
        ascent = Ascent(eps)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ascent.run(frame, lambda running: self._give_up(ascent, running, frame, frames))
        self.atlas.n_gradients += int(ascent.n_steps.sum())
        self.atlas.n_calls += int(ascent.n_steps.max())
        ended = np.flatnonzero(np.isfinite(ascent.value))
        if not len(ended):
            return
        ended = ended[np.argsort(-ascent.value[ended], kind="stable")]
        z, values = frame.out(ascent.x[ended]), ascent.value[ended]
        curvature = ascent.curvature()
        while len(ended):
            new = np.flatnonzero(values - self.log_known(z) >= LACKING)
            if not len(new):
                break
            best = ended[new[0]]
            self._measure(ascent.x[best], curvature[best], frame, bool(best >= PARTY // 2))
            rest = np.delete(np.arange(len(ended)), new[0])
            ended, z, values = ended[rest], z[rest], values[rest]
        self._count(z[ended >= PARTY // 2])

    def _points(self, frames: Stack, party: int) -> np.ndarray:
        d, n = frames.dim, PARTY // 2
        noise = self.rng.standard_normal((n, d))
        reach = np.resize(np.roll(REACH, party), n)[:, None]
        chosen = self.rng.integers(len(frames), size=n)
        near = np.array(
            [
                frames.taken(np.array([k])).push(e[None, None])[0, 0]
                for k, e in zip(chosen, reach * noise, strict=True)
            ]
        )
        cube = self.rng.uniform(-1, 1, size=(PARTY - n, d))
        wide = cube * np.resize(np.roll(RANGE, party), PARTY - n)[:, None]
        if self.atlas.modes:
            low, high = frames.means.min(axis=0), frames.means.max(axis=0)
            box = 0.5 * (low + high) + 0.5 * BOX * (high - low) * cube
            wide[::2] = box[::2]
        return np.concatenate([near, wide])

    def _give_up(self, ascent: Ascent, running: np.ndarray, frame: _Frame, frames: Stack) -> None:
        """Scouts on known ground are done: where p̂ is no more than is known, amid a component."""
        z = frame.out(ascent.x[running])
        nearest = np.min(
            [(frames.pull_back(k, z) ** 2).sum(axis=1) for k in range(len(frames))], axis=0
        )
        amid = np.flatnonzero(nearest <= frames.dim + AMID * np.sqrt(2 * frames.dim))
        if len(amid):
            at = running[amid]
            ascent.done[at] |= ascent.value[at] - self.log_known(z[amid]) < LACKING

    def _count(self, z: np.ndarray) -> None:
        """Count scouts that reached modes without having set out near them."""
        if self.found is None or not len(z):
            return
        each = self.found.log_densities(z) + self.found.log_weights[:, None] + self.log_found
        nearest = np.argmax(each, axis=0)
        for k in nearest[each.max(axis=0) > log_known(self.known, z)]:
            self.reached[int(k)] += 1

    def _measure(self, x: np.ndarray, curvature: np.ndarray, frame: _Frame, counted: bool) -> None:
        """Put new ground on the map, as a mode that matters or one that does not."""
        found = self._measured(x, curvature, frame)
        if found is None:
            return
        if found.lacking(self.log_known(found.z)) > self.log_total() + np.log(MATTERS):
            self.atlas.modes.append(found)
            self.reached.append(int(counted))
        else:
            self.atlas.minor.append(found)
        self._note()

    def _measured(self, x: np.ndarray, curvature: np.ndarray, frame: _Frame) -> Mode | None:
        """The local Gaussian at the top of a climb, and draws of its mass."""
        d = len(x)
        if d <= CURVED:
            steps = STEP * np.concatenate([np.eye(d), -np.eye(d)])
            steps = np.concatenate([steps, np.zeros((1, d))])
            with np.errstate(over="ignore", invalid="ignore"):
                gradient = frame.value_and_gradient(x + steps)[1]
            self._book(len(gradient))
            if not np.isfinite(gradient).all():
                return None
            change = (gradient[:d] - gradient[d : 2 * d]) / (2 * STEP)
            values, vectors = np.linalg.eigh(-0.5 * (change + change.T))
            flat = np.abs(values) < FLATTEST * np.abs(values).max()
            values = np.where(flat, max(1.0, FLATTEST * np.abs(values).max()), np.abs(values))
            if not values.max() > 0:
                return None
            newton = vectors @ ((vectors.T @ gradient[-1]) / values)
            if 0.5 * gradient[-1] @ newton > TOP:
                return None
            x = x + newton
            root = vectors / np.sqrt(values)
        else:
            root = np.ones(d) if np.isnan(curvature).any() else 1 / np.sqrt(curvature)
        stack = _local(frame, x, root)
        if not (np.isfinite(stack.means).all() and np.isfinite(stack.log_dets()).all()):
            return None
        tails = Tails.around(stack)
        z = tails.draw(self.rng, PROBES)
        log_p, _ = self.target.value_and_gradient(z)
        self._book(len(z))
        if np.isnan(log_p).any() or np.any(log_p == np.inf):
            return None
        log_g = tails.log_prob(z)
        amid = (stack.pull_back(0, z) ** 2).sum(axis=1) <= d + AMID * np.sqrt(2 * d)
        log_p = np.where(amid, log_p, -np.inf)  # what lies farther off is not this mode's
        if not (log_p > -np.inf).any():
            return None
        log_mass = float(log_sum(log_p - log_g) - np.log(len(z)))
        return Mode(stack.means[0], stack.factors[0], log_mass, z, log_p, log_g)

    def _book(self, n: int) -> None:
        self.atlas.n_gradients += n
        self.atlas.n_calls += 1


def _local(frame: _Frame, x: np.ndarray, root: np.ndarray) -> Stack:
    """The Gaussian with mean x and this root of its covariance, seen from a frame."""
    mean, factor = frame.out(x[None]), frame.stack.factors[0]
    if factor.ndim == 1:
        scale = root if root.ndim == 1 else np.linalg.norm(root, axis=1)
        return Stack(mean, (factor * scale)[None], np.zeros(1))
    whole = factor * root if root.ndim == 1 else factor @ root
    upper = np.linalg.qr(whole.T, mode="r")
    lower = (upper * np.sign(np.diag(upper))[:, None]).T
    return Stack(mean, lower[None], np.zeros(1))
