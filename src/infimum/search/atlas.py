"""The atlas: modes that scouts found, the mass near each, and how much of it was known before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from infimum.families._distribution import LARGEST_DENSE, Distribution, NaturalGaussian, Pooled
from infimum.gaussian.factor import factor_beside
from infimum.gaussian.stack import Stack, log_sum, normalised
from infimum.objective.draws import fresh_draws, log_density
from infimum.target.target import Target

NEW_GROUND = float(np.log(3.0))
"""Nats by which log p̂ must exceed the known density for ground to be new. With a factor of ten
three of forty modes were taken for known, because they lay in the flanks of others."""

LEAST_SHARE = 1e-3
"""Share of the known mass that a mode must hold on new ground to matter."""

MOST_MOVES = 8
"""Newton's steps that may take a mode of a part of the rows to that of all rows. The curvatures
differ by an eighth at most, so that four steps leave a thousandth of the way."""

SETTLED_GAIN = 0.01
"""Nats that the last of these steps may gain; if it gains more, the mode has not settled."""


@dataclass(frozen=True, eq=False)
class Mode:
    """A mode with its local Gaussian, and the draws that measured its mass.

    Attributes
    ----------
    mean, factor
        Of the local Gaussian: shape (d,), and shape (d, d) or, diagonal, (d,).
    log_mass
        log ∫ p̂ near the mode, in nats.
    z
        Draws around the mode, shape (n, d).
    log_p
        log p̂ at each draw; -inf far from the mode.
    log_g
        The log density that the draws were made with.
    """

    mean: np.ndarray
    factor: np.ndarray
    log_mass: float
    z: np.ndarray
    log_p: np.ndarray
    log_g: np.ndarray

    def log_new_mass(self, log_known_density: np.ndarray) -> float:
        """Log of the mode's mass on new ground: where p̂ is far above the known density.

        Parameters
        ----------
        log_known
            Log of the known density at each draw of the mode.
        """
        new = self.log_p > log_known_density + NEW_GROUND
        if not new.any():
            return -np.inf
        log_w = (self.log_p - self.log_g)[new]
        return float(log_sum(log_w) - np.log(len(new)))


KnownGround = Sequence[tuple[Distribution, float]]
"""The part of p* that is known: members of families, each with log ∫ p̂ near it, such as its ELBO,
in nats."""


def log_known_density(known: KnownGround, z: np.ndarray) -> np.ndarray:
    """Log of the known density at each row of z, in the units of p̂."""
    parts = np.array([log_z + log_density(q, z) for q, log_z in known])
    return log_sum(parts)


def log_known_mass(known: KnownGround) -> float:
    """Log of the known mass, in the units of p̂."""
    return float(log_sum([log_z for _, log_z in known]))


def moved_to(modes: Sequence[Mode], target: Target) -> list[Mode]:
    """Move modes of a part of the rows to where they are on all rows, by a few passes.

    Newton's steps use the curvature of the part. Modes that do not settle are left out.
    """
    moving_modes, settled_modes = list(modes), list[Mode]()
    for _ in range(MOST_MOVES):
        if not moving_modes:
            break
        gradients = target.value_and_gradient(np.array([mode.mean for mode in moving_modes]))[1]
        unsettled_modes = list[Mode]()
        for mode, gradient in zip(moving_modes, gradients, strict=True):
            spread = factor_beside(mode.mean, mode.factor)
            slope = spread.times_transposed(gradient)
            step = spread.times(slope)
            if not np.isfinite(step).all():
                continue
            shifted_mode = dataclasses.replace(mode, mean=mode.mean + step, z=mode.z + step)
            settled = 0.5 * slope @ slope <= SETTLED_GAIN
            (settled_modes if settled else unsettled_modes).append(shifted_mode)
        moving_modes = unsettled_modes
    measured_modes = []
    for mode in settled_modes:
        log_p = np.where(mode.log_p > -np.inf, target.values(mode.z), -np.inf)
        log_mass = float(log_sum(log_p - mode.log_g) - np.log(len(mode.z)))
        if np.isfinite(log_mass):
            measured_modes.append(dataclasses.replace(mode, log_p=log_p, log_mass=log_mass))
    return measured_modes


@dataclass
class Atlas:
    """The modes of one target that scouts found, and the cost of finding them.

    Attributes
    ----------
    modes
        Modes that hold enough mass to matter.
    minor
        Modes that hold too little; they are kept so that no scout measures them again.
    n_gradients, n_calls
        Gradients of log p̂, and the batched calls that computed them.
    n_values
        Values of log p̂ besides.
    n_scouts
        Ascents from far points.
    n_once
        Modes that only one of them has reached.
    explored
        Whether scouts have been sent out.
    """

    modes: list[Mode] = field(default_factory=list)
    minor: list[Mode] = field(default_factory=list)
    n_gradients: int = 0
    n_calls: int = 0
    n_values: int = 0
    n_scouts: int = 0
    n_once: int = 0
    explored: bool = False

    def new_modes(self, known: KnownGround) -> list[Mode]:
        """The modes that hold enough mass on new ground to matter."""
        least = log_known_mass(known) + np.log(LEAST_SHARE)
        return [
            mode
            for mode in self.modes
            if mode.log_new_mass(log_known_density(known, mode.z)) > least
        ]


def components_of(q: Distribution, rng: np.random.Generator) -> Stack:
    """The components of a mixture q; for another q one Gaussian with its moments."""
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


def stack_of(modes: Sequence[Mode]) -> Stack:
    """The mixture of the modes' local Gaussians, weighted by their mass."""
    return normalised(
        np.array([mode.mean for mode in modes]),
        np.array([mode.factor for mode in modes]),
        np.array([mode.log_mass for mode in modes]),
    )
