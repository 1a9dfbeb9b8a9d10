"""Starts: the points where fits begin, and the ascents from there to a mode.

An "ascent" climbs log p̂ by L-BFGS from a random point and takes its scale from the curvature on the
way. "cold" is a wide q around the origin, for densities whose mode is no good start (at infinity,
or in a funnel). "example" climbs from the example's values. "start" climbs from the point that the
user wants the search to begin at, or is a q around the user's draws or fit, which no ascent moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from infimum.base.errors import coded_error
from infimum.objective.loss import Outcome
from infimum.search.ascent import Ascent
from infimum.search.beginning import Beginning
from infimum.solvers._solver import Info
from infimum.target.target import Target

CANDIDATES = 16
"""Random points that are tried; the starts are taken from those of finite density."""

RADIUS = 1.0
"""Random points are uniform in [-RADIUS, RADIUS]^d, as in the measured prototypes."""

SCALE_FACTOR = 0.25
"""A start's scale in units of 1/√curvature: so narrow that the first batch of draws stays where the
curvature was measured."""

COLD_SCALE = 0.3
"""The sd of a cold start in each coordinate; cold starts alone solved four posteriors in five."""


@dataclass
class Start:
    """A point and scales to place q at.

    Attributes
    ----------
    info
        Kind and cost of the start.
    x, scale
        The point and the sd of each coordinate, shape (d,).
    done
        Whether no ascent moves the start.
    """

    info: Info
    x: np.ndarray
    scale: np.ndarray
    done: bool = False


def find_starts(
    target: Target, n: int, rng: np.random.Generator, beginning: Beginning | None = None
) -> list[Start]:
    """Find n points of finite density to ascend from, and a cold start.

    The first of the n is where the user wants the search to begin, if that was said; one is the
    user's example, if it has values and not only shapes.

    Raises
    ------
    ValueError
        If the density is zero or undefined at every point tried, or +inf at any.
    """
    points, kinds = random_points(target.dim, rng), ["ascent"] * CANDIDATES
    points, kinds = np.concatenate([points, np.zeros((1, target.dim))]), [*kinds, "cold"]
    if target.example is not None:
        points, kinds = np.concatenate([target.example[None], points]), ["example", *kinds]
    if beginning is not None:
        points, kinds = np.concatenate([beginning.point[None], points]), ["start", *kinds]
    log_p, gradient, usable = usable_points(target, points)
    if np.any(log_p == np.inf) or not usable.any():
        raise coded_error(ValueError, "E107", _no_start(target, points, log_p, gradient))
    starts: list[Start] = []
    for kind, x, fine in zip(kinds, points, usable, strict=True):
        if kind == "cold" or (fine and len(starts) < n):
            info = Info(kind)
            info.count(x[None], Outcome(np.nan, np.ones(1, bool)))
            placed = kind == "start" and beginning is not None and beginning.scale is not None
            still = kind == "cold" or not target.differentiable
            info.kind = "cold" if still and kind != "start" else kind
            starts.append(Start(info, x, np.full(target.dim, COLD_SCALE), done=still or placed))
    return starts


def random_points(dim: int, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Random points, among which a search looks for starts."""
    return rng.uniform(-RADIUS, RADIUS, size=(CANDIDATES, dim))


def usable_points(
    target: Target, points: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
    """log p̂, its gradient, and whether both are finite; without a gradient it is taken as 0."""
    if target.differentiable:
        log_p, gradient = target.value_and_gradient(points)
    else:
        log_p, gradient = target.values(points), np.zeros(points.shape)
    return log_p, gradient, np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)


def trouble_at(target: Target, log_p: float, gradient: Float[np.ndarray, " d"]) -> str:
    """What is wrong with the density, or with its gradient, at a point that is not usable."""
    if np.isfinite(log_p):
        place = int(np.flatnonzero(~np.isfinite(gradient))[0])
        name = target.space.free_names[place]
        return f"{log_p:.6g} with gradient {gradient[place]} in coordinate {name!r}"
    return "NaN" if np.isnan(log_p) else f"{log_p:+}"


def _no_start(target: Target, points: np.ndarray, log_p: np.ndarray, gradient: np.ndarray) -> str:
    """The message that no start could be used: the density at one of them, and what to do."""
    bad = np.flatnonzero(log_p == np.inf)
    first = int(bad[0]) if bad.size else 0
    what = trouble_at(target, log_p[first], gradient[first])
    cure = {
        "+inf": "A density must be finite: look for log(0) with a minus sign or overflow in exp",
        "NaN": "Look for log or sqrt of a negative number; if a parameter is restricted, give its "
        "support",
        "-inf": "If the parameters are restricted to a region, give their supports; or give an "
        "example inside the region",
    }.get(
        what,
        "Write the density so that its gradient is finite, for instance with jnp.where around "
        "the arguments of sqrt and log",
    )
    if target.failures.first:
        cure += (
            f". The code raised an error at {target.failures.count} of these points, the first: "
            f"{target.failures.first}"
        )
    where = "at" if bad.size else f"at every start tried ({len(points)} points), for instance at"
    return f"the log density is {what} {where} {target.describe(points[first])}. {cure}"


def ascend(starts: list[Start], target: Target) -> None:
    """Climb log p̂ from all starts together, in place; Ctrl-C leaves each where it is."""
    climbing = [start for start in starts if not start.done]
    if not climbing:
        return
    ascent = Ascent(np.array([start.x for start in climbing]))
    try:
        ascent.run(target)
    finally:
        for i, (start, curvature) in enumerate(zip(climbing, ascent.curvature(), strict=True)):
            start.x = ascent.x[i]
            if not np.isnan(curvature).any():
                start.scale = SCALE_FACTOR / np.sqrt(curvature)
            start.info.n_steps += int(ascent.n_steps[i])
            start.info.n_gradients += int(ascent.n_steps[i])
            start.info.n_zero += int(ascent.n_zero[i])
            start.info.n_undefined += int(ascent.n_undefined[i])
            start.info.first_undefined = ascent.first_undefined[i]
