"""The memory of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from infimum.base.errors import UnsuitableError, coded_error

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux gives the memory limit of a container, for versions 2 and 1 of cgroups."""


def total() -> int | None:
    """Bytes of memory that this process may use; None if the system does not tell."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for limit in LIMITS:
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def demand(what: str, n_bytes: float, cure: str) -> None:
    """Raise UnsuitableError if this machine has less memory than needed.

    Parameters
    ----------
    what
        What needs the memory, at the beginning of the message.
    n_bytes
        Bytes that it needs.
    cure
        What to do instead, at the end of the message.
    """
    available = total()
    if available is not None and n_bytes > available:
        raise coded_error(
            UnsuitableError,
            "E230",
            f"{what} needs about {in_words(n_bytes)} of memory, and this machine has "
            f"{in_words(available)}: {cure}",
        )


def in_words(size: float) -> str:
    """The size in GB, as messages print it."""
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
