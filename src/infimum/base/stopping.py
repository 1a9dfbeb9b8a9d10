"""Stopping early: how Ctrl-C, a callback or a spent budget ends work that keeps its best so far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass


class Stopped(KeyboardInterrupt):
    """Raised where work notices that it is to end; `Stop.cut_short` catches it.

    It is a `KeyboardInterrupt`, not an `Exception`: code that survives the errors of a user's
    density lets it pass, and whoever catches Ctrl-C catches it too.
    """


@dataclass
class Stop:
    """Whether a fit or a climb is to end before it is done.

    Attributes
    ----------
    requested
        Set by the first Ctrl-C or `Stopped` in work that may be cut short.
    """

    requested: bool = False

    def check(self) -> None:
        """Raise `Stopped` if a stop was requested."""
        if self.requested:
            raise Stopped

    @contextlib.contextmanager
    def cut_short(self) -> Iterator[None]:
        """Work that a stop leaves where it is; what comes after it sees `requested`."""
        try:
            yield
        except KeyboardInterrupt:
            self.requested = True
