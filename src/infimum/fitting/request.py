"""The request: what a user asked of `fit` or `climb`, checked before any work."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from infimum import families, solvers
from infimum.base import memory, processes
from infimum.base.errors import UnsuitableError, check_number, coded_error
from infimum.base.extras import required
from infimum.base.seeds import (
    Seed,
    generator,
    words,
)
from infimum.families._distribution import (
    LARGEST_DENSE,
    Distribution,
)
from infimum.families._family import (
    Family,
    Measured,
    Searched,
)
from infimum.families._host import Conditioned
from infimum.fitting.start import StartValues, read_start
from infimum.search.plan import Plan
from infimum.solvers._registry import RENAMED
from infimum.solvers._solver import Solver
from infimum.target.journal.job import described
from infimum.target.journal.journal import Journal
from infimum.target.journal.records import digest
from infimum.target.target import Target

STARTS = 4
"""Ascents of a fit, besides its cold start; the best of four solved 45 of 46 posteriors."""

CHECK_DRAWS = 4096
"""Fresh draws that every estimate of a fit rests on: an ELBO's se is then near sqrt(KL/2000)."""

CHECK_NUMBERS = 2**24
"""Numbers in all check draws of one component, so that there are fewer draws if d is above 4096. At
d = 30,003 with 240,000 rows 4096 densities take longer than the fit, and their weights are of no
use."""

CHECK_ROWS = 2**29
"""Rows times draws of a check: with 10 million rows, 512 draws already take 5 minutes."""

FEWEST_CHECKED = 512
"""Fewest check draws, however large d is: with fewer than 400 effective draws no fit is trusted. At
d = 100,000 an exact one, checked by 167 draws, was not."""

CHECK_WORK = 2**28
"""Numbers that all check draws may take while they are made, where each takes many: 3 s."""

NAMED_COORDINATES = 8
"""Coordinates whose names a checkpoint spells out; the others have a digest."""

LEAST_DRAWS = 100
"""Fresh draws without which no tail can be judged; a check that Ctrl-C cuts short takes no more."""


@dataclass(frozen=True)
class Request:
    """What a user asked for, checked. It never changes."""

    target: Target
    seed: Seed
    starts: int | None
    draws: int | None
    solver: Solver | Sequence[Solver] | None = None
    tolerance: float | None = None
    max_steps: int | None = None
    start: StartValues | None = None
    scouts: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.target, Target):
            raise coded_error(
                TypeError,
                "E301",
                f"expected an infimum.Target, not {self.target!r}: wrap a log density with "
                "infimum.Target(log_density, example), a NumPyro model with "
                "infimum.from_numpyro(model, *args)",
            )
        generator(self.seed)
        for name, least in (("starts", 1), ("draws", LEAST_DRAWS), ("max_steps", 1), ("scouts", 0)):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, least)
        if self.tolerance is not None and not self.tolerance > 0:
            raise coded_error(
                ValueError,
                "E303",
                f"tolerance is {self.tolerance!r}, expected a positive number of nats",
            )

    def starting_at(self, start: PyTree) -> Request:
        """The same request, with what the user gave as the start, if anything."""
        if start is None:
            return self
        return dataclasses.replace(self, start=read_start(self.target, start, self.seed))

    @contextlib.contextmanager
    def checkpointed(self, folder: str | Path | None, **job: Any) -> Iterator[Request]:
        """The same request, its target seen through the journal in a folder, if there is one.

        Parameters
        ----------
        job
            The other arguments, by which the journal tells jobs apart.
        """
        if folder is None:
            yield self
            return
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise coded_error(
                TypeError, "E701", f"checkpoint is {folder!r}, expected the path of a folder"
            )
        arguments = {name: described(value) for name, value in job.items()}
        place = Path(folder)
        if self.shared:
            arguments["process"] = f"{processes.rank()} of {processes.count()}"
            place /= f"process-{processes.rank()}"
        arguments = {**self._arguments(), **arguments}
        journal = Journal.open(place, arguments, self.shared, RENAMED)
        try:
            yield dataclasses.replace(self, target=self.target.with_journal(journal))
        finally:
            journal.close()

    def _arguments(self) -> dict[str, str]:
        names = self.target.space.free_names
        name_digest = digest(" ".join(names), ()).hex()[:8]
        own = {name: described(getattr(self, name)) for name in ("starts", "draws", "solver")}
        if self.start is not None:  # checkpoints of earlier versions have no such entry
            own["start"] = self.start.description()
        if self.scouts is not None:
            own["scouts"] = str(self.scouts)
        return {
            "target": self.target.name,
            "dimension": str(self.target.dim),
            "parameters": f"{', '.join(names[:NAMED_COORDINATES])} {name_digest}",
            "gradient": str(self.target.differentiable),
            "seed": " ".join(map(str, words(self.seed))),
            **own,
            "tolerance": str(self.tolerance),
            "max_steps": str(self.max_steps),
        }

    @property
    def n_starts(self) -> int:
        """Number of random starts."""
        large = self.target.dim > LARGEST_DENSE
        return int(self.starts or (1 if large else STARTS))

    @property
    def n_draws(self) -> int:
        """Number of check draws."""
        fitting = CHECK_NUMBERS // self.target.dim
        if self.target.large is not None:
            fitting = min(fitting, CHECK_ROWS // self.target.large.n_rows)
        return int(self.draws or min(CHECK_DRAWS, max(FEWEST_CHECKED, fitting)))

    def n_draws_of(self, q: Distribution) -> int:
        """Number of check draws of q: fewer where each of them is much work."""
        if self.draws or not isinstance(q, Conditioned):
            return self.n_draws
        return min(self.n_draws, max(FEWEST_CHECKED, CHECK_WORK // q.size))

    @property
    def shared(self) -> bool:
        """Whether several processes work on this together, so that all must take the same steps."""
        return self.target.large is not None and processes.count() > 1

    def plan(self) -> Plan:
        """A plan of the search, for one fit or one climb.

        Raises
        ------
        ValueError
            If the density is zero or undefined where the user wants the search to begin.
        """
        beginning = None if self.start is None else self.start.beginning(self.target)
        return Plan(
            self.target,
            self.seed,
            self.n_starts,
            self.solvers_for,
            beginning=beginning,
            own_solvers=self.solver is not None,
            tolerance=self.tolerance,
            scouts=self.scouts,
        )

    def solvers_for(self, q: Distribution) -> list[Solver]:
        """The solvers that move this q, with the user's limits.

        Raises
        ------
        TypeError, ValueError
            If what the user gave is not a solver, or can't move this q.
        """
        own: Any = self.solver
        if isinstance(own, Solver | str):  # a string would otherwise be read letter by letter
            own = [own]
        differentiable = self.target.differentiable
        chosen = solvers.plan(q, differentiable) if own is None else list(own)
        for solver in chosen:
            _check_solver(solver, q, differentiable)
        limits = {"tolerance": self.tolerance, "max_steps": self.max_steps}
        return [_limited(solver, limits) for solver in chosen]


def _check_solver(solver: object, q: Distribution, differentiable: bool) -> None:
    """Refuse what is not a solver, or can't move this q."""
    if not isinstance(solver, Solver):
        known = ", ".join(member.__name__ for member in solvers.members())
        raise coded_error(TypeError, "E310", f"{solver!r} is not a solver; known: {known}")
    name = type(solver).__name__
    if not solver.accepts(q):
        raise coded_error(
            ValueError,
            "E310",
            f"{name} can't move a {type(q).__name__}: leave solver out, and the right ones are "
            "chosen",
        )
    if solver.needs_gradient and not differentiable:
        raise coded_error(
            ValueError,
            "E110",
            f"{name} needs a gradient, and the target has none: give it one, or leave solver out",
        )


def _limited(solver: Any, limits: dict[str, Any]) -> Solver:
    """The solver with those of the limits that it has a field for."""
    known = {k: v for k, v in limits.items() if v is not None and hasattr(solver, k)}
    limited: Solver = dataclasses.replace(solver, **known)
    return limited


def check_search(request: Request, family: Family) -> None:
    """Refuse a target that a family with a search of its own does not suit, or a solver for it.

    Raises
    ------
    UnsuitableError
        A climb skips the family.
    """
    if not isinstance(family, Searched):
        return
    family.check(request.target)
    if request.solver is not None:
        raise coded_error(
            UnsuitableError,
            "E310",
            f"the family {family.name!r} has a search of its own, and no solver moves its members: "
            "leave solver out, or fit another family",
        )


def check_memory(target: Target, family: Family) -> None:
    """Refuse a family whose fit needs a library or more memory than there is; a climb skips it.

    Raises
    ------
    MissingLibraryError
        With the line that installs the library.
    UnsuitableError
        With the estimate, what there is, and the largest family that fits.
    """
    for library in family.libraries:
        required(library, family.extra)
    dim, available = target.dim, memory.total()
    if available is None or not isinstance(family, Measured):
        return
    if family.n_bytes(dim) <= available:
        return
    known = [families.named(name) for name in families.members()]
    smaller = [x for x in known if isinstance(x, Measured) and x.n_bytes(dim) <= available]
    best = max(smaller, key=lambda other: other.n_bytes(dim), default=None)
    cure = "use a larger machine" if best is None else f"try {best.name}"
    memory.demand(f"{family.name} at d = {dim:,}", family.n_bytes(dim), cure)
