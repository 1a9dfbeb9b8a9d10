"""The plan of a search: what is searched, by which solvers, and what all its fits share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from infimum.base.seeds import ROWS_STREAM, Seed
from infimum.base.stopping import Stop
from infimum.families._distribution import Distribution
from infimum.search.atlas import Atlas
from infimum.search.surrogate import Surrogate
from infimum.solvers._solver import Solver
from infimum.target.target import Target


@dataclass(eq=False)
class Plan:
    """How the fits of one call search. A climb has one plan for all of its rungs.

    Attributes
    ----------
    target
        The target itself.
    seed
        Of everything random.
    n_starts
        How many random starts, besides the cold one.
    solvers_for
        The solvers that move a q, one after another.
    atlas
        Modes that scouts found: they are sent out once for all rungs.
    stop
        Whether the call is to end early.
    """

    target: Target
    seed: Seed
    n_starts: int
    solvers_for: Callable[[Distribution], list[Solver]]
    atlas: Atlas = field(default_factory=Atlas)
    stop: Stop = field(default_factory=Stop)

    @functools.cached_property
    def surrogate(self) -> Surrogate | None:
        """Of a target of many rows: the part of the rows that is searched in its place."""
        large = self.target.large
        if large is None or not large.by_part:
            return None
        return Surrogate(self.target, self.seed, ROWS_STREAM)

    @property
    def searched(self) -> Target:
        """What is searched: the surrogate's part with its corrections so far, or the target."""
        return self.target if self.surrogate is None else self.surrogate.target
