"""The picture of a climb: the KL that each rung leaves, against the seconds spent."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from infimum.answer.record import Route
from infimum.plots.axes import CLEAR_KL, GREY, VERMILION, AxesLike, Style, kl_text, one_panel


@runtime_checkable
class HasRoute(Protocol):
    """A climb, or the fit that a climb chose."""

    @property
    def route(self) -> Route: ...  # noqa: D102


def plot_climb(climb: HasRoute | Route, *, axes: AxesLike | None = None) -> Axes:
    """Draw the KL that each rung leaves against the seconds spent so far, as one point a rung.

    Parameters
    ----------
    climb
        What `infimum.climb` returned, or the route of a fit that climbed.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes. A hollow point is the KL of an unreliable fit; the true one may be larger.
    """
    panel = one_panel(axes, 3.6)
    route = climb if isinstance(climb, Route) else climb.route
    seconds = np.cumsum([rung.seconds for rung in route.rungs])
    kl = np.array([rung.kl.value for rung in route.rungs])
    known = np.isfinite(kl)
    panel.plot(seconds[known], kl[known], color=GREY, linewidth=1, zorder=1)
    for rung, x, y in zip(route.rungs, seconds, kl, strict=True):
        if not np.isfinite(y):
            panel.axvline(x, color=GREY, linewidth=1, linestyle=":")
            continue
        error = [[min(rung.kl.se, y)], [rung.kl.se]] if np.isfinite(rung.kl.se) else None
        face = "white" if rung.verdict == "unreliable" else VERMILION
        style: Style = {
            "color": VERMILION,
            "markerfacecolor": face,
            "capsize": 3,
            "markersize": 7,
        }
        panel.errorbar(x, y, error, fmt="o", zorder=3, clip_on=False, **style)
    least, most = np.min(kl, initial=np.inf, where=known), np.max(kl, initial=0.0, where=known)
    if most > 10 * max(least, CLEAR_KL):
        panel.set_yscale("symlog", linthresh=CLEAR_KL, linscale=0.5)
        panel.set_ylim(0, 3 * most)
    else:
        panel.set_ylim(0, 1.4 * max(most, CLEAR_KL))
    panel.set_xlim(0, 1.5 * seconds[-1])
    panel.set_xlabel("seconds spent, compiling included")
    panel.set_ylabel("KL[q ‖ p*] left, in nats")
    _name_rungs(panel, route, seconds, np.where(known, kl, 0.5 * panel.get_ylim()[1]))
    lines = [f"{name} skipped: {why}" for name, why in route.skipped]
    if any(rung.verdict == "unreliable" for rung in route.rungs):
        lines.append("hollow: unreliable, the KL may be larger")
    panel.set_title("\n".join(lines), loc="left", fontsize="small", color=GREY)
    return panel


def _name_rungs(panel: Axes, route: Route, x: np.ndarray, y: np.ndarray) -> None:
    """Write each rung's family and KL at its point, higher up if it would cover the last name."""
    last, lift = np.full(2, -np.inf), 0.0
    for rung, point in zip(route.rungs, zip(x, y, strict=True), strict=True):
        kl = kl_text(rung.kl) if np.isfinite(rung.kl.value) else "unknown"
        text = f"{rung.family}: {kl.removeprefix('= ')}"
        here = panel.transAxes.inverted().transform(panel.transData.transform(point))
        close = abs(here[1] - last[1]) < 0.08 and here[0] - last[0] < 0.5
        last, lift = here, lift + 13.0 if close else 0.0
        panel.annotate(text, point, (7, 5 + lift), textcoords="offset points")
