"""Block by block: hierarchies of thousands of groups, each group integrated on its own.

Every group adds its own small KL, so that global importance weights are useless if there are many
groups, while the bias of the hyperparameters stays. But given the hubs h, which all groups depend
on, the groups are independent: p̂(h, θ) = p̂(h, c) Π_j exp f_j(θ_j; h), with f_j = 0 at a centre c.
So log ∫ p̂(h, θ) dθ = log p̂(h, c) + Σ_j log ∫ exp f_j, and each term is a small integral around q's
own conditional. This is the exact marginal of the hubs: a target of few dimensions, which is fitted
and weighted as any other. Its log Z is that of the whole.

f_j follows from log p̂ alone, because its derivative along a line is that of log p̂, in all groups at
the same time. So one gradient of the whole serves one node of one diameter of every group.
(Integrated nested Laplace approximations use Laplace's method instead: Rue, Martino & Chopin 2009.)
"""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum import families
from infimum.answer.proposal import Proposal, joined
from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.seeds import CORRECT_STREAM, Seed, generator
from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate
from infimum.corrections._corrected import Corrected
from infimum.corrections.blocks.marginal import DEGREE, MOST_TAIL_SPREAD, NODES, Marginal
from infimum.corrections.blocks.split import split_of
from infimum.families._distribution import SparseGaussian
from infimum.families._host import Conditioned
from infimum.fitting.fit import Fit
from infimum.fitting.request import LEAST_DRAWS, Request
from infimum.fitting.rung import fit_rung
from infimum.solvers._solver import Info, State
from infimum.sources.numpy import from_numpy
from infimum.target.target import Target

LEAST_ESS, MOST_MORE = 450.0, 8.0
"""Effective draws of the hubs with which means are known to 0.05 sd; and how many times n draws are
made in addition, at most, to have so many."""

HUB_TOLERANCE = 0.02
"""Nats that the fit of the hubs may be off, because it only makes proposals for their draws."""


class HubDraws(NamedTuple):
    """Weighted draws of the hubs' marginal, each with a draw of every group given the hubs.

    Attributes
    ----------
    z
        Draws of all coordinates, shape (m, d).
    tails
        Mass beyond the ends of the groups' integrals, in nats over all groups, shape (m,).
    log_w
        log p̂ - log r, where r is the proposal of the hubs, shape (m,).
    log_ratio
        log q - log r, where q is the fit of the hubs, shape (m,).
    log_w_q
        log p̂ - log q at q's own draws.
    """

    z: Float[np.ndarray, "m d"]
    tails: Float[np.ndarray, " m"]
    log_w: Float[np.ndarray, " m"]
    log_ratio: Float[np.ndarray, " m"]
    log_w_q: Float[np.ndarray, " n"]


def blocks(fit: Fit, n: int = 500, *, seed: Seed = 0) -> Corrected:
    """Draw from p*, and estimate log Z, group by group given a few hubs.

    Requires: a fit of the family "sparse" or "nested" whose pattern falls apart into groups of at
    most three coordinates given at most eight hubs; a target with a gradient, whose groups are
    independent given the hubs.

    Parameters
    ----------
    fit
        The fit. If it is nested, a sparse Gaussian on its pattern is fitted first.
    n
        Number of draws that are returned. At least as many draws of the hubs are made, each with a
        draw of every group.

    Returns
    -------
    Draws; `numbers` holds the number of "hubs" and "groups", the "group_size" of the largest group,
    the effective number of draws as "ess", and as "moved" how far the mean of the hub that moved
    most has moved, in its own sds.

    Raises
    ------
    UnsuitableError
        If q has no pattern, or its pattern does not fall apart.
    ValueError
        If the target has no gradient, or the fit has no target because it was loaded from disk.
    """
    begun = time.perf_counter()
    target, q = _suitable(fit, seed)
    split = split_of(q)
    marginal = Marginal(target, q, split)
    marginal.check(generator(seed, CORRECT_STREAM, 10))
    draws = _enough(marginal, _hub_proposal(marginal, seed), n, seed)
    chosen = _chosen(draws.log_w, n, generator(seed, CORRECT_STREAM, 11))
    tail, tail_spread = float(draws.tails[chosen].mean()), float(draws.tails[chosen].std())
    effective, n_hubs = weights.ess(draws.log_w), len(split.hubs)
    same = tail_spread <= MOST_TAIL_SPREAD  # if it differs between hubs, their weights are off
    why = f"{effective:.0f} of {len(draws.z)} draws of the {n_hubs} hubs are effective."
    if not same:
        why += f" Beyond the ends of the groups' integrals are {tail:.2g} ± {tail_spread:.2g} nats."
    return Corrected(
        fit=fit,
        method="blocks",
        z=draws.z[chosen],
        noise=functools.partial(_noise, effective),
        log_evidence=_log_evidence(marginal, draws, tail),
        trusted=bool(quantities.trusted(draws.log_w_q, draws.log_w) and same),
        why=why,
        numbers={
            "hubs": float(n_hubs),
            "groups": float(len(split.groups)),
            "group_size": float(split.groups.shape[1]),
            "ess": effective,
            "moved": _largest_move(draws.z[chosen], q, split.hubs),
        },
        seconds=time.perf_counter() - begun,
    )


def _suitable(fit: Fit, seed: Seed) -> tuple[Target, SparseGaussian]:
    """The target of a fit that can be corrected block by block, and a sparse Gaussian near q.

    Raises
    ------
    ValueError
        If it can't.
    """
    target = fit.at_hand()
    if not isinstance(fit.q, SparseGaussian | Conditioned):
        raise coded_error(
            UnsuitableError, "E225", 'blocks needs the pattern of a fit with family="sparse"'
        )
    if not target.differentiable:
        raise coded_error(
            ValueError,
            "E110",
            "blocks needs a gradient, and the target has none: give it one, or use importance",
        )
    return target, fit.q if isinstance(fit.q, SparseGaussian) else _sparse(fit, fit.q, seed)


def _sparse(fit: Fit, q: Conditioned, seed: Seed) -> SparseGaussian:
    """The sparse Gaussian on the pattern of a nested q, searched for from where that is."""
    request = Request(fit.at_hand(), seed, 1, LEAST_DRAWS).starting_at(fit)
    family = families.family_of(families.Sparse(np.asarray(q.edges)))
    sparse = fit_rung(request, request.plan(), family, lambda progress: False)[0].q
    assert isinstance(sparse, SparseGaussian)
    return sparse


def _hub_proposal(marginal: Marginal, seed: Seed) -> Proposal:
    """The proposal of a full-rank fit of the hubs' marginal."""
    names = [f"h{k}" for k in range(len(marginal.split.hubs))]
    target = from_numpy(marginal.values, len(names), names, True)
    request = Request(target, seed, 1, LEAST_DRAWS, tolerance=HUB_TOLERANCE)
    family = families.named("fullrank")
    unit = family.init(np.zeros(len(names)), np.ones(len(names)))
    start = State(q=unit, info=Info("climb"))
    fit, _ = fit_rung(request, request.plan(), family, lambda progress: False, [start])
    return fit.proposal


def _chosen(
    log_w: Float[np.ndarray, " m"], n: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Indices of n draws in proportion to their weights, by systematic resampling."""
    levels = (np.arange(n) + rng.random()) / n
    cumulative = np.cumsum(weights.normalised(log_w))
    return np.minimum(np.searchsorted(cumulative, levels), len(log_w) - 1)


def _noise(effective: float, values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Standard errors of means over so many effective draws."""
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(effective))


def _log_evidence(marginal: Marginal, draws: HubDraws, tail: float) -> Estimate:
    """log Z; its standard error includes the errors of the groups' integrals.

    The error of the nodes is what twice as many change at the centre; it is corrected as well.
    """
    centre = np.zeros((1, len(marginal.split.hubs)))
    finer = Marginal(marginal.target, marginal.q, marginal.split, 2 * NODES, 2 * DEGREE)
    error = float(finer.values(centre)[0] - marginal.values(centre)[0])
    value, se = weights.log_evidence(draws.log_w, draws.log_ratio)
    return Estimate(value + error, float(np.linalg.norm([se, error, tail])))


def _largest_move(
    z: Float[np.ndarray, "n d"], q: SparseGaussian, hubs: Int[np.ndarray, " h"]
) -> float:
    """How far the mean of the hub that moved most is from q's, in the hub's sds."""
    values = z[:, hubs]
    away = np.abs(values.mean(axis=0) - np.asarray(q.mean)[hubs])
    return float(np.max(away / values.std(axis=0)))


def _enough(marginal: Marginal, proposal: Proposal, n: int, seed: Seed) -> HubDraws:
    """As many draws as it takes for `LEAST_ESS` effective ones, up to `MOST_MORE` times n more."""
    most = int(n * (1 + MOST_MORE))
    draws = _weighed(marginal, proposal, n, seed, 0)
    turn = 0
    while (short := LEAST_ESS / weights.ess(draws.log_w)) > 1 and (done := len(draws.z)) < most:
        turn += 1
        size = min(done * (1.1 * short - 1), most - done)
        more = _weighed(marginal, proposal, int(np.ceil(size)), seed, turn)
        draws = HubDraws._make(np.concatenate(pair) for pair in zip(draws, more, strict=True))
    return draws


def _weighed(marginal: Marginal, proposal: Proposal, n: int, seed: Seed, turn: int) -> HubDraws:
    """About n draws of the hubs' proposal, with a draw of the groups and weights."""
    rng = generator(seed, CORRECT_STREAM, 12, turn)
    rows = []
    size = int(np.ceil(n * 1024 / sum(proposal.counts(1024))))
    for u, log_q, log_r in proposal.draws(size, seed, CORRECT_STREAM, 13, turn):
        log_p, z, tails = marginal.drawn(u, rng)
        rows.append((z, tails, log_p - log_r, log_q - log_r, log_p - log_q))
    z, tails, log_w, log_ratio, log_w_q = joined(rows)
    return HubDraws(z, tails, log_w, log_ratio, log_w_q[:size])
