"""Sums over the processes of `jax.distributed`: each has rows of its own, all get the same sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from infimum.base.errors import coded
from infimum.base.program import double_precision


class PeerError(RuntimeError):
    """Another process of a distributed run has ended, or can't go on."""


HEARTBEAT = 20
"""Seconds without a sign of life after which a process is taken to have ended: the others then end
as well, well within a minute; JAX's own default is 100."""


def begin(address: str | None = None, n: int | None = None, which: int | None = None) -> None:
    """Take part in a distributed run; before anything is computed.

    Parameters
    ----------
    address, n, which
        Host and port of process 0, the number of processes, and which of them this is. Without
        these JAX asks Slurm, Open MPI or Kubernetes.

    Raises
    ------
    ValueError
        If nobody says what this run consists of, or the processes don't find each other.
    """
    try:
        jax.distributed.initialize(address, n, which, heartbeat_timeout_seconds=HEARTBEAT)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            coded(
                "E720",
                f"the distributed run could not begin ({error}): start every process by Slurm, "
                "Open MPI or Kubernetes, or say in each where process 0 is, how many there are and "
                "which one it is: --coordinator HOST:PORT --processes 4 --process 0",
            )
        ) from error


def count() -> int:
    """How many processes take part; 1 where `jax.distributed` was not started."""
    return int(jax.process_count()) if jax.distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return int(jax.process_index()) if count() > 1 else 0


def gathered(array: np.ndarray) -> np.ndarray:
    """The array of every process, which all have in one shape: a new first axis.

    Raises
    ------
    PeerError
        If a process has ended.
    """
    if count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    try:
        with double_precision():
            return np.asarray(multihost_utils.process_allgather(array))
    except Exception as error:  # the collectives raise errors of their own
        raise PeerError(
            coded(
                "E721",
                f"a process of this distributed run has ended ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no message'}): look at the other "
                "processes' output for the cause, and start them all again",
            )
        ) from error


def total(compute: Callable[[], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The sum over processes of what each computes, in the order of their ranks.

    Parameters
    ----------
    compute
        This process's part, float64 of `shape`. If it raises, the others raise as well.
    """
    if count() == 1:
        return compute()
    trouble: BaseException | None = None
    part = np.zeros((2, *shape))
    try:
        part[1] = compute()
    except BaseException as error:  # Ctrl-C too: the others must not wait for ever
        trouble = error
        part[0] = 1.0
    parts = gathered(part)
    if trouble is not None:
        raise trouble
    failed = [i for i in range(len(parts)) if parts[i, 0].any()]
    if failed:
        raise PeerError(
            coded(
                "E721",
                f"process {failed[0]} of this distributed run can't go on: its own output says "
                "why. Mend that, and start all again",
            )
        )
    summed: np.ndarray = parts[:, 1].sum(axis=0)
    return summed


def same(number: float) -> float:
    """Process 0's number, in every process: what depends on time must not set them apart."""
    return float(gathered(np.full(1, float(number)))[0, 0])


def everywhere(here: bool) -> bool:
    """Whether something is so in every process."""
    return bool(gathered(np.full(1, float(here))).all())


def agreed(what: str, value: Any) -> None:
    """Raise ValueError unless this is the same in every process."""
    if count() == 1:
        return
    import hashlib

    digest = hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
    every = gathered(np.frombuffer(digest, np.uint8).astype(np.float64))
    different = [i for i in range(len(every)) if not np.array_equal(every[i], every[0])]
    if different:
        raise ValueError(
            coded(
                "E723",
                f"{what} differ between process 0 and process {different[0]}: here (process "
                f"{rank()}) they are {value}. Give all processes the same",
            )
        )
