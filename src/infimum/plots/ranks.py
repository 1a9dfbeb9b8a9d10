"""The picture of a calibration: ranks of the true values among the draws of the fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from infimum.checks import uniformity
from infimum.plots.axes import GREY, VERMILION, AxesLike, Style, one_panel, tints
from infimum.target.space import positions

if TYPE_CHECKING:
    import pandas as pd


MOST_LABELLED = 6
"""Quantities that are named if their ranks leave the band: the worst ones."""


@runtime_checkable
class HasRanks(Protocol):
    """The part of `infimum.Calibration` that its picture needs."""

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

    def table(self) -> pd.DataFrame: ...  # noqa: D102


def plot_ranks(
    calibration: HasRanks, names: Sequence[str] | None = None, *, axes: AxesLike | None = None
) -> Axes:
    """Draw the ECDF of each quantity's ranks minus the uniform one, within its simultaneous band.

    If the fits are right, all lines stay in the band with a probability of 99 %. A line leaves the
    band if and only if the calibration failed. If it is first above and then below zero, the draws
    are too narrow. If it is above zero everywhere, the draws are too high.

    Parameters
    ----------
    calibration
        What `infimum.calibrate` returned.
    names
        Quantities to draw; all by default. The band always belongs to all of them.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If a quantity is unknown.
    """
    every = calibration.names
    shown = range(len(every)) if names is None else sorted(set(positions(every, names)))
    panel = one_panel(axes, 3.6)
    n, levels = len(calibration.ranks), calibration.n_draws + 1
    band = uniformity.band(n, levels, uniformity.LEAST_P_VALUE / len(every))
    x = np.pad(band.level, 1, constant_values=(0, 1))
    low, high = (np.pad(edge - band.level, 1) for edge in (band.low, band.high))
    panel.fill_between(x, low, high, color=tints(2)[0], linewidth=0, label="uniform ranks")
    p_value = calibration.table()["p_value"].to_numpy()
    share = uniformity.cumulative(calibration.ranks, levels) / n
    for order, i in enumerate(sorted(shown, key=lambda i: p_value[i])):
        outside = np.any((share[i] < band.low) | (share[i] > band.high))
        style: Style = (
            {"color": VERMILION, "zorder": 3} if outside else {"color": GREY, "alpha": 0.6}
        )
        label = every[i] if outside and order < MOST_LABELLED else None
        panel.plot(x, np.pad(share[i] - band.level, 1), linewidth=1.2, label=label, **style)
    _label(panel, calibration)
    return panel


def _label(panel: Axes, calibration: HasRanks) -> None:
    """Label the axes, and write the result over the picture."""
    panel.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    panel.set(xlim=(0, 1), xlabel="rank of the true value among the draws, as a share")
    panel.set_ylabel("ECDF of the ranks - uniform")
    verdict = "passed" if calibration.passed else "failed"
    title = f"{calibration.family}, {len(calibration.ranks)} data sets: {verdict}"
    panel.set_title(title, loc="left", fontsize="medium")
    panel.legend(frameon=False, fontsize="small", loc="upper right")
