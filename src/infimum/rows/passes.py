"""Passes over all rows: the log-likelihood at many points, summed block by block.

One pass serves all points of a batch at once, so solvers that evaluate batches need few passes.
Memory holds a block, not the data. The devices of this process share each block, and processes add
up their sums.
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
from jaxtyping import Array, Float, PyTree

from infimum.base import processes
from infimum.base.program import BATCH, Structure, double_precision
from infimum.rows.blocks import Blocks, length
from infimum.rows.forms import form_of

BlockLikelihood = Callable[[Any, PyTree], Any]
"""(parameters side by side, rows) to the log-likelihood of these rows, one number."""

BLOCK_SET = 2**21
"""Bytes that the largest array of one block may take over the points of a batch. A logistic
regression of 50 columns took 60 to 75 ns a row and point in blocks of 4,096 to 16,384 rows (1 to
4 MB), 70 to 180 in blocks of 1,024, 62 to 78 in blocks of 65,536."""

BLOCK_BYTES = 2**24
"""Bytes of data that one block may have; three blocks are read ahead at most."""

PROBE_ROWS = 256
"""Rows for which a program is traced to work out the size of a block."""

NARROW_BATCH = 4
"""Points in a batch if there are no more, such as the chains of a sampler. Few widths are
compiled."""


class Passes:
    """Sums over rows of the log-likelihood at given points.

    Parameters
    ----------
    likelihood
        The log-likelihood of some rows.
    dim
        k, the length of a point.
    blocks
        The rows of this process.
    single
        Whether a block is computed in float32, which is faster on accelerators; sums over blocks
        are always float64.

    Attributes
    ----------
    n_rows
        N, over all processes.
    n_passes
        Passes made so far.
    """

    def __init__(
        self, likelihood: BlockLikelihood, dim: int, blocks: Blocks, single: bool = False
    ) -> None:
        self.likelihood, self.dim, self.blocks, self.single = likelihood, dim, blocks, single
        processes.agreed("the columns of the data", str(form_of(blocks.like)))
        self.n_rows = int(processes.total(lambda: np.full(1, float(blocks.n_rows)), (1,))[0])
        self.devices = jax.local_devices()
        self.n_passes = 0

    @functools.cached_property
    def row_set(self) -> float:
        """Bytes that one row adds to the largest array of the program, at one point."""
        n = min(PROBE_ROWS, self.n_rows)
        rows = jax.tree_util.tree_map(
            lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), self.blocks.like
        )
        with double_precision():
            point = jax.ShapeDtypeStruct((self.dim,), jnp.float64)
            closed = jax.make_jaxpr(jax.value_and_grad(self.likelihood))(point, rows)
        return Structure((), closed.jaxpr, None).largest / n

    @functools.cached_property
    def size(self) -> int:
        """Rows of a block."""
        fitting = BLOCK_SET / (BATCH * self.row_set)
        fitting = min(fitting, BLOCK_BYTES / max(1, self.blocks.row_bytes))
        per_device = 1 << max(0, int(np.log2(max(1.0, fitting))))
        return min(self.blocks.n_rows, per_device * len(self.devices))

    def value_and_gradient(self, x: Float[np.ndarray, "n k"]) -> tuple[np.ndarray, np.ndarray]:
        """Value (n,) and gradient (n, k) at each row of x, by one pass."""
        both = self._summed(self._gradient, x, self.dim + 1)
        return both[:, 0], both[:, 1:]

    def values(self, x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Value at each row of x, by one pass."""
        return self._summed(self._value, x, 1)[:, 0]

    def on(self, x: Float[np.ndarray, " k"], rows: PyTree) -> float:
        """Value at one point, on these rows alone."""
        with double_precision():
            value = self._value(np.zeros((1, 1)), x[None], self._rounded(rows))
        return float(np.asarray(value)[0, 0])

    def seconds(self, n: int, gradient: bool) -> float:
        """Seconds that a pass for n points is expected to take, measured on one block."""
        kernel = self._gradient if gradient else self._value
        block = next(iter(self.blocks.read(self.size)))
        rows = self._on_devices(block)
        points = np.zeros((BATCH, self.dim))
        sums = np.zeros((BATCH, self.dim + 1 if gradient else 1))
        with double_precision():
            jax.block_until_ready(kernel(sums, points, rows))  # compiles
            began = time.perf_counter()
            jax.block_until_ready(kernel(sums, points, rows))
        seconds = (time.perf_counter() - began) * self.blocks.n_rows / length(block)
        return seconds * -(-n // BATCH)

    def _summed(self, kernel: Callable[..., Array], x: np.ndarray, width: int) -> np.ndarray:
        """Sums over all rows at each row of x, shape (n, width)."""

        def own() -> np.ndarray:
            batches = _batches(x)
            sums: list[Any] = [np.zeros((len(points), width)) for points in batches]
            previous: list[Any] = sums
            for block in self.blocks.read(self.size):
                with double_precision():
                    rows = self._on_devices(block)
                    pairs = zip(sums, batches, strict=True)
                    previous, sums = sums, [kernel(part, points, rows) for part, points in pairs]
                # The device works on this block while the next one is read. Waiting for the
                # previous one keeps more than two blocks from piling up in memory.
                jax.block_until_ready(previous)
            return np.concatenate([np.asarray(part) for part in sums])[: len(x)]

        self.n_passes += 1
        if processes.count() > 1:
            processes.agreed("the points to evaluate", hashlib.blake2b(x.tobytes()).hexdigest())
        return processes.total(own, (len(x), width))

    def _on_devices(self, block: PyTree) -> PyTree:
        """A block on the device; spread over several devices if its rows divide by their number."""
        block = self._rounded(block)
        count = len(self.devices)
        if count == 1 or length(block) % count:
            return jax.tree_util.tree_map(jnp.asarray, block)
        mesh = jax.sharding.Mesh(np.array(self.devices), ("rows",))
        over_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
        return jax.device_put(block, over_rows)

    def _rounded(self, tree: PyTree) -> PyTree:
        """Arrays in the precision of a block's arithmetic."""

        def single(leaf: Any) -> Any:
            return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

        return jax.tree_util.tree_map(single, tree) if self.single else tree

    @functools.cached_property
    def _gradient(self) -> Callable[..., Array]:
        """(sums, points, rows) to the sums with value and gradient of these rows."""

        def add(total: Array, x: Array, rows: PyTree) -> Array:
            value, gradient = jax.value_and_grad(self.likelihood)(self._rounded(x), rows)
            return total + jnp.concatenate([value[None], gradient]).astype(jnp.float64)

        return jax.jit(jax.vmap(add, (0, 0, None)))

    @functools.cached_property
    def _value(self) -> Callable[..., Array]:
        """(sums, points, rows) to the sums with the value of these rows."""

        def add(total: Array, x: Array, rows: PyTree) -> Array:
            value: Array = self.likelihood(self._rounded(x), rows)
            return total + value[None].astype(jnp.float64)

        return jax.jit(jax.vmap(add, (0, 0, None)))


def _batches(x: np.ndarray) -> list[np.ndarray]:
    """Points in batches of one shape, filled up with the last point; a single point stays alone."""
    width = 1 if len(x) == 1 else NARROW_BATCH if len(x) <= NARROW_BATCH else BATCH
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % width, axis=0)])
    return np.split(padded, len(padded) // width)
