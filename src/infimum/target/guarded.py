"""TODO."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from infimum.base.errors import coded

Batched = Callable[[np.ndarray], tuple[Any, Any]]
"""(n, k) points to log p̂, shape (n,), and its gradient, shape (n, k)."""

See = Callable[[Batched, np.ndarray], tuple[Any, Any]]
"""What stands between such code and who calls it."""


@dataclass
class Failures:
    """Evaluations that raised an error.

    Attributes
    ----------
    count
        How many points.
    first
        What the first of them said.
    meaning
        What such a point counts as.
    """

    count: int = 0
    first: str | None = None
    meaning: str = "undefined"

    def clear(self) -> None:
        """Forget them: what came before the work."""
        self.count, self.first = 0, None

    def note(self, error: Exception) -> None:
        """Book one point."""
        self.add(1, f"{type(error).__name__}: {error}".strip().rstrip(":"))

    def add(self, count: int, first: str | None) -> None:
        """Book points that came after those of before."""
        self.count += count
        self.first = self.first or first


class Guarded:
    """Foreign code that may raise: a point that fails does not spoil its batch.

    Parameters
    ----------
    function
        Value and gradient, shapes (n,) and (n, k), of a batch of points; None where there is no
        gradient.
    dim
        k, the length of a point.
    value
        Value alone of a batch, where that is cheaper.
    failed
        What log p̂ counts as at a point that raises: NaN, or -inf where an error means zero
        density.
    failures
        Where errors are booked.
    fatal
        Errors that are not those of a point, which end the work.
    pointwise
        How many points are evaluated at once, where each is by itself whatever others are in its
        batch; 0 where the code takes batches.
    """

    def __init__(
        self,
        function: Batched | None,
        dim: int,
        value: Callable[[np.ndarray], Any] | None = None,
        *,
        failed: float = np.nan,
        failures: Failures | None = None,
        fatal: tuple[type[BaseException], ...] = (),
        pointwise: int = 0,
    ) -> None:
        self.function = function
        self.value = value
        self.dim = dim
        self.failed = failed
        self.fatal: tuple[type[BaseException], ...] = (KeyboardInterrupt, *fatal)
        self.failures = failures or Failures()
        self.failures.meaning = "zero density" if failed == -np.inf else "undefined"
        self.ended: BaseException | None = None
        self.pointwise = pointwise
        self._see: See | None = None

    @classmethod
    def of_points(
        cls,
        function: Callable[[np.ndarray], Any] | None,
        dim: int,
        value: Callable[[np.ndarray], Any] | None = None,
        *,
        failed: float = np.nan,
        threads: int = 1,
    ) -> Guarded:
        """Code that takes one point at a time.

        Parameters
        ----------
        function, value
            Of one point: (log p̂, gradient), and log p̂ alone.
        threads
            How many points to evaluate at once, where the code lets go of Python's lock.
        """
        failures = Failures()
        points = _Points(dim, failed, failures, threads)
        return cls(
            None if function is None else lambda x: points.pairs(function, x),
            dim,
            None if value is None else lambda x: points.values(value, x),
            failed=failed,
            failures=failures,
            pointwise=threads,
        )

    def reordered(self, order: np.ndarray) -> Guarded:
        """The same code of z, whose coordinate i is coordinate order[i] of the code's own."""
        if np.array_equal(order, np.arange(self.dim)):
            return self
        back = np.argsort(order)
        function, value = self.function, self.value

        def pair(z: np.ndarray) -> tuple[Any, Any]:
            assert function is not None
            log_p, gradient = function(np.take(z, back, axis=1))
            return log_p, np.take(gradient, order, axis=1)

        return Guarded(
            None if function is None else pair,
            self.dim,
            None if value is None else lambda z: value(np.take(z, back, axis=1)),
            failed=self.failed,
            failures=self.failures,
            pointwise=self.pointwise,
        )

    def through(self, see: See) -> Guarded:
        """The same code, whose answers to a compiled loop pass through `see`."""
        seen = copy.copy(self)
        seen._see = see
        return seen

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value and gradient at each row of x (n, k); rows that raise are told apart."""
        function = self.function
        if function is None:
            raise TypeError(
                coded("E110", "this density has no gradient: take target.values, or give it one")
            )
        lost = np.full(1, self.failed), np.full((1, self.dim), np.nan)
        log_p, gradient = self._spared(function, x, lost)
        return np.asarray(log_p, np.float64), np.asarray(gradient, np.float64)

    def values(self, x: np.ndarray) -> np.ndarray:
        """log p̂ at each row."""
        value = self.value
        if value is None:
            return self(x)[0]
        alone = self._spared(
            lambda x: (np.asarray(value(x), np.float64),), x, (np.full(1, self.failed),)
        )
        log_p: np.ndarray = alone[0]
        return log_p

    def _spared(
        self,
        evaluate: Callable[[np.ndarray], tuple[Any, ...]],
        x: np.ndarray,
        lost: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        """Evaluate a batch; if it raises, its halves, down to the rows that are `lost`."""
        try:
            return evaluate(x)
        except Exception as error:  # whatever the user's own code raises
            if isinstance(error, self.fatal):
                raise
            if len(x) == 1:
                self.failures.note(error)
                return lost
            halves = [self._spared(evaluate, part, lost) for part in np.array_split(x, 2)]
            return tuple(map(np.concatenate, zip(*halves, strict=True)))

    def from_bits(self, bits: Any) -> np.ndarray:
        """As a compiled loop calls it: Ctrl-C is kept, and the loop runs through NaN to its end.

        Numbers come and go as the bits of float64, in pairs of integers: the loop may call from a
        thread of its own, where JAX would round them to its default precision. What is fatal is
        kept as well.

        Parameters
        ----------
        bits
            Of x, shape (..., k, 2).

        Returns
        -------
        Bits of value and gradient side by side, shape (..., k + 1, 2).
        """
        x = np.ascontiguousarray(bits).view(np.float64).reshape(-1, self.dim)
        answer = np.full((len(x), self.dim + 1), np.nan)
        if self.ended is None:
            try:
                found = self(x) if self._see is None else self._see(self, x)
                answer[:, 0], answer[:, 1:] = found
            except self.fatal as error:
                self.ended = error
        return answer.view(np.uint32).reshape(*np.shape(bits)[:-2], self.dim + 1, 2)

    def resume(self) -> None:
        """Raise what a compiled loop has kept."""
        if self.ended is not None:
            error, self.ended = self.ended, None
            raise error


class _Points:
    """Code of one point over the rows of a batch, several rows at once if it allows."""

    def __init__(self, dim: int, failed: float, failures: Failures, threads: int) -> None:
        self.dim = dim
        self.failed = failed
        self.failures = failures
        self.threads = threads

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="infimum")

    def pairs(self, function: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
        """Value and gradient at each row."""
        log_p, gradient = np.full(len(x), self.failed), np.full((len(x), self.dim), np.nan)

        def one(i: int) -> None:
            value, gradient[i] = function(x[i])
            log_p[i] = value

        self._each(one, len(x))
        return log_p, gradient

    def values(self, function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
        """Value at each row."""
        log_p = np.full(len(x), self.failed)

        def one(i: int) -> None:
            log_p[i] = function(x[i])

        self._each(one, len(x))
        return log_p

    def _each(self, one: Callable[[int], None], n: int) -> None:
        """Fill every row, and book those that raise."""

        def some(rows: range) -> list[tuple[int, Exception]]:
            trouble = []
            for i in rows:
                try:
                    one(i)
                except Exception as error:  # whatever the user's own code raises
                    trouble.append((i, error))
            return trouble

        shares = min(self.threads, n)
        parts = [range(k, n, shares) for k in range(shares)]
        told = map(some, parts) if shares == 1 else self._pool.map(some, parts)
        for _, error in sorted(itertools.chain(*told), key=lambda trouble: trouble[0]):
            self.failures.note(error)
