"""Tables and lines of a benchmark: shown as they come, kept for files at the end."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
from rich.console import Console
from rich.table import Table as RichTable

import infimum

PACKAGES = ("jax", "numpyro", "gsmvi", "numpy", "scipy")
"""Those whose versions are told, if a benchmark names no others."""

SETTING = " UTC; infimum "
"""What only a line has that says when and where something was measured."""

WIDTH = 250
"""Columns of the text where there is no terminal to ask."""


@dataclass(frozen=True)
class Table:
    """Cells of text under headings; the first `n_left` columns are names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left: int = 1

    def to_rich(self) -> RichTable:
        """For the terminal."""
        table = RichTable(title=self.title, title_justify="left", box=rich.box.SIMPLE)
        for i, column in enumerate(self.columns):
            justify = "left" if i < self.n_left else "right"
            table.add_column(column, justify=justify, no_wrap=i < self.n_left)
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """For a README."""
        rule = [":--" if i < self.n_left else "--:" for i in range(len(self.columns))]
        lines = (f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))
        return "\n".join([f"### {self.title}", "", *lines])


class Report:
    """Shows what a benchmark finds, and writes it to files when asked.

    Parameters
    ----------
    title
        Heading of the files.
    packages
        Those whose versions are told.
    paths
        The files.
    """

    def __init__(
        self, title: str, packages: Sequence[str] = PACKAGES, paths: Sequence[Path] = ()
    ) -> None:
        self.title = title
        self.paths = paths
        self.parts: list[Table | str] = []
        self.records: list[dict[str, Any]] = []
        self.n_errors = 0
        self.console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
        self.say(setting(packages))

    def say(self, line: str) -> None:
        """Add a line."""
        self.parts.append(line)
        self.console.print(line, markup=False)

    def show(self, table: Table) -> None:
        """Add a table."""
        self.parts.append(table)
        self.console.print(table.to_rich())

    def add(self, part: Table | str) -> None:
        """Add a table or a line."""
        if isinstance(part, Table):
            self.show(part)
        else:
            self.say(part)

    def progress(self, line: str) -> None:
        """Say something that is no part of the result."""
        print(f"{datetime.datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """Note an error and go on; a report with errors passes nothing silently."""
        try:
            yield
        except Exception as error:  # whatever a library raises is part of the result
            traceback.print_exc()
            self.n_errors += 1
            self.say(f"ERROR {what}: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Say whether anything raised an error."""
        self.verdict(not self.n_errors, "nothing raised an error", f"{self.n_errors} errors")

    def verdict(self, passed: bool, claim: str, measured: str) -> None:
        """Add a line that says whether a target is met."""
        self.say(f"{'PASS' if passed else 'FAIL'}  {claim}: {measured}")

    def write(self, path: Path) -> None:
        """Write everything, as JSON (with a record of every fit) or else as Markdown."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._json() if path.suffix == ".json" else self._markdown(), "utf-8")

    def write_so_far(self, parts: Sequence[Table | str]) -> None:
        """Write the files with these parts at the end, which are not kept: more is to come."""
        kept = self.parts
        self.parts = [*kept, *parts]
        for path in self.paths:
            self.write(path)
        self.parts = kept

    def resume(self) -> None:
        """Take over the records of an earlier run, and its setting, from the JSON among the files.

        Raises
        ------
        ValueError
            If the JSON is of another benchmark or other seeds.
        """
        for path in self.paths:
            if path.suffix == ".json" and path.exists():
                whole = json.loads(path.read_text("utf-8"))
                if whole["title"] != self.title:
                    raise ValueError(f"{path} is of {whole['title']}, not of {self.title}")
                self.records = whole["records"]
                earlier = (part for part in whole["parts"] if isinstance(part, str))
                self.parts = [part for part in earlier if SETTING in part] + self.parts

    def _markdown(self) -> str:
        blocks = [f"## {self.title}"]
        lines: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                lines.append(f"- {part}")
                continue
            if lines:
                blocks.append("\n".join(lines))
                lines = []
            blocks.append(part.to_markdown())
        if lines:
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks) + "\n"

    def _json(self) -> str:
        parts = [asdict(part) if isinstance(part, Table) else part for part in self.parts]
        whole = {"title": self.title, "parts": parts, "records": self.records}
        return json.dumps(whole, indent=1, default=_plain) + "\n"


def setting(packages: Sequence[str] = PACKAGES) -> str:
    """When and where this was measured."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    now = datetime.datetime.now(datetime.UTC)
    return (
        f"{now:%Y-%m-%d %H:%M}{SETTING}{infimum.__version__}, {versions}; "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def number(value: float | None, decimals: int = 0) -> str:
    """A number in a cell; a dash where there is none, "never" for infinity."""
    if value is None:
        return "–"
    if np.isnan(value):
        return "nan"
    if np.isposinf(value):
        return "never"
    return f"{value:,.{decimals}f}"


def ratio(value: float | None) -> str:
    """A ratio in a cell, to two or three digits."""
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞"
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} can't be written as JSON")
