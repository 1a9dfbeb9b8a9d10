"""A journal of answers: what was asked of the target, and what it gave, in a folder.

A fit is a function of its arguments, its seed and the values of log p̂. So a checkpoint holds no
state of a solver. It holds the answers that took long, each under a digest of its question. A
resumed run repeats the steps of the earlier ones, and reads the answers from here instead of
computing them, up to where the last run was cut off.

`evaluations.bin` is a row of records, and only grows. `checkpoint.json` says how much of it is
whole and of which job it is; a whole new one replaces it after records have been added.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from infimum.base import processes
from infimum.base.errors import coded, coded_error
from infimum.target.journal.folder import (
    CURE,
    RECORDS_FILE,
    CheckpointError,
    lock_folder,
    refuse_other_contents,
)
from infimum.target.journal.job import versions
from infimum.target.journal.records import Record, Records, WholePart, same_bits
from infimum.target.journal.replay import Replay
from infimum.target.journal.state import State, read_state, write_state

SECONDS_WORTH_KEEPING = 1e-3
"""What took less is not kept. To digest, write and read again a batch of 32 gradients at d = 10
takes 0.05 ms. With this limit eight schools took 2 to 10 % longer, about 30 ms of a fit of 0.7 s,
and a density of 2 ms a point 1 to 2 %."""

BYTES_PER_SECOND = 1e7
"""Bytes that a second of work may leave behind. Disks are ten times as fast: this holds down what
a long run fills, to 36 GB an hour at the very most."""

SECONDS_BETWEEN_SAVES = 0.5
"""Seconds between two replacements of `checkpoint.json`, which are all that a kill can cost besides
the evaluation that is running. One takes 1.6 ms on an ordinary disk, with its two calls of
fsync."""


class Journal:
    """The answers of one job; `open` begins it or goes on with it.

    Parameters
    ----------
    folder
        Where it is.
    job
        What it is of: each argument in words.
    records
        Its answers so far.
    state
        What `checkpoint.json` says.
    shared
        Whether other processes do the same with journals of their own: what one of them does not
        have, all of them compute.
    """

    def __init__(
        self, folder: Path, job: dict[str, str], records: Records, state: State, shared: bool
    ) -> None:
        self.folder, self.job, self._shared = folder, job, shared
        self._records = records
        self._replay = Replay(state, shared)
        self._proved = not records.first
        self._saved_at = time.perf_counter()
        self._disk_failed = self._closed = False

    @classmethod
    def open(
        cls,
        folder: Path,
        job: dict[str, str],
        shared: bool = False,
        renamed: Mapping[str, str] | None = None,
    ) -> Journal:
        """The journal in a folder, begun if there is none.

        Parameters
        ----------
        renamed
            Classes by the names that earlier versions wrote into a job.

        Raises
        ------
        CheckpointError
            If the folder holds something else, or a checkpoint that is damaged, of another job, or
            in use by another process; nothing in it is changed.
        """
        job = {**job, **versions()}
        refuse_other_contents(folder)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / RECORDS_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        file = os.fdopen(descriptor, "r+b")
        try:
            lock_folder(file, folder)
            state = read_state(folder, job, file, renamed or {})
            whole = WholePart(state["bytes"], state["records"], state["crc"])
            return cls(folder, job, Records(folder, file, whole), state, shared)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Save the state and unlock the folder; from then on every answer is computed."""
        try:
            if self._records.added or self._replay.changed:
                self._save()
        finally:
            self._closed = True
            self._records.close()

    # ---- answers ---------------------------------------------------------------------------------

    def recall(self, key: bytes, compute: Callable[[], Record]) -> Record:
        """The answer to a question: as it is kept here, or computed now.

        Parameters
        ----------
        key
            The question's `digest`.

        Raises
        ------
        CheckpointError
            If the first question is another one than before, or has another answer.
        """
        if self._closed:
            return compute()
        kept = key in self._records
        # Processes that share the work compute together or read together: an evaluation waits for
        # all of them.
        if self._everywhere(self._proved and kept):
            return self._records.read(key)
        if not self._proved:
            return self._prove(key, compute)
        began = time.perf_counter()
        record = compute()
        if not kept:
            self._keep(key, record, time.perf_counter() - began)
        return record

    def _everywhere(self, here: bool) -> bool:
        """Whether this is so in every process that does the same."""
        return processes.everywhere(here) if self._shared else here

    def _prove(self, key: bytes, compute: Callable[[], Record]) -> Record:
        """Compute the first answer again, to see that the density is the same as before.

        Data and code are no part of the job's description. If they changed, the first answer of
        the target changes, and nothing that is kept would be true.
        """
        kept = self._records.read(self._records.first)
        if key != self._records.first or not same_bits(compute(), kept):
            raise coded_error(
                CheckpointError,
                "E704",
                f"the checkpoint in {str(self.folder)!r} was made from other data or another "
                "density, or on a machine that rounds otherwise: the first evaluation gives "
                f"other numbers than it holds. Nothing in it was changed; {CURE}",
            )
        self._proved = True
        return kept

    def _keep(self, key: bytes, record: Record, seconds: float) -> None:
        """Add an answer to the records if it took long enough; the first one always."""
        size = sum(array.nbytes for array in record.arrays)
        least = SECONDS_WORTH_KEEPING + size / BYTES_PER_SECOND
        if self._disk_failed or (self._records.first and seconds < least):
            return
        with self._surviving_the_disk():
            self._records.add(key, record)
        self._save_if_due()

    # ---- decisions and time ----------------------------------------------------------------------

    def decide(self, make: Callable[[], Any]) -> Any:
        """A decision that depends on time, in JSON: as it was taken, or taken now by `make`."""
        decision, kept = self._replay.decide(make)
        if not kept:
            self._save()
        return decision

    def time_is_up(self, clock: Callable[[], bool]) -> bool:
        """Whether the job's time is up: as an earlier run was told, or as the clock says now."""
        up = self._replay.time_is_up(clock)
        if not up and not self._replay.follows:
            self._save_if_due()
        return up

    @property
    def seconds(self) -> float:
        """Seconds spent on the job, by earlier runs too."""
        return self._replay.seconds

    # ---- checkpoint.json -------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        if time.perf_counter() - self._saved_at >= SECONDS_BETWEEN_SAVES:
            self._save()

    def _save(self) -> None:
        """Replace `checkpoint.json`, once the records that it counts are on the disk."""
        if self._disk_failed:
            return
        with self._surviving_the_disk():
            self._records.sync()
            write_state(self.folder, self.job, self._replay.written(*self._records.whole))
            self._saved_at = time.perf_counter()

    @contextlib.contextmanager
    def _surviving_the_disk(self) -> Iterator[None]:
        """Go on without a checkpoint if the disk fails: the work is worth more."""
        try:
            yield
        except OSError as error:
            self._disk_failed = True
            warnings.warn(
                coded(
                    "W101",
                    f"the checkpoint in {str(self.folder)!r} can't be written any more ({error}): "
                    "the fit goes on, and saves nothing from here on. See that there is room, and "
                    "that it can be written",
                ),
                stacklevel=2,
            )
