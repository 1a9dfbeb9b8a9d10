"""Is a posterior improper? Whether p̂ falls fast enough along the direction in which q ran away."""

from __future__ import annotations

import numpy as np

from infimum.families._distribution import NaturalGaussian
from infimum.target.target import Target

NEAR, FAR = 10.0, 1e4
"""Sds of q between which the fall of log p̂ is looked at."""

LONGEST = 1e10
"""Longest ray, and farthest point it begins at: beyond, the rounding of a direction in float64 is
itself a distance. A q on the way to infinity has sds of 1e15 to 1e150."""

SHOWN = 4
"""Coordinates that a direction is told by."""

SMALL = 0.05
"""Part of the largest below which a coordinate does not count to a direction."""


def direction(target: Target, q: NaturalGaussian) -> str | None:
    """Along what p̂ can't be integrated, in words; None if nothing of the kind is seen.

    On a ray p̂ must fall faster than 1/t. Looked at are both rays along the widest axis of q, and
    the one that its mean has gone.
    """
    with np.errstate(all="ignore"):
        covariance, mean = q.covariance(), np.asarray(q.mean)
        if not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
            return None
        largest = np.abs(covariance).max()
        values, vectors = np.linalg.eigh(covariance / largest)
        axis = vectors[:, -1] * min(np.sqrt(values[-1] * largest), LONGEST)
        rays = [axis, -axis]
        away = float(np.linalg.norm(mean))
        if away > LONGEST:
            mean = mean * (LONGEST / away)
            rays.append(mean)
        points = mean + np.concatenate([[NEAR * ray, FAR * ray] for ray in rays])
        log_p = target.values(points).reshape(-1, 2)
        falls = log_p[:, 0] - log_p[:, 1]
    endless = np.isfinite(log_p).all(axis=1) & (falls <= np.log(FAR / NEAR))
    if not endless.any():
        return None
    return _in_words(target, rays[int(np.flatnonzero(endless)[0])], both=bool(endless[:2].all()))


def _in_words(target: Target, ray: np.ndarray, both: bool) -> str:
    share = ray / np.abs(ray).max()
    order = np.argsort(-np.abs(share))
    chosen = [i for i in order[:SHOWN] if abs(share[i]) > SMALL]
    names = target.space.free_names
    if both and share[chosen[0]] < 0:
        share = -share
    if len(chosen) == 1:
        sign = "" if both else ("+" if share[chosen[0]] > 0 else "-")
        return f"{sign}{names[chosen[0]]}"
    more = int(np.count_nonzero(np.abs(share) > SMALL)) - len(chosen)
    told = " ".join(f"{share[i]:+.2g}·{names[i]}" for i in chosen)
    return told + (f" and {more} more" if more else "")
