"""The map T of partial non-centring, for one model."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.program import WIDE, Program
from infimum.target.hierarchy import Hierarchy, Parents
from infimum.target.target import Target

LOOK_DRAWS = 128
"""Draws at which a start asks what the data say. They fit a straight line for each entry."""

LEAST_ODDS = 1e-8
"""Odds of centring below which the data's information is rounding: √ε of float64."""


class Warp:
    """T of one model, for one point in JAX, and for batches by compiled programs.

    The numbers of q, (value, angle, reference), are passed with each point, so that a program is
    compiled once for all q.
    """

    def __init__(self, hierarchy: Hierarchy, target: Target, rng: np.random.Generator) -> None:
        self.hierarchy, self.target, self.dim = hierarchy, target, target.dim
        self.eps = rng.standard_normal((LOOK_DRAWS, self.dim))
        self.passes = [
            np.flatnonzero(hierarchy.level == i) for i in range(hierarchy.level.max() + 1)
        ]

    # ---- one point -------------------------------------------------------------------------------

    def _forward(self, zeta: Array, numbers: PyTree) -> tuple[Any, Any]:
        """T(ζ) and log |det T'(ζ)|, level by level: parents come before their children."""
        index, z, log_det = self.hierarchy.index, zeta, 0.0
        for entries in self.passes:
            here = Parents(*(x[entries] for x in self.hierarchy.parents(z)))
            mean, grown, mean_ref = conditional(here, *(x[..., entries] for x in numbers))
            own = index[entries]
            z = z.at[own].set(mean + jnp.exp(grown) * (zeta[own] - mean_ref))
            log_det = log_det + grown.sum()
        return z, log_det

    def _backward(self, z: Array, numbers: PyTree) -> Any:
        """T⁻¹(z)."""
        own = self.hierarchy.index
        mean, grown, mean_ref = conditional(self.hierarchy.parents(z), *numbers)
        return z.at[own].set(mean_ref + (z[own] - mean) * jnp.exp(-grown))

    def _gradient(self, zeta: Array, numbers: PyTree, score: Array) -> Any:
        """Gradient of log p̂(T(ζ)) + log |det T'(ζ)| in ζ; T(ζ), and the parents there."""
        (z, _), back = jax.vjp(lambda zeta: self._forward(zeta, numbers), zeta)
        return back((score, jnp.ones(())))[0], z, jnp.stack(self.hierarchy.parents(z))

    def _reference(self, z: Array, numbers: PyTree) -> Any:
        location, scale, offset, slope = self.hierarchy.parents(z)
        return jnp.stack([location, jnp.log(scale), offset, slope])

    # ---- many ------------------------------------------------------------------------------------

    def forward(self, zeta: Array | np.ndarray, numbers: PyTree) -> tuple[Any, Any]:
        """T and log |det T'| at each ζ of shape (..., d)."""
        return self._mapped("_forward", zeta, numbers)

    def backward(self, z: Array | np.ndarray, numbers: PyTree) -> Any:
        """T⁻¹ at each z of shape (..., d)."""
        return self._mapped("_backward", z, numbers)

    def gradient(
        self, zeta: np.ndarray, numbers: PyTree, score: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradient of log p̂(T(ζ)) + log |det T'(ζ)| in ζ (n, d), and the bend there.

        The bend is the derivative at fixed z of ζ_j, and of log |det T'|, in value and angle; each
        (n, 2k).
        """
        of_zeta, z, parents = self._program("_gradient", 2)(_rows(numbers, zeta, score))
        own = self.hierarchy.index
        value, angle, reference = numbers
        at_draws = Parents(*np.moveaxis(parents, 1, 0))
        bend, growth = bend_of(at_draws, value, angle, reference, zeta[:, own], z[:, own])
        return of_zeta, bend, growth

    def _mapped(self, name: str, z: Array | np.ndarray, numbers: PyTree) -> Any:
        if isinstance(z, np.ndarray):
            flat = z.reshape(-1, self.dim)
            results = self._program(name, 1)(_rows(numbers, flat))
            shape = z.shape[:-1]
            return jax.tree_util.tree_map(lambda x: x.reshape(*shape, *x.shape[1:]), results)
        function = functools.partial(getattr(self, name), numbers=numbers)
        for _ in range(z.ndim - 1):
            function = jax.vmap(function)
        return function(z)

    @functools.cache  # noqa: B019
    def _program(self, name: str, points: int) -> Program:
        """Compile a method above, as a function of one row: its points, then the numbers of q."""
        k, d = len(self.hierarchy.index), self.dim

        def function(row: Array) -> Any:
            flat, value, angle, reference = jnp.split(
                row, [points * d, points * d + k, points * d + 2 * k]
            )
            numbers = value, angle, reference.reshape(4, k)
            first, *others = flat.reshape(points, d)
            return getattr(self, name)(first, numbers, *others)

        return Program(function, points * d + 6 * k, WIDE)

    # ---- where to begin --------------------------------------------------------------------------

    def reference(self, z: np.ndarray) -> np.ndarray:
        """μ, log σ, a and b at a point, shape (4, k)."""
        reference: np.ndarray = self._read(z[None])[0]
        if not np.isfinite(reference).all():
            bad = int(np.flatnonzero(~np.isfinite(reference).all(axis=0))[0])
            raise coded_error(
                UnsuitableError,
                "E212",
                f"location and scale of {self.hierarchy.names[bad]} are not finite at the fit "
                "to start from: look for a scale that overflows there, or take "
                'family="fullrank"',
            )
        return reference

    def guess(self, mean: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of w°, and `value`, from what the data say of θ at draws from N(mean, LLᵀ).

        The score of θ, less that of its prior, taken as normal, is regressed on θ: for a normal
        likelihood it is exactly (value - θ)/e². If the data say nothing, the odds are zero.
        """
        z = mean + self.eps @ factor.T
        log_p, score = self.target.value_and_gradient(z)
        location, log_scale, offset, slope = np.moveaxis(self._read(z), 1, 0)
        own = z[:, self.hierarchy.index]
        with np.errstate(all="ignore"):
            data = score[:, self.hierarchy.index] + (own - location) / np.exp(2 * log_scale)
            theta, data = offset + slope * own, data / slope
        fine = np.isfinite(log_p) & np.isfinite(theta).all(axis=1) & np.isfinite(data).all(axis=1)
        theta, data = theta[fine], data[fine]
        reference = self.reference(mean)
        if len(theta) < 3:
            return np.zeros(theta.shape[1]), reference[2] + reference[3] * reference[0]
        middle, level = theta.mean(axis=0), data.mean(axis=0)
        away = theta - middle
        information = -(away * (data - level)).sum(axis=0) / (away**2).sum(axis=0)
        odds = information * reference[3] ** 2 * np.exp(2 * reference[1])
        informed = odds > LEAST_ODDS
        value = middle + np.divide(level, information, where=informed, out=np.zeros(len(odds)))
        return np.log(odds, where=informed, out=np.full(len(odds), -np.inf)), value

    def _read(self, z: np.ndarray) -> np.ndarray:
        """μ, log σ, a and b at each row of z, shape (n, 4, k)."""
        numbers = (np.zeros(6 * len(self.hierarchy.index)),)
        read: np.ndarray = self._program("_reference", 1)(_rows(numbers, z))
        return read


def _rows(numbers: PyTree, *points: np.ndarray) -> np.ndarray:
    """A row for each point: the points side by side, then the numbers of q."""
    flat = np.concatenate([np.ravel(x) for x in numbers])
    return np.concatenate([*points, np.broadcast_to(flat, (len(points[0]), len(flat)))], axis=1)


def conditional(parents: Parents, value: Array, angle: Array, reference: Array) -> Any:
    """Mean of each entry given its parents, log sd/sd°, and mean°."""
    location, log_scale, offset, slope = reference
    near, far = jnp.sin(0.5 * angle) ** 2, jnp.cos(0.5 * angle) ** 2
    variance = (parents.scale / jnp.exp(log_scale)) ** 2
    gain = parents.slope / slope**2 * variance
    total = far + near * gain * parents.slope
    missed = value - parents.offset - parents.slope * parents.location
    mean = parents.location + near * gain / total * missed
    mean_ref = location + near / slope * (value - offset - slope * location)
    return mean, 0.5 * jnp.log(variance / total), mean_ref


def bend_of(
    parents: Parents, value: Array, angle: Array, reference: Array, zeta: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives at fixed z of `conditional`'s ζ, and of its log sd/sd°, in value and angle."""
    location, log_scale, offset, slope = reference
    near, far, turn = np.sin(0.5 * angle) ** 2, np.cos(0.5 * angle) ** 2, 0.5 * np.sin(angle)
    variance = (parents.scale / np.exp(log_scale)) ** 2
    gain = parents.slope / slope**2 * variance
    total = far + near * gain * parents.slope
    missed = value - parents.offset - parents.slope * parents.location
    missed_ref = value - offset - slope * location
    shrunk = np.sqrt(total / variance)
    growth = -0.5 * turn * (gain * parents.slope - 1) / total
    by_value = near / slope - near * gain / total * shrunk
    by_angle = turn / slope * missed_ref - turn * gain / total**2 * missed * shrunk
    by_angle = by_angle - (zeta - location - near / slope * missed_ref) * growth
    bend = np.concatenate([by_value, by_angle], axis=1)
    return bend, np.concatenate([np.zeros(growth.shape), growth], axis=1)
