"""What the importance weights are made with: q, a wider version of it, and the other optima.

Draws from q alone can't see mass that q does not cover: their weights look even and are wrong. So
the weights' proposal is a mixture r = Σ α_k r_k of q, of a multivariate t around it with the
covariance that the target's curvature under q implies (for mean-field that of linear response; for
a mixture a t around each component), and of every other optimum that a start or a scout found.
Weights p̂/r are bounded by p̂/(α q).

Owen & Zhou (2000) for mixtures with their components as control variates; Veach & Guibas (1995) for
the deterministic mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from infimum.base.seeds import Seed, generator
from infimum.families._distribution import (
    LARGEST_DENSE,
    LEAST_CURVATURE,
    Distribution,
    NaturalGaussian,
    Pooled,
    Pushforward,
)
from infimum.families._host import Conditioned, HostOnly
from infimum.gaussian.factor import lower_factor
from infimum.gaussian.student_t import StudentT, freedom_for
from infimum.gaussian.student_t_mixture import StudentTMixture
from infimum.objective.draws import (
    CHUNK_NUMBERS,
    chunk_sizes,
    fresh_draws,
    log_density,
    structured_draws,
)
from infimum.target.target import Target

SHARE = 0.5
"""Draws of the wide component, and of each other optimum, for one draw of q."""

SCALES_SHARE = 0.125
"""The same where only few scales are drawn wider: their table ends far out on all sides already."""

OTHERS = 2.0
"""Draws of all other optima together, at most, for one draw of q."""

MOMENT_DRAWS = 4096
"""Draws from which mean and covariance of a q that is not Gaussian are taken."""


@dataclass(frozen=True)
class WideScales:
    """A wider q(θ) with the same q(x | θ)."""

    q: Conditioned
    outer: StudentT

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """N draws."""
        return self.q.extended(self.outer.draw(rng, n), rng)

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """The log density at each row."""
        return np.asarray(self.outer.log_prob(self.q.scales(z)) + self.q.log_given(z))


@dataclass(frozen=True)
class Proposal:
    """The mixture r, drawn from in strata: so many draws of each component.

    Attributes
    ----------
    q
        First component.
    wide
        Second component; None where q's covariance can't be had.
    others
        Other optima, members of q's family.
    """

    q: Distribution
    wide: StudentT | StudentTMixture | WideScales | None = None
    others: tuple[Distribution, ...] = ()

    def counts(self, n: int) -> list[int]:
        """How many draws of each component go with n of q."""
        share = SCALES_SHARE if isinstance(self.wide, WideScales) else SHARE
        wide = [int(share * n)] * (self.wide is not None)
        each = min(SHARE, OTHERS / max(1, len(self.others)))
        return [n, *wide, *[int(each * n)] * len(self.others)]

    def draws(
        self, n: int, seed: Seed, *stream: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Chunks of draws, log q and log r there: n of q first, then the other components'."""
        counts = self.counts(n)
        log_shares = np.log(np.array(counts) / sum(counts))
        for z, log_q in fresh_draws(self.q, n, seed, *stream):
            yield z, log_q, self._mixed(z, log_q, log_shares)
        for z in self._other_draws(counts[1:], seed, *stream):
            log_q = log_density(self.q, z)
            yield z, log_q, self._mixed(z, log_q, log_shares)

    def log_prob(self, z: np.ndarray, n: int) -> np.ndarray:
        """log r at each row, if n draws are of q."""
        counts = self.counts(n)
        return self._mixed(z, log_density(self.q, z), np.log(np.array(counts) / sum(counts)))

    def evaluated(
        self, target: Target, n: int, seed: Seed, *stream: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """`draws` with the target's density: chunks of draws, log p̂, log q and log r there."""
        chunks: Iterable[Sequence[np.ndarray]] = self.draws(n, seed, *stream)
        if target.large is not None:
            chunks = _larger_chunks(chunks, CHUNK_NUMBERS // target.dim)
        for z, log_q, log_r in chunks:
            yield z, target.values(z, n), log_q, log_r

    def _other_draws(self, counts: Sequence[int], seed: Seed, *stream: int) -> Iterator[np.ndarray]:
        left = list(counts)
        if self.wide is not None:
            sizes = chunk_sizes(left.pop(0), self.q.dim)
            for index, rows in enumerate(sizes):
                yield self.wide.draw(generator(seed, *stream, 1, index), rows)
        for k, (other, count) in enumerate(zip(self.others, left, strict=True)):
            for z, _ in fresh_draws(other, count, seed, *stream, 2, k):
                yield z

    def _mixed(self, z: np.ndarray, log_q: np.ndarray, log_shares: np.ndarray) -> np.ndarray:
        """log r at each row."""
        parts = [log_q]
        if self.wide is not None:
            parts.append(self.wide.log_prob(z))
        parts += [log_density(other, z) for other in self.others]
        return np.asarray(scipy.special.logsumexp(np.array(parts).T + log_shares, axis=1))


def _larger_chunks(chunks: Iterable[Sequence[np.ndarray]], most: int) -> Iterator[list[np.ndarray]]:
    """The same draws in chunks of at most `most`, since each chunk is a pass over all rows."""
    kept: list[Sequence[np.ndarray]] = []
    for chunk in chunks:
        if kept and sum(len(z) for z, *_ in kept) + len(chunk[0]) > most:
            yield joined(kept)
            kept = []
        kept.append(chunk)
    if kept:
        yield joined(kept)


def joined(chunks: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Chunks of several arrays as these arrays."""
    return [np.concatenate(part) for part in zip(*chunks, strict=True)]


def propose(
    q: Distribution, curvature: np.ndarray | None, others: Sequence[Distribution] = ()
) -> Proposal:
    """The proposal for q.

    Parameters
    ----------
    curvature
        -E_q[Lᵀ ∇²log p̂ L], shape (d, d): what q's covariance is corrected with; None leaves it.
    others
        Other optima.
    """
    freedom = freedom_for(q.dim)
    if isinstance(q, Pooled):
        return Proposal(q, StudentTMixture.around(q.stack()), tuple(others))
    if isinstance(q, Conditioned):
        theta = q.outer.draw(generator(0), MOMENT_DRAWS)
        outer = _with_moments(theta, freedom_for(theta.shape[1]))
        return Proposal(q, WideScales(q, outer), tuple(others))
    if isinstance(q, HostOnly):
        z = q.draw(generator(0), MOMENT_DRAWS)
        return Proposal(q, _with_moments(z, freedom), tuple(others))
    if not isinstance(q, NaturalGaussian):
        if not isinstance(q, Pushforward) or q.dim > LARGEST_DENSE:
            return Proposal(q, None, tuple(others))
        return Proposal(q, _around(q, freedom), tuple(others))
    mean = np.asarray(q.mean)
    scale = np.asarray(q.spread(np.ones(q.dim)))
    if curvature is None or not np.isfinite(curvature).all() or not np.any(curvature):
        return Proposal(q, StudentT(mean, scale, freedom), tuple(others))
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    values = np.maximum(np.abs(values), LEAST_CURVATURE * np.abs(values).max())
    factor = lower_factor(q.spread((vectors / np.sqrt(values)).T).T)
    return Proposal(q, StudentT(mean, factor, freedom), tuple(others))


def _around(q: Pushforward, freedom: float) -> StudentT:
    """A t with the mean and covariance of q."""
    z = q.push(structured_draws(generator(0), max(MOMENT_DRAWS, 8 * q.dim), q.dim))
    return _with_moments(z, freedom)


def _with_moments(z: np.ndarray, freedom: float) -> StudentT:
    """A t with the mean and covariance of these draws."""
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(z.T)))
    return StudentT(z.mean(axis=0), factor, freedom)
