"""Groups of at most three coordinates of x that meet none but each other, given the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from infimum.families.nested.shapes import NODES, Rule, rule

LARGEST_GROUP = 3
"""Most coordinates of a group: its integral takes as many nodes as one coordinate to this power."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Which coordinates belong together, the largest groups first.

    x = mode + C t in each group, with C lower triangular: coordinate `level` of a group moves with
    t_0 … t_level.

    Attributes
    ----------
    levels
        For each level, that coordinate of each group that has so many, shapes (g_0,), (g_1,), …
        with g_0 ≥ g_1 ≥ ….
    n_nodes
        Nodes along each coordinate where slopes are taken.
    """

    levels: list[np.ndarray]
    n_nodes: int

    @classmethod
    def of(
        cls, k: int, edges: Int[np.ndarray, "2 m"], order: Int[np.ndarray, " k"]
    ) -> Groups | None:
        """The groups, a coordinate the later in its group the earlier in the order of elimination.

        None if one is too large.
        """
        ones = np.ones(edges.shape[1])
        graph = scipy.sparse.coo_array((ones, (edges[0], edges[1])), shape=(k, k))
        label = connected_components(graph, directed=False)[1]
        size = np.bincount(label)
        if size.max(initial=0) > LARGEST_GROUP:
            return None
        place = np.empty(k, np.int64)
        place[order] = np.arange(k)
        by_group = np.lexsort((-place, label, -size[label]))
        sizes = size[label[by_group]]
        starts = np.flatnonzero(np.diff(label[by_group], prepend=-1))
        sizes = sizes[starts]
        levels = [by_group[starts[sizes > i] + i] for i in range(size.max(initial=1))]
        return cls(levels, NODES[len(levels)])

    @classmethod
    def read(
        cls, members: Int[np.ndarray, " k"], sizes: Int[np.ndarray, " l"], n_slopes: int
    ) -> Groups:
        """From the coordinates of all levels one after the other, how many each has, and slopes."""
        groups = cls(np.split(members, np.cumsum(sizes)[:-1]), NODES[len(sizes)])
        while sum(groups.n_slopes) < n_slopes:
            groups = groups.finer()
        return groups

    def finer(self) -> Groups:
        """The same with twice the nodes, an odd number: one stays in the middle."""
        return replace(self, n_nodes=2 * self.n_nodes - 1)

    @property
    def rule(self) -> Rule:
        """Where slopes are taken."""
        return rule(self.depth, self.n_nodes)

    @property
    def depth(self) -> int:
        """Coordinates of the largest group."""
        return len(self.levels)

    @property
    def members(self) -> Int[np.ndarray, " k"]:
        """The coordinates of all levels, one after the other."""
        return np.concatenate(self.levels)

    @property
    def sizes(self) -> Int[np.ndarray, " l"]:
        """How many groups have each level."""
        return np.array([len(level) for level in self.levels])

    @property
    def n_slopes(self) -> list[int]:
        """Slopes of each level: at nodes of the levels before it and of its own."""
        return [len(level) * self.n_nodes ** (i + 1) for i, level in enumerate(self.levels)]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Levels (later, earlier) of which the later moves with the t of the earlier."""
        return ((i, j) for i in range(self.depth) for j in range(i))

    def lean(self, columns: list[Float[np.ndarray, "n k"]]) -> Float[np.ndarray, "n e"]:
        """The entries of C below the diagonal, pair of levels by pair, from its columns."""
        parts = [columns[j][:, self.levels[i]] for i, j in self.pairs()]
        return np.concatenate([columns[0][:, :0], *parts], axis=1)

    def parts(self, lean: Float[np.ndarray, "n e"]) -> dict[tuple[int, int], np.ndarray]:
        """The entries of each pair of levels, shape (n, groups of the later level)."""
        sizes = [len(self.levels[i]) for i, _ in self.pairs()]
        return dict(zip(self.pairs(), np.split(lean, np.cumsum(sizes), axis=1), strict=False))
