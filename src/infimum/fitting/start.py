"""The start that a user gave, read: a point, draws, or a fit, on the unconstrained scale."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.answer.answer import Answer
from infimum.base.errors import coded_error
from infimum.base.seeds import START_STREAM, Seed, generator
from infimum.families._distribution import LARGEST_DENSE, Distribution, Gaussian
from infimum.families._family import Family
from infimum.families._host import Conditioned
from infimum.families.fullrank import DenseGaussian
from infimum.objective.draws import fresh_draws
from infimum.search.beginning import Beginning
from infimum.search.starts import COLD_SCALE, random_points, trouble_at, usable_points
from infimum.target.journal.records import digest
from infimum.target.target import Target
from infimum.target.values import inverted, listed, own_leaves, read_draws, read_values

FIT_DRAWS = 4096
"""Draws of a fit's q, from which mean and covariance are taken where the q itself is of no use."""

FIT_NUMBERS, FEWEST_FIT_DRAWS = 2**22, 64
"""Numbers in these draws, so that there are fewer in many dimensions; and how many at least."""

DRAWS_A_COORDINATE = 10
"""Draws for each coordinate from which a covariance is taken; from fewer only the scales are."""

TRIED = 16
"""Points of draws that are tried for one of finite density: their mean, and the first of them."""


@runtime_checkable
class Drawn(Protocol):
    """Draws from p* that a correction made of a fit."""

    @property
    def fit(self) -> Answer:
        """The fit."""

    @property
    def z(self) -> Float[np.ndarray, "n d"]:
        """Unconstrained draws."""


@dataclass(frozen=True, eq=False)
class StartValues:
    """A user's start on the unconstrained scale; no density has been evaluated yet.

    Attributes
    ----------
    kind
        What the user gave, for messages: "the start", "the start's draws", "the start's fit".
    points
        Points where the search may begin, best first, shape (m, d).
    scale, gaussian, q, family
        As in `Beginning`.
    """

    kind: str
    points: Float[np.ndarray, "m d"]
    scale: Float[np.ndarray, " d"] | None = None
    gaussian: Distribution | None = None
    q: Distribution | None = None
    family: Family | None = None

    def description(self) -> str:
        """In words that are the same in every process, with a digest of the numbers."""
        numbers = [self.points, *([] if self.scale is None else [self.scale])]
        leaves = [np.asarray(x) for x in jax.tree_util.tree_leaves(self.q)]
        return f"{self.kind} {digest('', [*numbers, *leaves]).hex()[:8]}"

    def beginning(self, target: Target) -> Beginning:
        """Where the search begins: the first of the points that has a finite density.

        Raises
        ------
        ValueError
            If none has.
        """
        log_p, gradient, usable = usable_points(target, self.points)
        if usable.any():
            point = self.points[np.argmax(usable)]
            return Beginning(point, self.scale, self.gaussian, self.q, self.family)
        what = trouble_at(target, log_p[0], gradient[0])
        tried = f", and not usable at {len(log_p) - 1} more points of it" if len(log_p) > 1 else ""
        raise coded_error(
            ValueError,
            "E308",
            f"the log density is {what} at {self.kind}{tried}: at "
            f"{target.describe(self.points[0])}. Give a start inside the region where the density "
            "is finite, or leave start out",
        )


def read_start(target: Target, start: PyTree, seed: Seed) -> StartValues:
    """The start that a user gave: a point, draws, ArviZ's posterior, a fit or corrected draws.

    Raises
    ------
    TypeError, ValueError
        If it does not match the target; the message names the parameter.
    """
    if isinstance(start, Answer):
        return _of_fit(target, start, seed)
    if isinstance(start, Drawn):
        return _by_name("the start's draws", target, start.z, start.fit.space.free_names, seed)
    values, n = read_values(target.space, start)
    full = len(values) == len(own_leaves(target.space))
    bases = np.zeros((1, target.dim)) if full else _bases(target, seed)
    if n is None:
        return StartValues("the start", inverted(target.space, values, bases, False))
    bases = np.repeat(bases[:1], n, axis=0)
    return _of_draws("the start's draws", inverted(target.space, values, bases, True))


def _bases(target: Target, seed: Seed) -> Float[np.ndarray, "m d"]:
    """Where the coordinates begin that a start says nothing of: the example, or random points."""
    points = random_points(target.dim, generator(seed, START_STREAM))
    return points if target.example is None else np.concatenate([target.example[None], points])


# ---- draws and fits by coordinate ----------------------------------------------------------------


def _of_draws(kind: str, z: Float[np.ndarray, "n d"]) -> StartValues:
    """Their mean and spread; what is the same in all draws has the spread of a cold start."""
    n = len(z)
    mean = z.mean(axis=0)
    if n == 1:
        return StartValues(kind, z)
    sd = z.std(axis=0, ddof=1)
    moves = sd > 1e-12 * np.maximum(1.0, np.abs(mean))
    scale = np.where(moves, sd, COLD_SCALE)
    points = np.concatenate([mean[None], z[: TRIED - 1]])
    gaussian = None
    if n >= DRAWS_A_COORDINATE * moves.sum() and z.shape[1] <= LARGEST_DENSE:
        gaussian = _gaussian(mean, np.diag(np.where(moves, 0.0, COLD_SCALE**2)) + np.cov(z.T))
    return StartValues(kind, points, scale, gaussian)


def _gaussian(mean: Float[np.ndarray, " d"], covariance: np.ndarray) -> DenseGaussian | None:
    try:
        return DenseGaussian.of(mean, np.linalg.cholesky(np.atleast_2d(covariance)))
    except np.linalg.LinAlgError:
        return None


def _of_fit(target: Target, fit: Answer, seed: Seed) -> StartValues:
    """The fit's q if it has the target's coordinates, and mean and spread of its draws."""
    kind, names = "the start's fit", fit.space.free_names
    if not (fit.constrains or fit.q.portable):  # q can't be drawn from without its model
        labels = [leaf.label for leaf in fit.space.leaves]
        stored = dict(zip(labels, jax.tree_util.tree_leaves(fit.weighed.stored), strict=True))
        values, n = read_draws(target.space, stored)
        base = np.repeat(_bases(target, seed)[:1], n, axis=0)
        return _of_draws(kind, inverted(target.space, values, base, True))
    start = _by_name(kind, target, _draws_of(fit), names, seed)
    if names != target.space.free_names:
        return start
    if isinstance(fit.q, Gaussian):
        points = np.concatenate([np.asarray(fit.q.mean)[None], start.points[1:]])
        start = dataclasses.replace(start, points=points, scale=np.sqrt(fit.q.variance()))
    return dataclasses.replace(start, q=fit.q, family=fit.family)


def _draws_of(fit: Answer) -> Float[np.ndarray, "n d"]:
    """Draws of a fit's q; those at hand, if each new one is much work."""
    if isinstance(fit.q, Conditioned):
        return fit.weighed.points()[: fit.n_draws]
    n = min(FIT_DRAWS, max(FEWEST_FIT_DRAWS, FIT_NUMBERS // fit.q.dim))
    return np.concatenate([z for z, _ in fresh_draws(fit.q, n, fit.seed, START_STREAM)])


def _by_name(
    kind: str, target: Target, z: Float[np.ndarray, "n k"], names: list[str], seed: Seed
) -> StartValues:
    """Draws of coordinates with these names; the target's other coordinates begin as they would.

    Raises
    ------
    ValueError
        If the target has no coordinate of such a name.
    """
    place = {name: i for i, name in enumerate(names)}
    own = target.space.free_names
    known = [i for i, name in enumerate(own) if name in place]
    if not known:
        raise coded_error(
            ValueError,
            "E307",
            f"{kind} has the coordinates {listed(names)}, and none of the target's {listed(own)}: "
            "give a start of this model",
        )
    whole = np.repeat(_bases(target, seed)[:1], len(z), axis=0)
    whole[:, known] = z[:, [place[own[i]] for i in known]]
    return _of_draws(kind, whole)
