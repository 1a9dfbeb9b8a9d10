"""Where a mixture lacks mass, by the importance weights of a wider proposal; and what to put there.

At draws z_i from r, half of which come from q and half from t components around q's, w_i = p̂/r is
the mass that draw i stands for, and q's own share of it is Z·q/r. What is left where p̂ > Z·q is
missing. New components go to draws taken in proportion to it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infimum._stack import Stack, Tails, normalised
from infimum.checks import weights
from infimum.checks.weights import Estimate

LOOK = 2048
"""Draws by which a mixture is judged: the se of a KL of 0.1 nats is then 0.015."""

SHAPED = 64
"""Largest d for which a new component takes its shape from the local curvature, 2d gradients."""

NARROWEST = 1e6
"""Largest curvature of a new component in units of its nearest neighbour's precision."""

STEP = 1e-3
"""Of finite differences, in sds of the nearest component."""


class View(NamedTuple):
    """Draws from q, then as many from a wider proposal.

    Attributes
    ----------
    z
        Shape (n, d).
    log_q, log_r
        Of the mixture, and of both together, shape (n,).
    """

    z: np.ndarray
    log_q: np.ndarray
    log_r: np.ndarray


class Place(NamedTuple):
    """Where a component is wanted: the point, the component nearest to it, and the mass there."""

    z: np.ndarray
    parent: int
    mass: float


def view(stack: Stack, rng: np.random.Generator) -> View:
    """Draw what a mixture is judged by."""
    tails = Tails.around(stack)
    z = np.concatenate([stack.draw(rng, LOOK // 2), tails.draw(rng, LOOK // 2)])
    log_q = stack.log_density(z)
    return View(z, log_q, np.logaddexp(log_q, tails.log_prob(z)) - np.log(2))


def divergence(seen: View, log_p: np.ndarray) -> tuple[Estimate, Estimate]:
    """ELBO and KL[q ‖ p*]; NaN where log p̂ is NaN or +inf at a draw."""
    log_w = (log_p - seen.log_q)[: len(log_p) // 2]
    return weights.elbo(log_w), weights.kl(log_w, log_p - seen.log_r, seen.log_q - seen.log_r)


def lacking(
    seen: View, log_p: np.ndarray, stack: Stack, n: int, rng: np.random.Generator
) -> list[Place]:
    """At most n places that lack mass, apart from each other; masses are parts of Z."""
    log_w = log_p - seen.log_r
    w = weights.normalised(log_w)
    held = np.exp(seen.log_q - seen.log_r) / len(w)
    left = np.maximum(w - held, 0.0)
    parents = np.argmax(stack.log_densities(seen.z) + stack.log_weights[:, None], axis=0)
    found: list[Place] = []
    total = left.sum()
    while len(found) < n and left.sum() > 0.05 * total:
        i = int(rng.choice(len(left), p=left / left.sum()))
        k = int(parents[i])
        apart = stack.pull_back(k, seen.z) - stack.pull_back(k, seen.z[i : i + 1])
        near = np.exp(-0.5 * (apart**2).sum(axis=1))
        found.append(Place(seen.z[i], k, float(left @ near)))
        left = left * (1 - near)
    return found


def probes(stack: Stack, places: list[Place]) -> np.ndarray:
    """Points around each place for the curvature there, (2d a place, d)."""
    steps = STEP * np.concatenate([np.eye(stack.dim), -np.eye(stack.dim)])
    parts = []
    for place in places:
        one = stack.taken(np.array([place.parent]))
        parts.append(place.z + (one.push(steps[None])[0] - one.means[0]))
    return np.concatenate(parts)


def shaped(stack: Stack, places: list[Place], gradient: np.ndarray | None) -> Stack:
    """New components, with the local curvature of log p̂ or their neighbours' shape.

    Parameters
    ----------
    gradient
        Of log p̂ at the `probes`; without it, or where it is not finite, a neighbour's shape is
        taken over.
    """
    d = stack.dim
    factors = []
    for b, place in enumerate(places):
        factor = stack.factors[place.parent]
        if gradient is not None:
            rows = gradient[2 * d * b : 2 * d * (b + 1)]
            factor = _narrowed(factor, (rows[:d] - rows[d:]) / (2 * STEP))
        factors.append(factor)
    masses = np.log([max(place.mass, 1e-300) for place in places])
    return normalised(np.array([place.z for place in places]), np.array(factors), masses)


def _narrowed(factor: np.ndarray, change: np.ndarray) -> np.ndarray:
    """A neighbour's factor with the curvature -change of log p̂ along each of its columns.

    Nowhere wider than the neighbour, and as wide where log p̂ does not curve downwards.
    """
    if not np.isfinite(change).all():
        return factor
    if factor.ndim == 1:
        curvature = -np.diag(change) * factor
        return factor / np.sqrt(np.clip(curvature, 1.0, NARROWEST))
    curvature = -change @ factor
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    values = np.clip(values, 1.0, NARROWEST)
    upper = np.linalg.qr((factor @ (vectors / np.sqrt(values))).T, mode="r")
    return (upper * np.sign(np.diag(upper))[:, None]).T
