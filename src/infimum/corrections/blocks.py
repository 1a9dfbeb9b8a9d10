"""Block by block: hierarchies of thousands of groups, each group integrated on its own.

Every group adds its own small KL, so that global importance weights are useless where there are
many, while the hyperparameters' bias stays. But given the hubs h, which all groups are
coupled to, groups are independent: p̂(h, θ) = p̂(h, c) Π_j exp f_j(θ_j; h), f_j = 0 at a centre c.
So log ∫ p̂(h, θ) dθ = log p̂(h, c) + Σ_j log ∫ exp f_j, each a small integral around q's own
conditional. That is the exact marginal of the hubs, a target of few dimensions, which is fitted and
weighted as any other; its log Z is that of the whole.

f_j is known from log p̂ alone: its derivative along a line is that of log p̂, in all groups at the
same time. One gradient of the whole serves one node of one diameter of every group (integrated
nested Laplace approximations do the like with the Laplace method: Rue, Martino & Chopin 2009).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Float, Int

from infimum import families
from infimum._corrected import Corrected
from infimum._errors import coded
from infimum._family import SparseGaussian, UnsuitableError
from infimum._fit import Fit
from infimum._loop import CORRECT_STREAM
from infimum._objective import Seed, generator
from infimum._polar import MOST_TOGETHER, Polar, polar
from infimum._proposal import Proposal, joined
from infimum._rung import LEAST_DRAWS, Options, fit_rung
from infimum._solver import Info, State
from infimum._target import Target
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.sources.numpy import from_numpy

MOST_HUBS = 8
"""Hubs at most: without gradients their marginal takes about three times d²/2 values a step."""

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

WANTED, MOST_MORE = 450.0, 8.0
"""Effective draws of the hubs with which means are known to 0.05 sd, and how many times as many
more as were asked for are made for want of them."""

HUB_TOLERANCE = 0.02
"""Nats that the fit of the hubs may be off: it only makes proposals for their draws."""


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


def blocks(fit: Fit, n: int = 500, *, seed: Seed = 0) -> Corrected:
    """Draws of p* and log Z where groups of at most three coordinates hang on few hubs.

    Parameters
    ----------
    fit
        Of the sparse family.
    n
        Draws of the hubs, each with one of every group given it, and as many draws returned.

    Returns
    -------
    `told` has the number of hubs and groups, the size of the largest group, the effective number of
    the draws, and by how many sds of its own the mean of the hub that moved most has moved.

    Raises
    ------
    UnsuitableError
        If q is not sparse, or the rest does not fall apart into groups of at most three coordinates
        given at most eight hubs.
    ValueError
        If the target has no gradient or is not at hand.
    """
    begun = time.perf_counter()
    target = fit.at_hand()
    if not isinstance(fit.q, SparseGaussian):
        raise UnsuitableError(
            coded("E225", 'blocks needs the pattern of a fit with family="sparse"')
        )
    if not target.differentiable:
        raise ValueError(
            coded(
                "E110",
                "blocks needs a gradient, and the target has none: give it one, or use importance",
            )
        )
    split = split_of(fit.q)
    marginal = Marginal(target, fit.q, split)
    marginal.check(generator(seed, CORRECT_STREAM, 10))
    names = [f"h{k}" for k in range(len(split.hubs))]
    hubs = from_numpy(marginal.values, len(names), names, True)
    options = Options(hubs, seed, 1, LEAST_DRAWS, tolerance=HUB_TOLERANCE)
    family = families.named("fullrank")
    unit = family.init(np.zeros(len(names)), np.ones(len(names)))
    start = State(q=unit, info=Info("climb"))
    near, _ = fit_rung(options, family, lambda progress: False, [start])
    z, lost, log_w, log_ratio, log_w_q = _enough(marginal, near.proposal, n, seed)
    w = weights.normalised(log_w)
    places = (np.arange(n) + generator(seed, CORRECT_STREAM, 11).random()) / n
    chosen = np.minimum(np.searchsorted(np.cumsum(w), places), len(z) - 1)
    effective = weights.ess(log_w)
    beyond, apart = float(lost[chosen].mean()), float(lost[chosen].std())
    trusted = quantities.trusted(log_w_q, log_w) and apart <= LOST
    centre = np.zeros((1, len(names)))
    finer = Marginal(target, fit.q, split, 2 * NODES, 2 * DEGREE)
    off = float(finer.values(centre)[0] - marginal.values(centre)[0])
    log_z = weights.log_evidence(log_w, log_ratio)
    own = z[chosen][:, split.hubs]
    away = np.abs(own.mean(axis=0) - np.asarray(fit.q.mean)[split.hubs])
    why = f"{effective:.0f} of {len(z)} draws of the {len(names)} hubs are effective."
    if not apart <= LOST:
        why += f" Some {beyond:.2g} ± {apart:.2g} nats are beyond the ends of groups' integrals."
    return Corrected(
        fit=fit,
        method="blocks",
        z=z[chosen],
        noise=lambda values: np.asarray(values.std(axis=0, ddof=1) / np.sqrt(effective)),
        log_evidence=Estimate(log_z.value + off, float(np.linalg.norm([log_z.se, off, beyond]))),
        trusted=bool(trusted),
        why=why,
        told={
            "hubs": float(len(names)),
            "groups": float(len(split.groups)),
            "group_size": float(split.groups.shape[1]),
            "ess": effective,
            "moved": float(np.max(away / own.std(axis=0))),
        },
        seconds=time.perf_counter() - begun,
    )


def split_of(q: SparseGaussian) -> Split:
    """The fewest hubs, of most neighbours first, without which only small groups are coupled.

    Raises
    ------
    UnsuitableError
        If there are more than `MOST_HUBS`, or none.
    """
    d, (row, column) = q.dim, np.asarray(q.edges)
    order = np.argsort(-np.bincount(np.concatenate([row, column]), minlength=d), kind="stable")
    for count in range(1, min(MOST_HUBS, d - 1) + 1):
        left = np.ones(d, bool)
        left[order[:count]] = False
        label = _together(row, column, left)
        size = int(np.bincount(label).max())
        if size <= MOST_TOGETHER:
            break
    else:
        raise UnsuitableError(
            coded(
                "E806",
                f"more than {MOST_TOGETHER} coordinates are coupled to each other also given the "
                f"{MOST_HUBS} of most neighbours: blocks is for small groups that hang on few "
                "hubs. Use another correction",
            )
        )
    hubs, local = np.sort(order[:count]), np.flatnonzero(left)
    groups = np.full((label.max() + 1, size), d)
    by_group = np.argsort(label, kind="stable")
    first = np.searchsorted(label[by_group], label[by_group])
    groups[label[by_group], np.arange(len(local)) - first] = local[by_group]
    values = q.precision()
    across = scipy.sparse.coo_matrix((values[d:], (row, column)), shape=(d + 1, d + 1))
    precision = (across + across.T + scipy.sparse.diags(np.append(values[:d], 1.0))).tocsr()
    pairs = groups[:, :, None], groups[:, None, :]
    within = precision[tuple(np.broadcast_arrays(*pairs)[i].ravel() for i in range(2))]
    filled = (groups == d)[:, :, None] & (groups == d)[:, None, :]
    own = np.asarray(within).reshape(*groups.shape, size)
    own = np.where(filled, np.eye(size), own)
    with_hubs = precision[groups.ravel()][:, hubs].toarray().reshape(*groups.shape, count)
    covariance = np.linalg.inv(own)
    return Split(hubs, groups, np.linalg.cholesky(covariance), -covariance @ with_hubs)


def _together(
    row: Int[np.ndarray, " e"], column: Int[np.ndarray, " e"], left: np.ndarray
) -> Int[np.ndarray, " l"]:
    """Which group each coordinate that is left belongs to."""
    kept = left[row] & left[column]
    edges = (np.ones(int(kept.sum())), (row[kept], column[kept]))
    graph = scipy.sparse.coo_matrix(edges, shape=(len(left), len(left)))
    labels = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][left]
    return np.asarray(np.unique(labels, return_inverse=True)[1])


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


def _enough(marginal: Marginal, proposal: Proposal, n: int, seed: Seed) -> tuple[np.ndarray, ...]:
    """As many draws as it takes for `WANTED` effective ones, up to `MOST_MORE` times n more."""
    most = int(n * (1 + MOST_MORE))
    found = _weighed(marginal, proposal, n, seed, 0)
    turn = 0
    while (short := WANTED / weights.ess(found[2])) > 1 and (done := len(found[0])) < most:
        turn += 1
        size = min(done * (1.1 * short - 1), most - done)
        more = _weighed(marginal, proposal, int(np.ceil(size)), seed, turn)
        found = tuple(np.concatenate(pair) for pair in zip(found, more, strict=True))
    return found


def _weighed(
    marginal: Marginal, proposal: Proposal, n: int, seed: Seed, turn: int
) -> tuple[np.ndarray, ...]:
    """Draws z of the hubs' proposal and the groups, what is beyond the ends, and log weights.

    Those are log p̂/r, log q/r, and, at q's own draws, log p̂/q.
    """
    rng = generator(seed, CORRECT_STREAM, 12, turn)
    rows = []
    size = int(np.ceil(n * 1024 / sum(proposal.counts(1024))))
    for u, log_q, log_r in proposal.draws(size, seed, CORRECT_STREAM, 13, turn):
        log_p, z, lost = marginal.drawn(u, rng)
        rows.append((z, lost, log_p - log_r, log_q - log_r, log_p - log_q))
    parts = joined(rows)
    return (*parts[:-1], parts[-1][:size])
