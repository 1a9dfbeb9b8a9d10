"""The contents of a picture: densities of q and of p* over a few quantities, on grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from infimum.answer.answer import Answer
from infimum.base.errors import coded_error
from infimum.checks import weights
from infimum.families._distribution import NaturalGaussian
from infimum.objective.draws import log_density
from infimum.plots.smooth import reweighted, smoothed
from infimum.target.compiled import FEW_VALUES
from infimum.target.space import NO_COORDINATE, columns

if TYPE_CHECKING:
    import pandas as pd


MOST_QUANTITIES = 12
"""Quantities that fit into one picture; it then has 78 panels."""

MASS_IN_VIEW = 0.98
"""Mass of q, and of p*, that an axis shows at least."""

NODES = 128
EXACT_NODES = 192
GAUSSIAN_NODES = 256
"""Nodes of a grid on each axis: for draws, for an exact p*, and for a Gaussian q. With fewer nodes
contours of a narrow ridge have corners."""

VISIBLE = 0.01
"""Part of the largest height from which a curve can be seen."""

MOST_EDGE_MASS = 2e-3
"""Mass of p* near one edge of an exact grid above which the grid grows on that side."""


@dataclass(frozen=True, eq=False)
class Density:
    """A density of one or two quantities on the nodes of a grid.

    Attributes
    ----------
    nodes
        Values of each quantity at its nodes.
    mass
        Mass of each node; all masses sum to one.
    height
        Density per unit of the quantities.
    known
        At which nodes it rests on enough draws; None if on all.
    """

    nodes: tuple[np.ndarray, ...]
    mass: np.ndarray
    height: np.ndarray
    known: np.ndarray | None = None

    def levels(self, masses: Sequence[float]) -> np.ndarray:
        """Heights whose highest-density regions hold these masses, lowest height first."""
        order = np.argsort(self.height, axis=None)[::-1]
        mass_inside = np.cumsum(self.mass.ravel()[order])
        return np.interp(sorted(masses, reverse=True), mass_inside, self.height.ravel()[order])

    def span(self) -> tuple[float, float]:
        """Ends of the region of one quantity that an axis has to show."""
        inside = self.nodes[0][self.height >= self.levels([MASS_IN_VIEW])[0]]
        return float(inside.min()), float(inside.max())


@dataclass(frozen=True, eq=False)
class _Grid:
    """Nodes on each axis: evenly spaced in what is smoothed, and the quantities there.

    Attributes
    ----------
    nodes, values
        Both of shape (k, n).
    """

    nodes: Float[np.ndarray, "k n"]
    values: Float[np.ndarray, "k n"]

    def density(self, axes: tuple[int, ...], mass: np.ndarray) -> Density:
        """The density of one or two quantities whose mass at the nodes is known up to a factor."""
        mass, cell = mass / mass.sum(), np.ones(())
        for i in axes:
            cell = np.multiply.outer(cell, np.abs(np.gradient(self.values[i])))
        height = np.divide(mass, cell, out=np.zeros_like(mass), where=cell > 0)
        return Density(tuple(self.values[i] for i in axes), mass, height)


@dataclass(frozen=True, eq=False)
class Scene:
    """Quantities of a fit with the densities of q and of p* over them.

    A quantity that has its own coordinate of z is smoothed, or evaluated, as this coordinate, which
    has no bounds.

    Attributes
    ----------
    labels, coordinates
        The name of each quantity, and its coordinate; `NO_COORDINATE` if it has none.
    smooth
        Draws of the proposal, q's first, in what is smoothed.
    w
        The draws' weights; None if they can't be formed.
    grid
        The grid on which p* is drawn.
    near
        The grid on which a Gaussian q is drawn; it is as fine as q is narrow.
    exact
        The mass of p* at the nodes of the grid; None if it is not known exactly.
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
        q, shown = self.fit.q, list(axes)
        coordinates = [self.coordinates[i] for i in axes]
        if isinstance(q, NaturalGaussian) and NO_COORDINATE not in coordinates:
            return self.near.density(axes, _normal(q, coordinates, self.near.nodes[shown]))
        if self.exact is not None:
            z = _mesh(self.grid.nodes, np.argsort(self.coordinates))
            mass = np.exp(log_density(q, z)).reshape(self.exact.shape)
            return self.grid.density(axes, _marginal(mass, axes))
        draws = self.smooth[: self.fit.n_draws, shown]
        even = np.full(len(draws), 1 / len(draws))
        return self.grid.density(axes, smoothed(draws, even, self.grid.nodes[shown]))

    def p(self, *axes: int) -> Density | None:
        """p* over one or two of the quantities; None if it is not known."""
        shown = list(axes)
        if self.exact is not None:
            return self.grid.density(axes, _marginal(self.exact, axes))
        if self.w is None:
            return None
        mass, known = reweighted(self.smooth[:, shown], self.w, self.grid.nodes[shown])
        density = self.grid.density(axes, mass)
        # Where little is known nothing stands out.
        top = density.height.max(where=known, initial=0.0)
        height = np.where(known, density.height, np.minimum(density.height, top))
        return replace(density, height=height, known=known)

    def known(self, axis: int) -> bool:
        """Whether p* over one quantity rests on enough draws wherever its curve can be seen."""
        p = self.p(axis)
        if p is None or p.known is None:
            return True
        return bool(p.known[p.height > VISIBLE * p.height.max()].all())


def _marginal(mass: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return mass.sum(axis=tuple(i for i in range(mass.ndim) if i not in axes))


def choose_quantities(fit: Answer, names: Sequence[str] | None, most: int) -> list[int] | None:
    """Indices of the quantities to draw; None stands for the two coordinates of z.

    Parameters
    ----------
    names
        The quantities to draw; without any, those where q is worst, as many as `most`.

    Raises
    ------
    ValueError
        If a name is unknown, no quantity varies, or they are too many for a picture.
    """
    own = fit.space.coordinates()
    if names is None and fit.target is not None and fit.q.dim == 2 and own != [0, 1]:
        return None
    table = fit.summary()
    vary = which_vary(table)
    indices = range(len(table)) if names is None else dict.fromkeys(fit.positions(names))
    shown = np.array([i for i in indices if vary[i]], dtype=int)
    if not len(shown):
        raise coded_error(
            ValueError,
            "E902",
            f"names is {names!r}: these quantities are constant, there is nothing to draw: "
            "name others",
        )
    if names is None and len(shown) > most:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1).to_numpy()[shown]
        shown = np.sort(shown[np.argsort(-error, kind="stable")[:most]])
    if len(shown) > MOST_QUANTITIES:
        raise coded_error(
            ValueError,
            "E902",
            f"{len(shown)} quantities were asked for, at most {MOST_QUANTITIES} fit into one "
            "picture: name single entries, such as 'theta[0]'",
        )
    return [int(i) for i in shown]


def which_vary(table: pd.DataFrame) -> np.ndarray:
    """Which quantities of a summary are not constant, shape (k,)."""
    return ~(table["sd"] <= 1e-12 * table["mean"].abs().clip(lower=1.0)).to_numpy()


def compose(fit: Answer, indices: list[int] | None) -> Scene:
    """Make the draws, the grids and, if possible, the exact p* over some quantities.

    Parameters
    ----------
    indices
        The quantities, as `choose_quantities` returns them.
    """
    if indices is None:
        labels = [f"{name} (unconstrained)" for name in fit.space.free_names]
        coordinates = [0, 1]
    else:
        own = fit.space.coordinates()
        labels = [fit.space.names[i] for i in indices]
        coordinates = [own[i] for i in indices]
    smooth = _draws(fit, indices, coordinates)
    shares = weights.normalised(fit.log_weights)
    w = None if np.isnan(shares).any() else shares
    nodes, exact = _nodes(smooth, w, fit.n_draws, coordinates), None
    if fit.target is not None and fit.q.dim <= 2 and sorted(coordinates) == [0, 1][: fit.q.dim]:
        nodes, exact = _exact(fit.target.values, nodes, np.argsort(coordinates))
    grid, near = (
        _Grid(x, x if indices is None else _values_at(fit, indices, coordinates, x))
        for x in (nodes, _near(fit, nodes, coordinates))
    )
    return Scene(fit, labels, coordinates, smooth, w, grid, near, exact)


def _draws(
    fit: Answer, indices: list[int] | None, coordinates: list[int]
) -> Float[np.ndarray, "m k"]:
    """Draws of the proposal: each quantity's coordinate of z, or the quantity if it has none."""
    if not fit.constrains:
        return columns(fit.weighed.stored)[:, indices]
    chunks = []
    for z, *_ in fit.weighed.chunks():
        chunk = z[:, coordinates]
        if indices is not None and NO_COORDINATE in coordinates:
            chunk = np.where(
                np.equal(coordinates, NO_COORDINATE), columns(fit.space.draws(z))[:, indices], chunk
            )
        chunks.append(chunk)
    return np.concatenate(chunks)


def _values_at(
    fit: Answer, indices: list[int], coordinates: list[int], nodes: Float[np.ndarray, "k n"]
) -> Float[np.ndarray, "k n"]:
    """The quantities at the nodes of their coordinates."""
    values = nodes.copy()
    if fit.constrains:
        # The other coordinates do not matter; those of the first draw are surely valid.
        inside = next(fit.weighed.chunks())[0][:1]
        for i, (index, c) in enumerate(zip(indices, coordinates, strict=True)):
            if c != NO_COORDINATE:
                z = np.repeat(inside, nodes.shape[1], axis=0)
                z[:, c] = nodes[i]
                values[i] = columns(fit.space.draws(z))[:, index]
    return values


def _nodes(smooth: np.ndarray, w: np.ndarray | None, n: int, coordinates: list[int]) -> np.ndarray:
    """A grid over 99.9 % of q and of p* in each quantity; wider if the quantity has no bounds."""
    ends = np.array([0.0005, 0.9995])
    rows = []
    for x, coordinate in zip(smooth.T, coordinates, strict=True):
        low, high = np.quantile(x[:n], ends)
        if w is not None:
            order = np.argsort(x)
            far = x[order][np.minimum(np.searchsorted(np.cumsum(w[order]), ends), len(x) - 1)]
            low, high = min(low, far[0]), max(high, far[1])
        margin = 0.0 if coordinate == NO_COORDINATE else 0.4 * (high - low)
        rows.append(np.linspace(low - margin, high + margin, NODES))
    return np.array(rows)


def _near(fit: Answer, nodes: np.ndarray, coordinates: list[int]) -> np.ndarray:
    """A grid within 4.5 sds of a Gaussian q's mean, for quantities that are coordinates."""
    if not isinstance(fit.q, NaturalGaussian):
        return nodes
    near = np.empty((len(nodes), GAUSSIAN_NODES))
    for i, c in enumerate(coordinates):
        low, high = nodes[i, 0], nodes[i, -1]
        if c != NO_COORDINATE:
            sd = np.linalg.norm(_rows(fit.q, [c]))
            low, high = fit.q.mean[c] - 4.5 * sd, fit.q.mean[c] + 4.5 * sd
        near[i] = np.linspace(low, high, GAUSSIAN_NODES)
    return near


def _rows(q: NaturalGaussian, coordinates: list[int]) -> np.ndarray:
    """The rows of q's factor L for these coordinates."""
    unit = np.zeros((len(coordinates), q.dim))
    unit[range(len(coordinates)), coordinates] = 1.0
    return q.whiten(unit)


def _mesh(nodes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """All points of a grid, one a row; `order` says which axis each coordinate of z is."""
    return np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(nodes))[:, order]


def _exact(
    values: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Grow a grid until almost no mass of p* lies at its edges; that grid, and p*'s mass there.

    The mass is None if p̂ is undefined somewhere, or if the grid would have to grow for ever.
    """
    first = nodes
    low, high = nodes[:, 0], nodes[:, -1]
    for _ in range(10):
        coarse = _exact_mass(values, np.linspace(low, high, NODES // 2, axis=1), order)
        if coarse is None:
            break
        sides = [_marginal(coarse, (i,)) for i in range(len(nodes))]
        below = np.array([side[: NODES // 32].sum() > MOST_EDGE_MASS for side in sides])
        above = np.array([side[-NODES // 32 :].sum() > MOST_EDGE_MASS for side in sides])
        if not (below | above).any():
            fine = np.linspace(low, high, EXACT_NODES, axis=1)
            return fine, _exact_mass(values, fine, order)
        width = high - low
        low, high = low - 0.5 * width * below, high + 0.5 * width * above
    return first, None


def _exact_mass(
    values: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray, order: np.ndarray
) -> np.ndarray | None:
    """Mass of p* at the nodes of a grid over all of z; None if p̂ is undefined at one."""
    z = _mesh(nodes, order)
    # Pieces of this size use a program that is compiled already.
    pieces = np.array_split(z, -(-len(z) // FEW_VALUES))
    log_p = np.concatenate([values(piece) for piece in pieces])
    log_p = log_p.reshape((nodes.shape[1],) * len(nodes))
    if np.isnan(log_p).any() or not -np.inf < log_p.max() < np.inf:
        return None
    mass = np.exp(log_p - log_p.max())
    return mass / mass.sum()


def _normal(q: NaturalGaussian, coordinates: list[int], nodes: np.ndarray) -> np.ndarray:
    """Density of a Gaussian q in one or two coordinates, up to a factor."""
    factor = _rows(q, coordinates)
    apart = _mesh(nodes - np.asarray(q.mean)[coordinates, None], np.arange(len(nodes)))
    distance = np.sum(apart * np.linalg.solve(factor @ factor.T, apart.T).T, axis=1)
    return np.exp(-0.5 * distance).reshape((nodes.shape[1],) * len(nodes))
