"""What lies beyond the largest weight: the posterior's own mass where q and its proposal are thin.

Weights are even, and wrong, where p* goes on after the last draw: along a thin curved ridge, say.
So points are sent out from the draws that weigh most and from the extreme ones of each coordinate:
around each a Student t with the local curvature of log p̂, in several sizes. Where p̂/r is larger
than at any draw, they say how much of Z is there, and the next ones are sent out from them. That is
adaptive importance sampling (Cappé et al. 2004) of p* where it has not been seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float

from infimum.answer.proposal import Proposal
from infimum.gaussian.student_t import log_decay, log_height, random_radii
from infimum.structure.differences import curvature_from, difference_steps
from infimum.target.target import Target

LARGEST = 64
"""Dimensions at most: a local curvature takes 2d gradients."""

HEAVIEST, EXTREMES, TIPS = 6, 12, 12
"""Draws of the largest weights, and coordinates of whose extreme draws, that points are first sent
out from; and how many points they are sent out from later."""

RELEVANT = 0.1
"""Weight, in units of their mean, from which an extreme draw is one of p*."""

PROBES = 48
"""Points sent out from each."""

SIZES = (0.25, 0.5, 1.0, 2.0)
"""Of the t, in local sds: a bent ridge leaves its tangent well before the curvature along it
says so."""

FREEDOM = 4.0
"""Degrees of freedom of the t."""

FLATTEST = 0.1
"""Local curvatures below this square, in units of the posterior's own, are taken for it."""

STEP = 1e-4
"""Of finite differences, in posterior sds."""

LEAST, ROUNDS = 2, 6
"""Rounds. A banana of width 0.05, of which 2 % of Z lie beyond, was seen to 0.3 % after two and to
0.5 % or more after six, at four seeds of four."""

MATTERS = 1e-3
"""Part of Z below which there is nothing to go on for. Of the fifteen posteriors' fits that are
"good" 0.0001 are beyond in the median, and at most 0.0012."""

KNOWN = 10.0
"""Effective points below which their estimate is chance, and that of an earlier round stays."""

KEPT = 256
"""Points that are kept, drawn by their weights."""


class UnseenMass(NamedTuple):
    """p* where p̂/r is larger than at any draw.

    Attributes
    ----------
    mass
        Share of Z that is there, beyond that of the weighted draws.
    z
        Draws of it, shape (n, d).
    shift
        Shift of each quantity's mean or sd, in posterior sds, if this mass were included, shape
        (k,); or 0.
    """

    mass: float
    z: Float[np.ndarray, "n d"]
    shift: Float[np.ndarray, " k"] | float = 0.0


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is left out
def find_unseen_mass(
    target: Target,
    proposal: Proposal,
    n: int,
    draws: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> tuple[UnseenMass | None, int]:
    """What is there, or None where nothing is known of it; and the gradients and values it took.

    Parameters
    ----------
    n
        Draws of q among the proposal's.
    draws
        The proposal's draws, and log p̂ and log r there.
    """
    z, log_p, log_r = draws
    log_w = np.where(np.isfinite(log_p), log_p - log_r, -np.inf)
    log_z = float(scipy.special.logsumexp(log_w)) - np.log(len(z))
    log_w = log_w - log_z
    root = _root(z, log_w)
    if root is None:
        return None, 0
    tips, cut, spent = _tips(z, log_w), float(log_w.max()), 0
    centres, roots = np.zeros((0, z.shape[1])), np.zeros((0, *root.shape))
    points, over_r, over_z = np.zeros((0, z.shape[1])), np.zeros(0), np.zeros(0)
    seen: UnseenMass | None = None
    for turn in range(ROUNDS):
        found = _curved(target, tips, root)
        spent += 2 * root.shape[0] * len(tips)
        keep = np.isfinite(found).all(axis=(1, 2))
        centres = np.concatenate([centres, tips[keep]])
        roots = np.concatenate([roots, found[keep]])
        if not keep.any():
            break
        new = _sent(tips[keep], found[keep], rng)
        values = target.values(new)
        spent += len(new)
        points = np.concatenate([points, new])
        over_r = np.concatenate([over_r, values - proposal.log_prob(new, n) - log_z])
        over_z = np.concatenate([over_z, values - log_z])
        log_g = _log_density(points, centres, roots)
        unseen = np.isfinite(over_z) & (over_r > cut)
        if not unseen.any():
            return UnseenMass(0.0, points[:0]), spent
        log_v = np.where(unseen, over_z - log_g, -np.inf)
        share = np.exp(log_v - log_v.max())
        if share.sum() ** 2 >= KNOWN * (share**2).sum():  # one point of a few may be a spike
            mass = float(share.sum() * np.exp(log_v.max())) / len(points)
            kept = rng.choice(len(points), KEPT, p=share / share.sum())
            seen = UnseenMass(mass, points[kept])
            if turn + 1 >= LEAST and mass < MATTERS:
                break
        rare = np.where(unseen, over_r, 0.0)
        tips = np.concatenate([_chosen(points, log_v + a * rare, rng) for a in (0.0, 0.5, 1.0)])
    return seen, spent


def _root(z: np.ndarray, log_w: np.ndarray) -> np.ndarray | None:
    """A root of the posterior's covariance, as far as weights know it."""
    w = np.exp(log_w - log_w.max())
    away = z - np.average(z, axis=0, weights=w)
    covariance = (w[:, None] * away).T @ away / w.sum()
    try:
        return np.asarray(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        return None


def _tips(z: np.ndarray, log_w: np.ndarray) -> np.ndarray:
    """The draws that weigh most, and the extreme ones of coordinates."""
    fine = z[log_w >= np.log(RELEVANT)]
    columns = fine[:, :EXTREMES]
    ends = np.concatenate([columns.argmin(axis=0), columns.argmax(axis=0)])
    return np.concatenate([z[np.argsort(-log_w)[:HEAVIEST]], fine[ends]])


def _curved(target: Target, tips: np.ndarray, root: np.ndarray) -> Float[np.ndarray, "n d d"]:
    """Roots of the local covariances: of the inverse curvature of log p̂ at each, without signs."""
    d = len(root)
    around = (tips[:, None] + difference_steps(root, STEP)).reshape(-1, d)
    gradient = target.value_and_gradient(around)[1].reshape(len(tips), 2, d, d) @ root
    curvature = curvature_from(gradient.reshape(len(tips), 2 * d, d), STEP)
    known = np.isfinite(curvature).all(axis=(1, 2))
    values, vectors = np.linalg.eigh(np.where(known[:, None, None], curvature, np.eye(d)))
    values = np.maximum(np.abs(values), FLATTEST**2)
    found = root @ (vectors / np.sqrt(values)[:, None])
    known &= np.isfinite(np.linalg.slogdet(found)[1])
    return np.where(known[:, None, None], found, np.nan)


def _sent(tips: np.ndarray, roots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points around each, of all sizes."""
    n, d = tips.shape
    eps = rng.standard_normal((n, PROBES, d))
    eps *= random_radii(rng, FREEDOM, (n, PROBES, 1))
    eps *= np.resize(SIZES, PROBES)[:, None]
    return np.asarray(tips[:, None] + eps @ np.swapaxes(roots, 1, 2)).reshape(-1, d)


def _log_density(points: np.ndarray, tips: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Log density of all t together at each point."""
    d = points.shape[1]
    whiten = np.linalg.inv(roots)
    log_det = np.linalg.slogdet(roots)[1]
    height = log_height(d, FREEDOM)
    total = np.full(len(points), -np.inf)
    for tip, inverse, size in zip(tips, whiten, log_det, strict=True):
        squares = (((points - tip) @ inverse.T) ** 2).sum(axis=1)
        for scale in SIZES:
            own = log_decay(squares, d, FREEDOM, scale) - d * np.log(scale)
            total = np.logaddexp(total, height - size + own)
    return np.asarray(total - np.log(len(tips) * len(SIZES)))


def _chosen(points: np.ndarray, log_v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third of the next tips, drawn by these weights."""
    weight = np.exp(log_v - log_v.max())
    return points[rng.choice(len(points), TIPS // 3, p=weight / weight.sum())]
