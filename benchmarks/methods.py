"""What every method under test hands back: its path, what it cost, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax

from benchmarks.measure import Normal
from infimum.base import program


@dataclass(frozen=True)
class Point:
    """One q of a method's path, and what the method had spent by then.

    Attributes
    ----------
    n_gradients
        Gradients of log p̂ evaluated by the start that leads here, its way to q included.
    n_all
        The same over everything the method ran at once, such as other starts.
    seconds
        Since the method was given the model; set-up and compilation included.
    """

    q: Normal
    n_gradients: int
    n_all: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """A method's path, up to its own end, and how its seconds divide.

    Attributes
    ----------
    path
        In order; the last is the method's answer.
    setup_seconds, compile_seconds, run_seconds
        From a model to something that could be compiled; in the compiler; and the rest.
    cpu_seconds
        Of all threads, from model to answer: what a busy machine disturbs less.
    failure
        What it raised, if its end is not the one it was meant to have.
    """

    method: str
    path: Sequence[Point]
    setup_seconds: float
    compile_seconds: float
    run_seconds: float
    cpu_seconds: float
    failure: str = ""

    @property
    def end(self) -> Point:
        """The method's answer."""
        return self.path[-1]

    @property
    def total_seconds(self) -> float:
        """From model to answer."""
        return self.setup_seconds + self.compile_seconds + self.run_seconds


def forget() -> None:
    """Drop every compiled program, so that the next method pays for its own."""
    program._compiled.cache_clear()
    jax.clear_caches()
