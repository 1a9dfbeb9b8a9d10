"""Pictures: q over p*, family beside family, and what each rung of a climb cost.

p* is blue and filled, q is vermilion lines (Okabe & Ito 2008, told apart in grey too). Both are
drawn at the highest-density regions that hold the same mass, so that where lines and fill part, Q
can't cover p*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, PyTree
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from infimum._family import Gaussian
from infimum._fit import Fit
from infimum._loop import CHECK_STREAM
from infimum._objective import fresh_draws, log_density
from infimum._target import FEW_VALUES
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
EXACT_NODES = 192
GAUSSIAN_NODES = 256
"""Nodes of a grid on each axis: for draws, for an exact p*, and for a Gaussian q. Contours of a
narrow ridge have corners on fewer."""

EDGE = 2e-3
"""Mass of p* near one edge of an exact grid above which the grid grows on that side."""

POINTS = 1000
"""Reweighted draws in a scatter."""

NONE = -1
"""In the place of a coordinate of z: the quantity is no function of one coordinate alone."""

NEGLIGIBLE = 0.01
"""Nats of KL that a solver's tolerance may leave: more than that is the family's distance."""

NOTHING = 0.001
"""Nats of KL that no picture shows: below them q and p* are said to coincide."""

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
    scene = _scene(fit, _chosen(fit, names, FEW))
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
        raise ValueError("expected fits of one target: at least one, all with the same quantities")
    places = _chosen(fits[0], names, 2)
    scenes = [_scene(fit, places) for fit in fits]
    k = len(scenes[0].labels)
    if k > 2:
        raise ValueError(f"{names!r} are {k} quantities: families are compared on one or two")
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
            continue
        error = [[min(fit.kl.se, y)], [fit.kl.se]] if np.isfinite(fit.kl.se) else None
        face = "white" if fit.verdict == "unreliable" else VERMILION
        style = {"color": VERMILION, "markerfacecolor": face, "capsize": 3, "markersize": 7}
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
    panel.spines[["top", "right"]].set_visible(False)
    _name_rungs(panel, climb, seconds, np.where(known, kl, 0.5 * panel.get_ylim()[1]))
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
class _Grid:
    """Nodes on each axis, shape (k, n): in what is smoothed, evenly spaced, and as quantities."""

    nodes: np.ndarray
    drawn: np.ndarray

    def density(self, axes: tuple[int, ...], mass: np.ndarray) -> _Density:
        """The density of quantities with this mass, up to a constant, at the nodes."""
        mass, cell = mass / mass.sum(), np.ones(())
        for i in axes:
            cell = np.multiply.outer(cell, np.abs(np.gradient(self.drawn[i])))
        height = np.divide(mass, cell, out=np.zeros_like(mass), where=cell > 0)
        return _Density(tuple(self.drawn[i] for i in axes), mass, height)


@dataclass(frozen=True, eq=False)
class _Scene:
    """Quantities of a fit, and the densities of q and of p* over them.

    Everything is smoothed, or evaluated, in the coordinate of z behind a quantity where it has one
    of its own: there it has no bounds.

    Attributes
    ----------
    labels, coordinates
        Of each quantity; coordinate `NONE` where it has none of its own.
    smooth
        Draws of the proposal, q's first, in what is smoothed.
    w
        The draws' weights; None where they can't be formed.
    grid, near
        Where p* is drawn, and where a Gaussian q is: no coarser for being narrow.
    exact
        p*'s mass at the nodes of the grid, where the grid is one of all of z.
    """

    fit: Fit
    labels: list[str]
    coordinates: list[int]
    smooth: Float[np.ndarray, "m k"]
    w: Float[np.ndarray, " m"] | None
    grid: _Grid
    near: _Grid
    exact: np.ndarray | None

    @property
    def trust(self) -> float:
        """Effective number of draws that p* rests on."""
        return 0.0 if self.w is None else float(1 / np.sum(self.w**2))

    def q(self, *axes: int) -> _Density:
        """q over one or two of the quantities."""
        q, chosen = self.fit.q, list(axes)
        coordinates = [self.coordinates[i] for i in axes]
        if isinstance(q, Gaussian) and NONE not in coordinates:
            return self.near.density(axes, _normal(q, coordinates, self.near.nodes[chosen]))
        if self.exact is not None:
            z = _mesh(self.grid.nodes, np.argsort(self.coordinates))
            mass = np.exp(log_density(q, z)).reshape(self.exact.shape)
            return self.grid.density(axes, _marginal(mass, axes))
        draws = self.smooth[: self.fit.n_draws, chosen]
        even = np.full(len(draws), 1 / len(draws))
        return self.grid.density(axes, _smoothed(draws, even, self.grid.nodes[chosen]))

    def p(self, *axes: int) -> _Density | None:
        """p* over one or two of the quantities; None if it is not known."""
        chosen = list(axes)
        if self.exact is not None:
            return self.grid.density(axes, _marginal(self.exact, axes))
        if self.w is None:
            return None
        mass = _smoothed(self.smooth[:, chosen], self.w, self.grid.nodes[chosen])
        return self.grid.density(axes, mass)


def _marginal(mass: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return mass.sum(axis=tuple(i for i in range(mass.ndim) if i not in axes))


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
        raise ValueError(f"names is {names!r}: none of these quantities varies, nothing to draw")
    if names is None and len(varying) > few:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1).to_numpy()[varying]
        varying = np.sort(varying[np.argsort(-error, kind="stable")[:few]])
    if len(varying) > MOST:
        raise ValueError(
            f"{len(varying)} quantities were asked for, at most {MOST} fit into one picture: "
            "name single entries, such as 'theta[0]'"
        )
    return [int(i) for i in varying]


def _coordinates(fit: Fit) -> list[int]:
    """The coordinate of z behind each scalar quantity that is a function of it alone."""
    if not fit._constrains:
        return [NONE] * len(fit.space.names)
    found: list[int] = []
    start = 0
    for leaf in fit.space.leaves:
        own = isinstance(leaf.support, Support) and leaf.support.event_dim == 0
        found += range(start, start + leaf.size) if own else [NONE] * len(leaf.scalars())
        start += leaf.size
    return found


def _scene(fit: Fit, places: list[int] | None) -> _Scene:
    """Draws, grids and, where it can be had, p* itself over the quantities at `places`."""
    if places is None:
        labels = [f"{name} (unconstrained)" for name in fit.space.free_names]
        coordinates = [0, 1]
    else:
        own = _coordinates(fit)
        labels = [fit.space.names[i] for i in places]
        coordinates = [own[i] for i in places]
    smooth = _draws(fit, places, coordinates)
    w = weights.normalised(fit.log_weights)
    known = None if np.isnan(w).any() else w
    nodes, exact = _nodes(smooth, known, fit.n_draws, coordinates), None
    if fit.target is not None and fit.q.dim <= 2 and sorted(coordinates) == [0, 1][: fit.q.dim]:
        nodes, exact = _exact(fit.target.values, nodes, np.argsort(coordinates))
    grid, near = (
        _Grid(x, x if places is None else _carried(fit, places, coordinates, x))
        for x in (nodes, _near(fit, nodes, coordinates))
    )
    return _Scene(fit, labels, coordinates, smooth, known, grid, near, exact)


def _draws(fit: Fit, places: list[int] | None, coordinates: list[int]) -> np.ndarray:
    """Draws of the proposal, shape (m, k): coordinates of z, quantities where there is none."""
    if not fit._constrains:
        return _columns(fit.stored)[:, places]
    chunks = []
    for z, *_ in fit.proposal.draws(fit.n_draws, fit.seed, CHECK_STREAM):
        chunk = z[:, coordinates]
        if places is not None and NONE in coordinates:
            chunk = np.where(
                np.equal(coordinates, NONE), _columns(fit.space.draws(z))[:, places], chunk
            )
        chunks.append(chunk)
    return np.concatenate(chunks)


def _columns(draws: PyTree) -> Float[np.ndarray, "n k"]:
    """Draws of every scalar quantity, side by side."""
    leaves = jax.tree_util.tree_leaves(draws)
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], axis=1)


def _carried(fit: Fit, places: list[int], coordinates: list[int], nodes: np.ndarray) -> np.ndarray:
    """The nodes as values of the quantities."""
    drawn = nodes.copy()
    if fit._constrains:
        inside = next(iter(fresh_draws(fit.q, 1, fit.seed, CHECK_STREAM)))[0]
        for i, (place, c) in enumerate(zip(places, coordinates, strict=True)):
            if c != NONE:
                z = np.repeat(inside, nodes.shape[1], axis=0)
                z[:, c] = nodes[i]
                drawn[i] = _columns(fit.space.draws(z))[:, place]
    return drawn


def _nodes(smooth: np.ndarray, w: np.ndarray | None, n: int, coordinates: list[int]) -> np.ndarray:
    """A grid over all but the last of q's mass and p*'s; margins where there are no bounds."""
    ends = np.array([0.0005, 0.9995])
    rows = []
    for x, coordinate in zip(smooth.T, coordinates, strict=True):
        low, high = np.quantile(x[:n], ends)
        if w is not None:
            order = np.argsort(x)
            far = x[order][np.minimum(np.searchsorted(np.cumsum(w[order]), ends), len(x) - 1)]
            low, high = min(low, far[0]), max(high, far[1])
        margin = 0.0 if coordinate == NONE else 0.4 * (high - low)
        rows.append(np.linspace(low - margin, high + margin, NODES))
    return np.array(rows)


def _near(fit: Fit, nodes: np.ndarray, coordinates: list[int]) -> np.ndarray:
    """A grid within 4.5 sds of a Gaussian q's mean, where quantities are coordinates."""
    if not isinstance(fit.q, Gaussian):
        return nodes
    near = np.empty((len(nodes), GAUSSIAN_NODES))
    for i, c in enumerate(coordinates):
        low, high = nodes[i, 0], nodes[i, -1]
        if c != NONE:
            sd = np.linalg.norm(_rows(fit.q, [c]))
            low, high = fit.q.mean[c] - 4.5 * sd, fit.q.mean[c] + 4.5 * sd
        near[i] = np.linspace(low, high, GAUSSIAN_NODES)
    return near


def _rows(q: Gaussian, coordinates: list[int]) -> np.ndarray:
    """These rows of L."""
    unit = np.zeros((len(coordinates), q.dim))
    unit[range(len(coordinates)), coordinates] = 1.0
    return q.whiten(unit)


def _mesh(nodes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Points of a grid, a row each; `order` are the axes of the coordinates of z."""
    return np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(nodes))[:, order]


def _exact(
    values: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """A grid that has grown until next to nothing of p* lies at its edges, and p*'s mass there.

    The mass is None where p̂ is undefined, or does not come to an end.
    """
    first = nodes
    low, high = nodes[:, 0], nodes[:, -1]
    for _ in range(10):
        coarse = _values(values, np.linspace(low, high, NODES // 2, axis=1), order)
        if coarse is None:
            break
        sides = [_marginal(coarse, (i,)) for i in range(len(nodes))]
        below = np.array([side[: NODES // 32].sum() > EDGE for side in sides])
        above = np.array([side[-NODES // 32 :].sum() > EDGE for side in sides])
        if not (below | above).any():
            fine = np.linspace(low, high, EXACT_NODES, axis=1)
            return fine, _values(values, fine, order)
        width = high - low
        low, high = low - 0.5 * width * below, high + 0.5 * width * above
    return first, None


def _values(
    values: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, order: np.ndarray
) -> np.ndarray | None:
    """Mass of p* at the nodes of a grid over all of z; None where p̂ is undefined."""
    z = _mesh(nodes, order)
    pieces = np.array_split(z, -(-len(z) // FEW_VALUES))  # through the program there is already
    log_p = np.concatenate([values(piece) for piece in pieces])
    log_p = log_p.reshape((nodes.shape[1],) * len(nodes))
    if np.isnan(log_p).any() or not -np.inf < log_p.max() < np.inf:
        return None
    mass = np.exp(log_p - log_p.max())
    return mass / mass.sum()


def _normal(q: Gaussian, coordinates: list[int], nodes: np.ndarray) -> np.ndarray:
    """A Gaussian q's density of one or two coordinates, up to a constant."""
    factor = _rows(q, coordinates)
    apart = _mesh(nodes - np.asarray(q.mean)[coordinates, None], np.arange(len(nodes)))
    distance = np.sum(apart * np.linalg.solve(factor @ factor.T, apart.T).T, axis=1)
    return np.exp(-0.5 * distance).reshape((nodes.shape[1],) * len(nodes))


def _smoothed(draws: np.ndarray, w: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Mass of weighted draws on a grid, by Gaussian kernels with the shape of their covariance.

    Scott's width for the effective number of draws; the draws are drawn together so that their
    covariance stays what it is (West 1993). Where there are few the kernels are up to four times
    wider, with the inverse root of a first estimate (Abramson 1982), in steps of √2.
    """
    draws, w = draws[w > 0], w[w > 0]
    step = nodes[:, 1] - nodes[:, 0]
    edges = [np.append(x - h / 2, x[-1] + h / 2) for x, h in zip(nodes, step, strict=True)]
    scott = np.sum(w**2) ** (2 / (4 + len(nodes)))
    centred = (draws - w @ draws) / np.sqrt(1 + scott)
    histogram, _ = np.histogramdd(w @ draws + centred, bins=edges, weights=w)
    kernel = scott * (centred.T * w) @ centred + np.diag(step**2) / 4
    first = np.maximum(_blurred(histogram, kernel, step), np.finfo(float).tiny)
    middle = np.exp(np.sum(histogram * np.log(first)) / histogram.sum())
    wider = np.clip(np.round(np.log2(middle / first)) - 2, 0, 4)
    parts = (
        _blurred(np.where(wider == k, histogram, 0.0), 2**k * kernel, step)
        for k in np.unique(wider[histogram > 0])
    )
    return np.maximum(sum(parts), 0.0)


def _blurred(mass: np.ndarray, covariance: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Mass on a grid convolved with a centred Gaussian, reflected at the grid's ends."""
    half = len(mass) // 2
    padded = np.fft.fftn(np.pad(mass, half, mode="symmetric"))
    axes = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(padded.shape, step, strict=True)]
    waves = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    damping = np.exp(-0.5 * np.sum(waves @ covariance * waves, axis=-1))
    return np.fft.ifftn(padded * damping).real[(slice(half, half + len(mass)),) * mass.ndim]


# ---- how it is drawn -----------------------------------------------------------------------------


def _panels(axes: Any, shape: tuple[int, ...], size: tuple[float, float]) -> np.ndarray:
    """The caller's axes in this shape, or those of a new figure."""
    if axes is None:
        rows = shape[0] if len(shape) == 2 else 1
        _, axes = plt.subplots(rows, shape[-1], figsize=size, squeeze=False, layout="constrained")
    given = np.asarray(axes, dtype=object)
    if given.size != np.prod(shape) or not all(isinstance(a, Axes) for a in given.flat):
        raise ValueError(
            f"axes is {axes!r}, expected {' × '.join(map(str, shape))} matplotlib axes"
        )
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


def _draw_pair(panel: Axes, q: _Density, p: _Density | None, masses: Sequence[float]) -> None:
    """q's lines over p*'s fill, at the same masses."""
    if p is not None:
        top = p.height.max()
        for level, shade in zip(p.levels(masses), _tints(len(masses)), strict=True):
            bounds = [level, 1.01 * top]
            panel.contourf(*p.nodes, p.height.T, bounds, colors=[shade], antialiased=True)
    levels = np.unique(q.levels(masses))
    levels = levels[(levels > q.height.min()) & (levels < q.height.max())]
    if len(levels):
        widths = np.linspace(1.0, 1.8, len(levels))
        panel.contour(*q.nodes, q.height.T, levels, colors=VERMILION, linewidths=widths)


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


def _scatter(panel: Axes, scene: _Scene, x: int, y: int) -> None:
    """Reweighted draws; one that was drawn several times is as much larger."""
    if scene.w is None:
        return
    rng = np.random.default_rng(0)
    rows, times = np.unique(rng.choice(len(scene.w), POINTS, p=scene.w), return_counts=True)
    nodes, drawn = scene.grid.nodes, scene.grid.drawn
    at = [np.interp(scene.smooth[rows, i], nodes[i], drawn[i], np.nan, np.nan) for i in (x, y)]
    panel.scatter(at[0], at[1], 1.2 * times, color=BLUE, alpha=0.6, linewidth=0)


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


def _explain(
    where: Any, scene: _Scene, masses: Sequence[float], gap: str = "\n", **place: Any
) -> None:
    """A legend, on axes or a figure; `masses` are those of the contours, if there are any."""
    handles: list[Any] = [Line2D([], [], color=VERMILION, linewidth=1.8)]
    labels = ["q"]
    if scene.p(0) is not None:
        shades = _tints(len(masses) or 2)
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


def _headline(scene: _Scene) -> str:
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


def _name_rungs(panel: Axes, climb: Climb, x: np.ndarray, y: np.ndarray) -> None:
    """A name at each point; one that would cover the name before it goes above it."""
    before, lift = np.full(2, -np.inf), 0.0
    for fit, place in zip(climb.fits, zip(x, y, strict=True), strict=True):
        told = _nats(fit.kl) if np.isfinite(fit.kl.value) else "unknown"
        text = f"{fit.family.name}: {told.removeprefix('= ')}"
        here = panel.transAxes.inverted().transform(panel.transData.transform(place))
        close = abs(here[1] - before[1]) < 0.08 and here[0] - before[0] < 0.5
        before, lift = here, lift + 13.0 if close else 0.0
        panel.annotate(text, place, (7, 5 + lift), textcoords="offset points")
