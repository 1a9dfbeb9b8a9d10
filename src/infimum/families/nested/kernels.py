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
        Logs at the points, and their exponentials up to a factor for each coordinate, (n, p, k).
    width, flat
        Of an interval; and the change below which an exponential is taken for a straight line.
    """
    n, p, k = f.shape
    mass, total = np.empty((n, p - 1, k)), np.zeros((n, k))
    for i in range(n):
        for c in range(p - 1):
            for j in range(k):
                rise = f[i, c + 1, j] - f[i, c, j]
                low, high = height[i, c, j], height[i, c + 1, j]
                if abs(rise) < flat:
                    value = 0.5 * (low + high) * width
                else:
                    value = (high - low) / rise * width
                mass[i, c, j] = value
                total[i, j] += value
    return mass, total


@compile_on_call
def cells_of(mass: np.ndarray, spot: np.ndarray) -> np.ndarray:  # pragma: no cover
    """The interval that each spot falls into, where all masses are laid end to end.

    Parameters
    ----------
    mass, spot
        Shapes (n, c, k) and (n, k).
    """
    n, c, k = mass.shape
    cell, level = np.zeros((n, k), np.int64), np.zeros((n, k))
    for i in range(n):
        for m in range(c - 1):
            for j in range(k):
                level[i, j] += mass[i, m, j]
                if level[i, j] < spot[i, j]:
                    cell[i, j] = m + 1
    return cell
