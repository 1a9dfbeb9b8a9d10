"""TODO."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from infimum.families._distribution import LARGEST_DENSE, Distribution, NaturalGaussian, Pooled
from infimum.gaussian.stack import Stack, log_sum, normalised
from infimum.objective.draws import fresh_draws, log_density
from infimum.target.target import Target


@dataclass(frozen=True, eq=False)
class Mode:
    """A mode with its local Gaussian, and draws by which its mass is known.

    Attributes
    ----------
    mean, factor
        Of shapes (d,), and (d, d) or (d,).
    log_mass
        log ∫ p̂ near it, in nats.
    z, log_p, log_g
        Draws, log p̂ there (-inf far from the mode), and the log density that they were drawn with.
    """

    mean: np.ndarray
    factor: np.ndarray
    log_mass: float
    z: np.ndarray
    log_p: np.ndarray
    log_g: np.ndarray

    def lacking(self, log_known: np.ndarray) -> float:
        """Log of its mass where p̂ is far above what is known at its draws."""
        new = self.log_p - log_known > LACKING
        if not new.any():
            return -np.inf
        log_w = (self.log_p - self.log_g)[new]
        return float(log_sum(log_w) - np.log(len(new)))


Known = Sequence[tuple[Distribution, float]]
"""Members of families, and log ∫ p̂ near each of them, such as its ELBO, in nats."""


def log_known(known: Known, z: np.ndarray) -> np.ndarray:
    """Log density of all that is known at each row of z, in the units of p̂."""
    parts = np.array([log_z + log_density(q, z) for q, log_z in known])
    return log_sum(parts)


def log_total(known: Known) -> float:
    """Log of its mass."""
    return float(log_sum([log_z for _, log_z in known]))


def moved(modes: Sequence[Mode], target: Target) -> list[Mode]:
    """Modes that were found on a part of the rows, as they are on all: by a few passes.

    Those that Newton's steps with the curvature of the part do not settle are left out.
    """
    left, settled = list(modes), list[Mode]()
    for _ in range(MOVES):
        if not left:
            break
        gradients = target.value_and_gradient(np.array([mode.mean for mode in left]))[1]
        away = list[Mode]()
        for mode, gradient in zip(left, gradients, strict=True):
            slope = mode.factor.T @ gradient if mode.factor.ndim == 2 else mode.factor * gradient
            step = mode.factor @ slope if mode.factor.ndim == 2 else mode.factor * slope
            if not np.isfinite(step).all():
                continue
            shifted = dataclasses.replace(mode, mean=mode.mean + step, z=mode.z + step)
            (settled if 0.5 * slope @ slope <= SETTLED else away).append(shifted)
        left = away
    found = []
    for mode in settled:
        log_p = np.where(mode.log_p > -np.inf, target.values(mode.z), -np.inf)
        log_mass = float(log_sum(log_p - mode.log_g) - np.log(len(mode.z)))
        if np.isfinite(log_mass):
            found.append(dataclasses.replace(mode, log_p=log_p, log_mass=log_mass))
    return found


@dataclass
class Atlas:
    """What scouts have found of one target, and what it cost.

    Attributes
    ----------
    modes
        Those that matter.
    minor
        Those that hold too little, so that nobody looks again.
    n_gradients, n_calls
        Gradients of log p̂, and the batched calls that held them.
    """

    modes: list[Mode] = field(default_factory=list)
    minor: list[Mode] = field(default_factory=list)
    n_gradients: int = 0
    n_calls: int = 0
    explored: bool = False

    def beyond(self, known: Known) -> list[Mode]:
        """The modes that hold mass which is not known."""
        least = log_total(known) + np.log(MATTERS)
        return [mode for mode in self.modes if mode.lacking(log_known(known, mode.z)) > least]


def ground(q: Distribution, rng: np.random.Generator) -> Stack:
    """The components of q; one Gaussian with its moments where it is no mixture."""
    if isinstance(q, Pooled):
        return q.stack()
    if isinstance(q, NaturalGaussian) and q.dim <= LARGEST_DENSE:
        factor = np.linalg.cholesky(q.covariance())
        return Stack(np.asarray(q.mean)[None], factor[None], np.zeros(1))
    n = max(1024, 4 * q.dim) if q.dim <= LARGEST_DENSE else 256
    z = np.concatenate([z for z, _ in fresh_draws(q, n, int(rng.integers(2**31)))])
    if q.dim > LARGEST_DENSE:
        return Stack(z.mean(axis=0)[None], z.std(axis=0)[None], np.zeros(1))
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(z.T)))
    return Stack(z.mean(axis=0)[None], factor[None], np.zeros(1))


def stacked(modes: Sequence[Mode]) -> Stack:
    return normalised(
        np.array([mode.mean for mode in modes]),
        np.array([mode.factor for mode in modes]),
        np.array([mode.log_mass for mode in modes]),
    )


LACKING = float(np.log(3.0))
"""Nats by which p̂ must be above all that is known for ground to be new. With a factor of ten, three
of forty modes passed for known, in the flanks of others."""


MATTERS = 1e-3
"""Part of Z that new ground must hold to be of interest."""


MOVES = 8
"""Newton's steps from a mode of a part of the rows to that of all: the curvatures differ by an
eighth at most, so that four steps leave a thousandth of the way."""


SETTLED = 0.01
"""Nats that such a step may still promise at the end."""
