"""The catalogue of errors and warnings: what each code means, and what to do.

A code stands for one kind of trouble, wherever it is found, and keeps its meaning from one version
to the next; its first two characters name the area. The entries are in `catalogue.toml`; they are
read when a message is made, and printed by `infimum explain` and in the documentation.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Entry:
    """What a code stands for.

    Parameters
    ----------
    title
        The trouble in a few words.
    means
        What is wrong, and why the work can't go on.
    cure
        What to do.
    """

    title: str
    means: str
    cure: str


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Every entry by its code, in order."""
    codes = _file()["codes"]
    return {
        code: Entry(**{field: " ".join(text.split()) for field, text in entry.items()})
        for code, entry in codes.items()
    }


@functools.cache
def areas() -> dict[str, str]:
    """What codes are about, by their first two characters."""
    return dict(_file()["areas"])


@functools.cache
def _file() -> dict[str, dict]:
    source = resources.files("infimum.base") / "catalogue.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))
