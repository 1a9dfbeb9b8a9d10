"""Sums over the processes of `jax.distributed`, each of which has its own rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from infimum.base.errors import coded_error
from infimum.base.program import double_precision


class PeerError(RuntimeError):
    """Another process of a distributed run has ended or failed."""


HEARTBEAT = 20
"""Seconds without a signal from a process after which it counts as ended. The other processes then
end well within a minute; with JAX's own default, 100, they would wait longer."""


def begin(address: str | None = None, n: int | None = None, which: int | None = None) -> None:
    """Join a distributed run. This must come before any computation.

    Parameters
    ----------
    address, n, which
        Host and port of process 0, the number of processes, and the number of this process.
        Without these JAX asks Slurm, Open MPI or Kubernetes.

    Raises
    ------
    ValueError
        If the processes cannot connect to each other.
    """
    try:
        jax.distributed.initialize(address, n, which, heartbeat_timeout_seconds=HEARTBEAT)
    except (RuntimeError, ValueError) as error:
        raise coded_error(
            ValueError,
            "E720",
            f"the distributed run could not start ({error}): start every process with Slurm, "
            "Open MPI or Kubernetes, or give each the address of process 0, the number of "
            "processes and its own number: --coordinator HOST:PORT --processes 4 --process 0",
        ) from error


def count() -> int:
    """Number of processes in the run; 1 if `jax.distributed` was not started."""
    return int(jax.process_count()) if jax.distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, counted from 0."""
    return int(jax.process_index()) if count() > 1 else 0


def gathered(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, stacked along a new first axis; their shapes must be equal.

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
    except Exception as error:  # JAX documents no error of its collectives
        raise coded_error(
            PeerError,
            "E721",
            f"a process of this distributed run has ended ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}): look for the "
            "cause in the output of the other processes, and start all processes again",
        ) from error


def total(compute: Callable[[], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The sum of the parts of all processes, added in the order of their ranks.

    Parameters
    ----------
    compute
        Computes the part of this process, a float64 array of this shape. If it raises an error,
        the other processes raise PeerError.
    """
    if count() == 1:
        return compute()
    trouble: BaseException | None = None
    part = np.zeros((2, *shape))
    try:
        part[1] = compute()
    except BaseException as error:  # Ctrl-C as well: the other processes must not wait for ever
        trouble = error
        part[0] = 1.0
    parts = gathered(part)
    if trouble is not None:
        raise trouble
    failed = [i for i in range(len(parts)) if parts[i, 0].any()]
    if failed:
        raise coded_error(
            PeerError,
            "E721",
            f"process {failed[0]} of this distributed run failed: its own output gives the "
            "cause. Fix it, and start all processes again",
        )
    summed: np.ndarray = parts[:, 1].sum(axis=0)
    return summed


def same(number: float) -> float:
    """The number of process 0, in every process: decisions by the clock must be the same in all."""
    return float(gathered(np.full(1, float(number)))[0, 0])


def everywhere(here: bool) -> bool:
    """Whether the condition is true in every process."""
    return bool(gathered(np.full(1, float(here))).all())


def agreed(what: str, value: Any) -> None:
    """Raise ValueError unless the value is the same in every process.

    Parameters
    ----------
    what
        What the value is, in the plural, at the beginning of the message.
    value
        Compared by its `repr`.
    """
    if count() == 1:
        return
    import hashlib

    digest = hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
    every = gathered(np.frombuffer(digest, np.uint8).astype(np.float64))
    different = [i for i in range(len(every)) if not np.array_equal(every[i], every[0])]
    if different:
        raise coded_error(
            ValueError,
            "E723",
            f"{what} differ between process 0 and process {different[0]}: in this process "
            f"({rank()}) they are {value}. Give all processes the same",
        )
