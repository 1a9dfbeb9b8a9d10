"""Pictures: q over p*, families, what each rung of a climb cost, and how a fit was checked.

p* is blue and filled, q is vermilion lines (Okabe & Ito 2008, told apart in grey too). Both are
drawn at the highest-density regions that hold the same mass, so that where lines and fill part, Q
can't cover p*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infimum.answer.answer import Answer
from infimum.base.errors import coded
from infimum.plots.scene import Density, Scene, chosen, compose

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from infimum.plots.axes import (
    BLUE,
    NEGLIGIBLE,
    NOTHING,
    VERMILION,
    axis_limits,
    checked_masses,
    headline,
    legend,
    nats,
    panel_grid,
    several_panels,
    short_name,
    tints,
)

MASSES = (0.5, 0.9)
"""Mass inside the contours of a pair of quantities."""

FAMILY_MASSES = (0.2, 0.5, 0.8, 0.95)
"""Mass inside the contours where families are compared: their shape is the point there."""

FEW = 4
"""Quantities drawn by default: those where q is worst."""

POINTS = 1000
"""Reweighted draws in a scatter."""


MARGINALS = 12
"""Quantities whose marginals are drawn by default: the worst, three rows of four."""


def plot_fit(
    fit: Answer,
    names: Sequence[str] | None = None,
    *,
    axes: Any = None,
    masses: Sequence[float] = MASSES,
) -> np.ndarray:
    """Draw q over p* for each pair of quantities, with their marginals on the diagonal.

    Where the quantities are all that there is, one or two, and the target is at hand, p* is exact:
    some 50 000 evaluations of log p̂ on a grid. Otherwise it is the reweighted draws, smoothed,
    and 1000 of them as points. A Gaussian q is exact in every quantity that stands for a
    coordinate of its own; in others (a simplex's) it is its draws, smoothed.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    names
        Quantities or parameters. By default the four quantities where q is worst; a target with
        two coordinates that are no quantities (a simplex of three) is drawn unconstrained.
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
        For unknown, constant or more than 12 quantities, masses outside (0, 1), and axes of another
        number.
    """
    scene = compose(fit, chosen(fit, names, FEW))
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
        legend(panels[0, 0], scene, (), loc="best")
    else:
        legend(panels[0, 1], scene, masses, loc="upper left", alignment="left")
    return panels


def plot_families(
    fits: Sequence[Answer], names: Sequence[str] | None = None, *, axes: Any = None
) -> np.ndarray:
    """Draw families side by side over the same p*: what each can't cover, and the KL it leaves.

    Parameters
    ----------
    fits
        Fits of one target, a panel each.
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
        For fits with different quantities, and for more than two quantities.
    """
    fits = list(fits)
    if not fits or any(fit.space.names != fits[0].space.names for fit in fits):
        raise ValueError(
            coded(
                "E902",
                f"expected fits of one target: at least one, all with the same quantities; "
                f"{len(fits)} were given",
            )
        )
    places = chosen(fits[0], names, 2)
    scenes = [compose(fit, places) for fit in fits]
    k = len(scenes[0].labels)
    if k > 2:
        raise ValueError(
            coded("E902", f"{names!r} are {k} quantities: families are compared on one or two")
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
        tell_distance(panel, scene.fit)
    masses = FAMILY_MASSES if k == 2 else ()
    if axes is None:
        gap, place = "\n" if len(fits) == 1 else " ", {"loc": "outside lower center", "ncols": 2}
        legend(panels[0].figure, truth, masses, gap, **place)
    else:
        legend(panels[-1], truth, masses, loc="lower right")
    return panels


def plot_marginals(
    fit: Answer, names: Sequence[str] | None = None, *, axes: Any = None
) -> np.ndarray:
    """Draw each quantity by itself: q over the reweighted draws, with the quantity's verdict.

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
        For unknown, constant or more than 12 quantities, and axes of another number.
    """
    places = chosen(fit, names, MARGINALS) or list(range(len(fit.space.names)))[:MARGINALS]
    scene, k = compose(fit, places), len(places)
    panels = panel_grid(k) if axes is None else several_panels(axes, (k,), (0, 0))
    for i, panel in enumerate(panels):
        q, p = scene.q(i), scene.p(i)
        _draw_marginal(panel, q, p, axis_limits([q, p]))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.spines[["top", "right", "left"]].set_visible(False)
        told = f"{short_name(scene.labels[i])}: {fit.verdicts[places[i]]}"
        panel.set_title(told, loc="left", fontsize="medium")
    if axes is None:
        legend(panels[0].figure, scene, (), loc="outside lower center", ncols=2)
    return panels


def _draw_pair(panel: Axes, q: Density, p: Density | None, masses: Sequence[float]) -> None:
    """q's lines over p*'s fill, at the same masses."""
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
    """q's line over p*'s fill."""
    if p is not None:
        panel.fill_between(p.nodes[0], p.height, color=tints(2)[0], linewidth=0)
        panel.plot(p.nodes[0], p.height, color=tints(2)[1], linewidth=1)
    panel.plot(q.nodes[0], q.height, color=VERMILION, linewidth=1.8)
    panel.set(xlim=limits, yticks=[])
    panel.set_ylim(bottom=0)


def _scatter(panel: Axes, scene: Scene, i: int, j: int) -> None:
    """Reweighted draws; one that was drawn several times is as much larger."""
    if scene.w is None:
        return
    rng = np.random.default_rng(0)
    rows, times = np.unique(rng.choice(len(scene.w), POINTS, p=scene.w), return_counts=True)
    nodes, drawn = scene.grid.nodes, scene.grid.drawn
    at = [np.interp(scene.smooth[rows, c], nodes[c], drawn[c], np.nan, np.nan) for c in (i, j)]
    for size in np.unique(times):  # one mark for each size keeps vector files small
        x, y = (row[times == size] for row in at)
        panel.scatter(x, y, 1.2 * size, color=BLUE, alpha=0.6, linewidth=0)


def _label(panels: np.ndarray, labels: list[str]) -> None:
    """Names and numbers at the left and at the bottom only."""
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


def tell_distance(panel: Axes, fit: Answer) -> None:
    """Say what theory says of this panel, where the estimate of the KL is clear about it."""
    kl, claim = fit.kl, ""
    if kl.value - 2 * kl.se > NEGLIGIBLE:
        claim = "p* ∉ Q: a distance is left"
    elif kl.value + 2 * kl.se < NOTHING and fit.verdict == "good":
        claim = "p* ∈ Q: the two coincide"
    panel.set_title(fit.family.name, fontweight="bold")
    told = [claim, f"KL[q ‖ p*] {nats(kl)}" if np.isfinite(kl.value) else "KL[q ‖ p*] unknown"]
    if fit.verdict == "unreliable" and np.isfinite(kl.value):
        told.append("unreliable: it may be larger")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.1 * (high - low) * sum(map(bool, told)))
    panel.text(
        0.5, 0.975, "\n".join(filter(None, told)), transform=panel.transAxes, ha="center", va="top"
    )
