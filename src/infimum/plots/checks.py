"""TODO."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infimum.answer.answer import Answer
from infimum.checks import weights
from infimum.checks.quantities import LEAST_ESS

if TYPE_CHECKING:
    pass
from infimum.plots.axes import BLUE, GREY, SINGLE, VERMILION, WRAP, one_panel, write_in_panel

PLATEAU = 20.0
"""A trace is drawn this many times as high as its second half, so that the end of it is seen."""

LEAST_HEIGHT = 0.2
"""Nats that the axis of a trace spans at least."""

SMALLEST = 1e-4
"""Importance weight, in units of their mean, below which none is drawn."""


def plot_trace(fit: Answer, *, axes: Any = None) -> Axes:
    """Draw the ELBO as it was estimated on the way, against the gradients spent.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes, with why the fit stopped as their title. What lies far below the end is cut off.
    """
    panel = one_panel(axes, 3.0)
    panel.set_title(textwrap.fill(fit.reason.value, WRAP), loc="left", fontsize="medium")
    trace = np.array([step for step in fit.trace if np.isfinite(step[1])], float)
    if not len(trace):
        return write_in_panel(panel, "no trace of the ELBO is known")
    gradients, elbo = trace.T
    style: Any = {"marker": "o", "markersize": 3} if len(trace) <= SINGLE else {}
    label = f"on the way, from {elbo[0]:,.4g}"
    panel.plot(gradients, elbo, color=VERMILION, linewidth=1.4, label=label, **style)
    end = elbo
    if np.isfinite(fit.elbo.value):
        label = f"ELBO by fresh draws: {fit.elbo}"
        panel.axhline(fit.elbo.value, color=GREY, linewidth=1, linestyle=":", label=label)
        end = np.append(elbo, fit.elbo.value)
    panel.set_ylim(*_plateau(elbo, end))
    panel.legend(frameon=False, loc="lower right")
    panel.set_xlabel("gradients" if fit.work.differentiated else "values of log p̂")
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.set_ylabel("ELBO, in nats")
    return panel


def plot_weights(fit: Answer, *, axes: Any = None) -> Axes:
    """Draw the importance weights from the largest to the smallest, in units of their mean.

    Weights of q near p* lie on a line at one. A line that climbs steeply at its left end is one of
    few draws that count for many.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes, with k̂ and ESS as their title.
    """
    panel = one_panel(axes, 3.0)
    panel.set_title(
        f"k̂ = {fit.khat:.2f}, ESS {fit.ess:.0f} of {fit.n_draws} draws of q",
        loc="left",
        fontsize="medium",
    )
    lines = [("its wider proposal", fit.log_weights, BLUE), ("q", fit.log_w, VERMILION)]
    for label, log_w, colour in lines:
        w = np.sort(weights.normalised(log_w) * len(log_w))[::-1]
        if np.isnan(w).any():
            return write_in_panel(
                panel, "the weights are not known:\np̂ is undefined, or zero, at draws of q"
            )
        seen = np.flatnonzero(w >= SMALLEST)
        panel.plot(seen + 1, w[seen], color=colour, linewidth=1.6, label=f"draws of {label}")
    panel.axhline(1.0, color=GREY, linewidth=1, linestyle=":")
    panel.axvline(LEAST_ESS, color=GREY, linewidth=1, linestyle=":")
    panel.set(xscale="log", yscale="log", xlim=(1, len(fit.log_p)))
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.1), max(high, 10.0))
    panel.set(xlabel="draws, the heaviest first", ylabel="weight / mean weight")
    panel.legend(frameon=False, loc="lower left")
    return panel


def _plateau(elbo: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """Ends of an axis on which the second half of a trace can be read."""
    late = np.append(elbo[len(elbo) // 2 :], end[len(elbo) :])
    high, least = float(end.max()), float(late.min())
    span = max(high - least, LEAST_HEIGHT / PLATEAU)
    low = max(float(end.min()), high - PLATEAU * span)
    margin = max(0.08 * (high - low), (LEAST_HEIGHT - (high - low)) / 2)
    return low - margin, high + margin
