"""The picture of a calibration: where the true values rank among the draws of the fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from infimum.checks import uniformity
from infimum.plots.axes import GREY, LABELLED, VERMILION, one_panel, tints
from infimum.target.space import positions


class Ranked(Protocol):
    """What a calibration knows of its ranks; see `infimum.Calibration`."""

    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def ranks(self) -> np.ndarray: ...  # noqa: D102

    @property
    def n_draws(self) -> int: ...  # noqa: D102

    @property
    def family(self) -> str: ...  # noqa: D102

    @property
    def passed(self) -> bool: ...  # noqa: D102

    def table(self) -> Any: ...  # noqa: D102


def plot_ranks(
    calibration: Ranked, names: Sequence[str] | None = None, *, axes: Any = None
) -> Axes:
    """Draw the ECDF of each quantity's ranks less that of uniform ones, in the band of these.

    All lines stay in the band with a probability of 99 % if the fits are right: one leaves it if
    and only if the calibration failed. A line that is first above and then below is of draws that
    are too narrow; one that is above all along, of draws that are too high.

    Parameters
    ----------
    calibration
        What `infimum.calibrate` returned.
    names
        Quantities to draw; all by default. The band is that of all of them either way.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        For unknown quantities.
    """
    known = calibration.names
    chosen = range(len(known)) if names is None else sorted(set(positions(known, names)))
    panel = one_panel(axes, 3.6)
    n, levels = len(calibration.ranks), calibration.n_draws + 1
    band = uniformity.band(n, levels, uniformity.LEAST_P_VALUE / len(known))
    x = np.pad(band.level, 1, constant_values=(0, 1))
    low, high = (np.pad(edge - band.level, 1) for edge in (band.low, band.high))
    panel.fill_between(x, low, high, color=tints(2)[0], linewidth=0, label="uniform ranks")
    p_value = calibration.table()["p_value"].to_numpy()
    share = uniformity.cumulative(calibration.ranks, levels) / n
    for rank, i in enumerate(sorted(chosen, key=lambda i: p_value[i])):
        outside = np.any((share[i] < band.low) | (share[i] > band.high))
        style: Any = {"color": VERMILION, "zorder": 3} if outside else {"color": GREY, "alpha": 0.6}
        label = known[i] if outside and rank < LABELLED else None
        panel.plot(x, np.pad(share[i] - band.level, 1), linewidth=1.2, label=label, **style)
    _tell_calibration(panel, calibration)
    return panel


def _tell_calibration(panel: Axes, calibration: Ranked) -> None:
    """What the axes are, and what came out."""
    panel.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    panel.set(xlim=(0, 1), xlabel="rank of the true value among the draws, as a share")
    panel.set_ylabel("ECDF of the ranks - uniform")
    verdict = "passed" if calibration.passed else "failed"
    told = f"{calibration.family}, {len(calibration.ranks)} data sets: {verdict}"
    panel.set_title(told, loc="left", fontsize="medium")
    panel.legend(frameon=False, fontsize="small", loc="upper right")
