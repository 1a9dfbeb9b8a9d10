"""The picture of a pattern: which coordinates depend on each other, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from infimum.answer.answer import Answer
from infimum.base.errors import coded_error
from infimum.families._distribution import SparseGaussian
from infimum.families._host import Conditioned
from infimum.plots.axes import BLUE, GREY, VERMILION, AxesLike, Style, several_panels, short_name

MATRIX_POINTS = 200.0
"""Length of a side of a matrix in print, in points."""

MOST_VECTOR_MARKS = 5_000
"""Marks up to which a vector file holds each; more are drawn into it as one picture."""

LEAST_CORRELATION = 0.1
"""Least correlation with the full colour, so that tiny correlations look tiny."""

DRAWS_A_COORDINATE = 10
"""Draws for each coordinate from which partial correlations are taken."""

MOST_NAMES = 25
"""Names that fit along a side of a matrix."""


def plot_sparsity(fit: Answer, *, axes: AxesLike | None = None) -> np.ndarray:
    """Draw which coordinates the target couples, and how they correlate under q.

    Parameters
    ----------
    fit
        A fit of the family "sparse" or "nested". The correlations of a nested q are those of its
        check draws, and have their noise.
    axes
        Two axes: for the partial correlations of two coordinates given all others, and for the
        correlations in the same places; a new figure by default.

    Returns
    -------
    The two axes. A place without a mark is an exact zero of a sparse q's precision. If a nested q
    has too few draws for partial correlations, the places are grey.

    Raises
    ------
    ValueError
        If the family has no pattern.
    """
    edges, partial, plain = _correlations(fit)
    panels = several_panels(axes, (2,), (9.2, 4.4))
    row, column = edges
    share = (fit.q.dim + 2 * len(row)) / fit.q.dim**2
    first = "the pattern" if partial is None else "partial correlations"
    matrix = "precision" if isinstance(fit.q, SparseGaussian) else "Hessian"
    titles = (
        f"{first}; {100 * share:.2g} % of the {matrix} is not zero",
        "correlations in the same places",
    )
    for panel, marks, title in zip(panels, (partial, plain), titles, strict=True):
        _mark(panel, fit.q.dim, row, column, marks)
        _name_coordinates(panel, fit.space.free_names)
        panel.set_title(title, loc="left", fontsize="medium")
    return panels


def _correlations(
    fit: Answer,
) -> tuple[Int[np.ndarray, "2 n"], Float[np.ndarray, " n"] | None, Float[np.ndarray, " n"]]:
    """The pairs that are coupled, with their partial correlations, if known, and correlations."""
    q = fit.q
    if isinstance(q, SparseGaussian):
        edges = np.asarray(q.edges)
        return edges, -_scaled(q.precision(), edges), _scaled(q.covariances(), edges)
    if not isinstance(q, Conditioned):
        raise coded_error(
            ValueError,
            "E225",
            f'the family is {fit.family.name!r}, which has no pattern: fit with family="sparse"',
        )
    edges, z = np.asarray(q.edges), fit.weighed.points()[: fit.n_draws]
    away = (z - z.mean(axis=0)) / z.std(axis=0)
    pairs = [away[:, i] @ away[:, j] / len(z) for i, j in edges.T]
    partial = None
    if len(z) >= DRAWS_A_COORDINATE * q.dim:
        precision = np.linalg.inv(np.cov(away.T))
        partial = -_scaled(np.append(np.diag(precision), precision[edges[0], edges[1]]), edges)
    return edges, partial, np.array(pairs)


def _scaled(
    values: Float[np.ndarray, " m"], edges: Int[np.ndarray, "2 n"]
) -> Float[np.ndarray, " n"]:
    """Entries of a matrix with a diagonal of ones; given are its diagonal, then the entries."""
    own, (row, column) = values[: len(values) - edges.shape[1]], edges
    return np.asarray(values[len(own) :] / np.sqrt(own[row] * own[column]))


def _mark(
    panel: Axes, dim: int, row: np.ndarray, column: np.ndarray, values: np.ndarray | None
) -> None:
    """Draw a mark for each pair of coordinates, on both sides of a grey diagonal.

    Parameters
    ----------
    values
        They say the marks' colours; None leaves the marks grey.
    """
    size = max(MATRIX_POINTS / dim, 1.0) ** 2
    style: Style = {
        "marker": "s",
        "linewidth": 0,
        "rasterized": len(row) > MOST_VECTOR_MARKS,
    }
    panel.scatter(range(dim), range(dim), size, GREY, alpha=0.5, **style)
    panel.set(xlim=(-0.5, dim - 0.5), ylim=(dim - 0.5, -0.5), aspect="equal")
    places = np.append(column, row), np.append(row, column)
    if values is None:
        panel.scatter(*places, size, GREY, **style)
        return
    most = max(float(np.abs(values).max(initial=0.0)), LEAST_CORRELATION)
    colours = LinearSegmentedColormap.from_list("", [VERMILION, "#ffffff", BLUE])
    marks = panel.scatter(
        *places,
        size,
        np.append(values, values),
        cmap=colours,
        vmin=-most,
        vmax=most,
        **style,
    )
    panel.figure.colorbar(marks, ax=panel, shrink=0.8)


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
