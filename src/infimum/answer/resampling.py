"""Draws of p* from weighed draws: chosen in proportion to their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from infimum.answer.weighed import WeighedDraws, gather, picked_points, rows_of
from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.base.program import double_precision
from infimum.base.seeds import SAMPLE_STREAM, Seed, generator
from infimum.checks import weights
from infimum.objective.draws import fresh_draws
from infimum.target.target import Target

PROPOSALS = 4
"""Draws of q among the proposals for one importance-resampled draw."""


class Resampling(NamedTuple):
    """Which of the weighed draws n weighted draws are.

    Attributes
    ----------
    rows
        Their numbers, ascending, shape (n,); some may repeat.
    points
        The chosen points, chunk by chunk, made when they are asked for.
    order
        A random order for them, shape (n,).
    """

    rows: Int[np.ndarray, " n"]
    points: Iterator[Float[np.ndarray, "_ d"]]
    order: Int[np.ndarray, " n"]


def resample(draws: WeighedDraws, target: Target | None, n: int, seed: Seed) -> Resampling:
    """Choose n draws by their weights, among `PROPOSALS` times as many or more.

    They are chosen among the weighed draws themselves without a target, as in a loaded fit; and if
    each draw is much work, and there are enough.

    Raises
    ------
    ValueError
        If no weight can be formed.
    """
    enough = draws.kept is not None and draws.n >= PROPOSALS * n
    if target is None or draws.stored is not None or enough:
        log_w, chunks = draws.log_weights, draws.chunks()
    else:
        size, source = max(draws.n, PROPOSALS * n), (seed, SAMPLE_STREAM)
        evaluated = draws.proposal.evaluated(target, size, *source)
        log_w = np.concatenate([log_p - log_r for _, log_p, _, log_r in evaluated])
        chunks = draws.proposal.draws(size, *source)
    probabilities = weights.normalised(log_w)
    if np.isnan(probabilities).any():
        raise coded_error(
            ValueError,
            "E404",
            "these draws can't be reweighted: the density is undefined, or zero, at draws from "
            "q. See fit.advice",
        )
    rng = generator(seed, SAMPLE_STREAM, 0, 0, 0)
    rows = np.sort(rng.choice(len(log_w), size=n, p=probabilities))
    return Resampling(rows, picked_points(rows, chunks), rng.permutation(n))


def resampled(draws: WeighedDraws, target: Target | None, n: int, seed: Seed) -> PyTree:
    """N weighted draws, constrained chunk by chunk; see `resample`."""
    chosen = resample(draws, target, n, seed)
    if draws.stored is None:
        constrained = gather(n, (draws.space.draws(z) for z in chosen.points))
    else:
        constrained = rows_of(draws.stored, chosen.rows)
    return rows_of(constrained, chosen.order)


def points(
    draws: WeighedDraws, target: Target | None, n: int, seed: Seed, weighted: bool
) -> Float[np.ndarray, "n d"]:
    """N unconstrained draws of q, or weighted draws.

    Raises
    ------
    ValueError
        If a fit loaded from disk has none; if draws can't be reweighted.
    """
    if draws.stored is not None:
        raise coded_error(
            ValueError,
            "E401",
            "this file stores constrained draws only: use sample, or the original fit",
        )
    if not weighted:
        return np.concatenate([z for z, _ in fresh_draws(draws.q, n, seed, SAMPLE_STREAM)])
    chosen = resample(draws, target, n, seed)
    return np.concatenate(list(chosen.points))[chosen.order]


def some_points(
    draws: WeighedDraws, target: Target | None, n: int, seed: Seed, weighted: bool = False
) -> Float[np.ndarray, "_ d"]:
    """As `points`; if each draw is much work, those that are kept, and at most as many."""
    if draws.kept is None:
        return points(draws, target, n, seed, weighted)
    n = min(n, draws.n)
    return points(draws, None, n, seed, True) if weighted else draws.kept[:n]


def some_kept(draws: WeighedDraws, n: int, seed: Seed) -> PyTree:
    """Any n of the draws of q whose points are kept, constrained."""
    assert draws.kept is not None
    return draws.space.draws(draws.kept[generator(seed, SAMPLE_STREAM).permutation(draws.n)[:n]])


def some_stored(draws: WeighedDraws, n: int, seed: Seed) -> PyTree:
    """Any n of the stored draws of q.

    Raises
    ------
    ValueError
        If there are not so many.
    """
    if n > draws.n:
        raise coded_error(
            ValueError,
            "E403",
            f"this file stores {draws.n} draws, because constraining needs the model's own "
            f"code; {n} were asked for. Use the original fit, or build the target again",
        )
    return rows_of(draws.stored, generator(seed, SAMPLE_STREAM).permutation(draws.n)[:n])


def converted(draws: PyTree, backend: str) -> PyTree:
    """Arrays of another library."""
    if backend == "torch":
        return jax.tree_util.tree_map(required("torch", "torch").from_numpy, draws)
    with double_precision():
        return jax.tree_util.tree_map(jax.numpy.asarray, draws)
