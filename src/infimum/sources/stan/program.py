"""The text of a Stan program, from a file or as it is, with what it includes."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from infimum.base.errors import coded_error
from infimum.sources.stan.syntax import Token, blocks_of, declared_names, tokens_of

INCLUDE = re.compile(r"""^\s*#include\s+["<]?([^\s">]+)[">]?.*$""")

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
"""One folder, several, or none."""

TEXT_NAME = "stan_program"
"""Name of a program that is given as text."""


class Program:
    """The text of a Stan program.

    Parameters
    ----------
    text
        As its author wrote it.
    path
        The file that it comes from.
    include_paths
        Folders that hold what it includes; its own folder is searched last.

    Attributes
    ----------
    name
        Name of the file without its ending.
    label
        How messages call it.
    """

    def __init__(
        self, text: str, path: Path | None = None, include_paths: Sequence[str] = ()
    ) -> None:
        self.text = text
        self.path = path
        self.folders = [*include_paths, str(path.resolve().parent if path else Path.cwd())]
        self.name = path.stem if path else TEXT_NAME
        self.label = path.name if path else "the program"

    @functools.cached_property
    def _lines(self) -> list[tuple[str, str, int]]:
        """Each line with its file's name and its number there, included ones in their places."""
        return self._included(self.text, "" if self.path is None else self.path.name, ())

    def _included(
        self, text: str, file: str, inside: tuple[str, ...]
    ) -> list[tuple[str, str, int]]:
        lines = []
        for number, line in enumerate(text.split("\n"), 1):
            match = INCLUDE.match(line)
            folders = [Path(folder) for folder in self.folders] if match else []
            files = [folder / match[1] for folder in folders if match]
            other = next((path for path in files if path.is_file()), None)
            if other is None or str(other) in inside:
                lines.append((line, file, number))
            else:
                inner = other.read_text(encoding="utf-8")
                lines += self._included(inner, other.name, (*inside, str(other)))
        return lines

    @functools.cached_property
    def whole(self) -> str:
        """The text with everything that it includes in place."""
        return "\n".join(line for line, _, _ in self._lines)

    @functools.cached_property
    def tokens(self) -> list[Token]:
        """The words of the whole text."""
        return tokens_of(self.whole)

    @functools.cached_property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """The places of each block's braces among the tokens."""
        return blocks_of(self.tokens)

    @functools.cached_property
    def data_names(self) -> list[str]:
        """The variables that the program declares as data."""
        block = self.blocks.get("data")
        return declared_names(self.tokens, block) if block else []

    def line(self, start: int) -> str:
        """Which line a place in the whole text is on: `line 3`, or `line 3 of priors.stan`."""
        _, file, number = self._lines[self.whole.count("\n", 0, start)]
        own = self.path.name if self.path else ""
        return f"line {number}" + (f" of {file}" if file != own else "")


def read_program(program: str | os.PathLike[str], include_paths: Folders = None) -> Program:
    """The program that a path leads to, or that is given as text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if include_paths is None:
        folders = []
    elif isinstance(include_paths, str | os.PathLike):
        folders = [os.fspath(include_paths)]
    else:
        folders = [os.fspath(folder) for folder in include_paths]
    if absent := [folder for folder in folders if not Path(folder).is_dir()]:
        raise coded_error(
            FileNotFoundError,
            "E901",
            f"there is no folder {absent[0]}: include_paths are folders with what the program "
            "includes",
        )
    if isinstance(program, str) and ("\n" in program or "{" in program):
        return Program(program, None, folders)
    path = Path(program)
    if not path.is_file():
        raise coded_error(
            FileNotFoundError,
            "E901",
            f"there is no file {path}: give the path of a Stan program, or its text",
        )
    return Program(path.read_text(encoding="utf-8"), path, folders)
