"""The marginal of the hubs: the integral over every group, and draws of the groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.base.errors import UnsuitableError, coded_error
from infimum.corrections.blocks.polar import Polar, polar
from infimum.corrections.blocks.split import Split
from infimum.families._distribution import SparseGaussian
from infimum.target.target import Target

NODES, DEGREE = 27, 12
"""Nodes along a diameter where a group's derivative is evaluated, and the degree of the rule for
the diameters' directions. The derivative of a logistic group has poles at ±iπ. With a scale of 1
the error falls as 1.6 to the power of minus the nodes: log Z of 20,000 groups of four rows was 0.02
nats off. For pairs of Poisson rates known to 0.3 and 0.6 the directions leave an error of 2e-5 nats
(2e-4 and 3e-3 with a degree of 8). A rule with twice as many of both shows the error at one point;
log Z is corrected by it, and its standard error includes it."""

WIDEST, NARROWEST, MOST_STEP = 5.0, 100.0, 20.0
"""Factors by which a group given the hubs may be wider or narrower than under q, and sds by which
its centre may be shifted: hubs far from q's mean scale and shift all groups."""

MOST_TAIL_SPREAD = 0.01
"""Largest sd over the hubs of the mass beyond the ends of all groups' integrals, in nats, if each
tail is as long as one sd. For 20,000 logistic groups of four rows it was 0.001, and the mass itself
0.05, which is part of log Z's standard error."""

MOST_DEVIATION = 1e-4
"""Largest relative difference between the sum over groups and log p̂ itself if the groups are
independent given the hubs."""


class _Integrals(NamedTuple):
    """Integrals of all groups given some rows of hubs.

    Attributes
    ----------
    log_p
        The log marginal, shape (n,).
    density
        Each group's exp f, up to a factor, at all points of all directions, shape (n, m, p, g).
    z
        The centres, shape (n, d + 1).
    root
        The groups' roots, shape (n, g, k, k).
    """

    log_p: Float[np.ndarray, " n"]
    density: Float[np.ndarray, "n m p g"]
    z: Float[np.ndarray, "n d1"]
    root: Float[np.ndarray, "n g k k"]


@dataclass
class Marginal:
    """The hubs' log marginal log ∫ p̂(h, θ) dθ, and draws of θ given the hubs h.

    The hubs are given as u = L⁻¹(h - mean), with mean and factor L of q's marginal: there they are
    nearly N(0, I).

    Attributes
    ----------
    target, q
        The target, and the sparse Gaussian that was fitted to it.
    split
        The hubs and the groups.
    n_nodes, degree
        How fine the rule for each group's integral is.
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
        return np.concatenate([chunk.log_p for chunk in self._integrated(u)])

    def drawn(
        self, u: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """The log marginal at each row, a draw of z given the hubs there, and the mass of tails.

        The mass of the tails is what lies beyond the ends of the groups' integrals, in nats over
        all groups, if each tail is as long as one sd.
        """
        values, rows, tails = [], [], []
        for chunk in self._integrated(u, rng):
            for density, point, root in zip(chunk.density, chunk.z, chunk.root, strict=True):
                eps = self._drawn_groups(density, rng)
                point[self.split.groups] += np.einsum("gij,gj->gi", root, eps)
                ends = self.polar.rim @ (density[:, 0] + density[:, -1])
                whole = np.einsum("mpg,mp->g", density, self.polar.weights)
                tails.append((ends / whole).sum())
            values.append(chunk.log_p)
            rows.append(chunk.z[:, :-1])
        return np.concatenate(values), np.concatenate(rows), np.array(tails)

    def check(self, rng: np.random.Generator) -> None:
        """Compare the sum over groups with log p̂ itself, at one random point.

        Raises
        ------
        UnsuitableError
            If they differ, because groups are not independent given the hubs.
        """
        centre, root, _ = self._centres(rng.standard_normal((1, len(self.split.hubs))))
        direction = self.polar.directions[rng.integers(len(self.polar.directions))]
        count = len(self.polar.points)
        position = rng.integers(count // 3, 2 * count // 3, len(self.split.groups))
        diameters = root @ direction
        step = self.polar.points[position][:, None] * diameters[0]
        z = centre.copy()
        z[0, self.split.groups] += step
        functions = self._functions(centre, diameters)[0, position, np.arange(len(position))]
        total, size = float(functions.sum()), float(np.abs(functions).sum()) + 1
        first, last = self.target.values(np.concatenate([centre, z])[:, :-1])
        expected = last - first - 0.5 * float((step[self.filled] ** 2).sum())
        if not abs(expected - total) <= MOST_DEVIATION * size:
            raise coded_error(
                UnsuitableError,
                "E806",
                f"the changes of all groups given the hubs add up to {total:.8g}, and log p̂ "
                f"changes by {expected:.8g}: the groups are not independent, or not smooth. "
                "Use another correction",
            )

    def _centres(
        self, u: Float[np.ndarray, "n h"]
    ) -> tuple[Float[np.ndarray, "n d1"], Float[np.ndarray, "n g k k"], Float[np.ndarray, " n"]]:
        """The centre and a root of the covariance of every group, given the hubs at each row.

        They are those of q's conditional after one Newton step, from the slopes at its mean and one
        sd to either side in every coordinate.

        Returns
        -------
        Points z with the hubs at each row and the groups at their centres, followed by one 0; the
        roots; and their log-determinants, summed over the groups.
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
        slope_at_mean = slopes[1, 0]
        values, vectors = _eigen(0.5 * (curvature + np.swapaxes(curvature, -1, -2)))
        values = np.clip(values, WIDEST**-2, NARROWEST**2)
        newton = np.einsum("ngij,ngi->ngj", vectors, slope_at_mean) / values
        newton = np.clip(newton, -MOST_STEP, MOST_STEP)
        z[:, groups] += np.einsum("ngij,ngj->ngi", root @ vectors, newton)
        z[:, -1] = 0.0
        log_dets = np.log(np.diagonal(conditional, axis1=1, axis2=2)).sum()
        log_dets = log_dets - 0.5 * np.log(values).sum(axis=(1, 2))
        return z, root @ vectors / np.sqrt(values)[:, :, None, :], log_dets

    def _slopes(
        self,
        centres: Float[np.ndarray, "n d1"],
        diameters: Float[np.ndarray, "n g k"],
        nodes: Float[np.ndarray, " m"],
    ) -> Float[np.ndarray, "n m g k"]:
        """Gradient of every group's f at the nodes of a diameter through its centre."""
        groups = self.split.groups
        z = np.repeat(centres[:, None], len(nodes), axis=1)
        step = nodes[:, None, None] * diameters[:, None]
        z[:, :, groups] += step
        points = z.reshape(-1, z.shape[2])[:, :-1]
        slopes = self.target.value_and_gradient(points)[1].reshape(*z.shape[:2], -1)
        inside = slopes[:, :, np.minimum(groups, self.q.dim - 1)]
        return np.asarray(np.where(self.filled, -step, inside) if self.filled.any() else inside)

    def _functions(
        self, centres: Float[np.ndarray, "n d1"], diameters: Float[np.ndarray, "n g k"]
    ) -> Float[np.ndarray, "n p g"]:
        """Every group's f at the points of a diameter, from its derivative at the nodes."""
        slopes = self._slopes(centres, diameters, self.polar.nodes)
        return np.asarray(self.polar.rule @ np.einsum("nmgk,ngk->nmg", slopes, diameters))

    def _integrated(
        self, u: Float[np.ndarray, "n h"], rng: np.random.Generator | None = None
    ) -> Iterator[_Integrals]:
        """The integrals of all groups, for as many rows at a time as a compiled batch holds.

        With a generator the directions of the diameters are turned at random in each row, so that
        draws along them come from all directions.
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
            log_p = self.target.values(z[:, :-1]) + groups + shift
            yield _Integrals(log_p, density, z, root)

    def _drawn_groups(
        self, density: Float[np.ndarray, "m p n"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n k"]:
        """A draw of each group in units of its root, by inverting its cumulative distribution."""
        rule, n = self.polar, density.shape[-1]
        total = np.cumsum((rule.weights[:, :, None] * density).reshape(-1, n), axis=0)
        after = (total < rng.random(n) * total[-1]).sum(axis=0)
        m, p = np.divmod(np.minimum(after, len(total) - 1), len(rule.points))
        low, high = rule.edges[p], rule.edges[p + 1]
        return np.asarray((low + rng.random(n) * (high - low))[:, None] * rule.directions[m])


def _eigen(matrices: Float[np.ndarray, "*b k k"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    if matrices.shape[-1] == 1:  # spares thousands of decompositions for each row of hubs
        return matrices[..., 0], np.ones(matrices.shape)
    values, vectors = np.linalg.eigh(matrices)
    return values, vectors


def _turns(n: int, k: int, rng: np.random.Generator) -> Float[np.ndarray, "n k k"]:
    """Random rotations and reflections, one for each of n rows."""
    q, r = np.linalg.qr(rng.standard_normal((n, k, k)))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :])
