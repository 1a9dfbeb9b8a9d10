"""The few directions in which a Gaussian q of many dimensions is least like p*.

Those that many coordinates are coupled to, the scales and means of hierarchies; the directions that
q itself stretches; and coordinates of ε along which r = log p̂ - log q has the largest third and
fourth derivatives. These are seen in the scores, by Stein's identity: E[∂³r] = E[∂r·(ε² - 1)] and
E[∂⁴r] = E[∂r·(ε³ - 3ε)].
"""

from __future__ import annotations

import numpy as np

from infimum.families._distribution import Gaussian, SparseGaussian
from infimum.families._sketch import SketchedGaussian
from infimum.target.target import Target

HUB_NEIGHBOURS = 100
"""Number of neighbours above which a coordinate is a hub."""

MOST_DRAWS = 512
DRAW_NUMBERS = 2**22
"""Most draws that the derivatives are averaged over, and most numbers in all of them (32 MB)."""


def least_gaussian(q: Gaussian, target: Target, rng: np.random.Generator, most: int) -> np.ndarray:
    """Orthonormal directions of ε, shape (d, most): hubs, stretches, and the least Gaussian.

    Up to half of them are hubs, those with most neighbours first; or directions that q stretches,
    in which many coordinates have a part, the least Gaussian first.
    """
    d = q.dim
    half = rng.standard_normal((max(16, min(MOST_DRAWS, DRAW_NUMBERS // d) // 2), d))
    eps = np.concatenate([half, -half])
    log_p, gradient = target.value_and_gradient(np.asarray(q.push(eps)))
    fine = np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)
    eps, residual = eps[fine], np.asarray(q.whiten(gradient[fine])) + eps[fine]
    stretched = q.directions if isinstance(q, SketchedGaussian) else np.zeros((d, 0))
    hubs = _hubs(q)[: most // 2]
    # Hubs and stretches come first whatever their worth; the least Gaussian of the rest follow.
    worth = departure(eps, residual)
    worth[hubs] = np.inf
    along = departure(eps @ stretched, residual @ stretched)
    along[np.argsort(-along, kind="stable")[: most // 2]] = np.inf
    order = np.argsort(-np.concatenate([worth, along]), kind="stable")[:most]
    single = np.zeros((d, int((order < d).sum())))
    single[order[order < d], np.arange(single.shape[1])] = 1.0
    return np.asarray(np.linalg.qr(np.hstack([single, stretched[:, order[order >= d] - d]]))[0])


def departure(eps: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Nats along each direction that its third and fourth derivatives cost: c₃²/12 + c₄²/48.

    log p̂ - log q = (c₃/6) He₃ + (c₄/24) He₄ costs half its variance. What noise alone would give is
    subtracted.

    Parameters
    ----------
    eps, residual
        Draws along the directions, and the derivatives of log p̂ - log q along them, shape (n, k).
    """
    nats = np.zeros(eps.shape[1])
    for terms, part in ((residual * (eps**2 - 1), 12), (residual * (eps**3 - 3 * eps), 48)):
        square = terms.mean(axis=0) ** 2 - terms.var(axis=0) / max(1, len(eps))
        nats += np.maximum(square, 0.0) / part
    return nats


def _hubs(q: Gaussian) -> np.ndarray:
    """Places in ε of the hubs, those with most neighbours first."""
    if not isinstance(q, SparseGaussian):
        return np.zeros(0, np.int64)
    neighbours = q.n_neighbours()
    order = np.argsort(-neighbours, kind="stable")
    return np.asarray(order[neighbours[order] > HUB_NEIGHBOURS])
