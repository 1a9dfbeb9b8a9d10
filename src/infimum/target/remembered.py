"""A density seen through a journal: what is written there is not evaluated again."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from infimum.base.program import Program
from infimum.target.guarded import Batched, Failures, See
from infimum.target.journal import Journal
from infimum.target.journal_file import Answer, digest

PIECE_SECONDS = 0.5
"""Seconds of evaluations that are written down together: less would be lost than the time between
two looks of the journal at its disk saves."""


class Density(Protocol):
    """log p̂ and its gradient, by JAX or by other code."""

    @property
    def program(self) -> Program:
        """For loops inside the compiler."""

    @property
    def differentiable(self) -> bool:
        """Whether there is a gradient."""

    @property
    def twice(self) -> bool:
        """Whether JAX may differentiate that once more."""

    @property
    def failures(self) -> Failures:
        """Evaluations that raised."""

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row."""

    def values(self, z: np.ndarray, planned: int = 0) -> np.ndarray:
        """log p̂ at each row."""

    def grain(self, planned: int = 0) -> int | None:
        """Rows that may be evaluated apart from others without a change in a bit.

        None if the answer at a row may depend on which other rows are asked for with it.
        """

    def through(self, see: See) -> Density:
        """The same, with what a compiled loop asks of code outside JAX passing through `see`."""

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has kept."""


class Remembered:
    """The same density, each answer from the journal where it is written there.

    A long batch is evaluated and written down in pieces, so that a kill costs one of them.
    """

    def __init__(self, density: Density, journal: Journal) -> None:
        self.density = density
        self.journal = journal
        self._pace: dict[str, float] = {}

    @property
    def program(self) -> Program:
        """For compiled loops, which go through `recall` a chunk at a time.

        Code outside JAX that they call is remembered within a chunk as well.
        """
        return self._bridge.program

    @functools.cached_property
    def _bridge(self) -> Density:
        def see(code: Batched, x: np.ndarray) -> tuple[Any, Any]:
            log_p, gradient = self._pieces("bridge", x, 0, lambda rows: list(code(rows)))
            return log_p, gradient

        return self.density.through(see)

    @property
    def differentiable(self) -> bool:
        """As the density."""
        return self.density.differentiable

    @property
    def twice(self) -> bool:
        """As the density."""
        return self.density.twice

    @property
    def failures(self) -> Failures:
        """The density's, with those of answers that were found in the journal."""
        return self.density.failures

    def resume(self) -> None:
        """As the density."""
        self._bridge.resume()

    def grain(self, planned: int = 0) -> int | None:
        """As the density."""
        return self.density.grain(planned)

    def through(self, see: See) -> Density:
        """As the density."""
        return self.density.through(see)

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ and its gradient at each row."""
        log_p, gradient = self._pieces("gradient", z, 0, lambda rows: list(self.density(rows)))
        return log_p, gradient

    def values(self, z: np.ndarray, planned: int = 0) -> np.ndarray:
        """log p̂ at each row."""
        most = max(len(z), planned)
        return self._pieces("value", z, most, lambda rows: [self.density.values(rows, most)])[0]

    def recall(
        self, kind: str, asked: Callable[[], Any], like: Any, compute: Callable[[], Any]
    ) -> Any:
        """Arrays that other work on the density gives, such as a chunk of a compiled loop.

        Parameters
        ----------
        kind, asked
            What is asked: a name, and a pytree with every array that the answer depends on.
        like
            A pytree of the answer's structure.
        compute
            Gives the answer, a pytree of arrays.

        Returns
        -------
        The answer, its arrays as NumPy's.
        """
        structure = jax.tree_util.tree_structure(like)
        arrays = self._answered(digest(kind, asked()), lambda: jax.tree_util.tree_leaves(compute()))
        return jax.tree_util.tree_unflatten(structure, arrays)

    def _pieces(
        self,
        kind: str,
        z: np.ndarray,
        planned: int,
        evaluate: Callable[[np.ndarray], list[np.ndarray]],
    ) -> list[np.ndarray]:
        """The rows in pieces, each under a digest of all rows and of where it begins."""
        z = np.ascontiguousarray(z, np.float64)
        whole = digest(f"{kind} {planned}", z).hex()
        pieces: list[list[np.ndarray]] = []
        row = 0
        while row < len(z) or not pieces:
            rows = z[row : row + self._rows(kind, planned, len(z))]
            key = digest(f"{whole} {row}", ())
            timed = functools.partial(self._timed, kind, rows, evaluate)
            pieces.append(self._answered(key, timed))
            row += len(pieces[-1][0])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _rows(self, kind: str, planned: int, n: int) -> int:
        """How many rows to evaluate next."""
        grain = self.density.grain(planned)
        if grain is None:
            return n
        pace = self._pace.get(kind)
        return grain if pace is None else grain * max(1, int(PIECE_SECONDS / (pace * grain)))

    def _timed(
        self, kind: str, rows: np.ndarray, evaluate: Callable[[np.ndarray], list[np.ndarray]]
    ) -> list[np.ndarray]:
        began = time.perf_counter()
        found = evaluate(rows)
        self._pace[kind] = max(time.perf_counter() - began, 1e-9) / max(1, len(rows))
        return found

    def _answered(self, key: bytes, compute: Callable[[], list[Any]]) -> list[np.ndarray]:
        """Arrays from the journal, or computed; failures are booked as they were then."""
        answer = self.journal.recall(key, lambda: self._booked(compute))
        count, first = answer.note
        self.failures.add(count, first)
        return answer.arrays

    def _booked(self, compute: Callable[[], list[Any]]) -> Answer:
        """Arrays, and apart from those of before the failures on the way to them."""
        failures = self.failures
        before = failures.count, failures.first
        failures.clear()
        try:
            arrays = [np.asarray(array) for array in compute()]
            return Answer(arrays, [failures.count, failures.first])
        finally:
            failures.count, failures.first = before
