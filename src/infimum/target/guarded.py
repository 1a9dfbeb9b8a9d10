"""Guarded foreign code: a point at which it raises an error does not spoil its batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from infimum.base.errors import coded_error
from infimum.target.pointwise import PointCode

BatchFunction = Callable[[np.ndarray], tuple[Any, Any]]
"""(n, k) points to log p̂, shape (n,), and its gradient, shape (n, k)."""

Relay = Callable[[BatchFunction, np.ndarray], tuple[Any, Any]]
"""Calls such code for a compiled loop. A journal's relay looks whether it knows the answer."""


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
        """Forget what came before the work that is to be counted."""
        self.count, self.first = 0, None

    def note(self, error: Exception) -> None:
        """Count one point."""
        self.add(1, f"{type(error).__name__}: {error}".strip().rstrip(":"))

    def add(self, count: int, first: str | None) -> None:
        """Count points that failed after those that are counted already."""
        self.count += count
        self.first = self.first or first


class GuardedCode:
    """Foreign code that may raise: a point that fails does not spoil its batch.

    Parameters
    ----------
    function
        Value and gradient, shapes (n,) and (n, k), of a batch of points; None if there is no
        gradient.
    dim
        k, the length of a point.
    value
        Value alone of a batch, if that is cheaper.
    failed
        What log p̂ counts as at a point that raises: NaN, or -inf if an error means zero density.
    failures
        Where errors are counted.
    fatal
        Errors that are not those of a point, which end the work.
    pointwise
        How many points are evaluated at once by code that takes single points; 0 for code that
        takes batches.
    """

    def __init__(
        self,
        function: BatchFunction | None,
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
        self.held_back: BaseException | None = None
        self.pointwise = pointwise
        self._relay: Relay | None = None

    @classmethod
    def of_points(
        cls,
        function: Callable[[np.ndarray], Any] | None,
        dim: int,
        value: Callable[[np.ndarray], Any] | None = None,
        *,
        failed: float = np.nan,
        threads: int = 1,
    ) -> GuardedCode:
        """Code that takes one point at a time.

        Parameters
        ----------
        function, value
            Of one point: (log p̂, gradient), and log p̂ alone.
        threads
            How many points to evaluate at once, if the code lets go of Python's lock.
        """
        failures = Failures()
        points = PointCode(dim, failed, failures.note, threads)
        return cls(
            None if function is None else lambda x: points.pairs(function, x),
            dim,
            None if value is None else lambda x: points.values(value, x),
            failed=failed,
            failures=failures,
            pointwise=threads,
        )

    def reordered(self, order: np.ndarray) -> GuardedCode:
        """The same code of z, whose coordinate i is coordinate order[i] of the code's own."""
        if np.array_equal(order, np.arange(self.dim)):
            return self
        back = np.argsort(order)
        function, value = self.function, self.value

        def pair(z: np.ndarray) -> tuple[Any, Any]:
            assert function is not None
            log_p, gradient = function(np.take(z, back, axis=1))
            return log_p, np.take(gradient, order, axis=1)

        return GuardedCode(
            None if function is None else pair,
            self.dim,
            None if value is None else lambda z: value(np.take(z, back, axis=1)),
            failed=self.failed,
            failures=self.failures,
            pointwise=self.pointwise,
        )

    def through(self, relay: Relay) -> GuardedCode:
        """The same code; its answers to a compiled loop pass through `relay`."""
        relayed = copy.copy(self)
        relayed._relay = relay
        return relayed

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value (n,) and gradient (n, k) at each row of x (n, k), `failed` and NaN if it raises."""
        function = self.function
        if function is None:
            raise coded_error(
                TypeError,
                "E110",
                "this density has no gradient: take target.values, or give it one",
            )
        lost = np.full(1, self.failed), np.full((1, self.dim), np.nan)
        log_p, gradient = self._spare(function, x, lost)
        return np.asarray(log_p, np.float64), np.asarray(gradient, np.float64)

    def values(self, x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """log p̂ at each row."""
        value = self.value
        if value is None:
            return self(x)[0]
        alone = self._spare(
            lambda x: (np.asarray(value(x), np.float64),), x, (np.full(1, self.failed),)
        )
        log_p: np.ndarray = alone[0]
        return log_p

    def _spare(
        self,
        evaluate: Callable[[np.ndarray], tuple[Any, ...]],
        x: np.ndarray,
        lost: tuple[np.ndarray, ...],
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
            halves = [self._spare(evaluate, part, lost) for part in np.array_split(x, 2)]
            return tuple(map(np.concatenate, zip(*halves, strict=True)))

    def from_bits(self, bits: ArrayLike) -> np.ndarray:
        """The code as a compiled loop calls it, which can't be ended by an error.

        Numbers come and go as the bits of float64, in pairs of integers: the loop may call from a
        thread of its own, where JAX would round them to its default precision. After Ctrl-C, or
        another fatal error, the loop runs through NaN to its end, and `resume` raises the error.

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
        if self.held_back is None:
            try:
                log_p, gradient = self(x) if self._relay is None else self._relay(self, x)
                answer[:, 0], answer[:, 1:] = log_p, gradient
            except self.fatal as error:
                self.held_back = error
        return answer.view(np.uint32).reshape(*np.shape(bits)[:-2], self.dim + 1, 2)

    def resume(self) -> None:
        """Raise the error that a compiled loop has held back."""
        if self.held_back is not None:
            error, self.held_back = self.held_back, None
            raise error
