"""Where a mixture lacks mass, by the importance weights of a wider proposal.

Half of the draws z_i from r come from q, and half from t components around q's. w_i = p̂/r is the
mass that draw i stands for, and q's own share of this mass is Z·q/r. Where p̂ > Z·q the rest is
missing. New components go to draws taken in proportion to the missing mass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infimum.checks import weights
from infimum.checks.weights import Estimate
from infimum.gaussian.factor import Diagonal, Factor
from infimum.gaussian.stack import Stack, normalised
from infimum.gaussian.student_t_mixture import StudentTMixture
from infimum.structure.differences import difference_steps, slope_changes

LOOK_DRAWS, LONG_LOOK_DRAWS = 2048, 8192
"""Draws that judge one component, and several: the standard error of a KL of 0.1 nats is then 0.015
and 0.007. With 2,048 two of forty modes, not far apart, stayed one component."""

MOST_LOOK_DRAWS = 2**16
"""Most draws, if the KL is small: it takes 500 / KL to see whether it falls by a quarter."""

LEAST_EFFECTIVE_PART = 0.25
"""Effective part of the draws below which the weights of components are left as they are."""

LARGEST_SHAPED_DIM = 64
"""Largest d for which a new component takes its shape from the local curvature, at 2d gradients."""

LARGEST_CURVATURE = 1e6
"""Largest curvature of a new component in units of its nearest neighbour's precision."""

PROBE_STEP = 1e-3
"""Step of finite differences, in sds of the nearest component."""


class LookDraws(NamedTuple):
    """Draws that judge a mixture: from q, then as many from a wider proposal.

    Attributes
    ----------
    z
        The draws, shape (n, d).
    log_q, log_r
        Log density of the mixture, and of q and proposal together, shape (n,).
    """

    z: np.ndarray
    log_q: np.ndarray
    log_r: np.ndarray


class MissingMass(NamedTuple):
    """A point at which a component is wanted, the component nearest to it, and the mass there."""

    z: np.ndarray
    parent: int
    mass: float


def look_draws(stack: Stack, rng: np.random.Generator, kl: float = np.inf) -> LookDraws:
    """Draw what a mixture is judged by; more, if the KL that it is thought to have is small."""
    n = LOOK_DRAWS if len(stack) == 1 else LONG_LOOK_DRAWS
    if len(stack) > 1 and 0 < kl < np.inf:
        n = int(np.clip(500 / kl, LONG_LOOK_DRAWS, MOST_LOOK_DRAWS))
    tails = StudentTMixture.around(stack)
    z = np.concatenate([stack.draw(rng, n // 2), tails.draw(rng, n // 2)])
    log_q = stack.log_density(z)
    return LookDraws(z, log_q, np.logaddexp(log_q, tails.log_prob(z)) - np.log(2))


def divergence(look: LookDraws, log_p: np.ndarray) -> tuple[Estimate, Estimate]:
    """ELBO and KL[q ‖ p*]; NaN if log p̂ is NaN or +inf at a draw."""
    log_w = (log_p - look.log_q)[: len(log_p) // 2]
    return weights.elbo(log_w), weights.kl(log_w, log_p - look.log_r, look.log_q - look.log_r)


def balanced(look: LookDraws, log_p: np.ndarray, stack: Stack) -> Stack:
    """The components with weights w_k = E_p*[share of component k], by importance weights.

    The same sum for q, whose expectation is known, is a control variate: the weights of an exact q
    stay as they are, however many draws fell on each component. The KL hardly depends on the weight
    of a light mode (a twentieth of 1/40 is 3e-5 nats); these sums see all modes alike. The weights
    stay as they are if too few draws determine them, or if the ELBO would fall.
    """
    log_w = log_p - look.log_r
    if not weights.ess(log_w) >= LEAST_EFFECTIVE_PART * len(log_w):
        return stack
    shares = stack.evaluate(look.z).shares
    mass = shares @ weights.normalised(log_w) / (shares @ np.exp(look.log_q - look.log_r))
    with np.errstate(divide="ignore"):
        other = normalised(stack.means, stack.factors, stack.log_weights + np.log(mass))
    half = len(log_p) // 2
    ratio = (log_p - look.log_q)[:half]
    inside = ratio > -np.inf
    before = ratio[inside].mean()
    log_q = other.log_density(look.z[:half][inside])
    tilt = np.exp(log_q - look.log_q[:half][inside])
    after = np.average(log_p[:half][inside] - log_q, weights=tilt)
    noise = np.std(ratio[inside]) / np.sqrt(half)
    return other if np.isfinite(other.log_weights).all() and after >= before - noise else stack


def find_missing(
    look: LookDraws, log_p: np.ndarray, stack: Stack, n: int, rng: np.random.Generator
) -> list[MissingMass]:
    """At most n points that lack mass, apart from each other; masses are parts of Z."""
    log_w = log_p - look.log_r
    w = weights.normalised(log_w)
    covered = np.exp(look.log_q - look.log_r) / len(w)
    left = np.maximum(w - covered, 0.0)
    parents = np.argmax(stack.log_densities(look.z) + stack.log_weights[:, None], axis=0)
    places: list[MissingMass] = []
    total = left.sum()
    while len(places) < n and left.sum() > 0.05 * total:
        i = int(rng.choice(len(left), p=left / left.sum()))
        k = int(parents[i])
        apart = stack.pull_back(k, look.z) - stack.pull_back(k, look.z[i : i + 1])
        near = np.exp(-0.5 * (apart**2).sum(axis=1))
        places.append(MissingMass(look.z[i], k, float(left @ near)))
        left = left * (1 - near)
    return places


def probes(stack: Stack, places: list[MissingMass]) -> np.ndarray:
    """Points around each place for the curvature there, shape (2d·places, d)."""
    steps = difference_steps(np.eye(stack.dim), PROBE_STEP)
    parts = []
    for place in places:
        one = stack.taken(np.array([place.parent]))
        parts.append(place.z + (one.push(steps[None])[0] - one.means[0]))
    return np.concatenate(parts)


def shaped(stack: Stack, places: list[MissingMass], gradient: np.ndarray | None) -> Stack:
    """New components, with the local curvature of log p̂ or their neighbours' shape.

    Parameters
    ----------
    gradient
        Gradient of log p̂ at the `probes`. Without it, or if it is not finite, a new component has
        the shape of its neighbour.
    """
    d = stack.dim
    factors = []
    for b, place in enumerate(places):
        spread = stack.spreads[place.parent]
        if gradient is not None:
            rows = gradient[2 * d * b : 2 * d * (b + 1)]
            spread = _narrowed(spread, slope_changes(rows, PROBE_STEP))
        factors.append(spread.entries)
    masses = np.log([max(place.mass, 1e-300) for place in places])
    return normalised(np.array([place.z for place in places]), np.array(factors), masses)


def _narrowed(spread: Factor, change: np.ndarray) -> Factor:
    """A neighbour's factor with the curvature -change of log p̂ along each of its columns.

    Nowhere wider than the neighbour, and as wide where log p̂ does not curve downwards.
    """
    if not np.isfinite(change).all():
        return spread
    if isinstance(spread, Diagonal):
        curvature = -np.diag(change) * spread.entries
        return Diagonal(spread.entries / np.sqrt(np.clip(curvature, 1.0, LARGEST_CURVATURE)))
    curvature = -change @ spread.entries
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    values = np.clip(values, 1.0, LARGEST_CURVATURE)
    return spread.scaled(vectors / np.sqrt(values))
