"""x given θ: a Gaussian field, or one whose independent coordinates have their own shapes.

Both are pure functions of θ, and evaluate the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.families.nested.cells import NODES, cells_at
from infimum.families.nested.field import Field, Modes, Precision
from infimum.gaussian.stack import LOG_2PI
from infimum.structure.roles import log_det_slopes

Predictor = Callable[[np.ndarray], np.ndarray]
"""Takes θ, shape (n, h), to where the mode of x is expected, shape (n, k)."""

STEPS = 1
"""Newton steps from the predicted mode. The prediction interpolates modes that were found, and on
seven hierarchies one step left errors of at most 3e-6 sds."""


class GaussianField:
    """x given θ as N(m - ½ H⁻¹ t, H⁻¹), with m and H at the mode and t the slope of log |H|.

    The move of the mean is van Niekerk & Rue's (2021): it minimises the KL to the first order.
    """

    last: tuple[np.ndarray, np.ndarray] | None = None
    """Points whose log q(x | θ) was computed last, and its values."""

    def __init__(self, field: Field, predicted: Predictor) -> None:
        self.field, self.predicted = field, predicted

    @property
    def cost(self) -> int:
        """Gradients of a draw: of each look at the field, and of the slope of log |H|."""
        looks = (1 + STEPS) * (1 + self.field.colouring.n_colours)
        return looks + 2 * len(self.field.probes)

    def modes(self, theta: Float[np.ndarray, "n h"]) -> Modes:
        """The modes of x, as far as the fixed steps come."""
        field = self.field
        return field.climbed(field.look(field.place(theta, self.predicted(theta))), STEPS)

    def moments(
        self, theta: Float[np.ndarray, "n h"]
    ) -> tuple[Float[np.ndarray, "n k"], Precision]:
        """Means and precisions of x."""
        field, modes = self.field, self.modes(theta)
        moves = field.moves(modes.precision)
        slope = log_det_slopes(field.gradients_at, modes.z, moves, modes.gradient)[:, field.rest]
        pull = modes.gradient[:, field.rest] - 0.5 * slope
        move = field.inverse_times(modes.precision, np.where(np.isfinite(pull), pull, 0.0))
        return modes.z[:, field.rest] + move, modes.precision

    def draw(
        self, theta: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " n"]]:
        """A draw of x for each row, and its log density."""
        mean, precision = self.moments(theta)
        eps = rng.standard_normal(mean.shape)
        return mean + self.field.spread(precision, eps), _log_normal(eps, precision)

    def log_density(
        self, theta: Float[np.ndarray, "n h"], x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, " n"]:
        """log q(x | θ)."""
        mean, precision = self.moments(theta)
        return _log_normal(self.field.base(precision, x - mean), precision)


class Dense(NamedTuple):
    """The coordinates that others are coupled by, given θ, and how the others follow them.

    Attributes
    ----------
    mean, root
        Of their Gaussian, shapes (n, b) and (n, b, b).
    rest
        Means of the others, shape (n, k - b).
    slope
        By how much these move with them, shape (n, k - b, b).
    """

    mean: Float[np.ndarray, "n b"]
    root: Float[np.ndarray, "n b b"]
    rest: Float[np.ndarray, "n r"]
    slope: Float[np.ndarray, "n r b"]


class ShapedField:
    """x given θ as a Gaussian of its dense coordinates β, and the exact shapes of all others.

    Given θ and β the others must be independent.

    Parameters
    ----------
    dense
        Places of β in x, shape (b,).
    """

    last: tuple[np.ndarray, np.ndarray] | None = None
    """Points whose log q(x | θ) was computed last, and its values."""

    def __init__(self, field: Field, predicted: Predictor, dense: Int[np.ndarray, " b"]) -> None:
        self.field, self.dense = field, dense
        self.gaussian = GaussianField(field, predicted)
        self.others = np.setdiff1d(np.arange(len(field.rest)), dense)
        self.inner = Field(
            field.target,
            np.concatenate([field.theta, field.rest[dense]]),
            field.rest[self.others],
            np.zeros((2, 0), np.int64),
            field.scale[self.others],
        )

    @property
    def cost(self) -> int:
        """Gradients of a draw: of β, of the modes of the others, and of their shapes."""
        outer = self.gaussian.cost if len(self.dense) else 0
        return outer + 2 * (1 + STEPS) + NODES

    def at_modes(self, modes: Modes, weight: Float[np.ndarray, " n"]) -> tuple[float, float]:
        """What the exact shapes are worth, and what they lack, on a weighted mean of some modes.

        Returns
        -------
        KL of the Gaussian field's shapes from the exact ones, and the sd of what Laplace's marginal
        lacks, in nats, the larger of both; and the mass beyond the ends of the grids, over all
        coordinates.
        """
        inner = self.inner
        there = inner.look(modes.z)
        laplace = inner.laplace(there)
        worth, beyond, lack = (np.empty(len(weight)) for _ in range(3))
        for rows, cells in cells_at(inner, there):
            worth[rows], beyond[rows] = cells.excess(), cells.tails()
            lack[rows] = cells.log_integral - laplace[rows]
        part = weight / weight.sum()
        spread = np.sqrt(part @ (lack - part @ lack) ** 2)
        return float(max(part @ worth, spread)), float(part @ beyond)

    def _outer(self, theta: Float[np.ndarray, "n h"]) -> Dense:
        """β given θ."""
        n, b, field = len(theta), len(self.dense), self.field
        if not b:
            mean = self.gaussian.predicted(theta)
            return Dense(mean[:, :0], np.zeros((n, 0, 0)), mean, np.zeros((n, mean.shape[1], 0)))
        mean, precision = self.gaussian.moments(theta)
        columns = np.empty((b, *mean.shape))
        for column, place in zip(columns, self.dense, strict=True):
            unit = np.zeros(mean.shape)
            unit[:, place] = 1.0
            column[:] = field.inverse_times(precision, unit)
        covariance = np.moveaxis(columns[:, :, self.dense], 0, -1)
        covariance = 0.5 * (covariance + np.swapaxes(covariance, -1, -2))
        across = np.moveaxis(columns[:, :, self.others], 0, -1)
        slope = np.swapaxes(np.linalg.solve(covariance, np.swapaxes(across, -1, -2)), -1, -2)
        root = np.linalg.cholesky(covariance)
        return Dense(mean[:, self.dense], root, mean[:, self.others], slope)

    def _inner(
        self, theta: Float[np.ndarray, "n h"], dense: Float[np.ndarray, "n b"], outer: Dense
    ) -> Modes:
        """Modes of the others given θ and β."""
        inner = self.inner
        rest = outer.rest + np.einsum("nrb,nb->nr", outer.slope, dense - outer.mean)
        both = np.concatenate([theta, dense], axis=1)
        return inner.climbed(inner.look(inner.place(both, rest)), STEPS)

    def draw(
        self, theta: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " n"]]:
        """A draw of x for each row, and its log density."""
        outer = self._outer(theta)
        eps = rng.standard_normal(outer.mean.shape)
        dense = outer.mean + np.einsum("nab,nb->na", outer.root, eps)
        x, density = np.empty((len(theta), len(self.field.rest))), _log_root(eps, outer.root)
        x[:, self.dense] = dense
        modes = self._inner(theta, dense, outer)
        for rows, cells in cells_at(self.inner, modes):
            centre = modes.z[rows][:, self.inner.rest]
            x[rows, self.others], inside = cells.draw(centre, rng)
            density[rows] += inside
        return x, density

    def log_density(
        self, theta: Float[np.ndarray, "n h"], x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, " n"]:
        """log q(x | θ)."""
        outer, dense = self._outer(theta), x[:, self.dense]
        away = (dense - outer.mean)[..., None]
        eps = np.linalg.solve(outer.root, away)[..., 0] if dense.size else away[..., 0]
        density = _log_root(eps, outer.root)
        modes = self._inner(theta, dense, outer)
        for rows, cells in cells_at(self.inner, modes):
            centre = modes.z[rows][:, self.inner.rest]
            density[rows] += cells.log_density(x[rows][:, self.others] - centre)
        return density


def _log_normal(eps: Float[np.ndarray, "n k"], precision: Precision) -> Float[np.ndarray, " n"]:
    """log density of the spread of ε."""
    log_det = np.log(precision.pivots).sum(axis=1)
    return np.asarray(0.5 * (log_det - (eps**2).sum(axis=1) - eps.shape[1] * LOG_2PI))


def _log_root(eps: Float[np.ndarray, "n b"], root: Float[np.ndarray, "n b b"]) -> np.ndarray:
    """log density of root ε."""
    log_det = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(-0.5 * ((eps**2).sum(axis=1) + eps.shape[1] * LOG_2PI) - log_det)
