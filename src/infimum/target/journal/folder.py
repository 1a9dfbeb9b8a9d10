"""The folder of a checkpoint: what may lie in it, its lock, and the error for a bad one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from infimum.base.errors import coded, coded_error

try:
    import fcntl
except ImportError:  # Windows has none: there nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]

RECORDS_FILE = "evaluations.bin"
"""The answers of the target, one record after another."""

STATE_FILE = "checkpoint.json"
"""Of which job the checkpoint is, and how much of the records is whole."""

PARTIAL_FILE = "checkpoint.json.part"
"""The next `checkpoint.json` while it is being written."""

CURE = "give another folder, or call with the arguments it was made with"
"""What to do with a checkpoint that is another job's."""


class CheckpointError(ValueError):
    """A checkpoint can't be used: it is damaged, another job's, or in use. It is left unchanged."""


def damaged(folder: Path, why: str) -> CheckpointError:
    """The error for a checkpoint that is not as it was written."""
    return CheckpointError(
        coded(
            "E703",
            f"the checkpoint in {str(folder)!r} is damaged: {why}. Nothing in it was changed; "
            "restore a copy of it, or give another folder",
        )
    )


def refuse_other_contents(folder: Path) -> None:
    """Raise `CheckpointError` for a file, and for a folder that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise coded_error(
            CheckpointError, "E701", f"checkpoint {str(folder)!r} is a file, expected a folder"
        )
    names = set(os.listdir(folder)) if folder.exists() else set()
    if names - {PARTIAL_FILE} and not names & {RECORDS_FILE, STATE_FILE}:
        raise coded_error(
            CheckpointError,
            "E701",
            f"the folder {str(folder)!r} is not empty, and holds no checkpoint: give another one",
        )
    if STATE_FILE in names and RECORDS_FILE not in names:
        raise damaged(folder, f"{RECORDS_FILE} is missing")


def lock_folder(file: BinaryIO, folder: Path) -> None:
    """Keep other processes out of the folder until this process ends, however it ends.

    Parameters
    ----------
    file
        The open records, which carry the lock.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return  # the file system has no locks
        raise coded_error(
            CheckpointError,
            "E706",
            f"the checkpoint in {str(folder)!r} is in use by another fit: wait for it to end, "
            "or give another folder",
        ) from None
