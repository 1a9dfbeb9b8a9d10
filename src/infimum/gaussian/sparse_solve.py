"""Solves with the sparse factor I + L, by NumPy or inside programs of JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array

from infimum.gaussian.kernels import solve_lower, solve_upper
from infimum.gaussian.sparse import Layout


def solve(
    layout: Layout, below: Array | np.ndarray, x: Array | np.ndarray, transposed: bool
) -> Any:
    """(I + L)⁻¹ x, or (I + L)⁻ᵀ x, for x of shape (..., d), by NumPy or JAX.

    A JAX program calls back to the host. It can be differentiated in reverse mode.

    Parameters
    ----------
    below
        Entries of L in the order of the layout, shape (n,).
    """
    if isinstance(x, np.ndarray) and not isinstance(below, jax.core.Tracer):
        return _solved(layout, below, x, transposed)
    return _traced(
        jnp.asarray(layout.starts, jnp.int32),
        jnp.asarray(layout.rows, jnp.int32),
        jnp.asarray(below, jnp.float64),
        jnp.asarray(x, jnp.float64),
        transposed,
    )


def times_transposed(layout: Layout, below: Array | np.ndarray, x: Array | np.ndarray) -> Any:
    """(I + L)ᵀ x for x of shape (..., d), by NumPy or JAX."""
    if isinstance(x, np.ndarray) and not isinstance(below, jax.core.Tracer):
        lower = scipy.sparse.csc_matrix(
            (np.asarray(below), layout.rows, layout.starts), shape=(x.shape[-1],) * 2
        )
        flat = x.reshape(-1, x.shape[-1])
        return x + (lower.T @ flat.T).T.reshape(x.shape)
    columns = _columns(jnp.asarray(layout.starts), len(layout.rows))
    return jnp.asarray(x).at[..., columns].add(below * x[..., jnp.asarray(layout.rows)])


def solve_each(layout: Layout, below: np.ndarray, x: np.ndarray, transposed: bool) -> np.ndarray:
    """As `solve`, with a factor for each row of x (n, d); without entries it is x itself."""
    if not below.size:
        return x
    pairs = zip(below, x, strict=True)
    return np.stack([_solved(layout, b, row, transposed) for b, row in pairs])


def times_transposed_each(layout: Layout, below: np.ndarray, x: np.ndarray) -> np.ndarray:
    """As `times_transposed`, with a factor for each row of x (n, d)."""
    if not below.size:
        return x
    return np.stack([times_transposed(layout, b, row) for b, row in zip(below, x, strict=True)])


def _columns(starts: Array, n: int) -> Any:
    """The column of each of n entries."""
    d = len(starts) - 1
    return jnp.repeat(jnp.arange(d), jnp.diff(starts), total_repeat_length=n)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _traced(starts: Array, rows: Array, below: Array, x: Array, transposed: bool) -> Any:
    """The solve inside a JAX program."""

    def host(*arrays: Array) -> np.ndarray:
        ints = [np.asarray(a) for a in arrays[:2]]
        reals = [np.ascontiguousarray(a).view(np.float64)[..., 0] for a in arrays[2:]]
        solved = _each(ints[0], ints[1], reals[0], reals[1], transposed)
        return np.ascontiguousarray(solved)[..., None].view(np.uint32)

    # Sent as bits: the callback runs in a thread without double precision, which would round.
    bits = [jax.lax.bitcast_convert_type(a, jnp.uint32) for a in (below, x)]
    answer = jax.ShapeDtypeStruct((*x.shape, 2), jnp.uint32)
    solution = jax.pure_callback(host, answer, starts, rows, *bits, vmap_method="expand_dims")
    return jax.lax.bitcast_convert_type(solution, jnp.float64)


def _forward(starts: Array, rows: Array, below: Array, x: Array, transposed: bool) -> Any:
    y = _traced(starts, rows, below, x, transposed)
    return y, (starts, rows, below, y)


def _backward(transposed: bool, residuals: Any, cotangent: Array) -> Any:
    """With y = (I + L)⁻¹ x and ȳ its cotangent: x̄ = (I + L)⁻ᵀ ȳ, and that of L_ij is -x̄_i y_j."""
    starts, rows, below, y = residuals
    bar = _traced(starts, rows, below, cotangent, not transposed)
    columns = _columns(starts, rows.shape[0])
    of_below = -(
        y[..., rows] * bar[..., columns] if transposed else bar[..., rows] * y[..., columns]
    )
    return None, None, of_below.reshape(-1, rows.shape[0]).sum(axis=0), bar


_traced.defvjp(_forward, _backward)


def _each(
    starts: np.ndarray, rows: np.ndarray, below: np.ndarray, x: np.ndarray, transposed: bool
) -> np.ndarray:
    """Solve with arguments that may have leading axes, of length 1 if they have no batch."""
    if all(a.size == a.shape[-1] for a in (starts, rows, below)):
        layout = Layout(None, starts.ravel(), rows.ravel())
        return _solved(layout, below.ravel(), x, transposed)
    lead = np.broadcast_shapes(*(a.shape[:-1] for a in (starts, rows, below, x)))
    arrays = [np.broadcast_to(a, (*lead, a.shape[-1])) for a in (starts, rows, below, x)]
    out = np.empty(arrays[3].shape)
    for index in np.ndindex(*lead):
        s, r, b, one = (a[index] for a in arrays)
        out[index] = _solved(Layout(None, s, r), b, one, transposed)
    return out


def _solved(
    layout: Layout, below: Array | np.ndarray, x: np.ndarray, transposed: bool
) -> np.ndarray:
    """The solve by NumPy, for x of shape (..., d)."""
    flat = np.array(x.reshape(-1, x.shape[-1]).T, np.float64, order="C")
    kernel = solve_upper if transposed else solve_lower
    kernel(
        np.ascontiguousarray(layout.starts, np.int64),
        np.ascontiguousarray(layout.rows, np.int64),
        np.ascontiguousarray(below, np.float64),
        flat,
    )
    return np.ascontiguousarray(flat.T).reshape(x.shape)
