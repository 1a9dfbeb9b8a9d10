"""x given θ: a Gaussian field, or independent coordinates with shapes of their own.

Each is known at some θ, and interpolated between them by cubic radial functions and a plane. So a
draw takes no evaluation of the target, and its density is that of the interpolated field, exactly.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from infimum.families.nested.known import Known
from infimum.families.nested.shapes import NODES, POINTS, Shapes
from infimum.gaussian.sparse import Layout
from infimum.gaussian.sparse_solve import solve_each, times_transposed_each
from infimum.gaussian.stack import LOG_2PI

LARGEST_CHUNK = 2**21
"""Numbers of the draws that are worked on together: 16 MB."""

NONE = np.zeros(0)
"""What there is of a soft constraint where there is none."""

NUMBERS = NODES + 4 * POINTS
"""Numbers that one coordinate of a draw takes: its nodes, and the grid's points a few times."""

ROWS, BLOCK = 64, 2**17
"""Draws that are made together, and their numbers for as many coordinates at a time: 1 MB, as a
whole row of 5,000 coordinates took four times as long."""

PINNED = 4.0
"""Change of the log of a precision over all known θ above which a coordinate is pinned."""


class Latest:
    """The points whose density was computed last. That of a draw is asked for right after it."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.density = np.empty(0)

    def keep(self, points: list[np.ndarray], density: Float[np.ndarray, " m"]) -> None:
        """Keep a copy."""
        self.points, self.density = [x.copy() for x in points], density

    def known(self, points: list[np.ndarray]) -> bool:
        """Whether these are the points."""
        pairs = zip(self.points, points, strict=True)
        return bool(self.points) and all(np.array_equal(a, b) for a, b in pairs)


class Conditional(eqx.Module):
    """q(x | θ), as it is known at some θ."""

    known: eqx.AbstractVar[Known]
    latest: Latest = eqx.field(static=True, kw_only=True, default_factory=Latest, repr=False)

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Numbers that a draw takes while it is made."""

    @abc.abstractmethod
    def draw_at(
        self, shares: Float[np.ndarray, "m n"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each row of shares, and its log density."""

    @abc.abstractmethod
    def density_at(
        self, shares: Float[np.ndarray, "m n"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ), θ by its shares."""

    def draw(
        self, theta: Float[np.ndarray, "m h"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each row, and its log density."""
        shares = self.known.shares(theta)
        parts = [self.draw_at(shares[rows], rng) for rows in self._chunks(len(theta))]
        x, density = map(np.concatenate, zip(*parts, strict=True))
        self.latest.keep([theta, x], density)
        return x, density

    def log_density(
        self, theta: Float[np.ndarray, "m h"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""
        if not self.latest.known([theta, x]):
            shares, chunks = self.known.shares(theta), self._chunks(len(theta))
            parts = [self.density_at(shares[rows], x[rows]) for rows in chunks]
            self.latest.keep([theta, x], np.concatenate(parts))
        return self.latest.density.copy()

    @property
    def _rows_at_once(self) -> int:
        return max(1, LARGEST_CHUNK // self.size)

    def _chunks(self, n: int) -> list[slice]:
        """Rows that are worked on together."""
        step = self._rows_at_once
        return [slice(start, start + step) for start in range(0, max(n, 1), step)]


class GaussianField(Conditional):
    """x given θ as N(m, ((I + L) D (I + L)ᵀ)⁻¹), with sparse factors in their own order.

    Where the precision of a coordinate grows without end, as that of an effect whose scale goes to
    0, the coordinate is pinned to where the prior has it. Its mean, and how it follows the others,
    are then known times its precision, as the pull of the data: this does not change with the
    scale.

    Attributes
    ----------
    centre
        m at each known θ; of pinned coordinates D (I + L)ᵀ m. In the order of the factor, shape
        (n, k).
    log_pivots, below
        log D and the entries of L, shapes (n, k) and (n, e); of pinned coordinates' columns what
        they are more than `limit`, times D.
    limit
        What the entries of pinned coordinates' columns tend to, shape (e,); 0 for the others.
    pinned
        1 for coordinates that are pinned, else 0, shape (k,).
    order, starts, rows
        The places of the entries of L, as of `Layout`.
    soft
        Weights a of a soft constraint aᵀx ~ N(0, 1), by which the precision is more by a aᵀ, shape
        (k,); or none, shape (0,).
    """

    known: Known
    centre: np.ndarray
    log_pivots: np.ndarray
    below: np.ndarray
    limit: np.ndarray
    pinned: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    soft: np.ndarray

    @classmethod
    def of(
        cls,
        known: Known,
        mean: Float[np.ndarray, "n k"],
        pivots: Float[np.ndarray, "n k"],
        below: Float[np.ndarray, "n e"],
        layout: Layout,
        soft: Float[np.ndarray, " s"],
    ) -> GaussianField:
        """The field of these means and factors at the known θ."""
        log_pivots, centre = np.log(pivots), mean[:, layout.order]
        pinned = np.ptp(log_pivots, axis=0) > PINNED
        apart = times_transposed_each(layout, below, centre)
        centre = np.where(pinned, apart * pivots, centre)
        column = np.repeat(np.arange(len(pinned)), np.diff(layout.starts))
        limit = np.where(pinned[column], _limit(pivots, below, column), 0.0)
        below = (below - limit) * np.where(pinned, pivots, 1.0)[:, column]
        where = pinned.astype(np.int64)
        return cls(known, centre, log_pivots, below, limit, where, *layout, soft)

    @property
    def size(self) -> int:
        """Mean, pivots and entries."""
        return 2 * self.centre.shape[1] + self.below.shape[1]

    @property
    def layout(self) -> Layout:
        """Where the entries of L stand."""
        return Layout(self.order, self.starts, self.rows)

    def draw_at(
        self, shares: Float[np.ndarray, "m n"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each row of shares, and its log density."""
        eps = rng.standard_normal((len(shares), self.centre.shape[1]))
        return self.pushed(
            shares, eps, rng.standard_normal(len(shares)) if self.soft.size else NONE
        )

    def pushed(
        self,
        shares: Float[np.ndarray, "m n"],
        eps: Float[np.ndarray, "m k"],
        errors: Float[np.ndarray, " s"],
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """x for standard normal ε, and its log density.

        Parameters
        ----------
        errors
            With a soft constraint, standard normal errors of its sum, shape (m,); else empty.
        """
        mean, log_pivots, below = self._at(shares)
        x = np.empty(mean.shape)
        away = self._solved(below, eps * np.exp(-0.5 * log_pivots))
        density = _log_normal(eps, log_pivots)
        if self.soft.size:
            across, stiffness = self._across(log_pivots, below)
            # Conditional simulation: the free draw is moved to where its sum is seen to be 0.
            sums = away @ self.soft[self.order] + errors
            away = away - (sums / stiffness)[:, None] * across
            density = self._held_density(log_pivots, below, away, stiffness)
        x[:, self.order] = mean + away
        return x, density

    def density_at(
        self, shares: Float[np.ndarray, "m n"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ), θ by its shares."""
        mean, log_pivots, below = self._at(shares)
        away = x[:, self.order] - mean
        stiffness = self._across(log_pivots, below)[1] if self.soft.size else np.ones(len(x))
        return self._held_density(log_pivots, below, away, stiffness)

    def _held_density(
        self,
        log_pivots: Float[np.ndarray, "m k"],
        below: Float[np.ndarray, "m e"],
        away: Float[np.ndarray, "m k"],
        stiffness: Float[np.ndarray, " m"],
    ) -> Float[np.ndarray, " m"]:
        """log density so far from the mean, in the order of the factor."""
        along = away @ self.soft[self.order] if self.soft.size else np.zeros(len(away))
        away = times_transposed_each(self.layout, below, away)
        free = _log_normal(away * np.exp(0.5 * log_pivots), log_pivots)
        return np.asarray(free + 0.5 * (np.log(stiffness) - along**2))

    def _across(
        self, log_pivots: Float[np.ndarray, "m k"], below: Float[np.ndarray, "m e"]
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """H⁻¹ a without the soft constraint, in the order of the factor, and 1 + aᵀ H⁻¹ a."""
        weights = np.broadcast_to(self.soft[self.order], log_pivots.shape)
        down = solve_each(self.layout, below, weights, False)
        across = self._solved(below, down * np.exp(-log_pivots))
        return across, 1 + (across * weights).sum(axis=1)

    def _at(self, shares: Float[np.ndarray, "m n"]) -> tuple[np.ndarray, ...]:
        """Means, log D and L, in the order of the factor."""
        centre, log_pivots, below = (shares @ x for x in (self.centre, self.log_pivots, self.below))
        if self.pinned.any():
            sizes = np.diff(self.starts)
            times = np.where(self.pinned == 1, np.exp(-log_pivots), 1.0)
            below = self.limit + below * np.repeat(times, sizes, axis=1)
            centre = self._solved(below * np.repeat(self.pinned, sizes), centre * times)
        return centre, log_pivots, below

    def _solved(
        self, below: Float[np.ndarray, "m e"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, "m k"]:
        """(I + L)⁻ᵀ x at each row."""
        return solve_each(self.layout, below, x, True)


class ShapedField(Conditional):
    """x given θ as independent coordinates, each with a shape of its own.

    Attributes
    ----------
    mode, log_sd
        Where and in which units the shapes are known at each known θ, shapes (n, k).
    slopes
        Derivatives of the log densities at the nodes of the shapes, shape (n, m, k).
    """

    known: Known
    mode: np.ndarray
    log_sd: np.ndarray
    slopes: np.ndarray

    @property
    def size(self) -> int:
        """Nodes, and the grid's points a few times."""
        return NUMBERS * self.mode.shape[1]

    @property
    def _rows_at_once(self) -> int:
        return ROWS

    def draw_at(
        self, shares: Float[np.ndarray, "m n"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each row of shares, and its log density."""
        x, density = shares @ self.mode, np.zeros(len(shares))
        for columns, shapes in self._shapes(shares):
            x[:, columns], part = shapes.draw(x[:, columns], rng)
            density += part
        return x, density

    def density_at(
        self, shares: Float[np.ndarray, "m n"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ), θ by its shares."""
        away, density = x - shares @ self.mode, np.zeros(len(shares))
        for columns, shapes in self._shapes(shares):
            density += shapes.log_density(away[:, columns])
        return density

    def _shapes(self, shares: Float[np.ndarray, "m n"]) -> Iterator[tuple[slice, Shapes]]:
        """The shapes at each row, a few columns at a time."""
        step = max(1, BLOCK // (NUMBERS * len(shares)))
        sd = np.exp(shares @ self.log_sd)
        for start in range(0, sd.shape[1], step):
            columns = slice(start, start + step)
            known = self.slopes[:, :, columns]
            rows = known.transpose(0, 2, 1)
            slopes = (shares @ rows.reshape(len(known), -1)).reshape(-1, *rows.shape[1:])
            yield columns, Shapes.of(sd[:, columns], slopes)


def _limit(
    pivots: Float[np.ndarray, "n k"], below: Float[np.ndarray, "n e"], column: Int[np.ndarray, " e"]
) -> Float[np.ndarray, " e"]:
    """Where the entries of L tend to as the pivot of their column grows.

    Their distance from it falls as 1 over the pivot, so two θ give the limit: the most pinned ones.
    """
    entry = np.arange(len(column))
    first = np.argmax(pivots, axis=0)
    most = pivots[first, np.arange(len(first))]
    second = np.argmax(np.where(pivots < most / np.e, pivots, 0.0), axis=0)
    p, q = most[column], pivots[second, np.arange(len(first))][column]
    return np.asarray(
        (below[first[column], entry] * p - below[second[column], entry] * q) / (p - q)
    )


def _log_normal(
    eps: Float[np.ndarray, "m k"], log_pivots: Float[np.ndarray, "m k"]
) -> Float[np.ndarray, " m"]:
    """log density of the spread of ε."""
    terms = log_pivots - eps**2 - LOG_2PI
    return np.asarray(0.5 * terms.sum(axis=1))
