"""The picture of a posterior predictive check: observed data over replicated data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from infimum.answer.answer import Answer
from infimum.answer.predict import predict
from infimum.base.errors import coded_error
from infimum.plots.axes import (
    BLUE,
    MOST_SINGLE,
    VERMILION,
    AxesLike,
    Style,
    one_panel,
    short_name,
    tints,
)

REPLICATES = 400
"""Data sets that are drawn from the posterior predictive."""

MOST_BARS = 30
"""Bars of a histogram of observations, at most."""

INTERVAL_MASS = 0.9
"""Mass of the predictive intervals."""


def plot_predictions(
    fit: Answer,
    site: str | None = None,
    *,
    predicted: Mapping[str, np.ndarray] | None = None,
    axes: AxesLike | None = None,
) -> Axes:
    """Draw observed data over data that the fit predicts: a posterior predictive check.

    Up to 40 observations are drawn each with its predictive interval. Of more observations the
    histogram is compared.

    Parameters
    ----------
    fit
        A fit of a model with data; not one that was loaded from disk.
    site
        The observed site; the first by default.
    predicted
        What `infimum.predict` returned for the fit; by default the prediction of 400 draws, which
        are weighted if the verdict is "reweight".
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes; their title is the share of observations within their interval.

    Raises
    ------
    ValueError
        If the model has no such observations, or does not predict them.
    """
    name, data, drawn = _data_and_draws(fit, site, predicted)
    panel = one_panel(axes, 3.0)
    tail = (1 - INTERVAL_MASS) / 2
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail], axis=0)
    within = np.mean((low <= data) & (data <= high))
    title = f"{within:.0%} of {len(data):,} observations within their {INTERVAL_MASS:.0%} interval"
    panel.set_title(title, loc="left", fontsize="medium")
    if len(data) <= MOST_SINGLE:
        x = np.arange(len(data))
        panel.vlines(x, low, high, color=tints(2)[1], linewidth=4, label="replicated")
        panel.plot(x, middle, "_", color=BLUE, markersize=7)
        panel.plot(x, data, "o", color=VERMILION, markersize=5, label="observed")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.set(xlabel="observation", ylabel=short_name(name))
    else:
        _draw_distributions(panel, data, drawn)
        panel.set(xlabel=short_name(name), ylabel="share of the data")
    bottom, top = panel.get_ylim()
    panel.set_ylim(bottom, top + 0.25 * (top - bottom))
    panel.legend(frameon=False, loc="upper right", ncols=2)
    return panel


def _data_and_draws(
    fit: Answer, site: str | None, predicted: Mapping[str, np.ndarray] | None
) -> tuple[str, Float[np.ndarray, " n"], Float[np.ndarray, "m n"]]:
    """The name of an observed site, its finite data, and as many predictions of each datum."""
    observed = fit.model.observed()
    name = next(iter(observed), None) if site is None else site
    if name is None or name not in observed:
        raise coded_error(
            ValueError,
            "E905",
            f"no observed site {site!r}; observed: {', '.join(observed) or 'none'}",
        )
    predicted = replicated_data(fit) if predicted is None else predicted
    data = np.ravel(np.asarray(observed[name], float))
    drawn = np.asarray(predicted.get(name, np.zeros(0)), float)
    if drawn.size != len(drawn) * len(data) or not drawn.size:
        raise coded_error(
            ValueError,
            "E905",
            f"the model does not predict its observed site {name!r}: let the model sample this "
            "site if its data are not given",
        )
    finite = np.isfinite(data)
    return name, data[finite], drawn.reshape(len(drawn), -1)[:, finite]


def replicated_data(fit: Answer) -> dict[str, np.ndarray]:
    """Data sets from the posterior predictive; draws are weighted if the verdict is "reweight"."""
    return predict(fit, n=REPLICATES, seed=fit.seed, weighted=fit.verdict == "reweight")


def _draw_distributions(panel: Axes, data: np.ndarray, drawn: np.ndarray) -> None:
    """Draw the histogram of data over the band of the histograms of replicated data."""
    edges = _edges(data, drawn)
    share = [np.histogram(np.clip(row, *edges[[0, -1]]), edges)[0] / len(data) for row in drawn]
    tail = (1 - INTERVAL_MASS) / 2
    low, high = np.quantile(share, [tail, 1 - tail], axis=0)
    style: Style = {"color": tints(2)[1], "linewidth": 0, "label": "replicated"}
    panel.bar(edges[:-1], high - low, np.diff(edges), low, align="edge", **style)
    panel.stairs(np.histogram(data, edges)[0] / len(data), edges, color=VERMILION, linewidth=1.4)
    panel.plot([], [], color=VERMILION, linewidth=1.4, label="observed")
    panel.set_ylim(bottom=0)


def _edges(data: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Ends of the bars of a histogram: one bar for each whole number if they are few."""
    low, high = np.quantile(drawn, [0.001, 0.999])
    low, high = min(low, data.min()), max(high, data.max())
    whole = np.all(data == np.round(data)) and np.all(drawn == np.round(drawn))
    if whole:
        step = max(1, -(-int(high - low + 1) // MOST_BARS))
        return np.arange(np.floor(low), high + step + 0.5, step) - 0.5
    return np.linspace(low, high, MOST_BARS + 1)
