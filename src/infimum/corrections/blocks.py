"""Block by block: hierarchies of thousands of groups, each group integrated on its own.

Every group adds its own small KL, so that global importance weights are useless where there are
many, while the hyperparameters' bias stays. But given the hubs h, which all groups are
coupled to, groups are independent: p̂(h, θ) = p̂(h, c) Π_j exp f_j(θ_j; h), f_j = 0 at a centre c.
So log ∫ p̂(h, θ) dθ = log p̂(h, c) + Σ_j log ∫ exp f_j, each a small integral around q's own
conditional. That is the exact marginal of the hubs, a target of few dimensions, which is fitted and
weighted as any other; its log Z is that of the whole.

f_j is known from log p̂ alone: its derivative along a line is that of log p̂, in all groups at the
same time. One gradient of the whole serves one node of every group (integrated nested Laplace
approximations do the like with the Laplace method: Rue, Martino & Chopin 2009).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float
from numpy.polynomial import chebyshev

from infimum import families
from infimum._corrected import Corrected
from infimum._family import SparseGaussian, UnsuitableError
from infimum._fit import Fit
from infimum._loop import CORRECT_STREAM
from infimum._objective import Seed, generator
from infimum._proposal import Proposal, joined
from infimum._rung import LEAST_DRAWS, Options, fit_rung
from infimum._solver import Info, State
from infimum._target import Target
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.sources.numpy import from_numpy

MOST_HUBS = 8
"""Hubs at most: without gradients their marginal takes about three times d²/2 values a step."""

REACH, NODES = 6.0, 27
"""sds of q's conditional to which a group is integrated on either side, and Chebyshev nodes of its
derivative there. That of logistic groups has poles at ±iπ, so that with a scale of 1 the error
falls as 1.6 to the power of minus the nodes: of 20,000 groups of four rows log Z was 0.02 nats off.
Twice as many nodes at one place say by how much, for log Z and its standard error."""

POINTS = 49
"""Points of the trapezoidal rule, a quarter of an sd apart: for smooth integrands on the whole line
its error falls faster than any power. Draws are uniform between two points, which adds 0.3 % to
sds."""

WIDEST, NARROWEST, MOST_STEP = 5.0, 100.0, 20.0
"""Factors by which a group given the hubs may be wider and narrower than q has it, and sds by which
its centre may be elsewhere: hubs far from q's mean scale and shift all groups."""

EDGE = 1e-4
"""Part of a group's greatest density that may be left at the ends."""

ADDITIVE = 1e-4
"""Relative difference between the sum over groups and log p̂ itself above which groups are not
independent given the hubs."""

WANTED, MOST_MORE = 450.0, 8.0
"""Effective draws of the hubs with which means are known to 0.05 sd, and how many times as many as
were asked for are made for want of them."""

HUB_TOLERANCE = 0.02
"""Nats that the fit of the hubs may be off: it only makes proposals for their draws."""


class Split(NamedTuple):
    """Hubs, and what is left: coordinates that are independent of each other given the hubs.

    Attributes
    ----------
    hubs, local
        Their coordinates in z, shapes (h,) and (n,).
    scale
        Conditional sds of q, shape (n,).
    slope
        By how much q's conditional means move with the hubs, shape (n, h).
    """

    hubs: np.ndarray
    local: np.ndarray
    scale: np.ndarray
    slope: np.ndarray


def blocks(fit: Fit, n: int = 500, *, seed: Seed = 0) -> Corrected:
    """Draws of p* and log Z where groups of one coordinate each hang on few hubs.

    Parameters
    ----------
    fit
        Of the sparse family.
    n
        Draws of the hubs, each with one of every group given it, and as many draws returned.

    Returns
    -------
    `told` has the number of hubs and groups, the effective number of the draws, and by how many sds
    of its own the mean of the hub that moved most has moved.

    Raises
    ------
    UnsuitableError
        If q is not sparse, or the rest does not fall apart into single coordinates given at most
        eight hubs.
    ValueError
        If the target has no gradient or is not at hand.
    """
    begun = time.perf_counter()
    target = fit.at_hand()
    if not isinstance(fit.q, SparseGaussian):
        raise UnsuitableError('blocks needs the pattern of a fit with family="sparse"')
    if not target.differentiable:
        raise ValueError("blocks needs a gradient, and the target has none")
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
    z, ends, log_w, log_ratio, log_w_q = _weighed(marginal, near.proposal, n, seed, 0)
    short = WANTED / weights.ess(log_w)
    if short > 1:
        more = _weighed(marginal, near.proposal, int(n * min(short, MOST_MORE)), seed, 1)
        first = (z, ends, log_w, log_ratio, log_w_q)
        z, ends, log_w, log_ratio, log_w_q = (
            np.concatenate(pair) for pair in zip(first, more, strict=True)
        )
    w = weights.normalised(log_w)
    places = (np.arange(n) + generator(seed, CORRECT_STREAM, 11).random()) / n
    chosen = np.minimum(np.searchsorted(np.cumsum(w), places), len(z) - 1)
    effective = weights.ess(log_w)
    edge = float(ends[chosen].max())
    trusted = quantities.trusted(log_w_q, log_w) and edge <= EDGE
    centre = np.zeros((1, len(names)))
    finer = Marginal(target, fit.q, split, 2 * NODES)
    off = float(finer.values(centre)[0] - marginal.values(centre)[0])
    log_z = weights.log_evidence(log_w, log_ratio)
    own = z[chosen][:, split.hubs]
    away = np.abs(own.mean(axis=0) - np.asarray(fit.q.mean)[split.hubs])
    why = f"{effective:.0f} of {len(z)} draws of the {len(names)} hubs are effective."
    if edge > EDGE:
        why += f" A group has {edge:.1g} of its density at the ends of its integral."
    return Corrected(
        fit=fit,
        method="blocks",
        z=z[chosen],
        noise=lambda values: np.asarray(values.std(axis=0, ddof=1) / np.sqrt(effective)),
        log_evidence=Estimate(log_z.value + off, float(np.hypot(log_z.se, off))),
        trusted=bool(trusted),
        why=why,
        told={
            "hubs": float(len(names)),
            "groups": float(len(split.local)),
            "ess": effective,
            "moved": float(np.max(away / own.std(axis=0))),
        },
        seconds=time.perf_counter() - begun,
    )


def split_of(q: SparseGaussian) -> Split:
    """The fewest hubs, of most neighbours first, without which nothing is coupled.

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
        if not np.any(left[row] & left[column]):
            break
    else:
        raise UnsuitableError(
            f"coordinates are coupled to each other also given the {MOST_HUBS} of most neighbours: "
            "blocks is for groups of one coordinate each"
        )
    hubs, local = np.sort(order[:count]), np.flatnonzero(left)
    values = q.precision()
    across = scipy.sparse.coo_matrix((values[d:], (row, column)), shape=(d, d)).tocsr()
    across = (across + across.T)[local][:, hubs].toarray()
    own = values[local]
    return Split(hubs, local, 1 / np.sqrt(own), -across / own[:, None])


@dataclass
class Marginal:
    """The hubs' marginal log ∫ p̂(h, θ) dθ, and draws of θ given h.

    The hubs are given in the units of q's marginal, in which its best is near 0 and I.
    """

    target: Target
    q: SparseGaussian
    split: Split
    n_nodes: int = NODES

    def __post_init__(self) -> None:
        hubs = self.split.hubs
        self.mean = np.asarray(self.q.mean)
        eye = np.zeros((len(hubs), self.q.dim))
        eye[np.arange(len(hubs)), hubs] = 1.0
        root = self.q.whiten(eye)
        self.factor = np.linalg.cholesky(root @ root.T)
        self.nodes = REACH * chebyshev.chebpts1(self.n_nodes)
        self.grid = np.linspace(-REACH, REACH, POINTS)
        vander = chebyshev.chebvander(self.nodes / REACH, self.n_nodes - 1)
        integral = chebyshev.chebval(
            self.grid / REACH, chebyshev.chebint(np.eye(self.n_nodes), lbnd=0.0, axis=0)
        )
        self.rule = REACH * integral.T @ np.linalg.inv(vander)
        """From derivatives at the nodes to the function on the grid, 0 at its middle."""

    def values(self, u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, " n"]:
        """The log marginal at each row."""
        return np.concatenate([log_p for log_p, *_ in self._looked(u)])

    def drawn(
        self, u: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The log marginal at each row, a draw of all of z given it, and what the ends say.

        Shapes (n,), (n, d) and (n,): the last is the largest density of any group at the ends of
        its integral, as a part of its greatest.
        """
        values, rows, ends = [], [], []
        for log_p, densities, z, scale in self._looked(u):
            for density, point, unit in zip(densities, z, scale, strict=True):
                place = _inverted(density, self.grid, rng.random(density.shape[1]))
                point[self.split.local] += unit * place
                ends.append(density[[0, -1]].max())
            values.append(log_p)
            rows.append(z)
        return np.concatenate(values), np.concatenate(rows), np.array(ends)

    def check(self, rng: np.random.Generator) -> None:
        """Raise UnsuitableError unless the groups add up to log p̂."""
        centre, scale = self._centres(rng.standard_normal((1, len(self.split.hubs))))
        place = rng.integers(POINTS // 3, 2 * POINTS // 3, len(self.split.local))
        z = centre.copy()
        z[0, self.split.local] += scale[0] * self.grid[place]
        functions = self._functions(centre, scale)[0, place, np.arange(len(place))]
        total, size = float(functions.sum()), float(np.abs(functions).sum()) + 1
        first, last = self.target.values(np.concatenate([centre, z]))
        if not abs(last - first - total) <= ADDITIVE * size:
            raise UnsuitableError(
                f"groups given the hubs add up to {total:.8g} where log p̂ changes by "
                f"{last - first:.8g}: they are not independent, or not smooth"
            )

    def _centres(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hubs at each row of u, all else where it is expected given them, and on what scale.

        From q's conditional a Newton step by the slopes there and one sd to either side. Shapes
        (n, d) and (n, groups).
        """
        local, step = self.split.local, u @ self.factor.T
        z = np.repeat(self.mean[None], len(u), axis=0)
        z[:, self.split.hubs] += step
        z[:, local] += step @ self.split.slope.T
        scale = np.repeat(self.split.scale[None], len(u), axis=0)
        below, here, above = np.moveaxis(self._slopes(z, scale, np.array([-1.0, 0.0, 1.0])), 1, 0)
        curvature = np.clip(0.5 * (below - above), WIDEST**-2, NARROWEST**2)
        z[:, local] += scale * np.clip(here / curvature, -MOST_STEP, MOST_STEP)
        return z, scale / np.sqrt(curvature)

    def _slopes(self, centres: np.ndarray, scale: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Derivative of every group's f at these nodes, in its units, (n, nodes, groups)."""
        local = self.split.local
        z = np.repeat(centres[:, None], len(nodes), axis=1)
        z[:, :, local] += nodes[:, None] * scale[:, None]
        slopes = self.target.value_and_gradient(z.reshape(-1, z.shape[2]))[1]
        return np.asarray(slopes.reshape(z.shape)[:, :, local] * scale[:, None])

    def _functions(
        self, centres: np.ndarray, scale: np.ndarray
    ) -> Float[np.ndarray, "n points groups"]:
        """Every group's f on the grid."""
        return np.asarray(self.rule @ self._slopes(centres, scale, self.nodes))

    def _looked(
        self, u: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """The log marginal; the groups' densities on the grid, unnormalised; centres and scales.

        For as many rows at a time as a compiled batch holds.
        """
        size = max(1, self.target.program.width // self.n_nodes)
        spacing = len(self.split.local) * np.log(self.grid[1] - self.grid[0])
        shift = np.log(np.diag(self.factor)).sum() + spacing
        for start in range(0, len(u), size):
            z, scale = self._centres(u[start : start + size])
            functions = self._functions(z, scale)
            top = functions.max(axis=1)
            density = np.exp(functions - top[:, None])
            sums = density.sum(axis=1) - 0.5 * (density[:, 0] + density[:, -1])
            groups = (np.log(sums * scale) + top).sum(axis=1)
            yield self.target.values(z) + groups + shift, density, z, scale


def _inverted(
    density: Float[np.ndarray, "points n"], grid: np.ndarray, u: Float[np.ndarray, " n"]
) -> np.ndarray:
    """Where each column's cumulative distribution reaches u, evenly between two points."""
    total = np.cumsum(0.5 * (density[1:] + density[:-1]), axis=0)
    after = np.minimum((total < u * total[-1]).sum(axis=0), len(grid) - 2)
    columns = np.arange(len(u))
    low = np.where(after > 0, total[after - 1, columns], 0.0)
    mass = total[after, columns] - low
    part = (u * total[-1] - low) / np.where(mass > 0, mass, 1.0)
    return np.asarray(grid[after] + np.clip(part, 0.0, 1.0) * (grid[1] - grid[0]))


def _weighed(
    marginal: Marginal, proposal: Proposal, n: int, seed: Seed, turn: int
) -> tuple[np.ndarray, ...]:
    """Draws z of the hubs' proposal and the groups given them, what the ends say, and log weights.

    Those are log p̂/r, log q/r, and, at q's own draws, log p̂/q.
    """
    rng = generator(seed, CORRECT_STREAM, 12, turn)
    rows = []
    size = int(np.ceil(n * 1024 / sum(proposal.counts(1024))))
    for u, log_q, log_r in proposal.draws(size, seed, CORRECT_STREAM, 13, turn):
        log_p, z, ends = marginal.drawn(u, rng)
        rows.append((z, ends, log_p - log_r, log_q - log_r, log_p - log_q))
    parts = joined(rows)
    return (*parts[:-1], parts[-1][:size])
