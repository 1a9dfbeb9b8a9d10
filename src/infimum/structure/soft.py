"""Soft constraints: a sum that is held near 0 couples all pairs, by a matrix of rank one.

With aᵀz ~ N(0, 1) in a model, as in ``sum(phi) ~ normal(0, 0.001 * N)``, H = -∇²log p̂ is S + a aᵀ,
and S may be sparse. Columns of H show it: those of two coordinates in the sum have one ratio in
nearly all rows, that of their weights.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.structure.products import hessian_times, product_noise
from infimum.target.target import Target

SMALLEST_DIM = 64
"""Smallest d for which it is worth looking: below, all pairs cost little."""

FIRST_COLUMNS, COLUMNS = 8, 6
"""Columns that are looked at, and further ones where one of these is dense."""

DENSE = 0.1
"""Part of a column that is not zero from which on it may be a constraint's."""

AGREEING, ALIKE = 0.8, 1e-3
"""Part of the rows that must have the ratio of a pair of columns, and its relative error."""


def soft_sum(
    target: Target, z: Float[np.ndarray, " d"], rng: np.random.Generator
) -> Float[np.ndarray, " d"] | None:
    """The weights a of a soft constraint; None if none is found.

    Parameters
    ----------
    z
        A point where the Hessian is finite.
    """
    d = target.dim
    if d < SMALLEST_DIM:
        return None
    noise = product_noise(target, z, rng)
    first = rng.choice(d, FIRST_COLUMNS, replace=False)
    columns = _columns(target, z, first)
    sizes = (np.abs(columns) > noise).sum(axis=1)
    if sizes.max() < DENSE * d:
        return None
    top = int(np.argmax(sizes))
    rows = np.flatnonzero(np.abs(columns[top]) > noise)
    others = rng.choice(rows, min(COLUMNS, len(rows)), replace=False)
    chosen = np.unique(np.append(others, first[top]))
    return _weights(_columns(target, z, chosen), chosen, noise)


def _columns(
    target: Target, z: Float[np.ndarray, " d"], places: np.ndarray
) -> Float[np.ndarray, "m d"]:
    units = np.zeros((len(places), target.dim))
    units[np.arange(len(places)), places] = 1.0
    return -hessian_times(target, z, units)


def _weights(
    columns: Float[np.ndarray, "m d"], places: np.ndarray, noise: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"] | None:
    """The weights from some columns of H that are dense; None if these are not of rank one.

    The weight of each column against that of the first is the median of their ratios. Only the
    entries off the diagonal are used, where few are of S.
    """
    entries = np.where(np.abs(columns) > noise, columns, 0.0)
    entries[np.arange(len(places)), places] = np.nan
    ratios = np.ones(len(places))
    for m in range(1, len(places)):
        both = (entries[0] != 0) & (entries[m] != 0)
        ratio = entries[m, both] / entries[0, both]
        ratio = ratio[np.isfinite(ratio)]
        if ratio.size < 0.5 * DENSE * len(noise):
            return None
        ratios[m] = np.median(ratio)
        if np.mean(np.abs(ratio / ratios[m] - 1) < ALIKE) < AGREEING:
            return None
    scaled = entries / ratios[:, None]  # a_i times the first weight, where S has nothing
    along = np.nanmedian(scaled, axis=0)
    alike = np.abs(scaled - along) < ALIKE * np.abs(along)
    along = np.where(alike.sum(axis=0) > 0.5 * (len(places) - 1), along, 0.0)
    square = np.median(along[places] / ratios)
    if not square > 0:
        return None
    weights = along / np.sqrt(square)
    inside = weights != 0
    even = np.median(weights[inside])
    if np.abs(weights[inside] / even - 1).max() < ALIKE:
        weights[inside] = np.mean(weights[inside])
    return np.asarray(weights)
