"""Moves of a scale and of all that hangs on it together, by Metropolis.

In a funnel each effect's spread follows a scale: Hamiltonian steps that suit the mouth are too long
for the neck, and particles hardly enter it. So log |z_i - median| of the others is regressed on
each coordinate j, and a step δ of z_j takes them along by exp(b_i δ). With the Jacobian
exp(δ Σ b_i) the step leaves p* as it is, whatever b is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from infimum.target.target import Target

SURE = 5.0
"""Standard errors from which on the spread of a coordinate follows another one."""

MOST_SCALES = 3
"""Coordinates that are moved, those that most hangs on: each takes the same values."""

STEPS = (0.5, 1.0, 2.0, 1.0)
"""Lengths of the steps of each, in sds."""


class Scale(NamedTuple):
    """A coordinate, and how the logs of the others' spreads follow it.

    Attributes
    ----------
    place, sd
        The coordinate, and its sd.
    slopes
        By one sd, shape (d,); 0 for itself, and for what does not follow.
    """

    place: int
    sd: float
    slopes: Float[np.ndarray, " d"]


def find_scales(z: Float[np.ndarray, "n d"]) -> list[Scale]:
    """The coordinates that most spreads follow, at most `MOST_SCALES`."""
    sd = z.std(axis=0)
    away = np.abs(z - np.median(z, axis=0))
    logs = np.log(np.maximum(away, np.finfo(float).tiny))
    logs -= logs.mean(axis=0)
    units = (z - z.mean(axis=0)) / np.where(sd > 0, sd, np.inf)
    slopes = units.T @ logs / len(z)
    strength = slopes / np.maximum(logs.std(axis=0), np.finfo(float).tiny) * np.sqrt(len(z))
    np.fill_diagonal(strength, 0.0)
    follows = np.abs(strength) > SURE
    weight = np.where(follows, strength**2, 0.0).sum(axis=1)
    chosen = np.argsort(-weight, kind="stable")[:MOST_SCALES]
    return [
        Scale(int(j), float(sd[j]), np.where(follows[j], slopes[j], 0.0))
        for j in chosen
        if weight[j] > 0
    ]


def moved_together(
    target: Target, z: Float[np.ndarray, "n d"], scales: list[Scale], rng: np.random.Generator
) -> Float[np.ndarray, "n d"]:
    """The particles after steps of each scale, those that Metropolis accepts."""
    middle, log_p = np.median(z, axis=0), target.values(z)
    for scale in scales:
        for length in STEPS:
            step = length * rng.standard_normal(len(z))
            trial = middle + (z - middle) * np.exp(step[:, None] * scale.slopes)
            trial[:, scale.place] = z[:, scale.place] + step * scale.sd
            value = target.values(trial)
            accept = np.log(rng.random(len(z))) < value - log_p + step * scale.slopes.sum()
            z, log_p = np.where(accept[:, None], trial, z), np.where(accept, value, log_p)
    return z
