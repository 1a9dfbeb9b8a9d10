"""Data for a Stan program: from what users have to JSON, and checked by name on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infimum.base.errors import coded_error

Data = Mapping[str, object] | str | os.PathLike[str] | None
"""A dict; JSON text, or the path of a file with it; or nothing."""

MOST_NAMES = 8
"""Variables that a message names at most."""


def data_text(data: Data, declared: Collection[str] | None = None) -> str:
    """The data as JSON text.

    Parameters
    ----------
    data
        A dict of numbers, lists and arrays; JSON text; the path of a .json file; or None.
    declared
        Names that the program declares, if they are known: only these are taken, and none of them
        may be missing.

    Raises
    ------
    TypeError, ValueError
        If the data are of another type, or an entry is missing, is not rectangular, is not
        numeric, or is not finite.
    FileNotFoundError
        If there is no such file.
    """
    entries = _entries(data)
    if declared is not None:
        if absent := [name for name in declared if name not in entries]:
            names = ", ".join(map(repr, absent[:MOST_NAMES]))
            raise coded_error(
                ValueError,
                "E632",
                f"the data lack {names}, which the Stan program declares: they have "
                f"{', '.join(map(repr, list(entries)[:MOST_NAMES])) or 'no entries'}",
            )
        entries = {name: entries[name] for name in declared}
    return json.dumps({str(name): _plain(str(name), x) for name, x in entries.items()})


def _entries(data: Data) -> Mapping[str, Any]:
    """The data by name."""
    if data is None:
        return {}
    source = "data"
    entries: object = data
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        if isinstance(data, os.PathLike) or not text.lstrip().startswith(("{", "[")):
            source = str(text)
            if not Path(text).is_file():
                raise coded_error(
                    FileNotFoundError,
                    "E901",
                    f"there is no file {source} with the data: give a dict, JSON text, or the path "
                    "of a .json file",
                )
            text = Path(text).read_text(encoding="utf-8")
        try:
            entries = json.loads(text)
        except json.JSONDecodeError as error:
            raise coded_error(
                ValueError, "E632", f"{source}: not valid JSON, {error}: give a JSON object"
            ) from error
    if not isinstance(entries, Mapping):
        raise coded_error(
            TypeError,
            "E632",
            f"the data of a Stan program are a dict with an entry for each variable, not "
            f"{type(entries).__name__}: write {{'N': 3, 'y': [1.0, 2.0, 3.0]}}, for instance",
        )
    return entries


def _plain(name: str, value: object) -> Any:
    """One entry as numbers and lists, finite all of them."""
    if isinstance(value, Mapping):  # a tuple, by the numbers of its parts
        return {key: _plain(f"{name}.{key}", part) for key, part in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return [_plain(f"{name}[{i}]", part) for i, part in enumerate(value)]
    try:
        array = np.asarray(value)
    except ValueError as error:  # the rows have several lengths
        raise coded_error(
            ValueError,
            "E632",
            f"data entry {name!r} is not rectangular: all rows of an array have the same length",
        ) from error
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    if array.dtype.kind not in "biuf":
        raise coded_error(
            TypeError,
            "E632",
            f"data entry {name!r} holds {array.dtype} values, not numbers: give numbers, lists of "
            "numbers or arrays",
        )
    if array.dtype.kind == "b":
        array = array.astype(int)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(map(int, bad[0]))
        entry = name + (f"[{', '.join(map(str, index))}]" if index else "")
        raise coded_error(
            ValueError,
            "E632",
            f"data entry {entry} is {array[index]}, counted from 0, and so are {len(bad) - 1} more "
            f"of {array.size}: remove these observations, or make them parameters",
        )
    return array.tolist()
