"""Improper posteriors: whether p̂ falls fast enough along the direction in which q ran away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.families._distribution import NaturalGaussian
from infimum.target.target import Target

NEAR_SDS, FAR_SDS = 10.0, 1e4
"""Distances along a ray, in sds of q, between which the fall of log p̂ is measured."""

LONGEST_RAY = 1e10
"""Longest ray, and the farthest point where one begins: a longer one is changed by the rounding of
its direction in float64. A q on its way to infinity has sds of 1e15 to 1e150."""

MOST_SHOWN = 4
"""Coordinates that the name of a direction spells out."""

SMALLEST_SHOWN = 0.05
"""Smallest coordinate that counts, as a part of the largest."""


def direction(target: Target, q: NaturalGaussian) -> str | None:
    """A direction along which p̂ can't be integrated, in words; None if none is found.

    On a ray p̂ must fall faster than 1/t. Both rays along the widest axis of q are tried; if the
    mean of q is far out, so is the ray that it went along.
    """
    with np.errstate(all="ignore"):
        covariance, mean = q.covariance(), np.asarray(q.mean)
        if not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
            return None
        largest = np.abs(covariance).max()
        values, vectors = np.linalg.eigh(covariance / largest)
        axis = vectors[:, -1] * min(np.sqrt(values[-1] * largest), LONGEST_RAY)
        rays = [axis, -axis]
        away = float(np.linalg.norm(mean))
        if away > LONGEST_RAY:
            mean = mean * (LONGEST_RAY / away)
            rays.append(mean)
        points = mean + np.concatenate([[NEAR_SDS * ray, FAR_SDS * ray] for ray in rays])
        log_p = target.values(points).reshape(-1, 2)
        falls = log_p[:, 0] - log_p[:, 1]
    endless = np.isfinite(log_p).all(axis=1) & (falls <= np.log(FAR_SDS / NEAR_SDS))
    if not endless.any():
        return None
    return _in_words(target, rays[int(np.flatnonzero(endless)[0])], both=bool(endless[:2].all()))


def _in_words(target: Target, ray: Float[np.ndarray, " d"], both: bool) -> str:
    """The ray as a sum of named coordinates; without a sign if the opposite ray is endless too."""
    share = ray / np.abs(ray).max()
    order = np.argsort(-np.abs(share))
    shown = [i for i in order[:MOST_SHOWN] if abs(share[i]) > SMALLEST_SHOWN]
    names = target.space.free_names
    if both and share[shown[0]] < 0:
        share = -share
    if len(shown) == 1:
        sign = "" if both else ("+" if share[shown[0]] > 0 else "-")
        return f"{sign}{names[shown[0]]}"
    more = int(np.count_nonzero(np.abs(share) > SMALLEST_SHOWN)) - len(shown)
    terms = " ".join(f"{share[i]:+.2g}·{names[i]}" for i in shown)
    return terms + (f" and {more} more" if more else "")
