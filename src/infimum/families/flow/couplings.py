"""Coupling layers of FlowJAX, with the weights kept apart, for NumPy and JAX.

A layer moves and stretches half of the coordinates by what a small network makes of the other half;
between layers the coordinates are shuffled. With the weights of `identity` nothing moves.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from infimum.base.extras import required
from infimum.base.program import double_precision

BATCH_ROWS = 512
"""Points in one compiled batch on the host. A flow takes microseconds a point, a call 100."""

SPLINE_HALF_WIDTH = 6.0
"""Half the width, in sds, of the spline in one dimension; beyond, the spline is the identity."""

FORWARD, BACKWARD = "transform_and_log_det", "inverse_and_log_det"
"""Names of FlowJAX's methods for f and for f⁻¹."""


def coupled(f: dict[str, Any], layers: int, width: int, method: str, x: Any) -> tuple[Any, Any]:
    """f(x) or f⁻¹(x) with its log-determinant, over any leading axes, for NumPy and JAX.

    Parameters
    ----------
    f
        The weights by name.
    method
        `FORWARD` or `BACKWARD`.
    """
    skeleton = skeleton_of(x.shape[-1], layers, width)
    apply = _on_host if isinstance(x, np.ndarray) else _over_rows
    y, log_det = apply(skeleton, method, f, x.reshape(-1, x.shape[-1]))
    return y.reshape(x.shape), log_det.reshape(x.shape[:-1])


def _over_rows(skeleton: Skeleton, method: str, f: Any, rows: Any) -> tuple[Any, Any]:
    return jax.vmap(getattr(skeleton.bijection(f), method))(rows)


_compiled = eqx.filter_jit(_over_rows)


def _on_host(skeleton: Skeleton, method: str, f: Any, rows: Any) -> tuple[Any, Any]:
    """The same for NumPy arrays, in padded batches of `BATCH_ROWS`, so that one program does."""
    parts = []
    with double_precision():
        for start in range(0, len(rows), BATCH_ROWS):
            part = rows[start : start + BATCH_ROWS]
            padded = np.concatenate([part, np.zeros((BATCH_ROWS - len(part), part.shape[1]))])
            y, log_det = _compiled(skeleton, method, f, padded)
            parts.append((np.asarray(y)[: len(part)], np.asarray(log_det)[: len(part)]))
    y, log_det = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return y, log_det


class Skeleton:
    """A FlowJAX bijection without its weights.

    Attributes
    ----------
    identity
        The weights by name with which nothing moves.
    """

    def __init__(self, dim: int, layers: int, width: int) -> None:
        bijections = required("flowjax.bijections", "flows")
        with double_precision():
            if dim == 1:
                spline = bijections.RationalQuadraticSpline(
                    knots=2 * layers, interval=SPLINE_HALF_WIDTH
                )
                f: Any = bijections.Vmap(spline, axis_size=1)
            else:
                both = [_couplings(dim, layers, width), _shuffles(dim, layers)]
                f = bijections.Scan(bijections.Chain(both))
            weights, self._rest = eqx.partition(f, eqx.is_inexact_array)
        leaves = jax.tree_util.tree_leaves_with_path(weights)
        self._names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        self._tree = jax.tree_util.tree_structure(weights)
        self.identity = {n: np.asarray(x) for n, (_, x) in zip(self._names, leaves, strict=True)}

    def bijection(self, f: dict[str, Any]) -> Any:
        """The bijection with these weights."""
        import paramax

        weights = jax.tree_util.tree_unflatten(self._tree, [f[name] for name in self._names])
        return paramax.unwrap(eqx.combine(weights, self._rest))


@functools.lru_cache(maxsize=64)
def skeleton_of(dim: int, layers: int, width: int) -> Skeleton:
    """The skeleton of this size, made once, since programs are compiled for each object."""
    return Skeleton(dim, layers, width)


def _couplings(dim: int, layers: int, width: int) -> Any:
    """The layers, stacked. NumPy draws the weights, because JAX would compile for seconds."""
    from flowjax.bijections import Affine, Coupling
    from flowjax.utils import get_ravelled_pytree_constructor

    def layer(key: Any) -> Any:
        return Coupling(
            key,
            transformer=Affine(),
            untransformed_dim=dim // 2,
            dim=dim,
            nn_width=width,
            nn_depth=1,
            nn_activation=jnp.tanh,
        )

    shapes = eqx.filter_eval_shape(layer, jax.eval_shape(jax.random.key, 0))
    constructor, _ = get_ravelled_pytree_constructor(
        Affine(), filter_spec=eqx.is_inexact_array, is_leaf=lambda _: False
    )
    zeros = jax.tree_util.tree_map(
        lambda x: np.zeros((layers, *x.shape)) if isinstance(x, jax.ShapeDtypeStruct) else x, shapes
    )
    weight = np.random.default_rng(0).standard_normal((layers, width, dim // 2))
    return eqx.tree_at(
        lambda c: (c.transformer_constructor, c.conditioner.layers[0].weight),
        zeros,
        (constructor, weight / np.sqrt(dim // 2)),
    )


def _shuffles(dim: int, layers: int) -> Any:
    """Orders between layers: halves change places, or a random order, in turn; the last undoes all.

    So each half is seen by the other, and each pair of coordinates meets.
    """
    rng = np.random.default_rng(0)
    halves = np.roll(np.arange(dim), dim // 2)
    orders = [halves if i % 2 == 0 else rng.permutation(dim) for i in range(layers - 1)]
    place = np.arange(dim)
    for order in orders:
        place = place[order]
    table = np.array([*orders, np.argsort(place)])
    return _shuffle_type()((dim,), None, table, np.argsort(table, axis=1))


@functools.cache
def _shuffle_type() -> Any:
    """A permutation whose order is an array, so that several of them can be stacked."""
    from flowjax.bijections import AbstractBijection

    class Shuffle(AbstractBijection):
        shape: tuple[int, ...] = eqx.field(static=True)
        cond_shape: tuple[int, ...] | None = eqx.field(static=True)
        order: Any
        back: Any

        def transform_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
            return x[self.order], jnp.zeros(())

        def inverse_and_log_det(self, y: Any, condition: Any = None) -> tuple[Any, Any]:
            return y[self.back], jnp.zeros(())

    return Shuffle
