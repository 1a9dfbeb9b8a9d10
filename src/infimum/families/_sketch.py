"""A sketch of the curvature, its diagonal and few directions, and Gaussians that move by it.

It is what a solver can estimate of the whitened curvature H = -E_q[Lᵀ ∇²log p̂ L] without d×d
numbers.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.families._distribution import LARGEST_CHANGE, Gaussian, bounded

DEPENDENT_PART = 1e-6
"""Part of the largest below which a direction counts as a combination of others. Their Gram matrix
tells, which holds squares to 1e-16."""

BLOCK_ROWS = 8192
"""Coordinates taken at a time, so that no second array of the directions' size is formed."""


class Sketch(NamedTuple):
    """H ≈ diag(diagonal) + basis · core · basisᵀ, and the mean of the whitened scores.

    Attributes
    ----------
    pull
        Mean of the whitened scores, shape (d,).
    diagonal
        The curvature's diagonal besides the directions, shape (d,).
    noise
        Standard error of `diagonal`, shape (d,).
    basis
        Orthonormal directions, shape (d, k).
    core
        Shape (k, k), symmetric.
    """

    pull: Float[np.ndarray, " d"]
    diagonal: Float[np.ndarray, " d"]
    noise: Float[np.ndarray, " d"]
    basis: Float[np.ndarray, "d k"]
    core: Float[np.ndarray, "k k"]


class Inverted(NamedTuple):
    """H = diag(diagonal) + basis·core·basisᵀ, with eigenvalues within `LARGEST_CHANGE` of 1.

    Attributes
    ----------
    diagonal
        Shape (d,).
    core
        Shape (k, k).
    step
        H⁻¹·pull, shape (d,). Here large curvatures keep their size, or the step would be too long.
    gain
        Nats that moving the precision would gain.
    """

    diagonal: Float[np.ndarray, " d"]
    core: Float[np.ndarray, "k k"]
    step: Float[np.ndarray, " d"]
    gain: float


def inverted(sketch: Sketch) -> Inverted:
    """Keep a sketch within bounds, and solve for the mean's step.

    No precision counts as less than its own standard error. For the mean no precision besides the
    directions counts as less than 1, so that noise can't send the mean far: a coordinate that is
    too narrow is widened first.
    """
    steep = np.maximum(sketch.diagonal, 1.0)
    frame, values = _diagonalised(sketch, steep)
    slow = 1 / np.maximum(values, 1 / LARGEST_CHANGE) - 1
    pull = sketch.pull / steep
    step = pull + sketch.basis @ (frame @ (slow * (frame.T @ (sketch.basis.T @ pull)))) / steep
    diagonal = bounded(np.maximum(sketch.diagonal, np.minimum(sketch.noise, 1.0)))
    frame, values = _diagonalised(sketch, diagonal)
    values = bounded(values)
    gain = float(gains(np.log(diagonal)).sum() + gains(np.log(values)).sum())
    return Inverted(diagonal, (frame * (values - 1)) @ frame.T, step, gain)


def _diagonalised(sketch: Sketch, diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F and λ with H = D^½ (I + V diag(λ - 1) Vᵀ) D^½, V = D^-½·basis·F, for another diagonal D.

    On the directions the curvature stays as it is.
    """
    frame, turn = frame_of(gram(sketch.basis, 1 / diagonal))
    moved = sketch.core + gram(sketch.basis, sketch.diagonal - diagonal)
    values, vectors = np.linalg.eigh(turn @ moved @ turn.T)
    return frame @ vectors, 1 + values


def gains(log_values: np.ndarray) -> np.ndarray:
    """½(λ - 1 - log λ): the KL in nats between normals of precision λ and 1."""
    return np.asarray(0.5 * (np.expm1(log_values) - log_values))


def gram(columns: Float[np.ndarray, "d k"], weight: Float[np.ndarray, " d"]) -> np.ndarray:
    """columnsᵀ·diag(weight)·columns, shape (k, k), without a second array (d, k)."""
    total = np.zeros((columns.shape[1], columns.shape[1]))
    for start in range(0, len(columns), BLOCK_ROWS):
        rows = columns[start : start + BLOCK_ROWS]
        total += rows.T @ (weight[start : start + BLOCK_ROWS, None] * rows)
    return total


def diagonal_of(columns: Float[np.ndarray, "d k"], core: np.ndarray) -> Float[np.ndarray, " d"]:
    """Diagonal of columns·core·columnsᵀ."""
    pieces = (columns[start : start + BLOCK_ROWS] for start in range(0, len(columns), BLOCK_ROWS))
    return np.concatenate([np.sum((rows @ core) * rows, axis=1) for rows in pieces])


def frame_of(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F and R of columns with this Gram matrix: V = columns·F is orthonormal, columns = V·R."""
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > DEPENDENT_PART**2 * values.max(initial=0.0))[::-1]
    root = np.sqrt(values[kept])
    return vectors[:, kept] / root, root[:, None] * vectors[:, kept].T


class SketchedGaussian(Gaussian):
    """Capability: moves by a `Sketch`, in O(d·k) numbers.

    These methods take NumPy arrays, on the host.
    """

    @property
    @abc.abstractmethod
    def directions(self) -> np.ndarray:
        """Orthonormal directions of ε in which the covariance is not diagonal, shape (d, r)."""

    @property
    @abc.abstractmethod
    def max_directions(self) -> int:
        """Largest number of directions that it may have."""

    @abc.abstractmethod
    def towards(self, sketch: Sketch) -> Any:
        """The member nearest to the minimiser of the loss that the sketch implies."""

    @abc.abstractmethod
    def between(self, other: Any, rho: float) -> Any:
        """The member with precision and mean at the part rho of the way to another one."""

    @abc.abstractmethod
    def stretched(self, factor: float) -> Any:
        """The member that is wider by this factor."""

    @abc.abstractmethod
    def divergence(self, other: Any) -> float:
        """KL[self ‖ other] in nats, for another member of the same family."""


def orthonormal(columns: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "d j"]:
    """Orthonormal basis of what the columns span, j <= min(d, k), the longest directions first.

    By the eigenvectors of the Gram matrix, twice: O(d·k²) in matrix products. The reflections of a
    QR decomposition take thirty times as long at d = 100,000, k = 60.
    """
    for _ in range(2):
        frame, _ = frame_of(columns.T @ columns)
        columns = columns @ frame[:, : len(columns)]
    return columns
