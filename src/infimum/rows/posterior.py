"""log p̂ of many rows: a prior, plus a likelihood that is summed over rows in blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base import processes
from infimum.base.errors import coded_error
from infimum.base.program import BATCH, NARROW_SET, Program, double_precision
from infimum.rows.blocks import DataError
from infimum.rows.passes import Passes
from infimum.rows.readers import blocks_of
from infimum.target.bijection import Bijection
from infimum.target.foreign import ForeignDensity
from infimum.target.guarded import GuardedCode

FEWEST_ROWS = 16_384
"""Fewest rows of a part that stands for all."""

ROWS_PER_COORDINATE = 64
"""Fewest rows of this part for each coordinate: its curvature is then within an eighth of that of
all rows."""

PART_BYTES = 2**28
"""Bytes that this part may take, a quarter of a gigabyte."""

PAYING_RATIO = 2
"""How many times the rows of a part all rows must be, for the part to pay. A logistic regression
with 35,000 rows of 50 columns has 2.1 times the part: a fit by parts took 0.6 of the seconds of one
on all rows. With 70,000 rows, and with 60,000 of 3 columns, it took half."""


class RowPosterior:
    """log p̂ = log prior + Σ_n log p(x_n | params), the rows in blocks.

    Parameters
    ----------
    space
        What z means.
    log_prior, log_likelihood, data, n_rows
        As for `Rows`.
    single
        Whether a block is computed in float32.

    Attributes
    ----------
    n_flat
        k, the length of the parameters side by side.
    blocks
        The rows of this process.
    passes
        Sums over all rows.
    """

    def __init__(
        self,
        space: Bijection,
        log_prior: Callable[[PyTree], Any],
        log_likelihood: Callable[[PyTree, PyTree], Any],
        data: Any,
        n_rows: int | None,
        single: bool,
    ) -> None:
        self.space, self.log_prior, self.log_likelihood = space, log_prior, log_likelihood
        self.n_flat = sum(int(np.prod(p.shape)) for p in space.parameters)
        self.blocks = blocks_of(data, n_rows)
        self.passes = Passes(self.block_likelihood, self.n_flat, self.blocks, single)

    def block_likelihood(self, x: Float[Array, " k"], rows: PyTree) -> Float[Array, ""]:
        """The log-likelihood of some rows, with errors that say what to change."""
        try:
            value = self.log_likelihood(self.space.unflatten(x), rows)
        except Exception as error:  # whatever the user's own code raises
            shapes = jax.tree_util.tree_map(lambda leaf: leaf.shape, rows)
            raise coded_error(
                ValueError,
                "E520",
                f"log_likelihood raised {type(error).__name__}: {error}\nwhen called with rows "
                f"of shapes {shapes}. Their first axis is the rows, of which it may be given "
                "any number; structure and dtypes are those of the data",
            ) from error
        if jnp.shape(value) != ():
            raise coded_error(
                ValueError,
                "E521",
                "log_likelihood must return a scalar, it returned an array of shape "
                f"{jnp.shape(value)}: sum over the rows, with .sum()",
            )
        return jnp.asarray(value)

    def whole(self, params: PyTree) -> Any:
        """log p̂ of the parameters, with all rows in one program."""
        return self.log_prior(params) + self.log_likelihood(params, self._all_rows)

    @functools.cached_property
    def _all_rows(self) -> PyTree[Array]:
        rows = self.blocks.take(np.arange(self.blocks.n_rows))
        with double_precision():
            return jax.tree_util.tree_map(jnp.asarray, rows)

    def streamed(self) -> ForeignDensity:
        """log p̂ by passes over the rows."""
        prior = Program(jax.value_and_grad(self._flat_prior), self.n_flat)

        def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_prior, slope = prior(x)
            log_likelihood, gradient = self.passes.value_and_gradient(x)
            return log_prior + log_likelihood, slope + gradient

        def value(x: np.ndarray) -> np.ndarray:
            return np.asarray(prior(x)[0] + self.passes.values(x))

        fatal = (DataError, processes.PeerError, OSError, MemoryError)
        code = GuardedCode(both, self.n_flat, value, fatal=fatal)
        return ForeignDensity(code, self.space)

    def _flat_prior(self, x: Float[Array, " k"]) -> Float[Array, ""]:
        return jnp.asarray(self.log_prior(self.space.unflatten(x)), jnp.float64)

    def way(self) -> str:
        """The way of `Rows` that suits this number of rows."""
        n = self.passes.n_rows
        if n >= PAYING_RATIO * self.n_part:
            return "minibatch"
        together = n * self.passes.row_set <= NARROW_SET * BATCH
        return "whole" if processes.count() == 1 and together else "blocks"

    @property
    def n_part(self) -> int:
        """Rows of a part that stands for all."""
        n = max(FEWEST_ROWS, ROWS_PER_COORDINATE * self.space.dim)
        largest = PART_BYTES // max(1, self.blocks.row_bytes)
        return int(min(self.passes.n_rows, n, max(1, largest)))

    def part(self, rng: np.random.Generator) -> tuple[PyTree[np.ndarray], float]:
        """Some random rows, the same in every process, and how many rows each stands for."""
        n, m = self.passes.n_rows, self.n_part
        index = np.sort(rng.choice(n, m, replace=False, shuffle=False))
        counts = processes.gathered(np.array([self.blocks.n_rows]))[:, 0]
        before = int(counts[: processes.rank()].sum())
        own = index[(index >= before) & (index < before + self.blocks.n_rows)] - before
        return _of_all_processes(self.blocks.take(own), len(own)), n / m


def _of_all_processes(rows: PyTree[np.ndarray], m: int) -> PyTree[np.ndarray]:
    """The m rows that each process has drawn, one process after another."""
    if processes.count() == 1:
        return rows
    counts = processes.gathered(np.array([m]))[:, 0]
    most = int(counts.max())

    def join(leaf: np.ndarray) -> np.ndarray:
        # Processes exchange arrays of one shape only.
        padded = np.concatenate([leaf, np.zeros((most - m, *leaf.shape[1:]), leaf.dtype)])
        every = processes.gathered(padded)
        return np.concatenate([x[:k] for x, k in zip(every, counts, strict=True)])

    return jax.tree_util.tree_map(join, rows)
