"""TODO."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from infimum.base import processes
from infimum.base.errors import coded
from infimum.base.program import BATCH, NARROW_SET, Program, double_precision
from infimum.rows.blocks import DataError
from infimum.rows.local_variables import Locals
from infimum.rows.passes import Passes, survey
from infimum.rows.readers import blocks_of
from infimum.target.bijection import Bijection
from infimum.target.foreign import ForeignDensity
from infimum.target.guarded import GuardedCode

SAMPLE = 1000
"""Rows on which it is checked that the likelihood is a sum over rows."""

ROUNDED = 0.05
"""Nats by which float32 may change differences of log p̂: what a climb takes for near enough."""

TRIED = 2
"""Points besides the start at which it is: where parameters are zero, rows may not matter."""


class Sums:
    """Prior and likelihood of the parameters in a row, over rows in blocks."""

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
        self.n_free = sum(int(np.prod(p.shape)) for p in space.parameters)
        self.blocks = blocks_of(data, n_rows)
        self.passes = Passes(self.term, self.n_free, self.blocks, single)

    def term(self, x: Any, rows: PyTree) -> Any:
        """The log-likelihood of some rows."""
        try:
            value = self.log_likelihood(self.space.unflatten(x), rows)
        except Exception as error:  # whatever the user's own code raises
            shapes = jax.tree_util.tree_map(lambda leaf: leaf.shape, rows)
            raise ValueError(
                coded(
                    "E520",
                    f"log_likelihood raised {type(error).__name__}: {error}\nwhen called with rows "
                    f"of shapes {shapes}. Their first axis is the rows, of which it may be given "
                    "any number; structure and dtypes are those of the data",
                )
            ) from error
        if jnp.shape(value) != ():
            raise ValueError(
                coded(
                    "E521",
                    "log_likelihood must return a scalar, it returned an array of shape "
                    f"{jnp.shape(value)}: sum over the rows, with .sum()",
                )
            )
        return jnp.asarray(value)

    def whole(self, params: PyTree) -> Any:
        """log p̂ of the parameters, all rows in one program."""
        return self.log_prior(params) + self.log_likelihood(params, self._all)

    @functools.cached_property
    def _all(self) -> PyTree:
        rows = self.blocks.take(np.arange(self.blocks.n_rows))
        with double_precision():
            return jax.tree_util.tree_map(jnp.asarray, rows)

    def way(self) -> str:
        """By size."""
        n = self.passes.n_rows
        together = n * self.passes.row_set <= NARROW_SET * BATCH
        if n >= PAYING * self.n_part:
            return "minibatch"
        return "whole" if processes.count() == 1 and together else "blocks"

    @property
    def n_part(self) -> int:
        """Rows of a part that stands for all."""
        wanted = max(FEWEST_ROWS, ROWS_A_PARAMETER * self.space.dim)
        largest = PART_BYTES // max(1, self.blocks.row_bytes)
        return int(min(self.passes.n_rows, wanted, max(1, largest)))

    def streamed(self) -> ForeignDensity:
        """log p̂ by passes."""
        prior = Program(jax.value_and_grad(self._prior), self.n_free)

        def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_prior, slope = prior(x)
            log_likelihood, gradient = self.passes.value_and_gradient(x)
            return log_prior + log_likelihood, slope + gradient

        def value(x: np.ndarray) -> np.ndarray:
            return np.asarray(prior(x)[0] + self.passes.values(x))

        fatal = (DataError, processes.PeerError, OSError, MemoryError)
        return ForeignDensity(GuardedCode(both, self.n_free, value, fatal=fatal), self.space)

    def _prior(self, x: Any) -> Any:
        return jnp.asarray(self.log_prior(self.space.unflatten(x)), jnp.float64)

    def part(self, rng: np.random.Generator) -> tuple[PyTree, float]:
        """Some rows at random, the same in every process, and how many rows each stands for."""
        n, m = self.passes.n_rows, self.n_part
        index = np.sort(rng.choice(n, m, replace=False, shuffle=False))
        counts = processes.gathered(np.array([self.blocks.n_rows]))[:, 0]
        before = int(counts[: processes.rank()].sum())
        own = index[(index >= before) & (index < before + self.blocks.n_rows)] - before
        return _from_all(self.blocks.take(own), len(own)), n / m

    # ---- local variables ----

    def in_a_row(self, draws: PyTree) -> np.ndarray:
        """Draws of the parameters as rows of numbers, shape (n, k)."""
        own = self.space.parameters
        leaves = [np.asarray(x, np.float64) for x in jax.tree_util.tree_leaves(draws)]
        wanted = self.space.structure
        n = len(leaves[0]) if leaves and leaves[0].ndim else 0
        fitting = [x.shape == (n, *p.shape) for x, p in zip(leaves, own, strict=False)]
        if jax.tree_util.tree_structure(draws) != wanted or not all(fitting) or n == 0:
            shapes = jax.tree_util.tree_map(np.shape, draws)
            raise ValueError(
                coded(
                    "E411",
                    f"draws have shapes {shapes}, expected those of the parameters, "
                    f"{self.space.names}, with one leading axis: give fit.sample(n)",
                )
            )
        return np.concatenate([x.reshape(n, -1) for x in leaves], axis=1)

    def numbers(self, rows: Any) -> np.ndarray | None:
        """Numbers of some rows, if they are such."""
        if rows is None:
            return None
        numbers = np.asarray(rows)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
            raise ValueError(
                coded("E532", f"rows are {rows!r}, expected numbers of rows, such as [0, 3]")
            )
        if (np.diff(numbers) <= 0).any() or numbers[0] < 0 or numbers[-1] >= self.blocks.n_rows:
            raise ValueError(
                coded(
                    "E532",
                    f"rows must ascend, between 0 and {self.blocks.n_rows - 1:,}: they are "
                    f"{rows!r}",
                )
            )
        return numbers

    def drawn(
        self, local: Locals, x: np.ndarray, numbers: np.ndarray | None, seed: int
    ) -> Iterator[tuple[int, PyTree]]:
        """Blocks of local variables, each with the place of its first row."""
        size, start = local.block, 0
        blocks = self.blocks
        if numbers is not None:
            blocks = blocks_of(self.blocks.take(numbers), len(numbers))
        with double_precision():
            params = jax.vmap(self.space.unflatten)(jnp.asarray(x))
        for block in blocks.read(size):
            n = len(jax.tree_util.tree_leaves(block)[0])
            called = np.arange(start, start + n)
            called = called if numbers is None else numbers[called]
            yield start, local.draws(params, block, called, seed, processes.rank())
            start += n

    # ---- checks ----

    def check(self, z: np.ndarray | None, local: Locals | None) -> None:
        """Refuse a likelihood that is no sum over rows, or undefined on one of them."""
        z = np.zeros(self.space.dim) if z is None else z
        around = z + np.random.default_rng(0).uniform(-1, 1, (TRIED, len(z)))
        with double_precision():
            constrain = jax.jit(lambda z: jax.tree_util.tree_leaves(self.space.constrain(z)[0]))
            x, *others = (
                np.concatenate([np.ravel(leaf) for leaf in constrain(point)])
                for point in (z, *around)
            )
        if local is None:
            self._check_sum([x, *others])
        else:
            rows = self.blocks.take(np.arange(min(local.checked, self.blocks.n_rows)))
            with double_precision():
                rows = jax.tree_util.tree_map(jnp.asarray, rows)
                local.check(self.space.unflatten(jnp.asarray(x)), rows)
        survey(self.passes, x, self.space.describe(z))
        if self.passes.single:
            self._check_rounding(x, others[0])

    def _check_sum(self, points: list[np.ndarray]) -> None:
        """Sums over two parts against the whole, on some rows: the first where they are on disk."""
        n = min(SAMPLE, self.blocks.n_rows)
        if n < 2:
            return
        last = self.blocks.n_rows if self.blocks.where == "in memory" else n
        rows = self.blocks.take(np.linspace(0, last - 1, n).astype(int))
        cut = (n + 2) // 3
        first = jax.tree_util.tree_map(lambda leaf: leaf[:cut], rows)
        second = jax.tree_util.tree_map(lambda leaf: leaf[cut:], rows)
        for point in points:
            together = self.passes.on(point, rows)
            apart = self.passes.on(point, first), self.passes.on(point, second)
            if not np.isfinite([together, *apart]).all():
                continue
            if abs(together - sum(apart)) > AGREE * (abs(apart[0]) + abs(apart[1])):
                raise ValueError(
                    coded(
                        "E523",
                        "log_likelihood is not a sum over rows: "
                        f"{cut} rows give {apart[0]:.6g}, {n - cut} others {apart[1]:.6g}, and all "
                        f"{n} together {together:.6g}, not {sum(apart):.6g}. Sum over the rows, do "
                        "not average; what does not depend on rows belongs into log_prior; rows "
                        "that depend on each other can't be used one block at a time",
                    )
                )

    def _check_rounding(self, x: np.ndarray, other: np.ndarray) -> None:
        """Warn if float32 blocks make more of an error than a fit may have."""
        rows = self.blocks.take(np.arange(min(self.blocks.n_rows, self.passes.size)))
        exact = Passes(self.term, self.n_free, self.blocks)
        both = [p.on(x, rows) - p.on(other, rows) for p in (self.passes, exact)]
        off = abs(both[0] - both[1]) * np.sqrt(self.passes.n_rows / self.passes.size)
        if off > ROUNDED:
            warnings.warn(
                coded(
                    "W102",
                    f"in float32 differences of log p̂ are off by about {off:.2g} nats over "
                    f'{self.passes.n_rows:,} rows: give precision="float64", or centre and scale '
                    "the data",
                ),
                stacklevel=5,
            )


def _from_all(rows: PyTree, m: int) -> PyTree:
    """The rows that every process has drawn, one after another."""
    if processes.count() == 1:
        return rows
    counts = processes.gathered(np.array([m]))[:, 0]
    most = int(counts.max())

    def joined(leaf: np.ndarray) -> np.ndarray:
        padded = np.concatenate([leaf, np.zeros((most - m, *leaf.shape[1:]), leaf.dtype)])
        every = processes.gathered(padded)
        return np.concatenate([x[:k] for x, k in zip(every, counts, strict=True)])

    return jax.tree_util.tree_map(joined, rows)


FEWEST_ROWS = 16_384


ROWS_A_PARAMETER = 64
"""Rows of a part that stands for all: at least the one, and the other for each coordinate, so that
its curvature is within an eighth of that of all rows."""


PART_BYTES = 2**28
"""Bytes that this part may take, a quarter of a gigabyte."""


PAYING = 2
"""Times that all rows must be more than those of a part for it to be worth while. Of a logistic
regression with 35,000 rows of 50 columns, 2.1 times the part, a fit by parts took 0.6 of the
seconds of one on all rows; with 70,000 rows, and with 60,000 of 3 columns, it took half."""


AGREE = 1e-6
"""Relative error of that sum, in double precision and in float32."""
