"""x given θ, as it is known at some θ.

Each is known at some θ, and interpolated between them by cubic radial functions and a plane. So a
draw takes no evaluation of the target, and its density is that of the interpolated field, exactly.
"""

from __future__ import annotations

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float

from infimum.families.nested.known import Known

LARGEST_CHUNK = 2**21
"""Numbers of the draws that are worked on together: 16 MB."""


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
