"""The display of a running fit: one live line on a terminal or in a notebook."""

from __future__ import annotations

import contextlib
import html
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from infimum.base.extras import installed
from infimum.search.progress import Progress

SILENT_SECONDS = 1.0
"""A fit that takes fewer seconds shows nothing."""

LINE_SECONDS = 10.0
"""Seconds between two plain lines, where there is no terminal."""

PAGE_SECONDS = 0.5
"""Seconds between two updates of a notebook's line, each a message to the browser."""


@contextlib.contextmanager
def display(
    shown: bool | None, callback: Callable[[Progress], Any] | None
) -> Iterator[Callable[[Progress], Any]]:
    """A function that shows each `Progress`, and passes it on to the user's callback.

    Parameters
    ----------
    shown
        None: only on a terminal or in a notebook, as one live line. True: elsewhere too, as a
        plain line now and then.
    """
    line = _line() if _is_shown(shown) else None
    began = time.perf_counter()

    def watch(progress: Progress) -> Any:
        progress.seconds = time.perf_counter() - began
        if line is not None:
            line.show(progress)
        return callback(progress) if callback is not None else None

    try:
        yield watch
    finally:
        if line is not None:
            line.close()


@contextlib.contextmanager
def display_text(shown: bool | None) -> Iterator[Callable[[str], None]]:
    """A function that shows a line of text on the same display, for work that is not a fit."""
    line = _line()
    try:
        yield line.show_text if _is_shown(shown) else lambda text: None
    finally:
        line.close()


def describe(progress: Progress) -> str:
    """One line on how far a fit is."""
    rung = f"rung {progress.rung}, " if progress.rung > 1 else ""
    starts = f"{progress.running} start{'s' * (progress.running != 1)} running"
    parts = [f"{rung}{progress.family}, {progress.stage}: {starts}"]
    if math.isfinite(progress.loss):
        noise = f" ± {progress.noise:.2g}" if math.isfinite(progress.noise) else ""
        parts.append(f"ELBO {-progress.loss:.3f}{noise}")
    if math.isfinite(progress.kl):
        parts.append(f"KL {progress.kl:.2g} before it")
    calls = f" in {progress.n_calls} calls" if progress.n_calls > 1 else ""
    parts.append(f"{progress.n_gradients:,} gradients{calls}")
    if progress.to_go > 0:
        parts.append(f"about {progress.to_go:.0f} s to go")
    if math.isfinite(progress.left):
        parts.append(f"{progress.left:.0f} s of the budget left")
    return ", ".join(parts)


def _is_shown(shown: bool | None) -> bool:
    return sys.stderr.isatty() or _in_notebook() if shown is None else shown


def _in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    library = sys.modules.get("IPython")
    return library is not None and hasattr(library.get_ipython(), "kernel")


def _line() -> _Line:
    return _Page() if _in_notebook() else _Line()


class _Line:
    """The live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.due = 0.0
        self.status: Any = None

    def show(self, progress: Progress) -> None:
        if progress.note:
            print(f"infimum: {progress.family} {progress.stage}: {progress.note}", file=sys.stderr)
            return
        self.show_text(describe(progress))

    def show_text(self, text: str) -> None:
        seconds = time.perf_counter() - self.began
        if seconds < SILENT_SECONDS:
            return
        self.put(f"{text}, {seconds:.0f} s", seconds)

    def put(self, text: str, seconds: float) -> None:
        if not (sys.stderr.isatty() and installed("rich")):
            if seconds >= self.due:
                print(f"infimum: {text}", file=sys.stderr)
                self.due = seconds + LINE_SECONDS
            return
        if self.status is None:
            from rich.console import Console

            self.status = Console(stderr=True).status(text)
            self.status.start()
        self.status.update(text)

    def close(self) -> None:
        if self.status is not None:
            self.status.stop()


class _Page(_Line):
    """The live line in a notebook: HTML that disappears when the fit is done."""

    def put(self, text: str, seconds: float) -> None:
        from IPython.display import HTML, display

        if seconds < self.due:
            return
        self.due = seconds + PAGE_SECONDS
        line = HTML(f"<code>{html.escape(text)}</code>")
        if self.status is None:
            self.status = display(line, display_id=True)
        else:
            self.status.update(line)

    def close(self) -> None:
        if self.status is not None:
            from IPython.display import HTML

            self.status.update(HTML(""))
