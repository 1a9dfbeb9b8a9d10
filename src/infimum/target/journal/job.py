"""The job of a checkpoint: the arguments of a fit in words, and when two jobs are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import numpy as np

from infimum.base import version
from infimum.target.journal.records import digest

SAME_STEPS = ("0.1.0", "0.2.0")
"""Versions of infimum whose fits take the same steps, bit for bit, from the same arguments: each
goes on with checkpoints of the others. A release that changes an answer begins a new list."""


def described(argument: object) -> str:
    """An argument in words that are the same in every process, with a digest of its arrays."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(argument))
    leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(argument)]
    if any(leaf.dtype.kind in "biufc" and leaf.ndim for leaf in leaves):
        text += f" {digest('', leaves).hex()[:8]}"
    return text


def versions() -> dict[str, str]:
    """What else decides the bits of an answer: versions and devices."""
    return {
        "infimum": version.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "devices": f"{jax.device_count()} of {jax.default_backend()}",
    }


def first_difference(
    kept_job: Mapping[str, str], job: Mapping[str, str], renamed: Mapping[str, str]
) -> str | None:
    """The first argument in which a kept job is not this one; None if there is none.

    Parameters
    ----------
    renamed
        Classes by their old names, which earlier versions wrote: `Old(` counts as `New(`.
    """
    names = {**kept_job, **job}
    return next((name for name in names if not _same(name, kept_job, job, renamed)), None)


def _same(
    name: str, kept_job: Mapping[str, str], job: Mapping[str, str], renamed: Mapping[str, str]
) -> bool:
    kept, now = kept_job.get(name), job.get(name)
    if kept is None or now is None or kept == now:
        return kept == now
    if name == "infimum":
        return {kept, now} <= set(SAME_STEPS)
    return bool(renamed) and _todays_names(kept, renamed) == now


def _todays_names(text: str, renamed: Mapping[str, str]) -> str:
    """A description with today's names of classes: `[Old(n=1)]` becomes `[New(n=1)]`."""
    return re.sub(r"\b(\w+)(?=\()", lambda match: renamed.get(match[1], match[1]), text)
