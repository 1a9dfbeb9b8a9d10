"""The first look at foreign code: whether it answers, and whether its gradient is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from infimum.base.errors import coded_error
from infimum.target.foreign import ForeignDensity

DIFFERENCE_LENGTHS = np.geomspace(1e-2, 1e-5, 4)
"""Lengths of the finite differences: the one of the smallest estimated error is used."""

DISAGREEMENT = 1e-3
"""Relative disagreement with a finite difference above which a gradient is called wrong. Gradients
of float32 code pass: their finite differences disagree with themselves by more."""

PROBES = 8
"""Random points of [-1, 1]^d, as fits begin from, at which a density is first tried."""

MOST_COORDINATES = 64
"""Coordinates that are checked one by one, to say which entry of a gradient is wrong."""


def first_answer(function: Callable[[Any], Any], points: Iterable[Any]) -> Any:
    """What the user's code returns at the first of these points at which it does not raise.

    Raises
    ------
    ValueError
        If it raises at all of them.
    """
    first_error: Exception | None = None
    for point in points:
        try:
            with np.errstate(all="ignore"):
                return function(point)
        except Exception as error:  # whatever the user's own code raises
            first_error = first_error or error
    raise coded_error(
        ValueError,
        "E103",
        f"the log density raised {type(first_error).__name__} at every point tried: {first_error}",
    ) from first_error


def check_gradient(density: ForeignDensity, names: list[str], hint: str = "") -> None:
    """Compare the gradient with finite differences of log p̂ at one point near the origin.

    Parameters
    ----------
    hint
        What users of this kind of code should look for if the gradient is wrong.

    Raises
    ------
    ValueError
        If they disagree, or two evaluations at one point do. A density that is not finite at any
        of the points passes: the fit says so.
    """
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for z in rng.uniform(-1, 1, (PROBES, density.dim)):
            log_p, gradient = density(z[None])
            if np.isfinite(log_p[0]) and np.isfinite(gradient[0]).all():
                again = density.values(z[None])[0]
                if not abs(again - log_p[0]) <= 1e-6 * max(1.0, abs(log_p[0])):
                    raise coded_error(
                        ValueError,
                        "E109",
                        f"the log density is {log_p[0]:.10g} and then {again:.10g} at one and "
                        "the same point: it must be a function, without random numbers or "
                        "minibatches",
                    )
                _compare(density, z, gradient[0], names, hint, rng)
                return


def _compare(
    density: ForeignDensity,
    z: np.ndarray,
    gradient: np.ndarray,
    names: list[str],
    hint: str,
    rng: np.random.Generator,
) -> None:
    """Hold the gradient at z against the slope along a random direction."""
    direction = rng.standard_normal(len(z))
    slope, error = _difference(density, z, direction)
    stated = float(gradient @ direction)
    allowed = DISAGREEMENT * (abs(stated) + abs(slope)) + 10 * error
    if not abs(stated - slope) > allowed:
        return
    axes = np.eye(min(len(z), MOST_COORDINATES), len(z))
    slopes = [_difference(density, z, axis) for axis in axes]
    excess = [abs(s - g) - 10 * e for (s, e), g in zip(slopes, gradient, strict=False)]
    worst = int(np.nanargmax(excess))
    cure = hint or "look for a part of log p̂ that the gradient leaves out"
    if abs(stated + slope) <= allowed:
        cure = "the sign is wrong; return log p̂ and its own gradient, neither of them negated"
    raise coded_error(
        ValueError,
        "E108",
        f"the gradient of the log density is wrong in coordinate {names[worst]!r}: it is given "
        f"as {gradient[worst]:.6g}, finite differences say {slopes[worst][0]:.6g} (along a "
        f"random direction {stated:.6g} against {slope:.6g}): {cure}",
    )


def _difference(
    density: ForeignDensity, z: np.ndarray, direction: np.ndarray
) -> tuple[float, float]:
    """Slope of log p̂ along a direction by central differences, and its estimated error.

    Along five equidistant points a smooth log p̂ is close to a quadratic, so what is left of its
    third and fourth differences says how far a difference is off. Code with an adaptive solver
    inside is not smooth: its values have an error of the size of the solver's tolerance, which
    weighs more the shorter a difference is. Curvature shrinks with the length and that error does
    not, so the largest of what all shorter lengths left is taken for both.
    """
    steps = np.array([-2, -1, 0, 1, 2])
    offsets = DIFFERENCE_LENGTHS[:, None] / 2 * steps
    points = z + offsets.reshape(-1, 1) * direction
    y = density.values(points).reshape(offsets.shape)
    narrow = (y[:, 3] - y[:, 1]) / DIFFERENCE_LENGTHS
    odd = np.abs(y[:, 4] - 2 * y[:, 3] + 2 * y[:, 1] - y[:, 0])
    even = np.abs(y[:, 4] - 4 * y[:, 3] + 6 * y[:, 2] - 4 * y[:, 1] + y[:, 0])
    left = np.maximum.accumulate((odd + even)[::-1])[::-1]
    rounding = np.finfo(float).eps * np.abs(y[:, 4])
    errors = (left / 2 + rounding) / DIFFERENCE_LENGTHS
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = int(np.argmin(errors))
    return float(narrow[best]), float(errors[best])
