"""Passes over all rows: log p̂ and its gradient at many points, summed block by block.

One pass serves every point that is asked for at once, which is why solvers that evaluate batches
need few of them. Memory holds a block, not the data. Blocks are shared out among the devices of
this process, and sums among processes.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from infimum.base import processes
from infimum.base.errors import coded
from infimum.base.program import BATCH, Structure, double_precision
from infimum.rows.blocks import Blocks, DataError

Term = Callable[[Any, PyTree], Any]
"""(parameters in a row, rows) to their log-likelihood, a scalar summed over the rows."""

BLOCK_SET = 2**21
"""Bytes that the largest array of one block may take over the points of a batch. A logistic
regression of 50 columns took 60 to 75 ns a row and point in blocks of 4,096 to 16,384 rows (1 to
4 MB), 70 to 180 in blocks of 1,024, 62 to 78 in blocks of 65,536."""

BLOCK_BYTES = 2**24
"""Bytes of data that one block may have: what is read ahead is three times as much."""

PROBE = 256
"""Rows on which the size of a block is worked out."""


class Passes:
    """Sums over rows of a function of a point.

    Parameters
    ----------
    term
        Its value on some rows.
    dim
        k, the length of a point.
    blocks
        The rows of this process.
    single
        Whether a block is computed in float32, as accelerators like it; sums over blocks are
        float64 always.
    """

    def __init__(self, term: Term, dim: int, blocks: Blocks, single: bool = False) -> None:
        self.term, self.dim, self.blocks, self.single = term, dim, blocks, single
        processes.agreed("the columns of the data", _forms(blocks.like))
        self.n_rows = int(processes.total(lambda: np.full(1, float(blocks.n_rows)), (1,))[0])
        self.devices = jax.local_devices()
        self.n_passes = 0

    @functools.cached_property
    def row_set(self) -> float:
        """Bytes of the largest array that a row of the data adds to at one point."""
        n = min(PROBE, self.n_rows)
        rows = jax.tree_util.tree_map(
            lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), self.blocks.like
        )
        with double_precision():
            point = jax.ShapeDtypeStruct((self.dim,), jnp.float64)
            closed = jax.make_jaxpr(jax.value_and_grad(self.term))(point, rows)
        return Structure((), closed.jaxpr, None).largest / n

    @functools.cached_property
    def size(self) -> int:
        """Rows of a block."""
        fitting = BLOCK_SET / (BATCH * self.row_set)
        fitting = min(fitting, BLOCK_BYTES / max(1, self.blocks.row_bytes))
        per_device = 1 << max(0, int(np.log2(max(1.0, fitting))))
        return min(self.blocks.n_rows, per_device * len(self.devices))

    def value_and_gradient(self, x: Float[np.ndarray, "n k"]) -> tuple[np.ndarray, np.ndarray]:
        """Value and gradient at each row of x, by one pass."""
        both = self._summed(self._gradient, x, self.dim + 1)
        return both[:, 0], both[:, 1:]

    def values(self, x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Value at each row of x, by one pass."""
        return self._summed(self._value, x, 1)[:, 0]

    def on(self, x: Float[np.ndarray, " k"], rows: PyTree) -> float:
        """Value at one point on these rows alone."""
        with double_precision():
            added = self._value(np.zeros((1, 1)), x[None], self._rounded(rows))
        return float(np.asarray(added)[0, 0])

    def seconds(self, n: int, gradient: bool) -> float:
        """What a pass for n points is expected to take, from one block of this process."""
        kernel = self._gradient if gradient else self._value
        block = next(iter(self.blocks.read(self.size)))
        rows, count = self._placed(block), len(jax.tree_util.tree_leaves(block)[0])
        points = np.zeros((BATCH, self.dim))
        sums = np.zeros((BATCH, self.dim + 1 if gradient else 1))
        with double_precision():
            jax.block_until_ready(kernel(sums, points, rows))  # compiles
            began = time.perf_counter()
            jax.block_until_ready(kernel(sums, points, rows))
        each = (time.perf_counter() - began) * self.blocks.n_rows / count
        return each * -(-n // BATCH)

    def _summed(self, kernel: Any, x: np.ndarray, width: int) -> np.ndarray:
        """Sums over all rows; the device works on one block while the next one is on its way."""

        def own() -> np.ndarray:
            batches = _batches(x)
            sums: list[Any] = [np.zeros((len(points), width)) for points in batches]
            before: list[Any] = sums
            for block in self.blocks.read(self.size):
                with double_precision():
                    rows = self._placed(block)
                    pairs = zip(sums, batches, strict=True)
                    before, sums = sums, [kernel(known, points, rows) for known, points in pairs]
                jax.block_until_ready(before)  # no more blocks are held than these
            return np.concatenate([np.asarray(part) for part in sums])[: len(x)]

        self.n_passes += 1
        if processes.count() > 1:
            processes.agreed("the points to evaluate", hashlib.blake2b(x.tobytes()).hexdigest())
        return processes.total(own, (len(x), width))

    def _placed(self, block: PyTree) -> PyTree:
        """On the device; over all devices if there are several and the rows divide."""
        block = self._rounded(block)
        count = len(self.devices)
        n = len(jax.tree_util.tree_leaves(block)[0])
        if count == 1 or n % count:
            return jax.tree_util.tree_map(jnp.asarray, block)
        mesh = jax.sharding.Mesh(np.array(self.devices), ("rows",))
        over_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
        return jax.device_put(block, over_rows)

    def _rounded(self, tree: PyTree) -> PyTree:
        """In the precision of a block's arithmetic."""

        def rounded(leaf: Any) -> Any:
            return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

        return jax.tree_util.tree_map(rounded, tree) if self.single else tree

    @functools.cached_property
    def _gradient(self) -> Any:
        def both(known: Any, x: Any, rows: PyTree) -> Any:
            value, gradient = jax.value_and_grad(self.term)(self._rounded(x), rows)
            return known + jnp.concatenate([value[None], gradient]).astype(jnp.float64)

        return jax.jit(jax.vmap(both, (0, 0, None)))

    @functools.cached_property
    def _value(self) -> Any:
        def value(known: Any, x: Any, rows: PyTree) -> Any:
            return known + self.term(self._rounded(x), rows)[None].astype(jnp.float64)

        return jax.jit(jax.vmap(value, (0, 0, None)))


NARROW = 4
"""Points in a batch where there are no more: the chains of a sampler. Few widths are compiled."""


def _batches(x: np.ndarray) -> list[np.ndarray]:
    """Points in batches of one compiled shape, the last one repeated; a single point alone."""
    width = 1 if len(x) == 1 else NARROW if len(x) <= NARROW else BATCH
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % width, axis=0)])
    return np.split(padded, len(padded) // width)


def _forms(like: PyTree) -> str:
    return str(jax.tree_util.tree_map(lambda x: f"{x.dtype}{list(x.shape[1:])}", like))


def survey(passes: Passes, x: Float[np.ndarray, " k"], where: str) -> float:
    """The log-likelihood at one point, block by block: every row is seen once.

    Raises
    ------
    DataError
        If it is undefined on a row, with the row's number; or as the blocks do.
    """

    def own() -> np.ndarray:
        total, start = 0.0, 0
        for block in passes.blocks.read(passes.size):
            value = passes.on(x, block)
            if np.isnan(value):
                row = start + _undefined(passes, x, block)
                raise DataError(
                    coded(
                        "E525",
                        f"row {row:,} of the data has an undefined log-likelihood (NaN) at "
                        f"{where}: it is {_shown(block, row - start)}. Leave such rows out, or "
                        "write the log-likelihood so that it is defined there",
                    )
                )
            total += value
            start += len(jax.tree_util.tree_leaves(block)[0])
        return np.full(1, total)

    passes.n_passes += 1
    return float(processes.total(own, (1,))[0])


def _undefined(passes: Passes, x: np.ndarray, block: PyTree) -> int:
    """The first row whose own log-likelihood is NaN; by halves."""
    first, last = 0, len(jax.tree_util.tree_leaves(block)[0])
    while last - first > 1:
        middle = (first + last) // 2
        part = jax.tree_util.tree_map(lambda leaf: leaf[first:middle], block)  # noqa: B023
        if np.isnan(passes.on(x, part)):
            last = middle
        else:
            first = middle
    return first


def _shown(block: PyTree, row: int) -> str:
    one = jax.tree_util.tree_map(lambda leaf: np.asarray(leaf[row]).tolist(), block)
    text = str(one)
    return text if len(text) <= 200 else text[:200] + " …"
