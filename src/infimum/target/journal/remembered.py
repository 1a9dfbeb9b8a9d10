"""A density seen through a journal: what is kept there is not evaluated again."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.base.program import Program
from infimum.target.density import Density, WrappedDensity
from infimum.target.guarded import BatchFunction, Relay
from infimum.target.journal.journal import Journal
from infimum.target.journal.records import Record, digest

PIECE_SECONDS = 0.5
"""Seconds of evaluations that are written down together: a kill loses no more than that, which is
the time between two saves of the journal's state."""


class RememberedDensity(WrappedDensity):
    """The same density, each answer read from the journal if it is kept there.

    A long batch is evaluated and written down in pieces, so that a kill costs one of them.
    """

    def __init__(self, density: Density, journal: Journal) -> None:
        super().__init__(density)
        self.journal = journal
        self._seconds_per_row: dict[str, float] = {}

    @property
    def program(self) -> Program:
        """log p̂ for compiled loops, which go through `recall` a chunk at a time.

        Within a chunk, what the loop asks of code outside JAX is remembered as well.
        """
        return self._relayed.program

    @functools.cached_property
    def _relayed(self) -> Density:
        def relay(code: BatchFunction, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_p, gradient = self._pieces("bridge", x, 0, lambda rows: list(code(rows)))
            return log_p, gradient

        return self.density.through(relay)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has held back."""
        self._relayed.resume()

    def grain(self, planned: int = 0) -> int | None:
        """The grain of the density: a journal changes no bit of an answer."""
        return self.density.grain(planned)

    def through(self, relay: Relay) -> Density:
        """The density itself through another relay, without this journal."""
        return self.density.through(relay)

    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row."""
        log_p, gradient = self._pieces("gradient", z, 0, lambda rows: list(self.density(rows)))
        return log_p, gradient

    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row, one of `planned` that will be asked for in all."""
        most = max(len(z), planned)
        return self._pieces("value", z, most, lambda rows: [self.density.values(rows, most)])[0]

    def recall(
        self,
        kind: str,
        question: Callable[[], PyTree],
        like: PyTree,
        compute: Callable[[], PyTree],
    ) -> PyTree:
        """Arrays that other work on the density gives, such as a chunk of a compiled loop.

        Parameters
        ----------
        kind, question
            A name, and a function to the pytree of all arrays that the answer depends on.
        like
            A pytree of the answer's structure.
        compute
            Gives the answer, a pytree of arrays.

        Returns
        -------
        The answer, with NumPy arrays.
        """
        structure = jax.tree_util.tree_structure(like)
        key = digest(kind, question())
        arrays = self._answer(key, lambda: jax.tree_util.tree_leaves(compute()))
        return jax.tree_util.tree_unflatten(structure, arrays)

    def _pieces(
        self,
        kind: str,
        z: np.ndarray,
        planned: int,
        evaluate: Callable[[np.ndarray], list[np.ndarray]],
    ) -> list[np.ndarray]:
        """The rows in pieces, each kept under a digest of all rows and of where it begins.

        How long a piece is depends on the clock, so a resumed run takes its length from what the
        journal gives, and cuts the rest by its own pace.
        """
        z = np.ascontiguousarray(z, np.float64)
        whole = digest(f"{kind} {planned}", z).hex()
        pieces: list[list[np.ndarray]] = []
        row = 0
        while row < len(z) or not pieces:
            rows = z[row : row + self._piece_length(kind, planned, len(z))]
            key = digest(f"{whole} {row}", ())
            pieces.append(self._answer(key, functools.partial(self._timed, kind, rows, evaluate)))
            row += len(pieces[-1][0])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _piece_length(self, kind: str, planned: int, n: int) -> int:
        """How many rows to evaluate next: one grain first, then what takes `PIECE_SECONDS`."""
        grain = self.density.grain(planned)
        if grain is None:
            return n
        pace = self._seconds_per_row.get(kind)
        return grain if pace is None else grain * max(1, int(PIECE_SECONDS / (pace * grain)))

    def _timed(
        self, kind: str, rows: np.ndarray, evaluate: Callable[[np.ndarray], list[np.ndarray]]
    ) -> list[np.ndarray]:
        began = time.perf_counter()
        arrays = evaluate(rows)
        seconds = max(time.perf_counter() - began, 1e-9)
        self._seconds_per_row[kind] = seconds / max(1, len(rows))
        return arrays

    def _answer(self, key: bytes, compute: Callable[[], list[Any]]) -> list[np.ndarray]:
        """Arrays from the journal, or computed; failures are counted as they were then."""
        record = self.journal.recall(key, lambda: self._recorded(compute))
        count, first = record.note
        self.failures.add(count, first)
        return record.arrays

    def _recorded(self, compute: Callable[[], list[Any]]) -> Record:
        """Arrays, with the failures on the way to them; earlier failures stay as they were."""
        failures = self.failures
        before = failures.count, failures.first
        failures.clear()
        try:
            arrays = [np.asarray(array) for array in compute()]
            return Record(arrays, [failures.count, failures.first])
        finally:
            failures.count, failures.first = before
