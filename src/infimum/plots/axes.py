"""Parts that all pictures share: panels, colours, limits of axes, legends and headlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from infimum.base.errors import coded_error
from infimum.plots.scene import Density, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from infimum.checks.weights import Estimate

MOST_SINGLE = 40
"""Observations that are drawn one by one; of more, the distribution is drawn."""

NAME_WIDTH, TITLE_WIDTH = 24, 60
"""Letters that fit over a small picture, and in a line over a large one."""

CLEAR_KL = 0.01
"""Nats of KL that a solver's tolerance may leave; more than that is the family's distance."""

INVISIBLE_KL = 0.001
"""Nats of KL that no picture shows: below them q and p* are said to coincide."""

AxesLike = Axes | Sequence[Axes] | np.ndarray
"""The caller's axes: one, several, or an array of them."""

Style = dict[str, Any]
"""Arguments of a matplotlib call that several calls share, or that depend on the data."""

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#595959"
"""Colours of p*, of q, and of everything else; they differ in grey too (Okabe & Ito 2008)."""

UNKNOWN = "#E4E4E4"
"""Colour of p* where too few effective draws say what it is."""


def several_panels(
    axes: AxesLike | None, shape: tuple[int, ...], size: tuple[float, float]
) -> np.ndarray:
    """The caller's axes in this shape, or the axes of a new figure of this size in inches."""
    if axes is None:
        rows = shape[0] if len(shape) == 2 else 1
        _, axes = plt.subplots(rows, shape[-1], figsize=size, squeeze=False, layout="constrained")
    panels = np.asarray(axes, dtype=object)
    if panels.size != np.prod(shape) or not all(isinstance(a, Axes) for a in panels.flat):
        raise coded_error(
            ValueError,
            "E906",
            f"axes is {axes!r}, expected {' × '.join(map(str, shape))} matplotlib axes",
        )
    return panels.reshape(shape)


def one_panel(axes: AxesLike | None, height: float) -> Axes:
    """The caller's axes, or those of a new figure, without the upper and right frame."""
    panel: Axes = several_panels(axes, (1,), (5.4, height))[0]
    panel.spines[["top", "right"]].set_visible(False)
    return panel


def panel_grid(k: int) -> np.ndarray:
    """Axes for k small pictures in rows of at most four."""
    columns = min(k, 4)
    rows = -(-k // columns)
    size = (2.3 * columns + 0.4, 1.7 * rows + 0.5)
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[k:]:
        spare.set_axis_off()
    return np.asarray(axes.flat[:k], dtype=object)


def short_name(name: str) -> str:
    """A name that fits over a small picture."""
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def write_in_panel(panel: Axes, text: str) -> Axes:
    """Write a text in the middle of a panel that has no picture."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=GREY)
    panel.set(xticks=[], yticks=[])
    return panel


def checked_masses(masses: Sequence[float]) -> list[float]:
    """The masses of contours, ascending and without repetition.

    Raises
    ------
    ValueError
        If there is none, or one is not between 0 and 1.
    """
    ascending = sorted({float(mass) for mass in masses})
    if not ascending or not 0 < ascending[0] <= ascending[-1] < 1:
        raise coded_error(
            ValueError, "E906", f"masses are {masses!r}, expected numbers between 0 and 1"
        )
    return ascending


def axis_limits(densities: Sequence[Density | None]) -> tuple[float, float]:
    """Ends of an axis that shows all these densities of one quantity."""
    spans = [density.span() for density in densities if density is not None]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def tints(n: int) -> list[tuple[float, float, float]]:
    """Blues from light to strong; they are opaque, so that they print."""
    blue = np.array(to_rgb(BLUE))
    shades = [1 - share * (1 - blue) for share in np.linspace(0.25, 0.6, n)]
    return [(float(r), float(g), float(b)) for r, g, b in shades]


def add_legend(
    where: Axes | Figure | SubFigure,
    scene: Scene,
    masses: Sequence[float],
    gap: str = "\n",
    **placement: Any,
) -> None:
    """Add a legend of q and p* to axes or to a figure.

    Parameters
    ----------
    masses
        Masses inside the contours; empty if there are none.
    gap
        What separates the two parts of the legend's title.
    **placement
        Passed on to matplotlib: `loc` and what belongs to it.
    """
    handles: list[Any] = [Line2D([], [], color=VERMILION, linewidth=1.8)]
    labels = ["q"]
    if scene.p(0) is not None:
        shades = tints(len(masses) or 2)
        handles.append(tuple(Rectangle((0, 0), 1, 1, facecolor=shade) for shade in shades))
        labels.append("p*, exact" if scene.exact is not None else "p*, by reweighting")
        if any(not scene.known(i) for i in range(len(scene.labels))):
            handles.append(Rectangle((0, 0), 1, 1, facecolor=UNKNOWN))
            labels.append("too few effective draws")
    percents = " and ".join(", ".join(f"{100 * m:.3g}" for m in masses).rsplit(", ", 1))
    where.legend(
        handles,
        labels,
        title=f"regions of highest density{gap}that hold {percents} %" if masses else None,
        frameon=False,
        handler_map={tuple: HandlerTuple(None, 0)},
        **placement,
    ).set_in_layout("outside" in placement["loc"])


def headline(scene: Scene) -> str:
    """The family, its KL and its verdict, or why the KL is not known."""
    fit = scene.fit
    if np.isfinite(fit.kl.value):
        return f"{fit.family.name}: KL[q ‖ p*] {kl_text(fit.kl)}, verdict: {fit.verdict}"
    only_q = ": q alone is drawn" if scene.p(0) is None else ""
    return f"{fit.family.name}: KL[q ‖ p*] unknown,\np̂ is undefined or zero at draws from q{only_q}"


def kl_text(estimate: Estimate) -> str:
    """An estimate of KL with its sign of relation: "= 0.31 ± 0.02 nats", or "< 0.001 nats"."""
    small = estimate.value + 2 * estimate.se < INVISIBLE_KL
    return f"< {INVISIBLE_KL} nats" if small else f"= {estimate} nats"
