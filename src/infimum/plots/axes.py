"""TODO."""

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

from infimum.base.errors import coded
from infimum.plots.scene import Density, Scene

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from infimum.checks.weights import Estimate

SINGLE = 40
"""Observations up to which each is drawn with its interval; of more the distribution is."""

LONGEST, WRAP = 24, 60
"""Letters of a name over a small picture, and of a line over a large one."""

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#595959"


def several_panels(axes: Any, shape: tuple[int, ...], size: tuple[float, float]) -> np.ndarray:
    """The caller's axes in this shape, or those of a new figure."""
    if axes is None:
        rows = shape[0] if len(shape) == 2 else 1
        _, axes = plt.subplots(rows, shape[-1], figsize=size, squeeze=False, layout="constrained")
    given = np.asarray(axes, dtype=object)
    if given.size != np.prod(shape) or not all(isinstance(a, Axes) for a in given.flat):
        raise ValueError(
            coded(
                "E906", f"axes is {axes!r}, expected {' × '.join(map(str, shape))} matplotlib axes"
            )
        )
    return given.reshape(shape)


def one_panel(axes: Any, height: float) -> Axes:
    """The caller's axes, or those of a new figure, without a frame above and at the right."""
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
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def write_in_panel(panel: Axes, told: str) -> Axes:
    """Words in the place of a picture."""
    panel.text(0.5, 0.5, told, transform=panel.transAxes, ha="center", va="center", color=GREY)
    panel.set(xticks=[], yticks=[])
    return panel


def checked_masses(masses: Sequence[float]) -> list[float]:
    given = sorted({float(mass) for mass in masses})
    if not given or not 0 < given[0] <= given[-1] < 1:
        raise ValueError(coded("E906", f"masses are {masses!r}, expected numbers between 0 and 1"))
    return given


def axis_limits(densities: Sequence[Density | None]) -> tuple[float, float]:
    """Ends of an axis that shows these densities of one quantity."""
    spans = [density.span() for density in densities if density is not None]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def tints(n: int) -> list[tuple[float, float, float]]:
    """Blues from light to full, opaque, so that they print."""
    blue = np.array(to_rgb(BLUE))
    shades = [1 - share * (1 - blue) for share in np.linspace(0.25, 0.6, n)]
    return [(float(r), float(g), float(b)) for r, g, b in shades]


def legend(
    where: Any, scene: Scene, masses: Sequence[float], gap: str = "\n", **place: Any
) -> None:
    """A legend, on axes or a figure; `masses` are those of the contours, if there are any."""
    handles: list[Any] = [Line2D([], [], color=VERMILION, linewidth=1.8)]
    labels = ["q"]
    if scene.p(0) is not None:
        shades = tints(len(masses) or 2)
        handles.append(tuple(Rectangle((0, 0), 1, 1, facecolor=shade) for shade in shades))
        labels.append("p*, exact" if scene.exact is not None else "p*, by reweighting")
    held = " and ".join(", ".join(f"{100 * m:.3g}" for m in masses).rsplit(", ", 1))
    where.legend(
        handles,
        labels,
        title=f"regions of highest density{gap}that hold {held} %" if masses else None,
        frameon=False,
        handler_map={tuple: HandlerTuple(None, 0)},
        **place,
    ).set_in_layout("outside" in place["loc"])


def headline(scene: Scene) -> str:
    fit = scene.fit
    if np.isfinite(fit.kl.value):
        return f"{fit.family.name}: KL[q ‖ p*] {nats(fit.kl)}, verdict: {fit.verdict}"
    alone = ": q alone is drawn" if scene.p(0) is None else ""
    return f"{fit.family.name}: KL[q ‖ p*] unknown,\np̂ is undefined or zero at draws from q{alone}"


LABELLED = 6
"""Quantities that are named where their ranks leave the band: the worst of them."""


def nats(estimate: Estimate) -> str:
    small = estimate.value + 2 * estimate.se < NOTHING
    return f"< {NOTHING} nats" if small else f"= {estimate} nats"


NEGLIGIBLE = 0.01
"""Nats of KL that a solver's tolerance may leave: more than that is the family's distance."""


NOTHING = 0.001
"""Nats of KL that no picture shows: below them q and p* are said to coincide."""
