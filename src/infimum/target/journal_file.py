"""TODO."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from infimum.base.errors import coded

try:
    import fcntl
except ImportError:  # Windows has none: there nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]
from typing import NamedTuple

FORMAT = 1
"""Version of the folder; one of another version is refused."""

RECORDS, STATE, PARTIAL = "evaluations.bin", "checkpoint.json", "checkpoint.json.part"
"""The files of a checkpoint, and the second one on its way."""

HEAD = struct.Struct("<16sQI")
"""Before each record: the digest of the question, the length of the answer, and its CRC."""

CURE = "give another folder, or call with the arguments it was made with"


class CheckpointError(ValueError):
    """A checkpoint that can't be used: damaged, of another job, or in use. It is left as it was."""


@dataclass(frozen=True)
class Whole:
    """How much of the records is whole: bytes, records, and the CRC of them all."""

    n_bytes: int = 0
    n_records: int = 0
    crc: int = 0


def digest(kind: str, asked: Any) -> bytes:
    """16 bytes that stand for a question: its kind and all arrays of a pytree, bit for bit."""
    found = hashlib.blake2b(kind.encode() + b"\0", digest_size=16)
    for leaf in jax.tree_util.tree_leaves(asked):
        array = np.asarray(leaf)
        if array.dtype.kind != "O":
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.digest()


def described(given: Any) -> str:
    """An argument in words that are the same in every process, with a digest of its arrays."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(given))
    leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(given)]
    if any(leaf.dtype.kind in "biufc" and leaf.ndim for leaf in leaves):
        text += f" {digest('', leaves).hex()[:8]}"
    return text


BLANK = {
    "bytes": 0,
    "records": 0,
    "crc": 0,
    "decisions": [],
    "seconds": 0.0,
    "looks": 0,
    "over": None,
}
"""What a new `checkpoint.json` says, besides its job."""


def versions() -> dict[str, str]:
    from infimum.base.version import __version__

    return {
        "infimum": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "devices": f"{jax.device_count()} of {jax.default_backend()}",
    }


def refuse_what_is_no_checkpoint(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(
            coded("E701", f"checkpoint {str(folder)!r} is a file, expected a folder")
        )
    names = set(os.listdir(folder)) if folder.exists() else set()
    if names - {PARTIAL} and not names & {RECORDS, STATE}:
        raise CheckpointError(
            coded(
                "E701",
                f"the folder {str(folder)!r} is not empty, and holds no checkpoint: give another "
                "one",
            )
        )
    if STATE in names and RECORDS not in names:
        raise damaged(folder, f"{RECORDS} is missing")


def lock_folder(file: BinaryIO, folder: Path) -> None:
    """Keep other processes out, until this one ends in whatever way."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return  # a file system without locks
        raise CheckpointError(
            coded(
                "E706",
                f"the checkpoint in {str(folder)!r} is in use by another fit: wait for it to end, "
                "or give another folder",
            )
        ) from None


def read_state(folder: Path, job: dict[str, str], file: BinaryIO) -> dict[str, Any]:
    """What `checkpoint.json` says, if it is whole and of this job; begun where there is none."""
    size, path = os.fstat(file.fileno()).st_size, folder / STATE
    if not path.exists():
        if size:
            raise damaged(folder, f"{STATE} is missing")
        write_state(folder, job, BLANK)
        return BLANK
    text = path.read_bytes()
    try:
        told = json.loads(text)
        version = told["format"]
        if version != FORMAT:
            raise CheckpointError(
                coded(
                    "E707",
                    f"the checkpoint in {str(folder)!r} has format version {version!r}, this "
                    f"infimum reads {FORMAT}: use the version of infimum that made it, or give "
                    "another folder",
                )
            )
        state, known = {name: told[name] for name in BLANK}, told["job"]
        if text != state_text(known, state):
            raise damaged(folder, f"{STATE} is not as it was written")
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError):
        raise damaged(folder, f"{STATE} can't be read") from None
    for name in {**known, **job}:
        if known.get(name) != job.get(name):
            raise CheckpointError(
                coded(
                    "E704",
                    f"the checkpoint in {str(folder)!r} is of another job: its {name} is "
                    f"{known.get(name)}, that of this call is {job.get(name)}. Nothing in it was "
                    f"changed; {CURE}",
                )
            )
    if size < state["bytes"]:
        raise damaged(folder, f"{RECORDS} has {size} bytes of {state['bytes']}")
    return state


def write_state(folder: Path, job: dict[str, str], state: dict[str, Any]) -> None:
    """Replace the file by a whole new one."""
    with open(folder / PARTIAL, "wb") as file:
        file.write(state_text(job, state))
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / PARTIAL, folder / STATE)


def state_text(job: dict[str, str], state: dict[str, Any]) -> bytes:
    """`checkpoint.json`, with a digest of the rest of it."""
    told = {"format": FORMAT, "job": job, **state}
    check = hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()
    return json.dumps({**told, "check": check}, indent=1).encode()


def damaged(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        coded(
            "E703",
            f"the checkpoint in {str(folder)!r} is damaged: {why}. Nothing in it was changed; put "
            "back a copy of it, or give another folder",
        )
    )


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit."""
    return (
        one.dtype == other.dtype and one.shape == other.shape and raw_bytes(one) == raw_bytes(other)
    )


def raw_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def packed(answer: Answer) -> bytes:
    shapes = [(array.dtype.str, array.shape) for array in answer.arrays]
    head = json.dumps({"arrays": shapes, "note": answer.note}).encode()
    return b"".join([struct.pack("<I", len(head)), head, *map(raw_bytes, answer.arrays)])


def unpacked(payload: bytes) -> Answer:
    (length,) = struct.unpack_from("<I", payload)
    told, offset = json.loads(payload[4 : 4 + length]), 4 + length
    arrays = []
    for dtype, shape in told["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, dtype, count, offset).reshape(shape).copy()
        offset += array.nbytes
        arrays.append(array)
    return Answer(arrays, told["note"])


class Answer(NamedTuple):
    """What a question gave: arrays, and a note for what is not a number."""

    arrays: list[np.ndarray]
    note: Any = None
