"""Pictures of q over p*: pairs of quantities, single quantities, and families side by side.

p* is blue and filled, q is vermilion lines. Both are drawn as the highest-density regions that hold
the same mass: where the lines leave the fill, q does not cover p*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infimum.answer.answer import Answer
from infimum.base.errors import coded_error
from infimum.plots.axes import (
    BLUE,
    CLEAR_KL,
    INVISIBLE_KL,
    UNKNOWN,
    VERMILION,
    AxesLike,
    add_legend,
    axis_limits,
    checked_masses,
    headline,
    kl_text,
    panel_grid,
    several_panels,
    short_name,
    tints,
)
from infimum.plots.scene import Density, Scene, choose_quantities, compose

MASSES = (0.5, 0.9)
"""Masses inside the contours of a pair of quantities."""

FAMILY_MASSES = (0.2, 0.5, 0.8, 0.95)
"""Masses inside the contours of families side by side; more of them show the shape better."""

MOST_PAIRED = 4
"""Quantities that are drawn in pairs by default: those where q is worst."""

SCATTER_POINTS = 1000
"""Reweighted draws that are drawn as points."""

MOST_MARGINALS = 12
"""Quantities whose marginals are drawn by default: the worst, three rows of four."""


def plot_fit(
    fit: Answer,
    names: Sequence[str] | None = None,
    *,
    axes: AxesLike | None = None,
    masses: Sequence[float] = MASSES,
) -> np.ndarray:
    """Draw q over p* for each pair of quantities, with the marginals on the diagonal.

    p* is exact if the target has only one or two coordinates and is at hand: it is then evaluated
    some 50,000 times on a grid. Otherwise p* is the reweighted draws, smoothed, with 1000 of them
    as points. A Gaussian q is exact in every quantity that has a coordinate of its own; in others,
    such as the entries of a simplex, it is q's draws, smoothed.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    names
        Quantities or parameters; by default the four quantities where q is worst. If the target has
        two coordinates that are no quantities, as a simplex of three has, these are drawn.
    axes
        Array of k × k axes for k quantities, or one for one; a new figure by default.
    masses
        Mass inside each contour.

    Returns
    -------
    The k × k array of axes.

    Raises
    ------
    ValueError
        If quantities are unknown, constant or more than 12, masses are not between 0 and 1, or the
        number of axes is wrong.
    """
    scene = compose(fit, choose_quantities(fit, names, MOST_PAIRED))
    masses, k = checked_masses(masses), len(scene.labels)
    panels = several_panels(axes, (k, k), (4.8, 3.6) if k == 1 else (1.6 * k + 2.2,) * 2)
    limits = [axis_limits([scene.q(i), scene.p(i)]) for i in range(k)]
    for i in range(k):
        _draw_marginal(panels[i, i], scene.q(i), scene.p(i), limits[i])
        for j in range(i):
            panels[j, i].set_axis_off()
            _draw_pair(panels[i, j], scene.q(j, i), scene.p(j, i), masses)
            if scene.exact is None:
                _scatter(panels[i, j], scene, j, i)
            panels[i, j].set(xlim=limits[j], ylim=limits[i])
    _label(panels, scene.labels)
    if axes is None:
        panels[0, 0].figure.suptitle(headline(scene), x=0.01, ha="left", fontsize="medium")
    else:
        panels[0, 0].set_title(headline(scene), loc="left", fontsize="medium")
    if k == 1:
        add_legend(panels[0, 0], scene, (), loc="best")
    else:
        add_legend(panels[0, 1], scene, masses, loc="upper left", alignment="left")
    return panels


def plot_families(
    fits: Sequence[Answer], names: Sequence[str] | None = None, *, axes: AxesLike | None = None
) -> np.ndarray:
    """Draw families side by side over the same p*: what each does not cover, and its KL.

    Parameters
    ----------
    fits
        Fits of one target, one for each panel.
    names
        One or two quantities; by default the two where the first fit is worst.
    axes
        One for each fit; a new figure by default.

    Returns
    -------
    The axes, one for each fit.

    Raises
    ------
    ValueError
        If the fits have different quantities, or more than two are named.
    """
    fits = list(fits)
    if not fits or any(fit.space.names != fits[0].space.names for fit in fits):
        raise coded_error(
            ValueError,
            "E902",
            f"got {len(fits)} fits, expected at least one, and all with the same quantities: "
            "give fits of one target",
        )
    indices = choose_quantities(fits[0], names, 2)
    scenes = [compose(fit, indices) for fit in fits]
    k = len(scenes[0].labels)
    if k > 2:
        raise coded_error(
            ValueError,
            "E902",
            f"{names!r} are {k} quantities: families are compared on one or two, name these",
        )
    truth = max(scenes, key=lambda scene: (scene.exact is not None, scene.trust))
    panels = several_panels(axes, (len(fits),), (3.2 * len(fits) + 0.5, 4.1))
    limits = [axis_limits([truth.p(i), *(scene.q(i) for scene in scenes)]) for i in range(k)]
    for panel, scene in zip(panels, scenes, strict=True):
        if k == 1:
            _draw_marginal(panel, scene.q(0), truth.p(0), limits[0])
        else:
            _draw_pair(panel, scene.q(0, 1), truth.p(0, 1), FAMILY_MASSES)
            panel.set(xlim=limits[0], ylim=limits[1])
            panel.set_ylabel(scene.labels[1] if panel is panels[0] else "")
            panel.tick_params(labelleft=panel is panels[0])
        panel.set_xlabel(scene.labels[0])
        _write_distance(panel, scene.fit)
    masses = FAMILY_MASSES if k == 2 else ()
    if axes is None:
        gap = "\n" if len(fits) == 1 else " "
        add_legend(panels[0].figure, truth, masses, gap, loc="outside lower center", ncols=2)
    else:
        add_legend(panels[-1], truth, masses, loc="lower right")
    return panels


def plot_marginals(
    fit: Answer, names: Sequence[str] | None = None, *, axes: AxesLike | None = None
) -> np.ndarray:
    """Draw each quantity alone: q over the reweighted draws, with the quantity's verdict.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    names
        Quantities or parameters, at most 12; by default the worst 12.
    axes
        One for each quantity; a new figure by default.

    Returns
    -------
    The axes, one for each quantity.

    Raises
    ------
    ValueError
        If quantities are unknown, constant or more than 12, or the number of axes is wrong.
    """
    indices = choose_quantities(fit, names, MOST_MARGINALS)
    indices = indices or list(range(len(fit.space.names)))[:MOST_MARGINALS]
    scene, k = compose(fit, indices), len(indices)
    panels = panel_grid(k) if axes is None else several_panels(axes, (k,), (0, 0))
    for i, panel in enumerate(panels):
        q, p = scene.q(i), scene.p(i)
        _draw_marginal(panel, q, p, axis_limits([q, p]))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.spines[["top", "right", "left"]].set_visible(False)
        title = f"{short_name(scene.labels[i])}: {fit.verdicts[indices[i]]}"
        panel.set_title(title, loc="left", fontsize="medium")
    if axes is None:
        add_legend(panels[0].figure, scene, (), loc="outside lower center", ncols=2)
    return panels


def _draw_pair(panel: Axes, q: Density, p: Density | None, masses: Sequence[float]) -> None:
    """Draw q as contours over p* as filled regions that hold the same masses."""
    if p is not None:
        top = p.height.max()
        for level, shade in zip(p.levels(masses), tints(len(masses)), strict=True):
            bounds = [level, 1.01 * top]
            panel.contourf(*p.nodes, p.height.T, bounds, colors=[shade], antialiased=True)
    levels = np.unique(q.levels(masses))
    levels = levels[(levels > q.height.min()) & (levels < q.height.max())]
    if len(levels):
        widths = np.linspace(1.0, 1.8, len(levels))
        panel.contour(*q.nodes, q.height.T, levels, colors=VERMILION, linewidths=widths)


def _draw_marginal(panel: Axes, q: Density, p: Density | None, limits: tuple[float, float]) -> None:
    """Draw q as a line over p* as a filled curve."""
    if p is not None:
        panel.fill_between(p.nodes[0], p.height, color=tints(2)[0], linewidth=0)
        panel.plot(p.nodes[0], p.height, color=tints(2)[1], linewidth=1)
        if p.known is not None and not p.known.all():
            unknown = ~p.known & (p.height > 0)
            panel.fill_between(p.nodes[0], p.height, where=unknown, color=UNKNOWN, linewidth=0)
    panel.plot(q.nodes[0], q.height, color=VERMILION, linewidth=1.8)
    panel.set(xlim=limits, yticks=[])
    panel.set_ylim(bottom=0)


def _scatter(panel: Axes, scene: Scene, i: int, j: int) -> None:
    """Draw reweighted draws as points; a draw that was chosen k times has a k times larger area."""
    if scene.w is None:
        return
    rng = np.random.default_rng(0)
    rows, times = np.unique(rng.choice(len(scene.w), SCATTER_POINTS, p=scene.w), return_counts=True)
    nodes, values = scene.grid.nodes, scene.grid.values
    pair = [np.interp(scene.smooth[rows, c], nodes[c], values[c], np.nan, np.nan) for c in (i, j)]
    for size in np.unique(times):  # one set of marks for each size keeps vector files small
        x, y = (row[times == size] for row in pair)
        panel.scatter(x, y, 1.2 * size, color=BLUE, alpha=0.6, linewidth=0)


def _label(panels: np.ndarray, labels: list[str]) -> None:
    """Write names and numbers at the left and at the bottom of all panels only."""
    k = len(labels)
    for i in range(k):
        for j in range(i + 1):
            panel = panels[i, j]
            panel.spines[["top", "right"]].set_visible(False)
            panel.xaxis.set_major_locator(MaxNLocator(4 if k < 4 else 3))
            panel.tick_params(labelbottom=i == k - 1, labelleft=j == 0 and i > 0)
            if i > j:
                panel.yaxis.set_major_locator(MaxNLocator(4 if k < 4 else 3))
            else:
                panel.spines["left"].set_visible(False)
            if i == k - 1:
                panel.set_xlabel(labels[j])
            if j == 0 and i > 0:
                panel.set_ylabel(labels[i])


def _write_distance(panel: Axes, fit: Answer) -> None:
    """Write the KL into a panel, and whether p* is a member of Q if the KL is clear about it."""
    kl, claim = fit.kl, ""
    if kl.value - 2 * kl.se > CLEAR_KL:
        claim = "p* ∉ Q: a distance is left"
    elif kl.value + 2 * kl.se < INVISIBLE_KL and fit.verdict == "good":
        claim = "p* ∈ Q: the two coincide"
    panel.set_title(fit.family.name, fontweight="bold")
    lines = [claim] if claim else []
    lines.append(f"KL[q ‖ p*] {kl_text(kl)}" if np.isfinite(kl.value) else "KL[q ‖ p*] unknown")
    if fit.verdict == "unreliable" and np.isfinite(kl.value):
        lines.append("unreliable: it may be larger")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.1 * (high - low) * len(lines))
    panel.text(0.5, 0.975, "\n".join(lines), transform=panel.transAxes, ha="center", va="top")
