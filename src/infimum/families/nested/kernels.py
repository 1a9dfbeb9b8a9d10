"""Loops over the grids of exact shapes, compiled by Numba."""

from __future__ import annotations

import numpy as np

from infimum.gaussian.kernels import compile_on_call


@compile_on_call
def interval_masses(
    f: np.ndarray, height: np.ndarray, width: float, flat: float
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """∫ of the exponentials of straight lines over each interval of the grid, and their sums.

    Parameters
    ----------
    f, height
        Logs at the points, and their exponentials up to a factor for each density, (n, p).
    width, flat
        Of an interval; and the change below which an exponential is taken for a straight line.
    """
    n, p = f.shape
    mass, total = np.empty((n, p - 1)), np.zeros(n)
    for i in range(n):
        for c in range(p - 1):  # without a branch, so that several go at a time
            rise = f[i, c + 1] - f[i, c]
            low, high = height[i, c], height[i, c + 1]
            straight = abs(rise) < flat
            part = (high - low) / (1.0 if straight else rise)
            mass[i, c] = width * (0.5 * (low + high) if straight else part)
        total[i] = mass[i].sum()
    return mass, total


@compile_on_call
def cells_of(mass: np.ndarray, spot: np.ndarray) -> np.ndarray:  # pragma: no cover
    """The interval that each spot falls into, where all masses are laid end to end.

    Parameters
    ----------
    mass, spot
        Shapes (n, c) and (n,).
    """
    n, c = mass.shape
    cell = np.zeros(n, np.int64)
    for i in range(n):
        level, m = mass[i, 0], 0
        while m < c - 1 and level < spot[i]:
            m += 1
            level += mass[i, m]
        cell[i] = m
    return cell
