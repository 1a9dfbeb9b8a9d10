"""A journal of answers: what was asked and what it gave, in a folder that outlives the process.

A fit is a function of its arguments, its seed and the values of log p̂. So what a run leaves behind
for the next one is no state of a solver, but the answers that took long, each under a digest of its
question. The next run does the same again, and finds the answers here up to where the last one was
cut off.

`evaluations.bin` is a row of records and only grows. `checkpoint.json` says how much of it is
whole, and what job it is of; it is replaced by a whole new one after records have been added. What
stands beyond that in `evaluations.bin` was written by a run that was killed before it could say so:
it is dropped.
"""

from __future__ import annotations

import json
import os
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from infimum.base import processes
from infimum.base.errors import coded

try:
    import fcntl
except ImportError:  # Windows has none: there nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]
from infimum.target.journal_file import (
    CURE,
    HEAD,
    RECORDS,
    STATE,
    Answer,
    CheckpointError,
    Whole,
    damaged,
    lock_folder,
    packed,
    read_state,
    refuse_what_is_no_checkpoint,
    same_bits,
    unpacked,
    versions,
    write_state,
)

LEAST_SECONDS = 1e-3
"""What took less is not kept. To digest, write and read again a batch of 32 gradients at d = 10
takes 0.05 ms. With this limit eight schools took 2 to 10 % longer, about 30 ms of a fit of 0.7 s,
and a density of 2 ms a point 1 to 2 %."""

RATE = 1e7
"""Bytes that a second of work may leave behind. Disks are ten times as fast: this holds down what
a long run fills, to 36 GB an hour at the very most."""

EVERY = 0.5
"""Seconds between two replacements of `checkpoint.json`, which are all that a kill can cost besides
the evaluation on its way. One takes 1.6 ms on an ordinary disk, with its two calls of fsync."""

AT_ONCE = 2**24
"""Bytes read at once where a whole file is checked."""


class Place(NamedTuple):
    """Where an answer stands in the file."""

    offset: int
    length: int
    crc: int


class Journal:
    """The answers of one job; `open` begins it or goes on with it.

    Parameters
    ----------
    folder
        Where it is.
    job
        What it is of: each argument in words.
    file
        Its records, locked.
    state
        What `checkpoint.json` says.
    shared
        Whether other processes do the same with journals of their own: what one of them has not
        got, all of them compute.
    """

    def __init__(
        self,
        folder: Path,
        job: dict[str, str],
        file: BinaryIO,
        state: dict[str, Any],
        shared: bool = False,
    ) -> None:
        self.folder, self.job, self._file, self._shared = folder, job, file, shared
        self._whole = Whole(*(state[name] for name in ("bytes", "records", "crc")))
        self._decisions: list[Any] = list(state["decisions"])
        self._before, self._passed, self._over = state["seconds"], state["looks"], state["over"]
        self._decided = self._looks = 0
        self._places, self._first = self._indexed()
        self._proved = not self._places
        self._began = self._told = time.perf_counter()
        self._changed = self._full = self._closed = False
        if shared:
            self._agree()

    @classmethod
    def open(cls, folder: Path, job: dict[str, str], shared: bool = False) -> Journal:
        """The journal in a folder, begun where there is none.

        Raises
        ------
        CheckpointError
            If the folder holds something else, or a checkpoint that is damaged, of another job, or
            in use by another process; nothing in it is changed.
        """
        job = {**job, **versions()}
        refuse_what_is_no_checkpoint(folder)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = os.open(folder / RECORDS, os.O_RDWR | os.O_CREAT, 0o666)
        file = os.fdopen(fresh, "r+b")
        try:
            lock_folder(file, folder)
            return cls(folder, job, file, read_state(folder, job, file), shared)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Say that all records are whole, and let go of the folder; then every answer is fresh."""
        try:
            if self._changed or self._answered > self._passed:
                self._tell_or_stop()
        finally:
            self._closed = True
            self._places = {}
            self._file.close()

    # ---- answers ---------------------------------------------------------------------------------

    def recall(self, key: bytes, compute: Callable[[], Answer]) -> Answer:
        """The answer to a question: what is written here, or what is computed now.

        Parameters
        ----------
        key
            Its `digest`.

        Raises
        ------
        CheckpointError
            If the first question is another one than before, or has another answer.
        """
        if self._closed:
            return compute()
        place = self._places.get(key)
        if self._everywhere(self._proved and place is not None):
            assert place is not None
            return self._read(place)
        if not self._proved:
            return self._prove(key, compute)
        began = time.perf_counter()
        answer = compute()
        if place is None:
            self._keep(key, answer, time.perf_counter() - began)
        return answer

    def _everywhere(self, here: bool) -> bool:
        """Whether this is so in every process that does the same."""
        return processes.everywhere(here) if self._shared else here

    def _prove(self, key: bytes, compute: Callable[[], Answer]) -> Answer:
        """Answer the first question anew, to see that the density is the one of before."""
        kept = self._read(self._places[self._first])
        same = key == self._first
        if same:
            arrays = compute().arrays
            same = len(arrays) == len(kept.arrays) and all(map(same_bits, arrays, kept.arrays))
        if not same:
            raise CheckpointError(
                coded(
                    "E704",
                    f"the checkpoint in {str(self.folder)!r} was made from other data or another "
                    "density, or on a machine that rounds otherwise: the first evaluation gives "
                    f"other numbers than it holds. Nothing in it was changed; {CURE}",
                )
            )
        self._proved = True
        return kept

    def _keep(self, key: bytes, answer: Answer, seconds: float) -> None:
        """Write an answer down if it took longer than that; the first one always."""
        size = sum(array.nbytes for array in answer.arrays)
        if self._full or (self._places and seconds < LEAST_SECONDS + size / RATE):
            return
        payload = packed(answer)
        head = HEAD.pack(key, len(payload), zlib.crc32(payload))
        try:
            self._append(key, head, payload)
            self._tell_now_and_then()
        except OSError as error:
            self._stop(error)

    def _append(self, key: bytes, head: bytes, payload: bytes) -> None:
        whole = self._whole
        if not self._changed:
            self._file.truncate(whole.n_bytes)
        self._file.seek(whole.n_bytes)
        self._file.write(head)
        self._file.write(payload)
        self._file.flush()
        place = Place(whole.n_bytes + len(head), *HEAD.unpack(head)[1:])
        crc = zlib.crc32(payload, zlib.crc32(head, whole.crc))
        self._whole = Whole(place.offset + place.length, whole.n_records + 1, crc)  # at one stroke
        self._places[key] = place
        self._changed = True

    def _read(self, place: Place) -> Answer:
        self._file.seek(place.offset)
        payload = self._file.read(place.length)
        if zlib.crc32(payload) != place.crc:
            raise damaged(self.folder, f"a record of {RECORDS} has changed")
        return unpacked(payload)

    def _indexed(self) -> tuple[dict[bytes, Place], bytes]:
        """Where each answer stands, and the first question; every byte is checked on the way."""
        places: dict[bytes, Place] = {}
        first, offset, end, crc = b"", 0, self._whole.n_bytes, 0
        self._file.seek(0)
        while offset < end:
            head = self._file.read(HEAD.size)
            if len(head) < HEAD.size:
                break
            key, length, of_payload = HEAD.unpack(head)
            crc, offset = zlib.crc32(head, crc), offset + HEAD.size
            if offset + length > end:
                break
            places[key] = Place(offset, length, of_payload)
            first = first or key
            for start in range(0, length, AT_ONCE):
                crc = zlib.crc32(self._file.read(min(AT_ONCE, length - start)), crc)
            offset += length
        if offset != end or crc != self._whole.crc:
            raise damaged(self.folder, f"{RECORDS} is not what {STATE} says of it")
        return places, first

    # ---- decisions and time ----------------------------------------------------------------------

    def decide(self, make: Callable[[], Any]) -> Any:
        """A decision that depends on time, in JSON: the next one as it was taken, or taken now."""
        if not self._everywhere(self._decided < len(self._decisions)):
            del self._decisions[self._decided :]
            self._decisions.append(json.loads(json.dumps(make())))
            self._changed = True
            self._tell_or_stop()
        self._decided += 1
        return self._decisions[self._decided - 1]

    def over(self, over: Callable[[], bool]) -> bool:
        """Whether time is up, which is asked again and again: as it was answered before."""
        self._looks += 1
        if self._looks <= self._passed:
            self._began = time.perf_counter()
            return False
        if self._over is None and over():
            self._over, self._changed = self._looks, True
        if self._answered == self._looks and time.perf_counter() - self._told >= EVERY:
            self._tell_or_stop()
        return self._answered < self._looks

    def _agree(self) -> None:
        """Follow the runs before as far as every process can: a kill ends no two at one look."""
        told = processes.gathered(np.array([self._passed, self._over or 0], np.float64))
        self._passed = int(told[:, 0].min())
        if np.ptp(told[:, 1]) > 0:
            self._over = None

    @property
    def _answered(self) -> int:
        """How often it was asked before time was up."""
        return self._looks if self._over is None else min(self._looks, self._over - 1)

    @property
    def seconds(self) -> float:
        """Spent on this job, by the runs before as well; not counted while these are followed."""
        return float(self._before + time.perf_counter() - self._began)

    # ---- checkpoint.json -------------------------------------------------------------------------

    def _tell_now_and_then(self) -> None:
        if time.perf_counter() - self._told >= EVERY:
            self._tell()

    def _tell_or_stop(self) -> None:
        try:
            self._tell()
        except OSError as error:
            self._stop(error)

    def _tell(self) -> None:
        """Replace `checkpoint.json`, once the records that it speaks of are on the disk."""
        if self._full:
            return
        os.fsync(self._file.fileno())
        state = {
            "bytes": self._whole.n_bytes,
            "records": self._whole.n_records,
            "crc": self._whole.crc,
            "decisions": self._decisions,
            "seconds": self.seconds,
            "looks": max(self._answered, self._passed),
            "over": self._over,
        }
        write_state(self.folder, self.job, state)
        self._told = time.perf_counter()

    def _stop(self, error: OSError) -> None:
        """Go on without the disk: the work is worth more than its checkpoint."""
        self._full = True
        warnings.warn(
            coded(
                "W101",
                f"the checkpoint in {str(self.folder)!r} can't be written any more ({error}): the "
                "fit goes on, and saves nothing from here on. See that there is room, and that it "
                "can be written",
            ),
            stacklevel=2,
        )
