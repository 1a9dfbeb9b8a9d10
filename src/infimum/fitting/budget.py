"""The budget: the time limit of a fit or a climb, and the watch that ends work when it is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infimum.base import processes
from infimum.fitting.request import Request
from infimum.search.progress import Progress


@dataclass
class Budget:
    """The seconds that a call may take, and has taken.

    Attributes
    ----------
    request
        What is to be done.
    seconds
        The limit; None without one.
    watch
        Is told of progress; True stops the call.
    begun
        When the call began.
    """

    request: Request
    seconds: float | None
    watch: Callable[..., Any]
    begun: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        """Seconds of this call, and of the runs that it goes on from."""
        journal = self.request.target.journal
        seconds = time.perf_counter() - self.begun if journal is None else journal.seconds
        return processes.same(seconds) if self.request.shared else seconds

    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.seconds is not None and bool(self.spent >= self.seconds)

    def __call__(self, progress: Progress) -> Any:
        """Watch, and stop when the budget is spent."""
        if self.seconds is None:
            return self.watch(progress)
        journal = self.request.target.journal
        progress.left = max(0.0, self.seconds - (time.perf_counter() - self.begun))
        over = self.over() if journal is None else journal.time_is_up(self.over)
        return self.watch(progress) or over
