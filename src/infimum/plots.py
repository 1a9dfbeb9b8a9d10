"""Pictures: q over p*, families, what each rung of a climb cost, and how a fit was checked.

p* is blue and filled, q is vermilion lines (Okabe & Ito 2008, told apart in grey too). Both are
drawn at the highest-density regions that hold the same mass, so that where lines and fill part, Q
can't cover p*.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from infimum import _uniformity
from infimum._calibrate import LEAST, Calibration
from infimum._errors import coded
from infimum._family import SparseGaussian
from infimum._fit import Fit
from infimum._predict import predict
from infimum._record import Route
from infimum._scene import Density, Scene, chosen, compose
from infimum._space import positions
from infimum.checks import weights
from infimum.checks.quantities import FEWEST_EFFECTIVE
from infimum.checks.weights import Estimate

if TYPE_CHECKING:
    from infimum._climb import Climb

MASSES = (0.5, 0.9)
"""Mass inside the contours of a pair of quantities."""

FAMILY_MASSES = (0.2, 0.5, 0.8, 0.95)
"""Mass inside the contours where families are compared: their shape is the point there."""

FEW = 4
"""Quantities drawn by default: those where q is worst."""

POINTS = 1000
"""Reweighted draws in a scatter."""

NEGLIGIBLE = 0.01
"""Nats of KL that a solver's tolerance may leave: more than that is the family's distance."""

NOTHING = 0.001
"""Nats of KL that no picture shows: below them q and p* are said to coincide."""

LABELLED = 6
"""Quantities that are named where their ranks leave the band: the worst of them."""

MARGINALS = 12
"""Quantities whose marginals are drawn by default: the worst, three rows of four."""

PLATEAU = 20.0
"""A trace is drawn this many times as high as its second half, so that the end of it is seen."""

LEAST_HEIGHT = 0.2
"""Nats that the axis of a trace spans at least."""

SMALLEST = 1e-4
"""Importance weight, in units of their mean, below which none is drawn."""

REPLICATES = 400
"""Data sets drawn from the posterior predictive."""

SINGLE = 40
"""Observations up to which each is drawn with its interval; of more the distribution is."""

LONGEST, WRAP = 24, 60
"""Letters of a name over a small picture, and of a line over a large one."""

BARS = 30
"""Bars of a histogram of observations."""

PREDICTED = 0.9
"""Mass of the predictive intervals."""

SQUARE = 200.0
"""Points that a side of a matrix takes in print."""

MANY_MARKS = 5_000
"""Marks above which a vector file holds their picture in place of them."""

LEAST_CORRELATION = 0.1
"""Correlation at which colours are full, at least: what is next to nothing looks like that."""

CROWDED = 25
"""Names that a side of a matrix has room for."""

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#595959"


# ---- the pictures --------------------------------------------------------------------------------


def plot_fit(
    fit: Fit,
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
    masses, k = _checked(masses), len(scene.labels)
    panels = _panels(axes, (k, k), (4.8, 3.6) if k == 1 else (1.6 * k + 2.2,) * 2)
    limits = [_limits([scene.q(i), scene.p(i)]) for i in range(k)]
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
        panels[0, 0].figure.suptitle(_headline(scene), x=0.01, ha="left", fontsize="medium")
    else:
        panels[0, 0].set_title(_headline(scene), loc="left", fontsize="medium")
    if k == 1:
        _explain(panels[0, 0], scene, (), loc="best")
    else:
        _explain(panels[0, 1], scene, masses, loc="upper left", alignment="left")
    return panels


def plot_families(
    fits: Sequence[Fit], names: Sequence[str] | None = None, *, axes: Any = None
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
    panels = _panels(axes, (len(fits),), (3.2 * len(fits) + 0.5, 4.1))
    limits = [_limits([truth.p(i), *(scene.q(i) for scene in scenes)]) for i in range(k)]
    for panel, scene in zip(panels, scenes, strict=True):
        if k == 1:
            _draw_marginal(panel, scene.q(0), truth.p(0), limits[0])
        else:
            _draw_pair(panel, scene.q(0, 1), truth.p(0, 1), FAMILY_MASSES)
            panel.set(xlim=limits[0], ylim=limits[1])
            panel.set_ylabel(scene.labels[1] if panel is panels[0] else "")
            panel.tick_params(labelleft=panel is panels[0])
        panel.set_xlabel(scene.labels[0])
        _tell_distance(panel, scene.fit)
    masses = FAMILY_MASSES if k == 2 else ()
    if axes is None:
        gap, place = "\n" if len(fits) == 1 else " ", {"loc": "outside lower center", "ncols": 2}
        _explain(panels[0].figure, truth, masses, gap, **place)
    else:
        _explain(panels[-1], truth, masses, loc="lower right")
    return panels


def plot_climb(climb: Climb | Route, *, axes: Any = None) -> Axes:
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
    panel = _panel(axes, 3.6)
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


def plot_ranks(
    calibration: Calibration, names: Sequence[str] | None = None, *, axes: Any = None
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
    panel = _panel(axes, 3.6)
    n, levels = len(calibration.ranks), calibration.n_draws + 1
    band = _uniformity.band(n, levels, LEAST / len(known))
    x = np.pad(band.level, 1, constant_values=(0, 1))
    low, high = (np.pad(edge - band.level, 1) for edge in (band.low, band.high))
    panel.fill_between(x, low, high, color=tints(2)[0], linewidth=0, label="uniform ranks")
    p_value = calibration.table()["p_value"].to_numpy()
    share = _uniformity.cumulative(calibration.ranks, levels) / n
    for rank, i in enumerate(sorted(chosen, key=lambda i: p_value[i])):
        outside = np.any((share[i] < band.low) | (share[i] > band.high))
        style: Any = {"color": VERMILION, "zorder": 3} if outside else {"color": GREY, "alpha": 0.6}
        label = known[i] if outside and rank < LABELLED else None
        panel.plot(x, np.pad(share[i] - band.level, 1), linewidth=1.2, label=label, **style)
    _tell_calibration(panel, calibration)
    return panel


def plot_marginals(fit: Fit, names: Sequence[str] | None = None, *, axes: Any = None) -> np.ndarray:
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
    panels = _grid(k) if axes is None else _panels(axes, (k,), (0, 0))
    for i, panel in enumerate(panels):
        q, p = scene.q(i), scene.p(i)
        _draw_marginal(panel, q, p, _limits([q, p]))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.spines[["top", "right", "left"]].set_visible(False)
        told = f"{_short(scene.labels[i])}: {fit.verdicts[places[i]]}"
        panel.set_title(told, loc="left", fontsize="medium")
    if axes is None:
        _explain(panels[0].figure, scene, (), loc="outside lower center", ncols=2)
    return panels


def plot_trace(fit: Fit, *, axes: Any = None) -> Axes:
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
    panel = _panel(axes, 3.0)
    panel.set_title(textwrap.fill(fit.reason.value, WRAP), loc="left", fontsize="medium")
    trace = np.array([step for step in fit.trace if np.isfinite(step[1])], float)
    if not len(trace):
        return _say(panel, "no trace of the ELBO is known")
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


def plot_weights(fit: Fit, *, axes: Any = None) -> Axes:
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
    panel = _panel(axes, 3.0)
    panel.set_title(
        f"k̂ = {fit.khat:.2f}, ESS {fit.ess:.0f} of {fit.n_draws} draws of q",
        loc="left",
        fontsize="medium",
    )
    lines = [("its wider proposal", fit.log_weights, BLUE), ("q", fit.log_w, VERMILION)]
    for label, log_w, colour in lines:
        w = np.sort(weights.normalised(log_w) * len(log_w))[::-1]
        if np.isnan(w).any():
            return _say(panel, "the weights are not known:\np̂ is undefined, or zero, at draws of q")
        seen = np.flatnonzero(w >= SMALLEST)
        panel.plot(seen + 1, w[seen], color=colour, linewidth=1.6, label=f"draws of {label}")
    panel.axhline(1.0, color=GREY, linewidth=1, linestyle=":")
    panel.axvline(FEWEST_EFFECTIVE, color=GREY, linewidth=1, linestyle=":")
    panel.set(xscale="log", yscale="log", xlim=(1, len(fit.log_p)))
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, 0.1), max(high, 10.0))
    panel.set(xlabel="draws, the heaviest first", ylabel="weight / mean weight")
    panel.legend(frameon=False, loc="lower left")
    return panel


def plot_predictions(
    fit: Fit,
    site: str | None = None,
    *,
    predicted: Mapping[str, np.ndarray] | None = None,
    axes: Any = None,
) -> Axes:
    """Draw observed data over what the fit predicts in their place: a posterior predictive check.

    Up to 40 observations each have their interval; of more it is the distribution that is compared.

    Parameters
    ----------
    fit
        A fit of a model with data, not loaded from disk.
    site
        Which observed site; the first by default.
    predicted
        What `infimum.predict` gave for it; by default that of 400 draws, weighted where the verdict
        is to reweight.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes, with the share of observations within their interval as the title.

    Raises
    ------
    ValueError
        If the model has no such observations, or does not predict them.
    """
    observed = fit.model.observed()
    name = next(iter(observed), None) if site is None else site
    if name is None or name not in observed:
        raise ValueError(
            coded(
                "E905",
                f"there is no observed site {site!r}; observed: {', '.join(observed) or 'none'}",
            )
        )
    if predicted is None:
        predicted = replicated(fit)
    data = np.ravel(np.asarray(observed[name], float))
    drawn = np.asarray(predicted.get(name, np.zeros(0)), float)
    if drawn.size != len(drawn) * len(data) or not drawn.size:
        raise ValueError(
            coded(
                "E905",
                f"the model does not predict its observed site {name!r}: let it sample that where "
                "it is not given",
            )
        )
    drawn, panel = drawn.reshape(len(drawn), -1), _panel(axes, 3.0)
    drawn, data = drawn[:, np.isfinite(data)], data[np.isfinite(data)]
    tail = (1 - PREDICTED) / 2
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1 - tail], axis=0)
    within = np.mean((low <= data) & (data <= high))
    told = f"{within:.0%} of {len(data):,} observations within their {PREDICTED:.0%} interval"
    panel.set_title(told, loc="left", fontsize="medium")
    if len(data) <= SINGLE:
        x = np.arange(len(data))
        panel.vlines(x, low, high, color=tints(2)[1], linewidth=4, label="replicated")
        panel.plot(x, middle, "_", color=BLUE, markersize=7)
        panel.plot(x, data, "o", color=VERMILION, markersize=5, label="observed")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.set(xlabel="observation", ylabel=_short(name))
    else:
        _draw_distributions(panel, data, drawn)
        panel.set(xlabel=_short(name), ylabel="share of the data")
    bottom, top = panel.get_ylim()
    panel.set_ylim(bottom, top + 0.25 * (top - bottom))
    panel.legend(frameon=False, loc="upper right", ncols=2)
    return panel


def plot_sparsity(fit: Fit, *, axes: Any = None) -> np.ndarray:
    """Draw which coordinates of a sparse Gaussian depend on each other, and how they correlate.

    Parameters
    ----------
    fit
        Of the family "sparse"; it may have been loaded from disk.
    axes
        Two, for partial correlations, of two coordinates given all others, and for correlations in
        the same places; a new figure by default.

    Returns
    -------
    The two axes. A place without a mark is an exact zero of the precision.

    Raises
    ------
    ValueError
        For another family, which has no pattern.
    """
    q = fit.q
    if not isinstance(q, SparseGaussian):
        raise ValueError(
            coded(
                "E225",
                f"the family is {fit.family.name!r}, which has no pattern: fit with "
                'family="sparse"',
            )
        )
    panels = _panels(axes, (2,), (9.2, 4.4))
    row, column = np.asarray(q.edges)
    share = (q.dim + 2 * len(row)) / q.dim**2
    titles = (
        f"partial correlations; {100 * share:.2g} % of the precision is not zero",
        "correlations in the same places",
    )
    for panel, values, title in zip(panels, (q.precision(), q.covariances()), titles, strict=True):
        own, pairs = values[: q.dim], values[q.dim :]
        marks = pairs / np.sqrt(own[row] * own[column]) * (-1 if panel is panels[0] else 1)
        _mark(panel, q.dim, row, column, marks)
        _name_coordinates(panel, fit.space.free_names)
        panel.set_title(title, loc="left", fontsize="medium")
    return panels


def replicated(fit: Fit) -> dict[str, np.ndarray]:
    """Data sets from the fit's posterior predictive, weighted where the verdict is to reweight."""
    return predict(fit, n=REPLICATES, seed=fit.seed, weighted=fit.verdict == "reweight")


# ---- how it is drawn -----------------------------------------------------------------------------


def _panels(axes: Any, shape: tuple[int, ...], size: tuple[float, float]) -> np.ndarray:
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


def _panel(axes: Any, height: float) -> Axes:
    """The caller's axes, or those of a new figure, without a frame above and at the right."""
    panel: Axes = _panels(axes, (1,), (5.4, height))[0]
    panel.spines[["top", "right"]].set_visible(False)
    return panel


def _grid(k: int) -> np.ndarray:
    """Axes for k small pictures in rows of at most four."""
    columns = min(k, 4)
    rows = -(-k // columns)
    size = (2.3 * columns + 0.4, 1.7 * rows + 0.5)
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[k:]:
        spare.set_axis_off()
    return np.asarray(axes.flat[:k], dtype=object)


def _short(name: str) -> str:
    """A name that fits over a small picture."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _say(panel: Axes, told: str) -> Axes:
    """Words in the place of a picture."""
    panel.text(0.5, 0.5, told, transform=panel.transAxes, ha="center", va="center", color=GREY)
    panel.set(xticks=[], yticks=[])
    return panel


def _plateau(elbo: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """Ends of an axis on which the second half of a trace can be read."""
    late = np.append(elbo[len(elbo) // 2 :], end[len(elbo) :])
    high, least = float(end.max()), float(late.min())
    span = max(high - least, LEAST_HEIGHT / PLATEAU)
    low = max(float(end.min()), high - PLATEAU * span)
    margin = max(0.08 * (high - low), (LEAST_HEIGHT - (high - low)) / 2)
    return low - margin, high + margin


def _draw_distributions(panel: Axes, data: np.ndarray, drawn: np.ndarray) -> None:
    """The histogram of data, over the band of those of replicated data."""
    edges = _edges(data, drawn)
    share = [np.histogram(np.clip(row, *edges[[0, -1]]), edges)[0] / len(data) for row in drawn]
    tail = (1 - PREDICTED) / 2
    low, high = np.quantile(share, [tail, 1 - tail], axis=0)
    style: Any = {"color": tints(2)[1], "linewidth": 0, "label": "replicated"}
    panel.bar(edges[:-1], high - low, np.diff(edges), low, align="edge", **style)
    panel.stairs(np.histogram(data, edges)[0] / len(data), edges, color=VERMILION, linewidth=1.4)
    panel.plot([], [], color=VERMILION, linewidth=1.4, label="observed")
    panel.set_ylim(bottom=0)


def _edges(data: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Ends of the bars of a histogram: one for each of a few whole numbers, or `BARS` of them."""
    low, high = np.quantile(drawn, [0.001, 0.999])
    low, high = min(low, data.min()), max(high, data.max())
    whole = np.all(data == np.round(data)) and np.all(drawn == np.round(drawn))
    if whole:
        step = max(1, -(-int(high - low + 1) // BARS))
        return np.arange(np.floor(low), high + step + 0.5, step) - 0.5
    return np.linspace(low, high, BARS + 1)


def _checked(masses: Sequence[float]) -> list[float]:
    given = sorted({float(mass) for mass in masses})
    if not given or not 0 < given[0] <= given[-1] < 1:
        raise ValueError(coded("E906", f"masses are {masses!r}, expected numbers between 0 and 1"))
    return given


def _limits(densities: Sequence[Density | None]) -> tuple[float, float]:
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


def _mark(panel: Axes, dim: int, row: np.ndarray, column: np.ndarray, values: np.ndarray) -> None:
    """A mark at each pair of coordinates, on both sides of a grey diagonal, and their colours."""
    size = max(SQUARE / dim, 1.0) ** 2
    style: Any = {"marker": "s", "linewidth": 0, "rasterized": len(row) > MANY_MARKS}
    panel.scatter(range(dim), range(dim), size, GREY, alpha=0.5, **style)
    most = max(float(np.abs(values).max(initial=0.0)), LEAST_CORRELATION)
    colours = LinearSegmentedColormap.from_list("", [VERMILION, "#ffffff", BLUE])
    drawn = panel.scatter(
        np.append(column, row),
        np.append(row, column),
        size,
        np.append(values, values),
        cmap=colours,
        vmin=-most,
        vmax=most,
        **style,
    )
    panel.figure.colorbar(drawn, ax=panel, shrink=0.8)
    panel.set(xlim=(-0.5, dim - 0.5), ylim=(dim - 0.5, -0.5), aspect="equal")


def _name_coordinates(panel: Axes, names: Sequence[str]) -> None:
    """Names of parameters amid their coordinates; those that are close stand as one."""
    owners = np.array([name.split("[")[0] for name in names])
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    middle = (first + np.append(first[1:], len(owners)) - 1) / 2
    places, labels = list[float](), list[list[str]]()
    for place, i in zip(middle, first, strict=True):
        if places and place - places[-1] < len(owners) / CROWDED:
            labels[-1].append(str(owners[i]))
        else:
            places.append(float(place))
            labels.append([str(owners[i])])
    told = [_short(", ".join(close)) for close in labels]
    panel.set_xticks(places, told, rotation=45, ha="right")
    panel.set_yticks(places, told)


def _explain(
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


def _headline(scene: Scene) -> str:
    fit = scene.fit
    if np.isfinite(fit.kl.value):
        return f"{fit.family.name}: KL[q ‖ p*] {_nats(fit.kl)}, verdict: {fit.verdict}"
    alone = ": q alone is drawn" if scene.p(0) is None else ""
    return f"{fit.family.name}: KL[q ‖ p*] unknown,\np̂ is undefined or zero at draws from q{alone}"


def _nats(estimate: Estimate) -> str:
    small = estimate.value + 2 * estimate.se < NOTHING
    return f"< {NOTHING} nats" if small else f"= {estimate} nats"


def _tell_distance(panel: Axes, fit: Fit) -> None:
    """Say what theory says of this panel, where the estimate of the KL is clear about it."""
    kl, claim = fit.kl, ""
    if kl.value - 2 * kl.se > NEGLIGIBLE:
        claim = "p* ∉ Q: a distance is left"
    elif kl.value + 2 * kl.se < NOTHING and fit.verdict == "good":
        claim = "p* ∈ Q: the two coincide"
    panel.set_title(fit.family.name, fontweight="bold")
    told = [claim, f"KL[q ‖ p*] {_nats(kl)}" if np.isfinite(kl.value) else "KL[q ‖ p*] unknown"]
    if fit.verdict == "unreliable" and np.isfinite(kl.value):
        told.append("unreliable: it may be larger")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.1 * (high - low) * sum(map(bool, told)))
    panel.text(
        0.5, 0.975, "\n".join(filter(None, told)), transform=panel.transAxes, ha="center", va="top"
    )


def _name_rungs(panel: Axes, route: Route, x: np.ndarray, y: np.ndarray) -> None:
    """A name at each point; one that would cover the name before it goes above it."""
    before, lift = np.full(2, -np.inf), 0.0
    for rung, place in zip(route.rungs, zip(x, y, strict=True), strict=True):
        told = _nats(rung.kl) if np.isfinite(rung.kl.value) else "unknown"
        text = f"{rung.family}: {told.removeprefix('= ')}"
        here = panel.transAxes.inverted().transform(panel.transData.transform(place))
        close = abs(here[1] - before[1]) < 0.08 and here[0] - before[0] < 0.5
        before, lift = here, lift + 13.0 if close else 0.0
        panel.annotate(text, place, (7, 5 + lift), textcoords="offset points")


def _tell_calibration(panel: Axes, calibration: Calibration) -> None:
    """What the axes are, and what came out."""
    panel.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    panel.set(xlim=(0, 1), xlabel="rank of the true value among the draws, as a share")
    panel.set_ylabel("ECDF of the ranks - uniform")
    verdict = "passed" if calibration.passed else "failed"
    told = f"{calibration.family}, {len(calibration.ranks)} data sets: {verdict}"
    panel.set_title(told, loc="left", fontsize="medium")
    panel.legend(frameon=False, fontsize="small", loc="upper right")
