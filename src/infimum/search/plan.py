"""The plan of a search: what is searched, by which solvers, and what the rungs of a climb share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from infimum.base.seeds import ROWS_STREAM, Seed
from infimum.base.stopping import Stop
from infimum.families._distribution import Distribution
from infimum.search.atlas import Atlas
from infimum.search.beginning import Beginning
from infimum.search.surrogate import Surrogate
from infimum.solvers._solver import Solver
from infimum.target.target import Target


@dataclass(eq=False)
class Plan:
    """How one call searches for q; a climb has one plan for all of its rungs.

    Attributes
    ----------
    target
        The target itself.
    seed
        The seed of everything random.
    n_starts
        Number of random starts, besides the cold one.
    solvers_for
        Function of a q: the solvers that move it, in their order.
    atlas
        Modes that scouts found; they are sent out once for all rungs.
    stop
        Whether the call is to end early.
    beginning
        Where the user wants the search to begin, if that was said.
    own_solvers
        Whether the user has named the solvers.
    endless
        A direction along which the posterior was found to be improper, in words.
    scouts
        How many scouts look for other modes, if the user has said so.
    tolerance
        Nats that the finite number of draws may cost, if the user has said so.
    """

    target: Target
    seed: Seed
    n_starts: int
    solvers_for: Callable[[Distribution], list[Solver]]
    atlas: Atlas = field(default_factory=Atlas)
    stop: Stop = field(default_factory=Stop)
    beginning: Beginning | None = None
    own_solvers: bool = False
    endless: str | None = None
    scouts: int | None = None
    tolerance: float | None = None

    @functools.cached_property
    def surrogate(self) -> Surrogate | None:
        """For a target of many rows: the density of a part of them, corrected near q."""
        large = self.target.large
        if large is None or not large.by_part:
            return None
        return Surrogate(self.target, self.seed, ROWS_STREAM)

    @property
    def searched(self) -> Target:
        """What solvers evaluate: the surrogate with its correction so far, or the target."""
        return self.target if self.surrogate is None else self.surrogate.target
