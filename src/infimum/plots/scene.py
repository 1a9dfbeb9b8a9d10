"""What a picture shows: densities of q and of p* over chosen quantities, on grids and as draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from infimum.answer.answer import Answer
from infimum.base.errors import coded
from infimum.checks import weights
from infimum.families._distribution import NaturalGaussian
from infimum.objective.draws import log_density
from infimum.target.density import FEW_VALUES
from infimum.target.space import NONE, columns

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True, eq=False)
class Density:
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

    def density(self, axes: tuple[int, ...], mass: np.ndarray) -> Density:
        """The density of quantities with this mass, up to a constant, at the nodes."""
        mass, cell = mass / mass.sum(), np.ones(())
        for i in axes:
            cell = np.multiply.outer(cell, np.abs(np.gradient(self.drawn[i])))
        height = np.divide(mass, cell, out=np.zeros_like(mass), where=cell > 0)
        return Density(tuple(self.drawn[i] for i in axes), mass, height)


@dataclass(frozen=True, eq=False)
class Scene:
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

    fit: Answer
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

    def q(self, *axes: int) -> Density:
        """q over one or two of the quantities."""
        q, chosen = self.fit.q, list(axes)
        coordinates = [self.coordinates[i] for i in axes]
        if isinstance(q, NaturalGaussian) and NONE not in coordinates:
            return self.near.density(axes, _normal(q, coordinates, self.near.nodes[chosen]))
        if self.exact is not None:
            z = _mesh(self.grid.nodes, np.argsort(self.coordinates))
            mass = np.exp(log_density(q, z)).reshape(self.exact.shape)
            return self.grid.density(axes, _marginal(mass, axes))
        draws = self.smooth[: self.fit.n_draws, chosen]
        even = np.full(len(draws), 1 / len(draws))
        return self.grid.density(axes, _smoothed(draws, even, self.grid.nodes[chosen]))

    def p(self, *axes: int) -> Density | None:
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


def chosen(fit: Answer, names: Sequence[str] | None, few: int) -> list[int] | None:
    """Where the quantities to draw stand; None for the two coordinates of z themselves."""
    own = fit.space.coordinates()
    if names is None and fit.target is not None and fit.q.dim == 2 and own != [0, 1]:
        return None
    table = fit.summary()
    vary = varying(table)
    places = range(len(table)) if names is None else dict.fromkeys(fit.positions(names))
    drawn = np.array([i for i in places if vary[i]], dtype=int)
    if not len(drawn):
        raise ValueError(
            coded(
                "E902",
                f"names is {names!r}: none of these quantities varies, nothing to draw: name "
                "others",
            )
        )
    if names is None and len(drawn) > few:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1).to_numpy()[drawn]
        drawn = np.sort(drawn[np.argsort(-error, kind="stable")[:few]])
    if len(drawn) > MOST:
        raise ValueError(
            coded(
                "E902",
                f"{len(drawn)} quantities were asked for, at most {MOST} fit into one picture: "
                "name single entries, such as 'theta[0]'",
            )
        )
    return [int(i) for i in drawn]


def varying(table: pd.DataFrame) -> np.ndarray:
    """Which quantities of a summary are no constants."""
    return ~(table["sd"] <= 1e-12 * table["mean"].abs().clip(lower=1.0)).to_numpy()


def compose(fit: Answer, places: list[int] | None) -> Scene:
    """Draws, grids and, where it can be had, p* itself over the quantities at `places`."""
    if places is None:
        labels = [f"{name} (unconstrained)" for name in fit.space.free_names]
        coordinates = [0, 1]
    else:
        own = fit.space.coordinates()
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
    return Scene(fit, labels, coordinates, smooth, known, grid, near, exact)


def _draws(fit: Answer, places: list[int] | None, coordinates: list[int]) -> np.ndarray:
    """Draws of the proposal, shape (m, k): coordinates of z, quantities where there is none."""
    if not fit.constrains:
        return columns(fit.weighed.stored)[:, places]
    chunks = []
    for z, *_ in fit.weighed.chunks():
        chunk = z[:, coordinates]
        if places is not None and NONE in coordinates:
            chunk = np.where(
                np.equal(coordinates, NONE), columns(fit.space.draws(z))[:, places], chunk
            )
        chunks.append(chunk)
    return np.concatenate(chunks)


def _carried(
    fit: Answer, places: list[int], coordinates: list[int], nodes: np.ndarray
) -> np.ndarray:
    """The nodes as values of the quantities."""
    drawn = nodes.copy()
    if fit.constrains:
        inside = next(fit.weighed.chunks())[0][:1]
        for i, (place, c) in enumerate(zip(places, coordinates, strict=True)):
            if c != NONE:
                z = np.repeat(inside, nodes.shape[1], axis=0)
                z[:, c] = nodes[i]
                drawn[i] = columns(fit.space.draws(z))[:, place]
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


def _near(fit: Answer, nodes: np.ndarray, coordinates: list[int]) -> np.ndarray:
    """A grid within 4.5 sds of a Gaussian q's mean, where quantities are coordinates."""
    if not isinstance(fit.q, NaturalGaussian):
        return nodes
    near = np.empty((len(nodes), GAUSSIAN_NODES))
    for i, c in enumerate(coordinates):
        low, high = nodes[i, 0], nodes[i, -1]
        if c != NONE:
            sd = np.linalg.norm(_rows(fit.q, [c]))
            low, high = fit.q.mean[c] - 4.5 * sd, fit.q.mean[c] + 4.5 * sd
        near[i] = np.linspace(low, high, GAUSSIAN_NODES)
    return near


def _rows(q: NaturalGaussian, coordinates: list[int]) -> np.ndarray:
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


def _normal(q: NaturalGaussian, coordinates: list[int], nodes: np.ndarray) -> np.ndarray:
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
