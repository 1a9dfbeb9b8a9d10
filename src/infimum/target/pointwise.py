"""Foreign code of one point, called for each row of a batch, several rows at once if it allows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float


class PointCode:
    """Fills the rows of a batch, and notes those that raise.

    Parameters
    ----------
    dim
        k, the length of a point.
    failed
        The value at a row that raises; its gradient is NaN.
    note
        Is told each error, in the order of the rows.
    threads
        How many rows to evaluate at once.
    """

    def __init__(
        self, dim: int, failed: float, note: Callable[[Exception], None], threads: int
    ) -> None:
        self.dim = dim
        self.failed = failed
        self.note = note
        self.threads = threads

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="infimum")

    def pairs(
        self, function: Callable[[np.ndarray], Any], x: Float[np.ndarray, "n k"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Value (n,) and gradient (n, k) at each row."""
        log_p, gradient = np.full(len(x), self.failed), np.full((len(x), self.dim), np.nan)

        def fill(i: int) -> None:
            # The gradient first: if it has the wrong shape, the value stays `failed` as well.
            value, gradient[i] = function(x[i])
            log_p[i] = value

        self._each(fill, len(x))
        return log_p, gradient

    def values(
        self, function: Callable[[np.ndarray], Any], x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, " n"]:
        """Value at each row."""
        log_p = np.full(len(x), self.failed)

        def fill(i: int) -> None:
            log_p[i] = function(x[i])

        self._each(fill, len(x))
        return log_p

    def _each(self, fill: Callable[[int], None], n: int) -> None:
        """Fill every row, each thread its own share of them, and note the errors."""

        def fill_some(rows: range) -> list[tuple[int, Exception]]:
            errors = []
            for i in rows:
                try:
                    fill(i)
                except Exception as error:  # whatever the user's own code raises
                    errors.append((i, error))
            return errors

        shares = min(self.threads, n)
        parts = [range(k, n, shares) for k in range(shares)]
        run = map if shares == 1 else self._pool.map
        errors = itertools.chain(*run(fill_some, parts))
        for _, error in sorted(errors, key=lambda pair: pair[0]):
            self.note(error)
