"""TODO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from infimum.answer.answer import Answer
from infimum.base.errors import coded
from infimum.families._distribution import SparseGaussian

if TYPE_CHECKING:
    pass
from infimum.plots.axes import BLUE, GREY, VERMILION, several_panels, short_name

SQUARE = 200.0
"""Points that a side of a matrix takes in print."""

MANY_MARKS = 5_000
"""Marks above which a vector file holds their picture in place of them."""

LEAST_CORRELATION = 0.1
"""Correlation at which colours are full, at least: what is next to nothing looks like that."""

CROWDED = 25
"""Names that a side of a matrix has room for."""


def plot_sparsity(fit: Answer, *, axes: Any = None) -> np.ndarray:
    """Draw which coordinates of a sparse Gaussian depend on each other, and how they correlate.

    Parameters
    ----------
    fit
        Of the family "sparse"; it may have been loaded from disk.
    axes
        Two, for partial correlations, of two coordinates given all others, and for correlations in
        the same places; a new figure by default.

    Returns
    -------
    The two axes. A place without a mark is an exact zero of the precision.

    Raises
    ------
    ValueError
        For another family, which has no pattern.
    """
    q = fit.q
    if not isinstance(q, SparseGaussian):
        raise ValueError(
            coded(
                "E225",
                f"the family is {fit.family.name!r}, which has no pattern: fit with "
                'family="sparse"',
            )
        )
    panels = several_panels(axes, (2,), (9.2, 4.4))
    row, column = np.asarray(q.edges)
    share = (q.dim + 2 * len(row)) / q.dim**2
    titles = (
        f"partial correlations; {100 * share:.2g} % of the precision is not zero",
        "correlations in the same places",
    )
    for panel, values, title in zip(panels, (q.precision(), q.covariances()), titles, strict=True):
        own, pairs = values[: q.dim], values[q.dim :]
        marks = pairs / np.sqrt(own[row] * own[column]) * (-1 if panel is panels[0] else 1)
        _mark(panel, q.dim, row, column, marks)
        _name_coordinates(panel, fit.space.free_names)
        panel.set_title(title, loc="left", fontsize="medium")
    return panels


def _mark(panel: Axes, dim: int, row: np.ndarray, column: np.ndarray, values: np.ndarray) -> None:
    """A mark at each pair of coordinates, on both sides of a grey diagonal, and their colours."""
    size = max(SQUARE / dim, 1.0) ** 2
    style: Any = {"marker": "s", "linewidth": 0, "rasterized": len(row) > MANY_MARKS}
    panel.scatter(range(dim), range(dim), size, GREY, alpha=0.5, **style)
    most = max(float(np.abs(values).max(initial=0.0)), LEAST_CORRELATION)
    colours = LinearSegmentedColormap.from_list("", [VERMILION, "#ffffff", BLUE])
    drawn = panel.scatter(
        np.append(column, row),
        np.append(row, column),
        size,
        np.append(values, values),
        cmap=colours,
        vmin=-most,
        vmax=most,
        **style,
    )
    panel.figure.colorbar(drawn, ax=panel, shrink=0.8)
    panel.set(xlim=(-0.5, dim - 0.5), ylim=(dim - 0.5, -0.5), aspect="equal")


def _name_coordinates(panel: Axes, names: Sequence[str]) -> None:
    """Names of parameters amid their coordinates; those that are close stand as one."""
    owners = np.array([name.split("[")[0] for name in names])
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    middle = (first + np.append(first[1:], len(owners)) - 1) / 2
    places, labels = list[float](), list[list[str]]()
    for place, i in zip(middle, first, strict=True):
        if places and place - places[-1] < len(owners) / CROWDED:
            labels[-1].append(str(owners[i]))
        else:
            places.append(float(place))
            labels.append([str(owners[i])])
    told = [short_name(", ".join(close)) for close in labels]
    panel.set_xticks(places, told, rotation=45, ha="right")
    panel.set_yticks(places, told)
