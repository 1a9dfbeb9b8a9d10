"""The records of a checkpoint: `evaluations.bin`, to which answers are only ever added."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from infimum.target.journal.folder import RECORDS_FILE, STATE_FILE, damaged

HEAD = struct.Struct("<16sQI")
"""What stands before each answer: the digest of its question, its length, and its CRC."""

BYTES_AT_ONCE = 2**24
"""Bytes that are read at once while a whole file is checked."""


class Record(NamedTuple):
    """The answer to a question: arrays, and a note in JSON for what is not a number."""

    arrays: list[np.ndarray]
    note: Any = None


class WholePart(NamedTuple):
    """How much of the file is whole: its bytes, their records, and the CRC of them all."""

    n_bytes: int = 0
    n_records: int = 0
    crc: int = 0


class _Extent(NamedTuple):
    """Where the payload of a record lies in the file."""

    offset: int
    length: int
    crc: int


def digest(kind: str, question: PyTree) -> bytes:
    """16 bytes that stand for a question: its kind and all arrays of a pytree, bit for bit."""
    hashed = hashlib.blake2b(kind.encode() + b"\0", digest_size=16)
    for leaf in jax.tree_util.tree_leaves(question):
        array = np.asarray(leaf)
        if array.dtype.kind != "O":
            hashed.update(f"{array.dtype.str}{array.shape}".encode())
            hashed.update(_raw_bytes(array))
    return hashed.digest()


def same_bits(one: Record, other: Record) -> bool:
    """Whether two records hold the same arrays, bit for bit."""
    pairs = list(zip(one.arrays, other.arrays, strict=False))
    return len(one.arrays) == len(other.arrays) and all(
        a.dtype == b.dtype and a.shape == b.shape and _raw_bytes(a) == _raw_bytes(b)
        for a, b in pairs
    )


class Records:
    """The records of one checkpoint by the digests of their questions.

    Parameters
    ----------
    folder
        Where the file is, for messages.
    file
        The file, open for reading and writing.
    whole
        How much of it is whole. What lies behind was written by a run that was killed before it
        could say so; the first new record takes its place.

    Attributes
    ----------
    whole
        The same, with what was added.
    first
        The digest of the first question; empty without records.
    added
        Whether this process has added a record.

    Raises
    ------
    CheckpointError
        If the whole part is not as it was written.
    """

    def __init__(self, folder: Path, file: BinaryIO, whole: WholePart) -> None:
        self.folder, self.whole, self.added = folder, whole, False
        self._file = file
        self._extents, self.first = self._indexed()

    def __contains__(self, key: bytes) -> bool:
        return key in self._extents

    def read(self, key: bytes) -> Record:
        """The record under this digest, checked again on the way."""
        extent = self._extents[key]
        self._file.seek(extent.offset)
        payload = self._file.read(extent.length)
        if zlib.crc32(payload) != extent.crc:
            raise damaged(self.folder, f"a record of {RECORDS_FILE} has changed")
        return unpack(payload)

    def add(self, key: bytes, record: Record) -> None:
        """Write a record behind the others.

        Raises
        ------
        OSError
            If the disk does not take it. The whole part stays as it was.
        """
        payload = pack(record)
        head = HEAD.pack(key, len(payload), zlib.crc32(payload))
        whole = self.whole
        if not self.added:
            self._file.truncate(whole.n_bytes)  # drops the torn tail of a run that was killed
        self._file.seek(whole.n_bytes)
        self._file.write(head)
        self._file.write(payload)
        self._file.flush()
        extent = _Extent(whole.n_bytes + len(head), *HEAD.unpack(head)[1:])
        crc = zlib.crc32(payload, zlib.crc32(head, whole.crc))
        # One assignment, so that Ctrl-C can't come between a length and its CRC.
        self.whole = WholePart(extent.offset + extent.length, whole.n_records + 1, crc)
        self._extents[key] = extent
        self.added = True
        self.first = self.first or key

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which ends the lock of the folder."""
        self._file.close()

    def _indexed(self) -> tuple[dict[bytes, _Extent], bytes]:
        """Where each answer lies, and the first question; every byte is checked on the way."""
        extents: dict[bytes, _Extent] = {}
        first, offset, end, crc = b"", 0, self.whole.n_bytes, 0
        self._file.seek(0)
        while offset < end:
            head = self._file.read(HEAD.size)
            if len(head) < HEAD.size:
                break
            key, length, payload_crc = HEAD.unpack(head)
            crc, offset = zlib.crc32(head, crc), offset + HEAD.size
            if offset + length > end:
                break
            extents[key] = _Extent(offset, length, payload_crc)
            first = first or key
            for start in range(0, length, BYTES_AT_ONCE):
                crc = zlib.crc32(self._file.read(min(BYTES_AT_ONCE, length - start)), crc)
            offset += length
        if offset != end or crc != self.whole.crc:
            raise damaged(self.folder, f"{RECORDS_FILE} is not what {STATE_FILE} says of it")
        return extents, first


def pack(record: Record) -> bytes:
    """A record as bytes: the length of a description, the description in JSON, and the arrays."""
    shapes = [(array.dtype.str, array.shape) for array in record.arrays]
    description = json.dumps({"arrays": shapes, "note": record.note}).encode()
    length = struct.pack("<I", len(description))
    return b"".join([length, description, *map(_raw_bytes, record.arrays)])


def unpack(payload: bytes) -> Record:
    """The inverse of `pack`."""
    (length,) = struct.unpack_from("<I", payload)
    description, offset = json.loads(payload[4 : 4 + length]), 4 + length
    arrays = []
    for dtype, shape in description["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(payload, dtype, count, offset).reshape(shape).copy()
        offset += array.nbytes
        arrays.append(array)
    return Record(arrays, description["note"])


def _raw_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()
