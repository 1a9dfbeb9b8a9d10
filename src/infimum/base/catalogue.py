"""The catalogue of errors and warnings: what each code means, and what to do.

The entries are in `catalogue.toml`. `infimum explain` and the documentation print them. The first
two characters of a code name its area.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Entry:
    """The meaning of a code.

    Attributes
    ----------
    title
        The problem in a few words.
    means
        What is wrong, and why infimum cannot continue.
    cure
        What to do.
    """

    title: str
    means: str
    cure: str


@functools.cache
def catalogue() -> dict[str, Entry]:
    """All entries by their codes, in ascending order."""
    codes = _file()["codes"]
    return {
        code: Entry(**{field: " ".join(text.split()) for field, text in entry.items()})
        for code, entry in codes.items()
    }


@functools.cache
def areas() -> dict[str, str]:
    """The areas of the codes, by their first two characters."""
    return dict(_file()["areas"])


@functools.cache
def _file() -> dict[str, dict]:
    source = resources.files("infimum.base") / "catalogue.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))
