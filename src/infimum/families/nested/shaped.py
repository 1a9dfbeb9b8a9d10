"""x given θ as groups of at most three coordinates, each group with a shape of its own.

Of a group, t_0 has the density of its marginal, t_1 that given t_0, and t_2 that given both. Each
is known by its slopes at nodes of those before it and of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from infimum.families.nested.conditional import Conditional
from infimum.families.nested.groups import Groups
from infimum.families.nested.known import Known
from infimum.families.nested.shapes import POINTS, Rule, Shapes

ROWS, BLOCK = 64, 2**17
"""Draws that are made together, and their numbers for as many groups at a time: 1 MB, as a whole
row of 5,000 coordinates took four times as long."""

Before = list[Float[np.ndarray, "m g"]]
"""t of the levels before, for the groups that have the next."""


class Level(NamedTuple):
    """One coordinate of each of some groups, at m rows.

    Attributes
    ----------
    members
        Which coordinates of x, shape (g,).
    sd, lean
        What one unit of its own t moves it by, and of each t before, shapes (m, g).
    slopes
        At nodes of the t before and of its own, shape (m, g, …).
    """

    members: Int[np.ndarray, " g"]
    sd: Float[np.ndarray, "m g"]
    lean: list[Float[np.ndarray, "m g"]]
    slopes: np.ndarray

    def shapes(self, rule: Rule, before: Before) -> Shapes:
        """The densities of its t given those before."""
        slopes = self.slopes
        for t in before:
            slopes = np.einsum("mga...,mga->mg...", slopes, rule.shares(t))
        return Shapes.of(rule, slopes.reshape(-1, slopes.shape[-1]))

    def moved(self, before: Before) -> Float[np.ndarray, "m g"]:
        """How far it is moved by the t before."""
        pairs = zip(self.lean, before, strict=True)
        return sum((lean * t for lean, t in pairs), np.zeros(self.sd.shape))


class ShapedField(Conditional):
    """x given θ as independent groups, each with a shape of its own.

    Attributes
    ----------
    mode
        Where the groups are centred at each known θ, shape (n, k).
    log_sd, lean
        log of the diagonal of the C of each group, by coordinate of x, shape (n, k); and what is
        below it, see `Groups`, shape (n, e).
    members, sizes
        The groups, see `Groups.read`.
    weights, parts
        At each known θ the slopes are weights @ parts, shapes (n, r) and (r, s): those of each
        level, group by group, at nodes of the levels before and of its own.
    """

    known: Known
    mode: np.ndarray
    log_sd: np.ndarray
    lean: np.ndarray
    members: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray
    parts: np.ndarray

    @property
    def size(self) -> int:
        """Nodes, and the grid's points a few times."""
        return self.parts.shape[1] + 4 * POINTS * self.mode.shape[1]

    @property
    def _rows_at_once(self) -> int:
        return ROWS

    @property
    def _groups(self) -> Groups:
        return Groups.read(self.members, self.sizes, self.parts.shape[1])

    def draw_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each θ, and its log density."""
        x, rule = shares @ self.mode, self._groups.rule

        def drawn(level: Level, before: Before) -> tuple[np.ndarray, np.ndarray]:
            t, log_q = (a.reshape(level.sd.shape) for a in level.shapes(rule, before).draw(rng))
            x[:, level.members] += level.moved(before) + level.sd * t
            return t, log_q

        return x, self._over_groups(shares, drawn)

    def density_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        x: Float[np.ndarray, "m k"],
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""
        away, rule = x - shares @ self.mode, self._groups.rule

        def met(level: Level, before: Before) -> tuple[np.ndarray, np.ndarray]:
            t = (away[:, level.members] - level.moved(before)) / level.sd
            log_q = level.shapes(rule, before).log_density(t.ravel())
            return t, log_q.reshape(t.shape)

        return self._over_groups(shares, met)

    def _over_groups(
        self,
        shares: Float[np.ndarray, "m n"],
        of: Callable[[Level, Before], tuple[np.ndarray, np.ndarray]],
    ) -> Float[np.ndarray, " m"]:
        """The log density of all groups, from t and its log density at each level."""
        density = np.zeros(len(shares))
        for levels in self._levels(shares):
            before: Before = []
            for level in levels:
                before = [t[:, : len(level.members)] for t in before]
                t, log_q = of(level, before)
                density += (log_q - np.log(level.sd)).sum(axis=1)
                before.append(t)
        return density

    def _levels(self, shares: Float[np.ndarray, "m n"]) -> Iterator[list[Level]]:
        """The levels of a few groups at a time."""
        groups = self._groups
        sd, lean = np.exp(shares @ self.log_sd), groups.parts(shares @ self.lean)
        weights, depth, n_nodes = shares @ self.weights, groups.depth, groups.n_nodes
        ends = np.cumsum([0, *groups.n_slopes])
        blocks = [self.parts[:, a:b] for a, b in itertools.pairwise(ends)]
        numbers = sum(n_nodes ** (i + 1) + 4 * POINTS for i in range(depth))
        step = max(1, BLOCK // (numbers * len(shares)))
        for start in range(0, len(groups.levels[0]), step):
            levels = []
            for i, members in enumerate(groups.levels):
                some = slice(start, min(start + step, len(members)))
                if some.start >= some.stop:
                    break
                each = n_nodes ** (i + 1)
                slopes = weights @ blocks[i][:, some.start * each : some.stop * each]
                shape = (len(shares), some.stop - some.start, *[n_nodes] * (i + 1))
                along = [lean[i, j][:, some] for j in range(i)]
                levels.append(
                    Level(members[some], sd[:, members[some]], along, slopes.reshape(shape))
                )
            yield levels
