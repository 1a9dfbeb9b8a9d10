"""Checks of a likelihood before any work: that it is a sum over rows, and defined on each."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.errors import coded, coded_error
from infimum.base.program import double_precision
from infimum.rows.blocks import length, rows_of
from infimum.rows.local_variables import LocalVariables
from infimum.rows.passes import Passes
from infimum.rows.posterior import RowPosterior
from infimum.rows.survey import survey

SUM_ROWS = 1000
"""Rows on which it is checked that the likelihood is a sum over rows."""

LOCAL_ROWS = 64
"""Rows with local variables of which each is evaluated alone, and among the others."""

SUM_ERROR = 1e-6
"""Relative error that both checks allow: rounding, in double precision and in float32."""

OTHER_POINTS = 2
"""Points of these checks besides the start: where parameters are zero, rows may not matter."""

ROUNDING_NATS = 0.05
"""Nats by which float32 may change differences of log p̂: what a climb takes for near enough."""


def check_likelihood(
    posterior: RowPosterior, z: Float[np.ndarray, " d"] | None, local: LocalVariables | None
) -> None:
    """Refuse a likelihood that is not a sum over rows, or undefined on one of them.

    Parameters
    ----------
    z
        Where to check, and at random points around; the origin if it is None.
    """
    space = posterior.space
    z = np.zeros(space.dim) if z is None else z
    around = z + np.random.default_rng(0).uniform(-1, 1, (OTHER_POINTS, len(z)))
    with double_precision():
        constrain = jax.jit(lambda z: jax.tree_util.tree_leaves(space.constrain(z)[0]))
        x, *others = (
            np.concatenate([np.ravel(leaf) for leaf in constrain(point)]) for point in (z, *around)
        )
    if local is None:
        _check_sum(posterior, [x, *others])
    else:
        rows = posterior.blocks.take(np.arange(min(LOCAL_ROWS, posterior.blocks.n_rows)))
        with double_precision():
            rows = jax.tree_util.tree_map(jnp.asarray, rows)
            _check_each_row(local, space.unflatten(jnp.asarray(x)), rows)
    survey(posterior.passes, x, space.describe(z))
    if posterior.passes.single:
        _check_rounding(posterior, x, others[0])


def _check_sum(posterior: RowPosterior, points: list[Float[np.ndarray, " k"]]) -> None:
    """Compare two parts of some rows with all of these; on disk, they are the first rows."""
    n = min(SUM_ROWS, posterior.blocks.n_rows)
    if n < 2:
        return
    last = posterior.blocks.n_rows if posterior.blocks.where == "in memory" else n
    rows = posterior.blocks.take(np.linspace(0, last - 1, n).astype(int))
    cut = (n + 2) // 3
    first, second = rows_of(rows, slice(0, cut)), rows_of(rows, slice(cut, None))
    for point in points:
        together = posterior.passes.on(point, rows)
        apart = posterior.passes.on(point, first), posterior.passes.on(point, second)
        if not np.isfinite([together, *apart]).all():
            continue
        if abs(together - sum(apart)) > SUM_ERROR * (abs(apart[0]) + abs(apart[1])):
            raise coded_error(
                ValueError,
                "E523",
                "log_likelihood is not a sum over rows: "
                f"{cut} rows give {apart[0]:.6g}, {n - cut} others {apart[1]:.6g}, and all "
                f"{n} together {together:.6g}, not {sum(apart):.6g}. Sum over the rows, do "
                "not average; what does not depend on rows belongs into log_prior; rows "
                "that depend on each other can't be used one block at a time",
            )


def _check_rounding(
    posterior: RowPosterior, x: Float[np.ndarray, " k"], other: Float[np.ndarray, " k"]
) -> None:
    """Warn if float32 changes log p̂ between two points by more than a fit may be off."""
    passes = posterior.passes
    rows = posterior.blocks.take(np.arange(min(posterior.blocks.n_rows, passes.size)))
    exact = Passes(posterior.block_likelihood, posterior.n_flat, posterior.blocks)
    both = [p.on(x, rows) - p.on(other, rows) for p in (passes, exact)]
    # Errors of blocks are independent: that of all rows grows as the root of their number.
    error = abs(both[0] - both[1]) * np.sqrt(passes.n_rows / passes.size)
    if error > ROUNDING_NATS:
        warnings.warn(
            coded(
                "W102",
                f"in float32 differences of log p̂ are off by about {error:.2g} nats over "
                f'{passes.n_rows:,} rows: give precision="float64", or centre and scale the data',
            ),
            stacklevel=5,
        )


def _check_each_row(local: LocalVariables, params: PyTree, rows: PyTree) -> None:
    """Refuse a density that is not one number a row, or that mixes rows."""
    n = length(rows)
    u = jnp.asarray(local.start + 0.1 * np.random.default_rng(0).standard_normal((n, local.k)))
    variables = jax.vmap(local.space.unflatten)(u)
    for m in (n, 1):
        _check_shape(local, params, rows_of(variables, slice(0, m)), rows_of(rows, slice(0, m)))

    def alone(variables: PyTree, row: PyTree) -> Array:
        one = jax.tree_util.tree_map(lambda x: x[None], (variables, row))
        value: Array = local.joint(params, *one)[0]
        return value

    together = np.asarray(jax.jit(local.joint)(params, variables, rows), np.float64)
    single = np.asarray(jax.jit(jax.vmap(alone))(variables, rows), np.float64)
    mixed = np.flatnonzero(np.abs(together - single) > SUM_ERROR * (1 + np.abs(together)))
    if len(mixed):
        row = mixed[0]
        raise coded_error(
            ValueError,
            "E524",
            f"log_likelihood mixes rows: row {row:,} has {single[row]:.6g} alone and "
            f"{together[row]:.6g} among {n} rows. The value of a row may depend on that "
            "row and its own local variables only",
        )


def _check_shape(local: LocalVariables, params: PyTree, variables: PyTree, rows: PyTree) -> None:
    """Refuse a density that is not one real number a row."""
    n = length(rows)
    try:
        value = jax.eval_shape(local.joint, params, variables, rows)
    except Exception as error:  # whatever the user's own code raises
        shapes = jax.tree_util.tree_map(jnp.shape, (variables, rows))
        raise coded_error(
            ValueError,
            "E520",
            f"log_likelihood raised {type(error).__name__}: {error}\nwhen called as "
            f"log_likelihood(params, local, rows), with local of shapes {shapes[0]} "
            f"and rows of shapes {shapes[1]}. Their first axis is the rows, of any "
            "number",
        ) from error
    if getattr(value, "shape", None) != (n,):
        raise coded_error(
            ValueError,
            "E521",
            "with local variables log_likelihood must return one number a row: given "
            f"{n} rows it returned shape {getattr(value, 'shape', value)}, expected "
            f"({n},). Sum over what is inside a row, not over the rows",
        )
