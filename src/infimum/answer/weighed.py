"""Weighed draws: fresh draws of a proposal, with log p̂, log q and log r at each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer.proposal import Proposal, joined
from infimum.base.seeds import CHECK_STREAM, Seed
from infimum.checks import quantities
from infimum.families._distribution import Distribution
from infimum.families._host import Conditioned
from infimum.target.space import Space, columns
from infimum.target.target import Target

SUMMARY_NUMBERS = 10_000_000
"""Constrained numbers held at once for a summary (80 MB). Of more quantities the moments are still
taken over all draws, a chunk at a time, and the quantiles over fewer."""

Chunk = tuple[np.ndarray, ...]
"""Arrays of draws, a row a draw; the points z come first."""


@dataclass(frozen=True, eq=False)
class WeighedDraws:
    """Draws that nothing was fitted to, and all that their weights are made of.

    The points themselves are not kept, as the proposal makes them again from the seed; unless each
    of them is much work.

    Attributes
    ----------
    proposal
        What they are drawn from; its first component is q.
    space
        The bijection between R^d and the parameters.
    seed
        They are this seed's draws for checks.
    n
        How many are of q: those come first.
    log_p, log_q, log_r
        log p̂, log q and the proposal's log density at each draw, in nats, shape (m,).
    stored
        Constrained draws, in a loaded fit whose space can't make any; else None.
    kept
        The points, shape (m, d), if each of them is much work; else None.
    """

    proposal: Proposal
    space: Space
    seed: Seed
    n: int
    log_p: Float[np.ndarray, " m"] = field(repr=False)
    log_q: Float[np.ndarray, " m"] = field(repr=False)
    log_r: Float[np.ndarray, " m"] = field(repr=False)
    stored: PyTree = field(default=None, repr=False)
    kept: Float[np.ndarray, "m d"] | None = field(default=None, repr=False)

    @property
    def q(self) -> Distribution:
        """The member that is judged."""
        return self.proposal.q

    @property
    def log_w(self) -> Float[np.ndarray, " n"]:
        """log p̂ - log q at the n draws of q, in nats."""
        return self.log_p[: self.n] - self.log_q[: self.n]

    @property
    def log_weights(self) -> Float[np.ndarray, " m"]:
        """log p̂ - log r at every draw, in nats."""
        return self.log_p - self.log_r

    def chunks(self) -> Iterator[Chunk]:
        """Chunks of points z, log q and log r, in the order of `log_p`."""
        if self.kept is not None:
            return iter([(self.kept, self.log_q, self.log_r)])
        return self.proposal.draws(self.n, self.seed, CHECK_STREAM)

    def points(self) -> Float[np.ndarray, "m d"]:
        """Every point at once."""
        return np.concatenate([z for z, *_ in self.chunks()])

    def constrained(self, n: int | None = None) -> PyTree:
        """The first n constrained draws, or all of the proposal's."""
        if self.stored is not None:
            return self.stored if n is None else rows_of(self.stored, slice(n))
        if n is None:
            return gather(len(self.log_p), (self.space.draws(z) for z, *_ in self.chunks()))
        return gather(n, (self.space.draws(z) for z, *_ in first_rows(n, self.chunks())))

    @functools.cached_property
    def comparison(self) -> quantities.Comparison:
        """q against the reweighted draws, quantity by quantity."""
        if self.stored is None and len(self.log_p) * len(self.space.names) > SUMMARY_NUMBERS:
            chunks = (columns(self.space.draws(z)) for z, *_ in self.chunks())
            return quantities.compare(chunks, self.n, self.log_weights)
        values, rows = self._quantities
        n = int(np.sum(rows < self.n))
        return quantities.compare([values], n, self.log_weights[rows])

    @functools.cached_property
    def quantity_draws(self) -> Float[np.ndarray, "n k"]:
        """Every scalar quantity at q's draws, as one matrix."""
        values, rows = self._quantities
        return values[rows < self.n]

    @functools.cached_property
    def _quantities(self) -> tuple[Float[np.ndarray, "m k"], np.ndarray]:
        """Quantities at the proposal's draws, and which draws: only a part of very many."""
        every = -(-len(self.log_p) * len(self.space.names) // SUMMARY_NUMBERS)
        rows = np.arange(0, len(self.log_p), every)
        if self.stored is not None:
            return columns(self.stored)[rows], rows
        kept = (columns(self.space.draws(z)) for z in picked_points(rows, self.chunks()))
        return np.asarray(gather(len(rows), kept)), rows


def weigh(target: Target, proposal: Proposal, n: int, seed: Seed) -> WeighedDraws:
    """Draw from a proposal, n times from q, and evaluate the target at every draw."""
    chunks = proposal.evaluated(target, n, seed, CHECK_STREAM)
    if isinstance(proposal.q, Conditioned):
        kept, log_p, log_q, log_r = joined(chunks)
        return WeighedDraws(proposal, target.space, seed, n, log_p, log_q, log_r, kept=kept)
    log_p, log_q, log_r = joined(densities for _, *densities in chunks)
    return WeighedDraws(proposal, target.space, seed, n, log_p, log_q, log_r)


def rows_of(draws: PyTree, chosen: Any) -> PyTree:
    """These rows of every array."""
    return jax.tree_util.tree_map(lambda x: x[chosen], draws)


def first_rows(n: int, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The first n rows of the chunks."""
    for chunk in chunks:
        yield tuple(part[:n] for part in chunk)
        n -= len(chunk[0])
        if n <= 0:
            return


def picked_points(chosen: np.ndarray, chunks: Iterable[Chunk]) -> Iterator[np.ndarray]:
    """Rows of the chunks' points by their numbers, which are ascending."""
    start = 0
    for z, *_ in chunks:
        low, high = np.searchsorted(chosen, [start, start + len(z)])
        if high > low:
            yield z[chosen[low:high] - start]
        start += len(z)


def gather(n: int, chunks: Iterable[PyTree]) -> PyTree:
    """Chunks of draws as whole arrays of n rows, which are allocated once."""
    whole: Any = None
    start = 0
    for chunk in chunks:
        if whole is None:
            whole = jax.tree_util.tree_map(lambda x: np.empty((n, *x.shape[1:])), chunk)
        parts = jax.tree_util.tree_leaves(chunk)
        for array, part in zip(jax.tree_util.tree_leaves(whole), parts, strict=True):
            array[start : start + len(part)] = part
        start += len(parts[0])
    return whole
