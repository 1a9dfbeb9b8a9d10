"""x given θ, as it is known at some θ; and as independent coordinates with shapes of their own.

Each is known at some θ, and interpolated between them by cubic radial functions and a plane. So a
draw takes no evaluation of the target, and its density is that of the interpolated field, exactly.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Float

from infimum.families.nested.known import Known
from infimum.families.nested.shapes import NODES, POINTS, Shapes

LARGEST_CHUNK = 2**21
"""Numbers of the draws that are worked on together: 16 MB."""

NUMBERS = NODES + 4 * POINTS
"""Numbers that one coordinate of a draw takes: its nodes, and the grid's points a few times."""

ROWS, BLOCK = 64, 2**17
"""Draws that are made together, and their numbers for as many coordinates at a time: 1 MB, as a
whole row of 5,000 coordinates took four times as long."""


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
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each θ, and its log density."""

    @abc.abstractmethod
    def density_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        x: Float[np.ndarray, "m k"],
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""

    def draw(
        self, theta: Float[np.ndarray, "m h"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each row, and its log density."""
        shares = self.known.shares(theta)
        chunks = self._chunks(len(theta))
        parts = [self.draw_at(theta[rows], shares[rows], rng) for rows in chunks]
        x, density = map(np.concatenate, zip(*parts, strict=True))
        self.latest.keep([theta, x], density)
        return x, density

    def log_density(
        self, theta: Float[np.ndarray, "m h"], x: Float[np.ndarray, "m k"]
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""
        if not self.latest.known([theta, x]):
            shares, chunks = self.known.shares(theta), self._chunks(len(theta))
            parts = [self.density_at(theta[rows], shares[rows], x[rows]) for rows in chunks]
            self.latest.keep([theta, x], np.concatenate(parts))
        return self.latest.density.copy()

    @property
    def _rows_at_once(self) -> int:
        return max(1, LARGEST_CHUNK // self.size)

    def _chunks(self, n: int) -> list[slice]:
        """Rows that are worked on together."""
        step = self._rows_at_once
        return [slice(start, start + step) for start in range(0, max(n, 1), step)]


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
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each θ, and its log density."""
        x, density = shares @ self.mode, np.zeros(len(shares))
        for columns, shapes in self._shapes(shares):
            x[:, columns], part = shapes.draw(x[:, columns], rng)
            density += part
        return x, density

    def density_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        x: Float[np.ndarray, "m k"],
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""
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
