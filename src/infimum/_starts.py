"""Where fits begin: points of several kinds, and the way from there up to a mode.

"ascent" climbs log p̂ by L-BFGS from a random point and takes the scale from the curvature met on
the way; "cold" is a wide q around the origin, for densities whose mode is of no use (at infinity,
or in a funnel); "example" climbs from the values the user gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from infimum._quasi_newton import History
from infimum._solver import Differentiable, Info, evaluate_together
from infimum._target import Target

CANDIDATES = 16
"""Random points tried at once; as many starts as wanted are taken from those of finite density."""

RADIUS = 1.0
"""Random points are uniform in [-RADIUS, RADIUS]^d, as in the measured prototypes."""

ASCENT_STEPS = 45
"""Evaluations of an ascent; q needs a mode's neighbourhood only, not the mode."""

ASCENT_GAIN = 0.01
"""Nats: an ascent ends when a step gains less."""

SHRINK = 0.25
"""A start's scale in units of 1/√curvature: narrow enough that a first batch stays where the
curvature was measured."""

COLD_SCALE = 0.3
"""sd of a cold start in each coordinate; solved four posteriors in five on its own."""


@dataclass
class Start:
    """A point and scale to place q at; for an ascent, its state on the way."""

    info: Info
    x: np.ndarray
    scale: np.ndarray
    value: float = -np.inf
    gradient: np.ndarray | None = None
    history: History = field(default_factory=lambda: History(scaled=False))
    direction: np.ndarray | None = None
    length: float = 1.0
    done: bool = False
    failures: int = 0

    @property
    def trial(self) -> np.ndarray:
        """The point whose density is wanted next."""
        return self.x if self.direction is None else self.x + self.length * self.direction

    def curvature(self) -> np.ndarray | None:
        """Along each coordinate, as met on the way; None where there was no way."""
        curvature = self.history.curvature()
        if curvature is None:
            return None
        return np.maximum(curvature, 1e-12 * max(curvature.max(), 1e-300))


def find(target: Target, n: int, rng: np.random.Generator) -> list[Start]:
    """Find starting points of every kind: `n` of finite density to ascend from, and a cold one.

    One of the n is the example, if it says more than shapes.

    Raises
    ------
    ValueError
        If the density is zero or undefined at every point tried, or +inf at any.
    """
    random = rng.uniform(-RADIUS, RADIUS, size=(CANDIDATES, target.dim))
    points = np.concatenate([random, np.zeros((1, target.dim))])
    kinds = ["ascent"] * CANDIDATES + ["cold"]
    if target.example is not None:
        points, kinds = np.concatenate([target.example[None], points]), ["example", *kinds]
    if target.differentiable:
        log_p, gradient = target.value_and_gradient(points)
    else:
        log_p, gradient = target.values(points), np.zeros(points.shape)
    usable = np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)
    if np.any(log_p == np.inf) or not usable.any():
        raise ValueError(_no_start(target, points, log_p, gradient))
    starts: list[Start] = []
    for kind, x, fine in zip(kinds, points, usable, strict=True):
        if kind == "cold" or (fine and len(starts) < n):
            info = Info(kind)
            info.count(x[None], np.ones(1, bool), None)
            still = kind == "cold" or not target.differentiable
            info.kind = "cold" if still else kind
            starts.append(Start(info, x, np.full(target.dim, COLD_SCALE), done=still))
    return starts


def _no_start(target: Target, points: np.ndarray, log_p: np.ndarray, gradient: np.ndarray) -> str:
    bad = np.flatnonzero(log_p == np.inf)
    first = int(bad[0]) if bad.size else 0
    what = "+inf" if bad.size else ("NaN" if np.isnan(log_p[first]) else f"{log_p[first]}")
    if np.isfinite(log_p[first]):
        coordinate = int(np.flatnonzero(~np.isfinite(gradient[first]))[0])
        what = f"{log_p[first]:.6g} with gradient {gradient[first, coordinate]} in coordinate "
        what += repr(target.space.free_names[coordinate])
    cure = {
        "+inf": "A density must be finite: look for log(0) with a minus sign or overflow in exp",
        "NaN": "Look for log or sqrt of a negative number; if a parameter is restricted, give its "
        "support",
        "-inf": "If the parameters are restricted to a region, give their supports; or give an "
        "example inside the region",
    }.get(
        what,
        "Write the density so that its gradient is finite, for instance with jnp.where on "
        "the inside of sqrt and log",
    )
    where = "at" if bad.size else f"at every start tried ({len(points)} points), for instance at"
    return f"log density is {what} {where} {target.describe(points[first])}. {cure}"


def ascend(
    starts: list[Start],
    target: Differentiable,
    look: Callable[[list[Start]], None] | None = None,
) -> None:
    """Climb log p̂ by L-BFGS from every start together, one batched call a step, in place.

    Parameters
    ----------
    look
        Called after each step with the starts that took part; it may set `done`.
    """
    while running := [start for start in starts if not start.done]:
        outcomes = evaluate_together(target, [start.trial[None] for start in running])
        for start, (log_p, gradient) in zip(running, outcomes, strict=True):
            undefined = 0 if np.isnan(log_p[0]) or log_p[0] == np.inf else None
            start.info.count(start.trial[None], log_p > -np.inf, undefined)
            _advance(start, float(log_p[0]), gradient[0])
        if look is not None:
            look(running)
    for start in starts:
        curvature = start.curvature()
        if curvature is not None:
            start.scale = SHRINK / np.sqrt(curvature)


def _advance(start: Start, value: float, gradient: np.ndarray) -> None:
    finite = np.isfinite(value) and bool(np.isfinite(gradient).all())
    if start.direction is None:
        start.value, start.gradient = value, gradient
        start.done = not finite
    else:
        assert start.gradient is not None
        slope = float(start.gradient @ start.direction)
        gain = value - start.value
        if not finite or gain < 1e-4 * start.length * slope:
            start.failures += 1
            start.length *= 0.5 if start.failures < 3 else 0.1
            start.done = start.failures > 15 or start.info.n_steps > ASCENT_STEPS
            return
        start.history.add(start.trial - start.x, start.gradient - gradient)
        start.x, start.value, start.gradient = start.trial, value, gradient
        start.done = gain < ASCENT_GAIN or start.info.n_steps > ASCENT_STEPS
    start.failures, start.length = 0, 1.0
    start.direction = start.history.direction(-start.gradient)
    if start.direction @ start.gradient <= 0:
        start.history = History(scaled=False)
        start.direction = start.history.direction(-start.gradient)
    start.done |= not np.any(start.direction)
