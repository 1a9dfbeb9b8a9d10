"""The picture of a climb: the KL that each rung left, against the seconds spent."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from infimum.answer.record import Route
from infimum.plots.axes import GREY, NEGLIGIBLE, VERMILION, nats, one_panel


class Climbed(Protocol):
    """What has a route: a climb, or the fit that one chose."""

    @property
    def route(self) -> Route: ...  # noqa: D102


def plot_climb(climb: Climbed | Route, *, axes: Any = None) -> Axes:
    """Draw the KL that is left against the seconds spent so far, a point for each rung.

    Parameters
    ----------
    climb
        What `infimum.climb` returned, or the route of a fit that climbed.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes. A hollow point is a KL that its weights do not support.
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
        style: Any = {"color": VERMILION, "markerfacecolor": face, "capsize": 3, "markersize": 7}
        panel.errorbar(x, y, error, fmt="o", zorder=3, clip_on=False, **style)
    least, most = np.min(kl, initial=np.inf, where=known), np.max(kl, initial=0.0, where=known)
    if most > 10 * max(least, NEGLIGIBLE):
        panel.set_yscale("symlog", linthresh=NEGLIGIBLE, linscale=0.5)
        panel.set_ylim(0, 3 * most)
    else:
        panel.set_ylim(0, 1.4 * max(most, NEGLIGIBLE))
    panel.set_xlim(0, 1.5 * seconds[-1])
    panel.set_xlabel("seconds spent, compiling included")
    panel.set_ylabel("KL[q ‖ p*] left, in nats")
    _name_rungs(panel, route, seconds, np.where(known, kl, 0.5 * panel.get_ylim()[1]))
    told = [f"{name} skipped: {why}" for name, why in route.skipped]
    if any(rung.verdict == "unreliable" for rung in route.rungs):
        told.append("hollow: unreliable, the KL may be larger")
    panel.set_title("\n".join(told), loc="left", fontsize="small", color=GREY)
    return panel


def _name_rungs(panel: Axes, route: Route, x: np.ndarray, y: np.ndarray) -> None:
    """A name at each point; one that would cover the name before it goes above it."""
    before, lift = np.full(2, -np.inf), 0.0
    for rung, place in zip(route.rungs, zip(x, y, strict=True), strict=True):
        told = nats(rung.kl) if np.isfinite(rung.kl.value) else "unknown"
        text = f"{rung.family}: {told.removeprefix('= ')}"
        here = panel.transAxes.inverted().transform(panel.transData.transform(place))
        close = abs(here[1] - before[1]) < 0.08 and here[0] - before[0] < 0.5
        before, lift = here, lift + 13.0 if close else 0.0
        panel.annotate(text, place, (7, 5 + lift), textcoords="offset points")
