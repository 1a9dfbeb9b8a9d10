"""The state of a checkpoint: `checkpoint.json`, which is only ever replaced by a whole new one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from infimum.base.errors import coded_error
from infimum.target.journal.folder import (
    CURE,
    PARTIAL_FILE,
    RECORDS_FILE,
    STATE_FILE,
    CheckpointError,
    damaged,
)
from infimum.target.journal.job import first_difference

FORMAT = 1
"""Version of the folder; a folder of another version is refused."""


class State(TypedDict):
    """What the file says besides its format, its job and its check; the keys are the file's.

    Attributes
    ----------
    bytes, records, crc
        How much of the records is whole.
    decisions, seconds, looks, over
        What depended on time: see `Replay`.
    """

    bytes: int
    records: int
    crc: int
    decisions: list[Any]
    seconds: float
    looks: int
    over: int | None


NEW_STATE: State = {
    "bytes": 0,
    "records": 0,
    "crc": 0,
    "decisions": [],
    "seconds": 0.0,
    "looks": 0,
    "over": None,
}
"""The state of a job that has not begun."""


def read_state(
    folder: Path, job: dict[str, str], records: BinaryIO, renamed: Mapping[str, str]
) -> State:
    """The state of a folder, if the file is whole and of this job; written if there is none.

    Parameters
    ----------
    renamed
        As for `first_difference`.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of another format or job; nothing is changed.
    """
    size, path = os.fstat(records.fileno()).st_size, folder / STATE_FILE
    if not path.exists():
        if size:
            raise damaged(folder, f"{STATE_FILE} is missing")
        write_state(folder, job, NEW_STATE)
        return NEW_STATE
    kept_job, state = _parsed(folder, path.read_bytes())
    name = first_difference(kept_job, job, renamed)
    if name is not None:
        raise coded_error(
            CheckpointError,
            "E704",
            f"the checkpoint in {str(folder)!r} is of another job: its {name} is "
            f"{kept_job.get(name)}, that of this call is {job.get(name)}. Nothing in it was "
            f"changed; {CURE}",
        )
    if size < state["bytes"]:
        raise damaged(folder, f"{RECORDS_FILE} has {size} bytes of {state['bytes']}")
    return state


def _parsed(folder: Path, text: bytes) -> tuple[dict[str, str], State]:
    """The job and the state in the file, whose text is exactly what this package would write."""
    try:
        content = json.loads(text)
        version = content["format"]
        if version != FORMAT:
            raise coded_error(
                CheckpointError,
                "E707",
                f"the checkpoint in {str(folder)!r} has format version {version!r}, this "
                f"infimum reads {FORMAT}: use the version of infimum that made it, or give "
                "another folder",
            )
        job: dict[str, str] = content["job"]
        state: State = {name: content[name] for name in NEW_STATE}  # type: ignore[assignment]
        if text != state_text(job, state):
            raise damaged(folder, f"{STATE_FILE} is not as it was written")
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError):
        raise damaged(folder, f"{STATE_FILE} can't be read") from None
    return job, state


def write_state(folder: Path, job: dict[str, str], state: State) -> None:
    """Replace the file by a whole new one: a kill leaves either the old one or the new one."""
    with open(folder / PARTIAL_FILE, "wb") as file:
        file.write(state_text(job, state))
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / PARTIAL_FILE, folder / STATE_FILE)


def state_text(job: dict[str, str], state: State) -> bytes:
    """The file's text, which ends with a digest of the rest of it."""
    content = {"format": FORMAT, "job": job, **state}
    check = hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
    return json.dumps({**content, "check": check}, indent=1).encode()
