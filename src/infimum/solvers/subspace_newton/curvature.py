"""Estimates of a curvature too large to be formed: by batches, on a subspace, as a sketch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infimum.families._sketch import (
    BLOCK_ROWS,
    DEPENDENT_PART,
    Sketch,
    SketchedGaussian,
    diagonal_of,
    gram,
    orthonormal,
)
from infimum.objective.loss import Outcome, outcome
from infimum.solvers._solver import Info
from infimum.target.target import Target

LEAST_EXCESS = 0.05
"""Excess curvature below which a direction is left out: it could gain 0.0006 nats."""

PIECE_NUMBERS = 2**21
"""Most numbers in the arrays that go to the target at once: 16 MB each."""

MOST_PASSES = 50
"""Most times that diagonal and subspace are fitted to each other. Each time the error falls by the
factor k/d."""

FITTED_CHANGE = 1e-6
"""Relative change of the diagonal at which they fit."""


class BatchEstimate(NamedTuple):
    """What the solver uses of one batch of draws from q.

    Attributes
    ----------
    pull
        Mean of the whitened scores, shape (d,).
    bent
        (H - I) ε for half of the base draws, shape (n/2, d).
    error
        Nats of sampling error in the mean.
    """

    pull: np.ndarray
    bent: np.ndarray
    error: float


class Batch(NamedTuple):
    """What the target gave at antithetic draws: the second half of log_p is that of the negatives.

    Attributes
    ----------
    odd
        Odd part of the whitened scores, shape (n/2, d); scores count as zero where p̂ = 0.
    even, square
        Mean of the even part and of its square, shape (d,).
    """

    log_q: np.ndarray
    log_p: np.ndarray
    outcome: Outcome
    odd: np.ndarray
    even: np.ndarray
    square: np.ndarray

    @property
    def rounding(self) -> float:
        """Nats of rounding in the loss."""
        finite = self.log_p[np.isfinite(self.log_p)]
        return 8 * float(np.finfo(float).eps) * float(np.abs(finite).max(initial=0.0))

    @property
    def standard_error(self) -> float:
        """Standard error of the loss, over the antithetic pairs with a density."""
        pairs = (self.log_q - self.log_p).reshape(2, -1).mean(axis=0)
        pairs = pairs[np.isfinite(pairs)]
        return float(pairs.std() / np.sqrt(len(pairs))) if len(pairs) else np.inf

    def estimate(self, eps: np.ndarray) -> BatchEstimate:
        """Estimates in which the draws with p̂ > 0 stand for all of them."""
        factor = len(self.log_p) / np.count_nonzero(self.outcome.inside)
        variance = np.maximum(self.square - self.even**2, 0.0)
        error = 0.5 * factor**2 * float(variance.sum()) / len(eps)
        return BatchEstimate(factor * self.even, -factor * self.odd - eps, error)


def evaluated(q: SketchedGaussian, eps: np.ndarray, target: Target, info: Info) -> Batch:
    """Evaluate log p̂ at mean ± L ε, a piece at a time, and book it."""
    half = len(eps)
    log_p, fine = np.empty((2, half)), np.ones((2, half), bool)
    odd, even, square = np.empty(eps.shape), np.zeros(q.dim), np.zeros(q.dim)
    for rows in pieces(half, 2 * q.dim):
        spread = q.spread(eps[rows])
        values, gradient = target.value_and_gradient(
            np.concatenate([q.mean + spread, q.mean - spread])
        )
        log_p[:, rows] = values.reshape(2, -1)
        fine[:, rows] = np.isfinite(gradient).all(axis=1).reshape(2, -1)
        gradient[values == -np.inf] = 0.0
        plus, minus = np.split(q.whiten(gradient), 2)
        odd[rows] = 0.5 * (plus - minus)
        even += 0.5 * (plus + minus).sum(axis=0) / half
        square += ((0.5 * (plus + minus)) ** 2).sum(axis=0) / half
    log_q = np.tile(q.log_prob_base(eps), 2)
    result = outcome(log_q, log_p.ravel(), np.where(fine.ravel(), 0.0, np.nan)[:, None])
    at = result.undefined
    first = None if at is None else q.push(eps[at % half] * (1 if at < half else -1))
    _book(info, result, first)
    return Batch(log_q, log_p.ravel(), result, odd, even, square)


def _book(info: Info, result: Outcome, first_undefined: np.ndarray | None) -> None:
    """Count a batch as `Info.count` does, without having all its points in memory."""
    info.n_steps += 1
    info.n_gradients += len(result.inside)
    info.n_zero += int(np.sum(~result.inside))
    if first_undefined is not None:
        info.n_undefined += 1
        if info.first_undefined is None:
            info.first_undefined = first_undefined


def pieces(n: int, numbers: int) -> Iterator[slice]:
    """Rows in pieces of at most `PIECE_NUMBERS` numbers, a power of two as in compiled batches."""
    size = 1 << (max(1, PIECE_NUMBERS // numbers).bit_length() - 1)
    return (slice(start, min(n, start + size)) for start in range(0, n, size))


def subspace(
    q: SketchedGaussian,
    batch: BatchEstimate,
    eps: np.ndarray,
    last_step: np.ndarray | None,
    images: np.ndarray | None,
) -> np.ndarray:
    """Choose the directions on which the curvature is measured: orthonormal, shape (d, k).

    Those of q come first; then the mean's gradient and its last step; then the directions that the
    curvature bends most.

    Parameters
    ----------
    eps
        Half of the base draws, shape (n/2, d).
    last_step
        The mean's last step, shape (d,).
    images
        (H - I) times the directions measured last, shape (d, k).
    """
    own = q.directions
    ways = [batch.pull] if last_step is None else [batch.pull, q.pull_back(q.mean + last_step)]
    mean = _besides(np.array(ways).T, own)
    fixed = np.concatenate([own, mean], axis=1)
    # What the curvature does to the draws, without its diagonal (Hutchinson 1990): where this is
    # large, directions bend. Their Gram matrix, less what is known already, ranks them.
    excess = np.sum(batch.bent * eps, axis=0) / np.sum(eps**2, axis=0)
    bent = [((batch.bent - excess * eps) / np.sqrt(len(eps))).T]
    if images is not None:
        bent.append(images)
    known = [fixed.T @ block for block in bent]
    squares = np.block([[a.T @ b for b in bent] for a in bent])
    inside = np.concatenate(known, axis=1)
    values, vectors = np.linalg.eigh(squares - inside.T @ inside)
    visible = np.flatnonzero(values > LEAST_EXCESS**2)[-len(eps) :]
    ends = np.cumsum([block.shape[1] for block in bent])[:-1]
    parts = np.split(vectors[:, visible[::-1]], ends)
    new = sum(block @ part for block, part in zip(bent, parts, strict=True))
    del bent
    new = _besides(new, fixed)
    return np.concatenate([fixed, new], axis=1)[:, : q.dim]


def _besides(columns: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Orthonormal basis of what the columns add to an orthonormal one."""
    size = np.linalg.norm(columns, axis=0)
    columns = columns[:, size > 0] / size[size > 0]
    left = columns - basis @ (basis.T @ columns)
    left = left[:, np.linalg.norm(left, axis=0) > DEPENDENT_PART]
    if left.shape[1] == 0 or basis.shape[1] >= len(basis):
        return left[:, :0]
    frame = orthonormal(left)
    frame = frame - basis @ (basis.T @ frame)
    return orthonormal(frame)


def sketched(
    q: SketchedGaussian,
    batch: BatchEstimate,
    eps: np.ndarray,
    basis: np.ndarray,
    columns: np.ndarray,
) -> tuple[Sketch, float]:
    """The curvature's sketch, and nats of noise in its diagonal.

    Directions that show no excess are dropped. What is measured along q's own directions beyond the
    others is kept as columns beside them. The diagonal is what the draws show, less the diagonal of
    the directions; each depends on the other, and they are fitted in turn.

    Parameters
    ----------
    basis, columns
        Directions, and (H - I) times them, shape (d, k).
    """
    core = basis.T @ columns
    core = 0.5 * (core + core.T)
    total, noise = _excess_diagonal(batch, eps, basis, columns)
    total -= diagonal_of(basis, core)
    kept = _useful(q, basis, core)
    r = q.directions.shape[1]
    basis, own = basis @ kept, columns[:, :r]
    core = kept.T @ core @ kept
    beyond = own - basis @ (basis.T @ own)
    extra = _besides(beyond, basis)
    side = extra.T @ beyond
    k = basis.shape[1]
    whole = np.zeros((k + len(side), k + len(side)))
    whole[k:, :r], whole[:r, k:] = side, side.T
    everything = np.concatenate([basis, extra], axis=1)
    excess = total
    for _ in range(MOST_PASSES):
        whole[:k, :k] = core - gram(basis, excess)
        before, excess = excess, total - diagonal_of(everything, whole)
        if np.abs(excess - before).max() <= FITTED_CHANGE * (1 + np.abs(excess).max()):
            break
    whole[:k, :k] = core - gram(basis, excess)
    sketch = Sketch(batch.pull, 1 + excess, np.sqrt(noise), everything, whole)
    return sketch, 0.25 * float(noise.sum())


def _excess_diagonal(
    batch: BatchEstimate, eps: np.ndarray, basis: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal of H - I, if the directions count twice in it, and its variance; each (d,).

    By regression, in the complement of the directions, of (H - I) ε on ε, coordinate by coordinate.
    """
    inside = eps @ basis
    total, noise = np.empty(len(basis)), np.empty(len(basis))
    for start in range(0, len(basis), BLOCK_ROWS):
        at = slice(start, start + BLOCK_ROWS)
        v, w = basis[at], columns[at]
        outside = eps[:, at] - inside @ v.T
        beyond = batch.bent[:, at] - inside @ w.T
        size = np.sum(outside**2, axis=0)
        size = np.where(size > DEPENDENT_PART**2 * len(eps), size, np.inf)
        slope = np.sum(outside * beyond, axis=0) / size
        left = np.maximum(1 - np.sum(v**2, axis=1), 0.0)
        total[at] = 2 * np.sum(v * w, axis=1) + slope * left
        residual = np.mean((outside * (beyond - slope * outside)) ** 2, axis=0)
        noise[at] = residual / len(eps)
    return total, noise


def _useful(q: SketchedGaussian, basis: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Combinations of the basis to keep, shape (k, j): all of q's own, new ones if they gain."""
    k = basis.shape[1]
    r = q.directions.shape[1]
    values, vectors = np.linalg.eigh(core[r:, r:])
    new = vectors[:, np.abs(values) > LEAST_EXCESS]
    kept = np.zeros((k, r + new.shape[1]))
    kept[:r, :r] = np.eye(r)
    kept[r:, r:] = new
    return kept
