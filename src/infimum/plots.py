"""Pictures: q over p*, family beside family, and what each rung of a climb cost.

p* is blue and filled, q is vermilion lines (Okabe & Ito 2008, told apart in grey too). Both are
drawn at the highest-density regions that hold the same mass, so that where lines and fill part, Q
can't cover p*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from infimum._family import Gaussian
from infimum._fit import Fit
from infimum._loop import CHECK_STREAM
from infimum._objective import log_density
from infimum.checks import weights
from infimum.checks.weights import Estimate
from infimum.supports import Support

if TYPE_CHECKING:
    from infimum._climb import Climb

MASSES = (0.5, 0.9)
"""Mass inside the contours of a pair of quantities."""

FAMILY_MASSES = (0.2, 0.5, 0.8, 0.95)
"""Mass inside the contours where families are compared: their shape is the point there."""

FEW = 4
"""Quantities drawn by default: those where q is worst."""

MOST = 12
"""Quantities that fit into one picture, of 78 panels."""

VIEW = 0.98
"""Mass of each quantity that is in view, of q and of p* alike."""

NODES = 128
"""Nodes of a grid on each axis: 128² values of log p̂ come from the fit's own compiled program."""

EDGE = 5e-4
"""Mass of p* near one edge of an exact grid above which the grid grows on that side."""

POINTS = 1000
"""Reweighted draws in a scatter."""

NEGLIGIBLE = 0.01
"""Nats of KL below which q and p* are said to coincide: what a solver's tolerance may leave."""

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

    Where the quantities are all of one or two coordinates and the target is at hand, p* is exact,
    by 128 or 128² evaluations of log p̂; otherwise it is the reweighted draws, smoothed. A Gaussian
    q is exact in quantities that are coordinates of their own.

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
    scene = _scene(fit, _chosen(fit, names, FEW))
    masses, k = _checked(masses), len(scene.labels)
    panels = _panels(axes, (k, k), (4.8, 3.6) if k == 1 else (1.7 * k + 0.9,) * 2)
    limits = [_limits([scene.q(i), scene.p(i)]) for i in range(k)]
    for i in range(k):
        _draw_marginal(panels[i, i], scene.q(i), scene.p(i), limits[i])
        for j in range(i):
            panels[j, i].set_axis_off()
            if scene.exact is None:
                _scatter(panels[i, j], scene, j, i)
            _draw_pair(panels[i, j], scene.q(j, i), scene.p(j, i), masses)
            panels[i, j].set(xlim=limits[j], ylim=limits[i])
    _label(panels, scene.labels)
    panels[0, 0].set_title(_headline(scene), loc="left", fontsize="medium")
    legend = {"frameon": False, "fontsize": "small", "handler_map": {tuple: HandlerTuple(None, 0)}}
    place = {"loc": "best"} if k == 1 else {"loc": "upper left", "borderaxespad": 0.0}
    panels[0, k > 1].legend(*_key(scene, masses if k > 1 else ()), **legend, **place)
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
        raise ValueError("expected fits of one target: at least one, all with the same quantities")
    places = _chosen(fits[0], names, 2)
    scenes = [_scene(fit, places) for fit in fits]
    k = len(scenes[0].labels)
    if k > 2:
        raise ValueError(f"{names!r} are {k} quantities: families are compared on one or two")
    truth = max(scenes, key=lambda scene: (scene.exact is not None, scene.trust))
    panels = _panels(axes, (len(fits),), (3.1 * len(fits) + 0.5, 3.9))
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
    handles, labels = _key(truth, FAMILY_MASSES if k == 2 else ())
    style = {"frameon": False, "handler_map": {tuple: HandlerTuple(None, 0)}}
    if axes is None:
        panels[0].figure.legend(handles, labels, loc="outside lower center", ncols=2, **style)
    else:
        panels[-1].legend(handles, labels, loc="lower right", fontsize="small", **style)
    return panels


def plot_climb(climb: Climb, *, axes: Any = None) -> Axes:
    """Draw the KL that is left against the seconds spent so far, a point for each rung.

    Parameters
    ----------
    climb
        What `infimum.climb` returned.
    axes
        Where to draw; a new figure by default.

    Returns
    -------
    The axes. A hollow point is a KL that its weights do not support.
    """
    panel = _panels(axes, (1,), (5.4, 3.6))[0]
    seconds = np.cumsum([f.work.compile_seconds + f.work.run_seconds for f in climb.fits])
    kl = np.array([fit.kl.value for fit in climb.fits])
    known = np.isfinite(kl)
    panel.plot(seconds[known], kl[known], color=GREY, linewidth=1, zorder=1)
    for fit, x, y in zip(climb.fits, seconds, kl, strict=True):
        if not np.isfinite(y):
            panel.axvline(x, color=GREY, linewidth=1, linestyle=":")
            _note(panel, f"{fit.family.name}\nKL unknown", (x, 0.5), panel.get_xaxis_transform())
            continue
        hollow = {"markerfacecolor": "white"} if fit.verdict == "unreliable" else {}
        error = 2 * fit.kl.se if np.isfinite(fit.kl.se) else 0.0
        style = {"color": VERMILION, "capsize": 3, "markersize": 7, "clip_on": False, **hollow}
        panel.errorbar(x, y, error, fmt="o", zorder=3, **style)
        _note(panel, f"{fit.family.name}\n{_nats(fit.kl)}", (x, y), panel.transData)
    top = float(np.nanmax(kl, initial=0.0))
    if top > 10 * NEGLIGIBLE:
        panel.set_yscale("symlog", linthresh=NEGLIGIBLE, linscale=0.5)
    panel.set_ylim(0, 3 * top if top > 10 * NEGLIGIBLE else 1.3 * max(top, NEGLIGIBLE))
    panel.set_xlim(0, 1.35 * seconds[-1])
    panel.set_xlabel("seconds spent, compiling included")
    panel.set_ylabel("KL[q ‖ p*] left, in nats")
    panel.spines[["top", "right"]].set_visible(False)
    told = [f"{name} skipped: {why}" for name, why in climb.skipped]
    if any(fit.verdict == "unreliable" for fit in climb.fits):
        told.append("hollow: unreliable, the KL may be larger")
    panel.set_title("\n".join(told), loc="left", fontsize="small", color=GREY)
    return panel


# ---- what is drawn -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Density:
    """A density of one or two quantities on the nodes of a grid.

    Attributes
    ----------
    nodes
        Values of each quantity.
    mass
        Mass of each node; they sum to one.
    height
        Density per unit of the quantities.
    """

    nodes: tuple[np.ndarray, ...]
    mass: np.ndarray
    height: np.ndarray

    def levels(self, masses: Sequence[float]) -> np.ndarray:
        """Heights above which these masses lie, lowest first: highest-density regions."""
        order = np.argsort(self.height, axis=None)[::-1]
        held = np.cumsum(self.mass.ravel()[order])
        return np.interp(sorted(masses, reverse=True), held, self.height.ravel()[order])

    def span(self) -> tuple[float, float]:
        """Ends of the region of one quantity that is in view."""
        inside = self.nodes[0][self.height >= self.levels([VIEW])[0]]
        return float(inside.min()), float(inside.max())


@dataclass(frozen=True, eq=False)
class _Scene:
    """Quantities of a fit, and the densities of q and of p* over them.

    Everything is smoothed, or evaluated, in the coordinate of z behind a quantity where it has one
    of its own: there it has no bounds.

    Attributes
    ----------
    labels, coordinates
        Of each quantity; coordinate None where it has none of its own.
    points, smooth
        Draws of the proposal, q's first: quantities, and what they are smoothed in. Shape (m, k).
    w
        The draws' weights; None where they can't be formed.
    nodes, drawn
        Nodes of the grid in what is smoothed and in quantities, shape (k, NODES).
    exact
        p*'s mass at the nodes of the grid over all of z, where there is one.
    """

    fit: Fit
    labels: list[str]
    coordinates: list[int | None]
    points: Float[np.ndarray, "m k"]
    smooth: Float[np.ndarray, "m k"]
    w: Float[np.ndarray, " m"] | None
    nodes: np.ndarray
    drawn: np.ndarray
    exact: np.ndarray | None

    @property
    def trust(self) -> float:
        """Effective number of draws that p* rests on."""
        return 0.0 if self.w is None else float(1 / np.sum(self.w**2))

    def q(self, *axes: int) -> _Density:
        """q over one or two of the quantities."""
        q, n, nodes = self.fit.q, self.fit.n_draws, self.nodes[list(axes)]
        coordinates = [c for c in map(self.coordinates.__getitem__, axes) if c is not None]
        if isinstance(q, Gaussian) and len(coordinates) == len(axes):
            return self._density(axes, _normal(q, coordinates, nodes))
        if self.exact is not None:
            mass = np.exp(log_density(q, _mesh(self.nodes))).reshape(self.exact.shape)
            return self._density(axes, self._over(axes, mass))
        draws = self.smooth[:n, list(axes)]
        return self._density(axes, _smoothed(draws, np.full(len(draws), 1 / len(draws)), nodes))

    def p(self, *axes: int) -> _Density | None:
        """p* over one or two of the quantities; None if it is not known."""
        if self.exact is not None:
            return self._density(axes, self._over(axes, self.exact))
        if self.w is None:
            return None
        chosen = list(axes)
        return self._density(axes, _smoothed(self.smooth[:, chosen], self.w, self.nodes[chosen]))

    def _over(self, axes: tuple[int, ...], mass: np.ndarray) -> np.ndarray:
        return mass.sum(axis=tuple(i for i in range(mass.ndim) if i not in axes))

    def _density(self, axes: tuple[int, ...], mass: np.ndarray) -> _Density:
        mass = mass / mass.sum()
        cell = np.ones(())
        for i in axes:
            cell = np.multiply.outer(cell, np.abs(np.gradient(self.drawn[i])))
        height = np.divide(mass, cell, out=np.zeros_like(mass), where=cell > 0)
        return _Density(tuple(self.drawn[i] for i in axes), mass, height)


def _chosen(fit: Fit, names: Sequence[str] | None, few: int) -> list[int] | None:
    """Where the quantities to draw stand; None for the two coordinates of z themselves."""
    own = _coordinates(fit)
    if names is None and fit.target is not None and fit.q.dim == 2 and own != [0, 1]:
        return None
    table = fit.summary()
    constant = (table["sd"] <= 1e-12 * table["mean"].abs().clip(lower=1.0)).to_numpy()
    places = range(len(table)) if names is None else dict.fromkeys(fit.positions(names))
    varying = np.array([i for i in places if not constant[i]], dtype=int)
    if not len(varying):
        raise ValueError(f"{names!r} is constant: there is nothing to draw")
    if names is None and len(varying) > few:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1).to_numpy()[varying]
        varying = np.sort(varying[np.argsort(-error, kind="stable")[:few]])
    if len(varying) > MOST:
        raise ValueError(
            f"{len(varying)} quantities were asked for, at most {MOST} fit into one picture: "
            "name single entries, such as 'theta[0]'"
        )
    return [int(i) for i in varying]


def _coordinates(fit: Fit) -> list[int | None]:
    """The coordinate of z behind each scalar quantity that is a function of it alone."""
    if not fit._constrains:
        return [None] * len(fit.space.names)
    found: list[int | None] = []
    start = 0
    for leaf in fit.space.leaves:
        own = isinstance(leaf.support, Support) and leaf.support.event_dim == 0
        found += range(start, start + leaf.size) if own else [None] * len(leaf.scalars())
        start += leaf.size
    return found


def _scene(fit: Fit, places: list[int] | None) -> _Scene:
    """Draws, grid and, where it can be had, p* itself over the quantities at `places`."""
    d, labels = fit.q.dim, [f"{name} (unconstrained)" for name in fit.space.free_names]
    coordinates: list[int | None] = [0, 1]
    if places is not None:
        labels = [fit.space.names[i] for i in places]
        own = _coordinates(fit)
        coordinates = [own[i] for i in places]
    smooth = _draws(fit, places, coordinates)
    w = weights.normalised(fit.log_weights)
    known = None if np.isnan(w).any() else w
    nodes, exact = _nodes(smooth, known, fit.n_draws, coordinates), None
    if fit.target is not None and d <= 2 and set(coordinates) == set(range(d)):
        nodes, exact = _exact(fit.target.values, nodes, np.argsort(coordinates))
    drawn = nodes if places is None else _carried(fit, places, coordinates, nodes)
    return _Scene(fit, labels, coordinates, smooth, known, nodes, drawn, exact)


def _draws(
    fit: Fit, places: list[int] | None, coordinates: list[int | None]
) -> Float[np.ndarray, "m k"]:
    """Draws of the proposal: coordinates of z, quantities where there is none."""
    if not fit._constrains:
        return fit._proposed[0][:, places]
    chunks = []
    for z, *_ in fit.proposal.draws(fit.n_draws, fit.seed, CHECK_STREAM):
        chunk = np.empty((len(z), len(coordinates)))
        for i, c in enumerate(coordinates):
            chunk[:, i] = np.nan if c is None else z[:, c]
        if places is not None and None in coordinates:
            columns = _columns(fit, z)[:, places]
            chunk = np.where([c is None for c in coordinates], columns, chunk)
        chunks.append(chunk)
    return np.concatenate(chunks)


def _columns(fit: Fit, z: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Every scalar quantity at each row of z."""
    leaves = jax.tree_util.tree_leaves(fit.space.draws(z))
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], axis=1)


def _carried(
    fit: Fit, places: list[int], coordinates: list[int | None], nodes: np.ndarray
) -> np.ndarray:
    """The nodes as values of the quantities."""
    drawn = nodes.copy()
    inside = next(iter(fresh_draws(fit.q, 1, fit.seed, CHECK_STREAM)))[0]
    for i, (place, c) in enumerate(zip(places, coordinates, strict=True)):
        if c is not None:
            z = np.repeat(inside, NODES, axis=0)
            z[:, c] = nodes[i]
            drawn[i] = _columns(fit, z)[:, place]
    return drawn


def _nodes(
    smooth: np.ndarray, w: np.ndarray | None, n: int, coordinates: list[int | None]
) -> np.ndarray:
    """A grid over all but the last of q's mass and p*'s; margins where there are no bounds."""
    ends = np.array([0.0005, 0.9995])
    rows = []
    for x, coordinate in zip(smooth.T, coordinates, strict=True):
        low, high = np.quantile(x[:n], ends)
        if w is not None:
            order = np.argsort(x)
            far = x[order][np.minimum(np.searchsorted(np.cumsum(w[order]), ends), len(x) - 1)]
            low, high = min(low, far[0]), max(high, far[1])
        margin = 0.0 if coordinate is None else 0.2 * (high - low)
        rows.append(np.linspace(low - margin, high + margin, NODES))
    return np.array(rows)


def _mesh(nodes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Points of a grid, a row each; `order` are the axes of the coordinates of z."""
    return np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(nodes))[:, order]


def _exact(
    values: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """p*'s mass on a grid that has grown until next to nothing lies at its edges.

    None where p̂ is undefined, or its mass does not come to an end.
    """
    band, d, first = NODES // 16, len(nodes), nodes
    for _ in range(10):
        log_p = values(_mesh(nodes, order)).reshape((NODES,) * d)
        if np.isnan(log_p).any() or not -np.inf < log_p.max() < np.inf:
            break
        mass = np.exp(log_p - log_p.max())
        mass /= mass.sum()
        sides = [mass.sum(axis=tuple(j for j in range(d) if j != i)) for i in range(d)]
        low = np.array([side[:band].sum() > EDGE for side in sides])
        high = np.array([side[-band:].sum() > EDGE for side in sides])
        if not (low | high).any():
            return nodes, mass
        grow = 0.5 * np.ptp(nodes, axis=1)
        nodes = np.linspace(nodes[:, 0] - grow * low, nodes[:, -1] + grow * high, NODES, axis=1)
    return first, None


def _normal(q: Gaussian, coordinates: list[int], nodes: np.ndarray) -> np.ndarray:
    """A Gaussian q's density of one or two coordinates, up to a constant."""
    unit = np.zeros((len(coordinates), q.dim))
    unit[range(len(coordinates)), coordinates] = 1.0
    factor = q.whiten(unit)  # rows of L
    apart = _mesh(nodes - np.asarray(q.mean)[coordinates, None], np.arange(len(nodes)))
    distance = np.sum(apart * np.linalg.solve(factor @ factor.T, apart.T).T, axis=1)
    return np.exp(-0.5 * distance).reshape((NODES,) * len(nodes))


def _smoothed(draws: np.ndarray, w: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Mass of weighted draws on a grid, by a Gaussian kernel with the shape of their covariance.

    Its width is Scott's for the effective number of draws; mass is reflected at the grid's ends.
    """
    draws, w = draws[w > 0], w[w > 0]
    a, step = len(nodes), nodes[:, 1] - nodes[:, 0]
    edges = [np.append(x - h / 2, x[-1] + h / 2) for x, h in zip(nodes, step, strict=True)]
    histogram, _ = np.histogramdd(draws, bins=edges, weights=w)
    centred = draws - w @ draws
    width = np.sum(w**2) ** (1 / (4 + a))
    kernel = width**2 * (centred.T * w) @ centred + np.diag(step**2) / 4
    padded = np.pad(histogram, NODES // 2, mode="symmetric")
    omega = [2 * np.pi * np.fft.fftfreq(2 * NODES, h) for h in step]
    waves = np.stack(np.meshgrid(*omega, indexing="ij"), axis=-1)
    damped = np.fft.fftn(padded) * np.exp(-0.5 * np.sum(waves @ kernel * waves, axis=-1))
    inner = (slice(NODES // 2, NODES // 2 + NODES),) * a
    return np.maximum(np.fft.ifftn(damped).real[inner], 0.0)


# ---- how it is drawn -----------------------------------------------------------------------------


def _panels(axes: Any, shape: tuple[int, ...], size: tuple[float, float]) -> np.ndarray:
    """The caller's axes in this shape, or those of a new figure."""
    if axes is None:
        rows = shape[0] if len(shape) == 2 else 1
        _, axes = plt.subplots(
            rows, shape[-1], figsize=size, squeeze=False, layout="constrained"
        )
    given = np.asarray(axes, dtype=object)
    if given.size != np.prod(shape) or not all(isinstance(a, Axes) for a in given.flat):
        raise ValueError(f"axes is {axes!r}, expected {' × '.join(map(str, shape))} matplotlib axes")
    return given.reshape(shape)


def _checked(masses: Sequence[float]) -> list[float]:
    given = sorted({float(mass) for mass in masses})
    if not given or not 0 < given[0] <= given[-1] < 1:
        raise ValueError(f"masses are {masses!r}, expected numbers between 0 and 1")
    return given


def _limits(densities: Sequence[_Density | None]) -> tuple[float, float]:
    """Ends of an axis that shows these densities of one quantity."""
    spans = [density.span() for density in densities if density is not None]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _tints(n: int) -> list[tuple[float, ...]]:
    """Blues from light to full, opaque, so that they print."""
    blue = np.array(to_rgb(BLUE))
    return [tuple(1 - share * (1 - blue)) for share in np.linspace(0.25, 0.6, n)]


def _draw_pair(
    panel: Axes, q: _Density, p: _Density | None, masses: Sequence[float]
) -> None:
    """q's lines over p*'s fill, at the same masses."""
    for density, filled in ((p, True), (q, False)):
        if density is None:
            continue
        top, levels = density.height.max(), np.unique(density.levels(masses))
        levels = levels[(levels > density.height.min()) & (levels < top)]
        if filled and len(levels):
            shades = _tints(len(masses))[-len(levels) :]
            panel.contourf(*density.nodes, density.height.T, [*levels, top], colors=shades)
        elif len(levels):
            widths = np.linspace(1.0, 1.8, len(levels))
            panel.contour(
                *density.nodes, density.height.T, levels, colors=VERMILION, linewidths=widths
            )


def _draw_marginal(
    panel: Axes, q: _Density, p: _Density | None, limits: tuple[float, float]
) -> None:
    """q's line over p*'s fill."""
    if p is not None:
        panel.fill_between(p.nodes[0], p.height, color=_tints(2)[0], linewidth=0)
        panel.plot(p.nodes[0], p.height, color=_tints(2)[1], linewidth=1)
    panel.plot(q.nodes[0], q.height, color=VERMILION, linewidth=1.8)
    panel.set(xlim=limits, yticks=[])
    panel.set_ylim(bottom=0)
