"""TODO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.base.errors import UnsuitableError, coded
from infimum.corrections.blocks.polar import Polar, polar
from infimum.families._distribution import SparseGaussian
from infimum.target.target import Target

NODES, DEGREE = 27, 12
"""Nodes of a group's derivative along a diameter, and the degree of the rule for its directions.
The derivative of logistic groups has poles at ±iπ, so that with a scale of 1 the error falls as 1.6
to the power of minus the nodes: of 20,000 groups of four rows log Z was 0.02 nats off. Of pairs of
Poisson rates known to 0.3 and 0.6 the directions leave 2e-5 nats (2e-4 and 3e-3 with a degree of
8). Twice as many of both at one place say by how much, for log Z and its standard error."""

WIDEST, NARROWEST, MOST_STEP = 5.0, 100.0, 20.0
"""Factors by which a group given the hubs may be wider and narrower than q has it, and sds by which
its centre may be elsewhere: hubs far from q's mean scale and shift all groups."""

LOST = 0.01
"""Nats by which hubs may be told apart by what is beyond the ends of all groups' integrals, where
their tails are as long there as one sd: of 20,000 logistic groups of four rows 0.001, and 0.05 in
all, which is a part of log Z's standard error."""

ADDITIVE = 1e-4
"""Relative difference between the sum over groups and log p̂ itself above which groups are not
independent given the hubs."""


@dataclass
class Marginal:
    """The hubs' marginal log ∫ p̂(h, θ) dθ, and draws of θ given h.

    The hubs are given in the units of q's marginal, in which its best is near 0 and I.
    """

    target: Target
    q: SparseGaussian
    split: Split
    n_nodes: int = NODES
    degree: int = DEGREE

    def __post_init__(self) -> None:
        hubs, groups = self.split.hubs, self.split.groups
        self.mean = np.append(np.asarray(self.q.mean), 0.0)
        eye = np.zeros((len(hubs), self.q.dim))
        eye[np.arange(len(hubs)), hubs] = 1.0
        root = self.q.whiten(eye)
        self.factor = np.linalg.cholesky(root @ root.T)
        self.polar: Polar = polar(groups.shape[1], self.n_nodes, self.degree)
        self.filled = groups == self.q.dim

    def values(self, u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """The log marginal at each row."""
        return np.concatenate([log_p for log_p, *_ in self._looked(u)])

    def drawn(
        self, u: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The log marginal at each row, a draw of all of z given it, and what is beyond the ends.

        Shapes (n,), (n, d) and (n,): the last in nats, over all groups, where their tails are as
        long there as one sd.
        """
        values, rows, lost = [], [], []
        for log_p, densities, z, root in self._looked(u, rng):
            for density, point, unit in zip(densities, z, root, strict=True):
                place = self._inverted(density, rng)
                point[self.split.groups] += np.einsum("gij,gj->gi", unit, place)
                ends = self.polar.rim @ (density[:, 0] + density[:, -1])
                whole = np.einsum("mpg,mp->g", density, self.polar.weights)
                lost.append((ends / whole).sum())
            values.append(log_p)
            rows.append(z[:, :-1])
        return np.concatenate(values), np.concatenate(rows), np.array(lost)

    def check(self, rng: np.random.Generator) -> None:
        """Raise UnsuitableError unless the groups add up to log p̂."""
        centre, root, _ = self._centres(rng.standard_normal((1, len(self.split.hubs))))
        direction = self.polar.directions[rng.integers(len(self.polar.directions))]
        count = len(self.polar.points)
        place = rng.integers(count // 3, 2 * count // 3, len(self.split.groups))
        ways = root @ direction
        step = self.polar.points[place][:, None] * ways[0]
        z = centre.copy()
        z[0, self.split.groups] += step
        functions = self._functions(centre, ways)[0, place, np.arange(len(place))]
        total, size = float(functions.sum()), float(np.abs(functions).sum()) + 1
        first, last = self.target.values(np.concatenate([centre, z])[:, :-1])
        expected = last - first - 0.5 * float((step[self.filled] ** 2).sum())
        if not abs(expected - total) <= ADDITIVE * size:
            raise UnsuitableError(
                coded(
                    "E806",
                    f"groups given the hubs add up to {total:.8g} where log p̂ changes by "
                    f"{expected:.8g}: they are not independent, or not smooth. Use another "
                    "correction",
                )
            )

    def _centres(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hubs at each row of u, all else where it is expected given them, and on what scale.

        From q's conditional a Newton step by the slopes there and one sd to either side of every
        coordinate. Shapes (n, d + 1), (n, groups, k, k) and, the scales' log-determinants, (n,).
        """
        (_, groups, conditional, slope), n = self.split, len(u)
        k, step = groups.shape[1], u @ self.factor.T
        z = np.repeat(self.mean[None], n, axis=0)
        z[:, self.split.hubs] += step
        z[:, groups] += np.einsum("gkh,nh->ngk", slope, step)
        root = np.repeat(conditional[None], n, axis=0)
        slopes = np.empty((3, k, n, len(groups), k))
        for axis, unit in enumerate(np.eye(k)):
            along = self._slopes(z, root @ unit, np.array([-1.0, 0.0, 1.0]))
            slopes[:, axis] = np.einsum("ngij,nmgi->mngj", root, along)
        curvature = np.moveaxis(0.5 * (slopes[0] - slopes[2]), 0, -1)
        here = slopes[1, 0]
        values, vectors = _eigen(0.5 * (curvature + np.swapaxes(curvature, -1, -2)))
        values = np.clip(values, WIDEST**-2, NARROWEST**2)
        newton = np.einsum("ngij,ngi->ngj", vectors, here) / values
        newton = np.clip(newton, -MOST_STEP, MOST_STEP)
        z[:, groups] += np.einsum("ngij,ngj->ngi", root @ vectors, newton)
        z[:, -1] = 0.0
        log_dets = np.log(np.diagonal(conditional, axis1=1, axis2=2)).sum()
        log_dets = log_dets - 0.5 * np.log(values).sum(axis=(1, 2))
        return z, root @ vectors / np.sqrt(values)[:, :, None, :], log_dets

    def _slopes(self, centres: np.ndarray, ways: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Gradient of every group's f so many times its way from its centre, (n, nodes, groups, k).

        `ways` has the shape (n, groups, k).
        """
        groups = self.split.groups
        z = np.repeat(centres[:, None], len(nodes), axis=1)
        step = nodes[:, None, None] * ways[:, None]
        z[:, :, groups] += step
        points = z.reshape(-1, z.shape[2])[:, :-1]
        slopes = self.target.value_and_gradient(points)[1].reshape(*z.shape[:2], -1)
        inside = slopes[:, :, np.minimum(groups, self.q.dim - 1)]
        return np.asarray(np.where(self.filled, -step, inside) if self.filled.any() else inside)

    def _functions(
        self, centres: np.ndarray, ways: np.ndarray
    ) -> Float[np.ndarray, "n points groups"]:
        """Every group's f at the points along its way."""
        slopes = self._slopes(centres, ways, self.polar.nodes)
        return np.asarray(self.polar.rule @ np.einsum("nmgk,ngk->nmg", slopes, ways))

    def _looked(
        self, u: np.ndarray, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """The log marginal; the groups' densities at all points, unnormalised; centres and scales.

        For as many rows at a time as a compiled batch holds. Where draws are to be made, the
        directions are turned at random in each row: so they come from everywhere.
        """
        rule = self.polar
        size = max(1, self.target.program.width // self.n_nodes)
        filled = 0.5 * np.log(2 * np.pi) * int(self.filled.sum())
        shift = np.log(np.diag(self.factor)).sum() - filled
        for start in range(0, len(u), size):
            z, root, log_dets = self._centres(u[start : start + size])
            if rng is not None:
                root = root @ _turns(len(z), root.shape[-1], rng)[:, None]
            density = np.empty((len(z), *rule.weights.shape, root.shape[1]))
            for m, direction in enumerate(rule.directions):
                density[:, m] = self._functions(z, root @ direction)
            top = density.max(axis=(1, 2))
            np.exp(np.subtract(density, top[:, None, None], out=density), out=density)
            sums = np.einsum("nmpg,mp->ng", density, rule.weights)
            groups = (np.log(sums) + top).sum(axis=1) + log_dets
            yield self.target.values(z[:, :-1]) + groups + shift, density, z, root

    def _inverted(
        self, density: Float[np.ndarray, "m p n"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n k"]:
        """A draw of each group in its units: where its cumulative distribution reaches u."""
        rule, n = self.polar, density.shape[-1]
        total = np.cumsum((rule.weights[:, :, None] * density).reshape(-1, n), axis=0)
        after = (total < rng.random(n) * total[-1]).sum(axis=0)
        m, p = np.divmod(np.minimum(after, len(total) - 1), len(rule.points))
        low, high = rule.edges[p], rule.edges[p + 1]
        return np.asarray((low + rng.random(n) * (high - low))[:, None] * rule.directions[m])


def _eigen(matrices: Float[np.ndarray, "*b k k"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of symmetric matrices."""
    if matrices.shape[-1] == 1:  # thousands of groups, each row of hubs
        return matrices[..., 0], np.ones(matrices.shape)
    values, vectors = np.linalg.eigh(matrices)
    return values, vectors


def _turns(n: int, k: int, rng: np.random.Generator) -> Float[np.ndarray, "n k k"]:
    """Random rotations and reflections."""
    q, r = np.linalg.qr(rng.standard_normal((n, k, k)))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :])


class Split(NamedTuple):
    """Hubs, and groups that are independent of each other given the hubs.

    Attributes
    ----------
    hubs
        Their coordinates in z, shape (h,).
    groups
        The others', shape (n, k); a group that has fewer than k is filled up with d, one more than
        the last: a coordinate of its own that is standard normal.
    root
        Lower triangles R: a group's covariance under q given the hubs is R Rᵀ, shape (n, k, k).
    slope
        By how much q's conditional means move with the hubs, shape (n, k, h).
    """

    hubs: Int[np.ndarray, " h"]
    groups: Int[np.ndarray, "n k"]
    root: Float[np.ndarray, "n k k"]
    slope: Float[np.ndarray, "n k h"]
