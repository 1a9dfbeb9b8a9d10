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

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Int

from infimum import families
from infimum.answer.proposal import Proposal, joined
from infimum.base.errors import UnsuitableError, coded
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.corrections._corrected import Corrected
from infimum.corrections.blocks.marginal import DEGREE, LOST, NODES, Marginal, Split
from infimum.corrections.blocks.polar import MOST_TOGETHER
from infimum.families._distribution import SparseGaussian
from infimum.fitting.fit import Fit
from infimum.fitting.request import LEAST_DRAWS, Request
from infimum.fitting.rung import fit_rung
from infimum.solvers._solver import Info, State
from infimum.sources.numpy import from_numpy

MOST_HUBS = 8
"""Hubs at most: without gradients their marginal takes about three times d²/2 values a step."""

WANTED, MOST_MORE = 450.0, 8.0
"""Effective draws of the hubs with which means are known to 0.05 sd, and how many times as many
more as were asked for are made for want of them."""

HUB_TOLERANCE = 0.02
"""Nats that the fit of the hubs may be off: it only makes proposals for their draws."""


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
    request = Request(hubs, seed, 1, LEAST_DRAWS, tolerance=HUB_TOLERANCE)
    family = families.named("fullrank")
    unit = family.init(np.zeros(len(names)), np.ones(len(names)))
    start = State(q=unit, info=Info("climb"))
    near, _ = fit_rung(request, request.plan(), family, lambda progress: False, [start])
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
