"""Unseen mass in shells: where q = T(N(0, I)), and p* reaches farther out than draws do.

In many dimensions a tail that is a little heavier in every direction holds mass at radii |ε| that
hardly any draw has. Draws there are easy to make, though: of a shell of radius r the mass is that
of the chi distribution times the mean of p̂/q over directions.
"""

from __future__ import annotations

import numpy as np
import scipy.special
from jaxtyping import Float

from infimum.answer.unseen import KEPT_DRAWS, UnseenMass
from infimum.families._distribution import Pushforward
from infimum.target.target import Target

DIRECTIONS = 48
"""Points in a shell."""

WIDTH = 0.5
"""Distance of shells; the radius of a normal draw has an sd of 0.7 in any dimension."""

MOST_SHELLS, LEAST_SHELL, LEAST_REACH = 96, 1e-4, 0.5
"""Most shells; the share of Z below which the last of them may be; and how far they go at least, in
units of √d, the radius of normal draws."""

BEGIN = 0.5
"""Share of the weighted draws within the first shell: half of the mass is looked at again."""

SURE = 2.0
"""Standard errors by which the mass in shells must exceed that of the draws there."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def find_mass_in_shells(
    target: Target,
    q: Pushforward,
    draws: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> tuple[UnseenMass, int]:
    """Compare the mass in shells around q with that of weighted draws.

    Parameters
    ----------
    draws
        The proposal's draws, with log p̂ and log r there.

    Returns
    -------
    What the draws lack; and the values that it took.
    """
    z, log_p, log_r = draws
    log_w = np.where(np.isfinite(log_p), log_p - log_r, -np.inf)
    log_z = float(scipy.special.logsumexp(log_w)) - np.log(len(z))
    share = np.exp(log_w - log_z) / len(z)
    radius = np.linalg.norm(np.asarray(q.pull_back(z)), axis=1)
    edge = begin = _weighted_quantile(radius, share, BEGIN)
    beyond = share * (radius > begin)
    drawn, noise = float(beyond.sum()), float(np.sqrt((beyond**2).sum()))
    points, log_v = list[np.ndarray](), list[np.ndarray]()
    masses, errors = list[float](), list[float]()
    while len(masses) < MOST_SHELLS:
        placed, value = _shell(target, q, edge, rng)
        ratio = np.exp(value - log_z)
        points.append(placed)
        log_v.append(value)
        masses.append(float(ratio.mean()))
        errors.append(float(ratio.std(ddof=1)) / np.sqrt(DIRECTIONS))
        edge += WIDTH
        if masses[-1] < LEAST_SHELL and edge > begin + LEAST_REACH * np.sqrt(q.dim):
            break
    mass, error = float(np.sum(masses)), float(np.linalg.norm(errors))
    lack = mass - drawn
    spent = DIRECTIONS * len(masses)
    if not lack > SURE * np.hypot(error, noise):
        return UnseenMass(0.0, points[0][:0]), spent
    part = _lacking(np.array(masses), begin, radius, share)
    weight = np.exp(np.stack(log_v) - log_z) * part[:, None]
    weight = np.where(np.isfinite(weight), weight, 0.0).ravel()
    chosen = rng.choice(weight.size, KEPT_DRAWS, p=weight / weight.sum())
    return UnseenMass(lack, np.concatenate(points)[chosen]), spent


def _shell(
    target: Target, q: Pushforward, edge: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " m"]]:
    """Points in a shell, and log (p̂/q) there plus the log of its share of q; -inf for NaN."""
    radii = edge + WIDTH * (np.arange(DIRECTIONS) + rng.random(DIRECTIONS)) / DIRECTIONS
    eps = rng.standard_normal((DIRECTIONS, q.dim))
    eps *= (radii / np.linalg.norm(eps, axis=1))[:, None]
    z = np.asarray(q.push(eps))
    value = target.values(z) - np.asarray(q.log_prob_base(eps))
    value += _log_chi(radii, q.dim) + np.log(WIDTH)
    return z, np.where(np.isnan(value), -np.inf, value)


def _log_chi(radii: Float[np.ndarray, " m"], dim: int) -> Float[np.ndarray, " m"]:
    """Log density of the radius of a standard normal draw."""
    height = (1 - 0.5 * dim) * np.log(2) - scipy.special.gammaln(0.5 * dim)
    return np.asarray(height + (dim - 1) * np.log(radii) - 0.5 * radii**2)


def _lacking(
    masses: Float[np.ndarray, " s"],
    begin: float,
    radius: Float[np.ndarray, " n"],
    share: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " s"]:
    """The part of each shell's mass that the draws in it lack."""
    places = np.floor((radius - begin) / WIDTH)
    inside = (places >= 0) & (places < len(masses))
    drawn = np.bincount(places[inside].astype(int), share[inside], len(masses))
    return np.maximum(masses - drawn, 0.0) / np.maximum(masses, np.finfo(float).tiny)


def _weighted_quantile(
    values: Float[np.ndarray, " n"], share: Float[np.ndarray, " n"], level: float
) -> float:
    """The value that this share of the weights is below."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(share[order]), level * share.sum())])
