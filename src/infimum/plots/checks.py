"""Pictures of the checks behind a fit: the trace of its ELBO, and its importance weights."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infimum.answer.answer import Answer
from infimum.checks import weights
from infimum.checks.quantities import LEAST_ESS
from infimum.plots.axes import (
    BLUE,
    GREY,
    MOST_SINGLE,
    TITLE_WIDTH,
    VERMILION,
    AxesLike,
    Style,
    one_panel,
    write_in_panel,
)

HEIGHT_FACTOR = 20.0
"""Height of a trace's axis, in units of its second half's range, so that the end is visible."""

LEAST_HEIGHT = 0.2
"""Nats that a trace's axis spans at least."""

SMALLEST_WEIGHT = 1e-4
"""Smallest importance weight that is drawn, in units of the mean weight."""


def plot_trace(fit: Answer, *, axes: AxesLike | None = None) -> Axes:
    """Draw the estimated ELBO against the gradients spent, from the start of the fit to its end.

    Parameters
    ----------
    fit
        What to draw; it may have been loaded from disk.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes; their title says why the fit stopped. Values far below the last ones are cut off.
    """
    panel = one_panel(axes, 3.0)
    panel.set_title(textwrap.fill(fit.reason.value, TITLE_WIDTH), loc="left", fontsize="medium")
    trace = np.array([step for step in fit.trace if np.isfinite(step[1])], float)
    if not len(trace):
        return write_in_panel(panel, "no trace of the ELBO is known")
    gradients, elbo = trace.T
    style: Style = {"marker": "o", "markersize": 3} if len(trace) <= MOST_SINGLE else {}
    label = f"during the fit, from {elbo[0]:,.4g}"
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


def plot_weights(fit: Answer, *, axes: AxesLike | None = None) -> Axes:
    """Draw the importance weights from the largest to the smallest, in units of their mean.

    If q is near p*, all weights are near one. A line that is steep at its left end shows that a few
    draws count as much as many others.

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
        drawn = np.flatnonzero(w >= SMALLEST_WEIGHT)
        panel.plot(drawn + 1, w[drawn], color=colour, linewidth=1.6, label=f"draws of {label}")
    panel.axhline(1.0, color=GREY, linewidth=1, linestyle=":")
    panel.axvline(LEAST_ESS, color=GREY, linewidth=1, linestyle=":")
    panel.set(xscale="log", yscale="log", xlim=(1, len(fit.log_p)))
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.1), max(high, 10.0))
    panel.set(xlabel="draws, the heaviest first", ylabel="weight / mean weight")
    panel.legend(frameon=False, loc="lower left")
    return panel


def _plateau(elbo: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """Ends of the axis on which the second half of a trace can be read.

    Parameters
    ----------
    elbo
        The trace.
    end
        The trace, and the ELBO by fresh draws if it is known.
    """
    late = np.append(elbo[len(elbo) // 2 :], end[len(elbo) :])
    high, least = float(end.max()), float(late.min())
    span = max(high - least, LEAST_HEIGHT / HEIGHT_FACTOR)
    low = max(float(end.min()), high - HEIGHT_FACTOR * span)
    margin = max(0.08 * (high - low), (LEAST_HEIGHT - (high - low)) / 2)
    return low - margin, high + margin
