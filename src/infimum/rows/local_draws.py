"""Draws of the local variables of rows, given draws of the parameters, a block at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from infimum.base import processes
from infimum.base.errors import coded_error
from infimum.base.program import BATCH, double_precision
from infimum.rows.blocks import Blocks, length, rows_of
from infimum.rows.local_samplers import GRID_CELLS, PROPOSALS, by_inversion, by_resampling
from infimum.rows.local_variables import LocalVariables
from infimum.rows.readers import blocks_of
from infimum.target.bijection import Bijection

DRAW_SET = 2**24
"""Bytes that the largest array of a block may take when local variables are drawn."""


class LocalDraws:
    """Draws of the local variables of rows, whose number is not limited by memory.

    Parameters
    ----------
    local
        The variables of one row.
    space
        What the parameters are.
    blocks
        The rows of this process.
    """

    def __init__(self, local: LocalVariables, space: Bijection, blocks: Blocks) -> None:
        self.local, self.space, self.blocks = local, space, blocks

    @property
    def block_size(self) -> int:
        """Rows of a block in which local variables are drawn."""
        k = self.local.k
        numbers = GRID_CELLS + 1 if k == 1 else k * max(k, PROPOSALS)
        return max(1, DRAW_SET // (8 * BATCH * numbers))

    def iterate(
        self, draws: PyTree, rows: Any, seed: int
    ) -> Iterator[tuple[int, PyTree[np.ndarray]]]:
        """Check the arguments of `Rows.locals`, and yield what it yields."""
        x = self._side_by_side(draws)
        numbers = self._row_numbers(rows)
        return self._blocks_of_draws(x, numbers, seed)

    def _blocks_of_draws(
        self, x: Float[np.ndarray, "n k"], numbers: np.ndarray | None, seed: int
    ) -> Iterator[tuple[int, PyTree[np.ndarray]]]:
        blocks, start = self.blocks, 0
        if numbers is not None:
            blocks = blocks_of(self.blocks.take(numbers), len(numbers))
        with double_precision():
            params = jax.vmap(self.space.unflatten)(jnp.asarray(x))
        for block in blocks.read(self.block_size):
            places = np.arange(start, start + length(block))
            own_numbers = places if numbers is None else numbers[places]
            yield start, self.draw(params, block, own_numbers, seed, processes.rank())
            start += len(places)

    def _side_by_side(self, draws: PyTree) -> Float[np.ndarray, "n k"]:
        """Draws of the parameters as rows of numbers."""
        parameters = self.space.parameters
        leaves = [np.asarray(x, np.float64) for x in jax.tree_util.tree_leaves(draws)]
        n = len(leaves[0]) if leaves and leaves[0].ndim else 0
        fitting = [x.shape == (n, *p.shape) for x, p in zip(leaves, parameters, strict=False)]
        same = jax.tree_util.tree_structure(draws) == self.space.structure
        if not same or not all(fitting) or n == 0:
            shapes = jax.tree_util.tree_map(np.shape, draws)
            raise coded_error(
                ValueError,
                "E411",
                f"draws have shapes {shapes}, expected those of the parameters, "
                f"{self.space.names}, with one leading axis: give fit.sample(n)",
            )
        return np.concatenate([x.reshape(n, -1) for x in leaves], axis=1)

    def _row_numbers(self, rows: Any) -> Int[np.ndarray, " m"] | None:
        """The numbers of the rows that are asked for; None for all rows."""
        if rows is None:
            return None
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
            raise coded_error(
                ValueError, "E532", f"rows are {rows!r}, expected numbers of rows, such as [0, 3]"
            )
        if (np.diff(numbers) <= 0).any() or numbers[0] < 0 or numbers[-1] >= self.blocks.n_rows:
            raise coded_error(
                ValueError,
                "E532",
                f"rows must ascend, between 0 and {self.blocks.n_rows - 1:,}: they are {rows!r}",
            )
        return numbers

    def draw(
        self, params: PyTree, rows: PyTree, numbers: Int[np.ndarray, " m"], seed: int, stream: int
    ) -> PyTree:
        """A draw of every row's local variables for each draw of the parameters.

        Parameters
        ----------
        params
            Pytree of arrays with leading axis n.
        rows
            A block of m rows.
        numbers
            The numbers of its rows, shape (m,): the draws of a row depend on its number, and not
            on the block it is in.
        seed, stream
            Of the random numbers.

        Returns
        -------
        Pytree of arrays with leading axes n and m.
        """
        n = length(params)
        parts = []
        with double_precision():
            key = jax.random.fold_in(jax.random.key(seed), stream)
            rows, numbers = jax.tree_util.tree_map(jnp.asarray, (rows, numbers))
            width = min(BATCH, n)
            for start in range(0, n, width):
                order = np.arange(start, start + width)
                some = rows_of(params, np.minimum(order, n - 1))
                parts.append(np.asarray(self._program(some, rows, numbers, order, key)))
        u = np.concatenate(parts)[:n]
        return self._as_tree(u)

    def _as_tree(self, u: Float[np.ndarray, "n m k"]) -> PyTree[np.ndarray]:
        """Local variables from their values side by side."""
        leaves, start = [], 0
        for parameter in self.local.space.parameters:
            cut = u[..., start : start + parameter.size]
            leaves.append(cut.reshape(*u.shape[:2], *parameter.shape))
            start += parameter.size
        return jax.tree_util.tree_unflatten(self.local.space.structure, leaves)

    @functools.cached_property
    def _program(self) -> Callable[..., Array]:
        """Draws for one batch of parameters, shape (batch, m, k)."""
        local = self.local
        draw = by_inversion if local.k == 1 else by_resampling

        def one(params: PyTree, rows: PyTree, numbers: Array, order: Array, key: Array) -> Array:
            log_p = local.integrand(params, rows)
            mode, factor = local.modes(log_p, rows)
            # A stream of its own for each row number and draw, whatever block or batch they are in.
            own = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), order))
            return draw(log_p, mode, factor, own(numbers))

        return jax.jit(jax.vmap(one, (0, None, None, 0, None)))
