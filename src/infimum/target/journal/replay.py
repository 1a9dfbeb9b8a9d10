"""The replay of what depends on time: a resumed run decides as the runs before it did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from infimum.base import processes
from infimum.target.journal.state import State


class Replay:
    """What a job asked of the clock, so that a resumed run gets the same answers.

    A run depends on time in two ways. It takes decisions, such as which family to fit next, and it
    looks at the clock again and again, to see whether its time is up. A resumed run takes the same
    decisions and looks in the same order, so each is known by its number n = 1, 2, … in the run:

    ==========================  ===========================  ==============================
    the run asks                answer                       what changes
    ==========================  ===========================  ==============================
    decision n ≤ decisions      the n-th one as it was kept  nothing
    decision n > decisions      taken now                    it is kept
    look n ≤ looks              no                           the stopwatch starts again
    looks < n < over            no                           nothing
    look n > looks, no `over`   asked of the clock           if the answer is yes, over = n
    look n ≥ over               yes                          nothing
    ==========================  ===========================  ==============================

    `decisions` counts those that are kept. `looks` is how often earlier runs were told that time
    is not up, and `over` is the number of the first look at which it was. The stopwatch starts
    again because following earlier runs takes no time of the job's budget: their seconds are in
    the state already.

    Parameters
    ----------
    state
        Of the checkpoint.
    shared
        Whether other processes do the same with checkpoints of their own. They follow the earlier
        runs as far as all of them can, because a kill ends no two of them at the same look.
    """

    def __init__(self, state: State, shared: bool = False) -> None:
        self._shared = shared
        self._decisions = list(state["decisions"])
        self._looks, self._over = state["looks"], state["over"]
        self._seconds = state["seconds"]
        self._n_decided = self._n_looked = 0
        self._began = time.perf_counter()
        self._changed = False
        if shared:
            self._agree()

    def decide(self, make: Callable[[], Any]) -> tuple[Any, bool]:
        """The next decision, in JSON, and whether it was kept by an earlier run.

        Parameters
        ----------
        make
            Takes the decision.
        """
        kept = self._n_decided < len(self._decisions)
        if self._shared:
            kept = processes.everywhere(kept)
        if not kept:
            del self._decisions[self._n_decided :]
            self._decisions.append(json.loads(json.dumps(make())))
            self._changed = True
        self._n_decided += 1
        return self._decisions[self._n_decided - 1], kept

    def time_is_up(self, clock: Callable[[], bool]) -> bool:
        """Whether time is up at the next look.

        Parameters
        ----------
        clock
            Whether time is up now.
        """
        self._n_looked += 1
        if self.follows:
            self._began = time.perf_counter()
            return False
        if self._over is None and clock():
            self._over, self._changed = self._n_looked, True
        return self._answered_no < self._n_looked

    @property
    def follows(self) -> bool:
        """Whether the last look was one that earlier runs had as well."""
        return self._n_looked <= self._looks

    @property
    def changed(self) -> bool:
        """Whether the state has something that the checkpoint had not when it was opened."""
        return self._changed or self._answered_no > self._looks

    @property
    def seconds(self) -> float:
        """Seconds spent on the job, by earlier runs too; following these costs none."""
        return float(self._seconds + time.perf_counter() - self._began)

    def written(self, n_bytes: int, n_records: int, crc: int) -> State:
        """The state to write, with how much of the records is whole."""
        return {
            "bytes": n_bytes,
            "records": n_records,
            "crc": crc,
            "decisions": self._decisions,
            "seconds": self.seconds,
            "looks": max(self._answered_no, self._looks),
            "over": self._over,
        }

    @property
    def _answered_no(self) -> int:
        """How many looks of this run found that time was not up."""
        return self._n_looked if self._over is None else min(self._n_looked, self._over - 1)

    def _agree(self) -> None:
        """Follow as many looks as every process has; forget an end that not all of them saw."""
        every = processes.gathered(np.array([self._looks, self._over or 0], np.float64))
        self._looks = int(every[:, 0].min())
        if np.ptp(every[:, 1]) > 0:
            self._over = None
