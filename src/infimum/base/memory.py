"""How much memory this machine has, and what to say when a fit needs more."""

from __future__ import annotations

import os
from pathlib import Path

from infimum.base.errors import UnsuitableError, coded

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux tells the limit of a container, in its second and first version."""


def total() -> int | None:
    """Bytes of memory that this process may use; None where the system does not say."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for limit in LIMITS:
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)


def demand(what: str, n_bytes: float, cure: str) -> None:
    """Raise UnsuitableError if something needs more memory than there is."""
    held = total()
    if held is not None and n_bytes > held:
        raise UnsuitableError(
            coded(
                "E230",
                f"{what} needs about {in_words(n_bytes)} of memory, and this machine has "
                f"{in_words(held)}: {cure}",
            )
        )


def in_words(size: float) -> str:
    """Bytes as GB, for people."""
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
