"""Run infimum and keep the books from outside: each gradient, when it was asked for, by whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import infimum
from benchmarks.methods import Point, Run
from infimum.solvers._solver import Info


@dataclass
class Ledger:
    """What a fit asked of its target.

    Attributes
    ----------
    n_gradients
        Rows handed to `Target.value_and_gradient`, whoever asked.
    n_values
        Rows handed to `Target.values`: densities for choosing and checking.
    entries
        (start, its own gradients, all gradients, clock) each time a start books a batch.
    """

    n_gradients: int = 0
    n_values: int = 0
    entries: list[tuple[Info, int, int, float]] = field(default_factory=list)

    def own(self, last: Any) -> list[tuple[Info, int, int, float]]:
        """The entries of the start whose path ends with `last`."""
        return [entry for entry in self.entries if entry[0].trace and entry[0].trace[-1] is last]


@contextmanager
def watched(target: infimum.Target) -> Iterator[Ledger]:
    """Count what is asked of a target, and note when each start books its part."""
    ledger = Ledger()
    gradient, values, count = target.value_and_gradient, target.values, Info.count

    def counted_gradient(z: np.ndarray) -> Any:
        ledger.n_gradients += len(z)
        return gradient(z)

    def counted_values(z: np.ndarray) -> Any:
        ledger.n_values += len(z)
        return values(z)

    def noted(info: Info, *args: Any, **kwargs: Any) -> None:
        count(info, *args, **kwargs)
        entry = (info, info.n_gradients, ledger.n_gradients, time.perf_counter())
        ledger.entries.append(entry)

    target.value_and_gradient, target.values, Info.count = counted_gradient, counted_values, noted
    try:
        yield ledger
    finally:
        del target.value_and_gradient, target.values
        Info.count = count


def fit(
    target: infimum.Target,
    family: str,
    *,
    setup_seconds: float = 0.0,
    setup_cpu_seconds: float = 0.0,
    **options: Any,
) -> tuple[infimum.Fit, Run, int]:
    """Fit, and tell the winning start's path with its costs.

    Parameters
    ----------
    setup_seconds, setup_cpu_seconds
        What building the target took.
    **options
        As for `infimum.fit`.

    Returns
    -------
    The fit, its run, and how many densities it evaluated besides the gradients.
    """
    began, cpu = time.perf_counter(), time.process_time()
    with watched(target) as ledger:
        result = infimum.fit(target, family, progress=False, **options)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    work = result.work
    run = Run(
        f"infimum {family}",
        _path(result, ledger, began - setup_seconds, ended),
        setup_seconds,
        work.compile_seconds,
        ended - began - work.compile_seconds,
        cpu + setup_cpu_seconds,
    )
    return result, run, ledger.n_values


def from_model(
    model: Callable[..., Any], args: tuple[Any, ...], family: str, **options: Any
) -> tuple[infimum.Fit, Run]:
    """Fit a NumPyro model; the seconds begin before its target is built."""
    began, cpu = time.perf_counter(), time.process_time()
    target = infimum.from_numpyro(model, *args)
    setup = time.perf_counter() - began, time.process_time() - cpu
    result, run, _ = fit(
        target, family, setup_seconds=setup[0], setup_cpu_seconds=setup[1], **options
    )
    return result, run


def _path(result: infimum.Fit, ledger: Ledger, began: float, ended: float) -> list[Point]:
    points = []
    n_own = ledger.n_gradients
    if result.path:
        own = ledger.own(result.path[-1])
        booked = {n: (everything, clock) for _, n, everything, clock in own}
        for n, _, _, q in result.path:
            everything, clock = booked[n]
            points.append(Point(q, n, everything, clock - began))
        n_own = own[-1][1]
    return [*points, Point(result.q, n_own, ledger.n_gradients, ended - began)]
