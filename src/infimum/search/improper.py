"""Improper posteriors: whether p̂ falls fast enough along the direction in which q ran away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from infimum.families._distribution import NaturalGaussian
from infimum.target.target import Target

NEAR_SDS, FAR_SDS, FARTHEST_SDS = 10.0, 1e4, 1e8
"""Distances along a ray, in sds of q, between which the fall of log p̂ is measured: the prior
N(0, 1e6²) of an effect that saturates falls by 0.00005 nats up to the second, and by 5,000 up to
the third."""

LONGEST_RAY = 1e10
"""Longest ray, and the farthest point where one begins: a longer one is changed by the rounding of
its direction in float64. A q on its way to infinity has sds of 1e15 to 1e150."""

MOST_SHOWN = 4
"""Coordinates that the name of a direction spells out."""

SMALLEST_SHOWN = 0.05
"""Smallest coordinate that counts, as a part of the largest."""


def direction(target: Target, q: NaturalGaussian) -> tuple[str | None, int]:
    """A direction along which p̂ can't be integrated, in words; None if none is found.

    On a ray p̂ must fall faster than 1/t. Rays go both ways along each coordinate and along the
    widest axis of q; if the mean of q is far out, there is also that which it went along.

    Returns
    -------
    The direction, and the values that it took.
    """
    with np.errstate(all="ignore"):
        covariance, mean = q.covariance(), np.asarray(q.mean)
        if not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
            return None, 0
        largest = np.abs(covariance).max()
        values, vectors = np.linalg.eigh(covariance / largest)
        widest = vectors[:, -1] * np.sqrt(values[-1] * largest)
        axes = [widest, *np.diag(np.sqrt(np.diag(covariance)))]
        axes = [axis * min(1.0, LONGEST_RAY / float(np.linalg.norm(axis))) for axis in axes]
        rays = np.concatenate([[axis, -axis] for axis in axes])
        away = float(np.linalg.norm(mean))
        if away > LONGEST_RAY:
            mean = mean * (LONGEST_RAY / away)
            rays = np.concatenate([rays, mean[None]])
        endless, spent = _endless(target, mean, rays)
    if not endless.any():
        return None, spent
    first = int(np.flatnonzero(endless)[0])
    other = first ^ 1
    both = bool(other < 2 * len(axes) and endless[other])
    return _in_words(target, rays[first], both), spent


def _endless(
    target: Target, mean: Float[np.ndarray, " d"], rays: Float[np.ndarray, "n d"]
) -> tuple[Bool[np.ndarray, " n"], int]:
    """On which rays p̂ falls too slowly, and the values that it took.

    What is finite at the farthest distance must fall too slowly up to there: a prior may be wide.
    """
    near, far = (target.values(mean + distance * rays) for distance in (NEAR_SDS, FAR_SDS))
    slow = np.isfinite(near) & np.isfinite(far) & (near - far <= np.log(FAR_SDS / NEAR_SDS))
    rows = np.flatnonzero(slow)
    spent = 2 * len(rays) + len(rows)
    if len(rows):
        farthest = target.values(mean + FARTHEST_SDS * rays[rows])
        falls = far[rows] - farthest > np.log(FARTHEST_SDS / FAR_SDS)
        slow[rows] = ~falls  # NaN at so large numbers says nothing
    return slow, spent


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
