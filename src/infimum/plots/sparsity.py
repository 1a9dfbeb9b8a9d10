"""The picture of a sparse Gaussian: which coordinates depend on each other, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from infimum.answer.answer import Answer
from infimum.base.errors import coded_error
from infimum.families._distribution import SparseGaussian
from infimum.plots.axes import BLUE, GREY, VERMILION, AxesLike, Style, several_panels, short_name

MATRIX_POINTS = 200.0
"""Length of a side of a matrix in print, in points."""

MOST_VECTOR_MARKS = 5_000
"""Marks up to which a vector file holds each; more are drawn into it as one picture."""

LEAST_CORRELATION = 0.1
"""Least correlation with the full colour, so that tiny correlations look tiny."""

MOST_NAMES = 25
"""Names that fit along a side of a matrix."""


def plot_sparsity(fit: Answer, *, axes: AxesLike | None = None) -> np.ndarray:
    """Draw which coordinates of a sparse Gaussian depend on each other, and how they correlate.

    Parameters
    ----------
    fit
        A fit of the family "sparse"; it may have been loaded from disk.
    axes
        Two axes: for the partial correlations of two coordinates given all others, and for the
        correlations in the same places; a new figure by default.

    Returns
    -------
    The two axes. A place without a mark is an exact zero of the precision.

    Raises
    ------
    ValueError
        If the family has no pattern.
    """
    q = fit.q
    if not isinstance(q, SparseGaussian):
        raise coded_error(
            ValueError,
            "E225",
            f'the family is {fit.family.name!r}, which has no pattern: fit with family="sparse"',
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
    """Draw a coloured mark for each pair of coordinates, on both sides of a grey diagonal."""
    size = max(MATRIX_POINTS / dim, 1.0) ** 2
    style: Style = {
        "marker": "s",
        "linewidth": 0,
        "rasterized": len(row) > MOST_VECTOR_MARKS,
    }
    panel.scatter(range(dim), range(dim), size, GREY, alpha=0.5, **style)
    most = max(float(np.abs(values).max(initial=0.0)), LEAST_CORRELATION)
    colours = LinearSegmentedColormap.from_list("", [VERMILION, "#ffffff", BLUE])
    marks = panel.scatter(
        np.append(column, row),
        np.append(row, column),
        size,
        np.append(values, values),
        cmap=colours,
        vmin=-most,
        vmax=most,
        **style,
    )
    panel.figure.colorbar(marks, ax=panel, shrink=0.8)
    panel.set(xlim=(-0.5, dim - 0.5), ylim=(dim - 0.5, -0.5), aspect="equal")


def _name_coordinates(panel: Axes, names: Sequence[str]) -> None:
    """Write each parameter's name at the middle of its coordinates; close names share a label."""
    owners = np.array([name.split("[")[0] for name in names])
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    middle = (first + np.append(first[1:], len(owners)) - 1) / 2
    ticks, groups = list[float](), list[list[str]]()
    for tick, i in zip(middle, first, strict=True):
        if ticks and tick - ticks[-1] < len(owners) / MOST_NAMES:
            groups[-1].append(str(owners[i]))
        else:
            ticks.append(float(tick))
            groups.append([str(owners[i])])
    labels = [short_name(", ".join(group)) for group in groups]
    panel.set_xticks(ticks, labels, rotation=45, ha="right")
    panel.set_yticks(ticks, labels)
