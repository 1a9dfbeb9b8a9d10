"""A fit as a file: a zip of plain arrays (.npy) with one JSON. Loading it executes nothing."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from infimum.answer.answer import Answer
from infimum.answer.fields import LARGEST_ARRAY, arrays_of, describe, is_portable, rebuild
from infimum.base.errors import coded_error, plain
from infimum.base.extras import MissingLibraryError

FORMAT = 3
"""Version of the file; a file of another version is refused."""


AGAIN = "Take another copy of it, or save the fit again"
"""What to do about a damaged file."""


def save(fit: Answer, path: Path) -> Path:
    """Write the fit; an existing file is replaced only when the new one is whole."""
    portable = is_portable(fit)
    described = {"format": FORMAT, **describe(fit, portable)}
    partial = path.with_name(path.name + ".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fit.json", json.dumps(described, indent=1))
        for name, value in arrays_of(fit, portable).items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    partial.replace(path)
    return path


def read(path: str | Path) -> dict[str, Any]:
    """The fields of the answer that a file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, is damaged, or has another version; nothing in it is executed.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(_entry(archive, "fit.json"))
            version = described.get("format") if isinstance(described, dict) else None
            if version != FORMAT:
                raise coded_error(
                    ValueError,
                    "E421",
                    f"{path} has format version {version!r}, this infimum reads {FORMAT}: load "
                    "it with the version of infimum that wrote it",
                )
            arrays = {
                name.removesuffix(".npy"): _array(archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
        return rebuild(described, arrays)
    except MissingLibraryError:
        raise
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, EOFError) as error:
        why = plain(error).rstrip(".")
        message = f"{path} is not a fit saved by infimum, or is damaged: {why}. {AGAIN}"
        raise coded_error(ValueError, "E420", message) from error
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        why = plain(error).rstrip(".")
        message = f"{path} is not a fit saved by infimum: {why}. {AGAIN}"
        raise coded_error(ValueError, "E420", message) from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > LARGEST_ARRAY:
        raise ValueError(f"entry {name} claims {info.file_size} bytes")
    return archive.read(name)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    value = np.lib.format.read_array(io.BytesIO(_entry(archive, name)), allow_pickle=False)
    if value.dtype.kind not in "fi":
        raise ValueError(f"entry {name} has dtype {value.dtype}, expected numbers")
    return value.astype(np.float64) if value.dtype.kind == "f" else value
