"""TODO."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np


class Large(abc.ABC):
    """Capability of a target: rows so many that every evaluation is a pass over them.

    Attributes
    ----------
    n_rows
        N, over all processes.
    n_part
        Rows of a part that stands for all.
    by_part
        Whether to search on one.
    """

    n_rows: int
    n_part: int
    by_part: bool

    @property
    @abc.abstractmethod
    def n_passes(self) -> int:
        """Passes made so far."""

    @abc.abstractmethod
    def part(self, rng: np.random.Generator) -> Any:
        """A target of some rows at random, each of which stands for N/m, in one program."""

    @abc.abstractmethod
    def told(self) -> str:
        """The rows and where they are, in words."""

    @abc.abstractmethod
    def seconds(self, n: int, gradient: bool) -> float:
        """What a pass for n points is expected to take."""
