"""Flow: a coupling flow on the draws of another family, for what that one leaves."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from infimum._directions import least_gaussian
from infimum._family import (
    LOG_2PI,
    Apart,
    Directed,
    Distribution,
    Family,
    Gaussian,
    Layered,
    Left,
    Promise,
    Pushforward,
    SparseGaussian,
    Stacking,
    UnsuitableError,
)
from infimum._program import double_precision
from infimum._target import Target

ROWS = 512
"""Points in one compiled batch on the host: a flow costs microseconds a point, a call 100."""

INTERVAL = 6.0
"""Half the width, in sds, of the spline in one dimension; it is the identity beyond."""

LARGEST = 1000
"""Largest d for a flow of all coordinates. A step of 128 draws takes 10 ms of the processor at
d = 100, 42 at 300, 155 here."""


class Flow(Stacking, Directed):
    """Q = {z = T(f(ε))}: f a stack of affine coupling layers, T the map of the family `base`.

    A layer moves and stretches half of the coordinates by what a small network says of the other
    half; between layers the coordinates are shuffled. f begins as the identity, so that q begins
    as the base's fit, which stays as it is. In one dimension, where there is nothing to look at, f
    is a spline. Above 1,000 dimensions f moves a few directions B only, by a flow g within them:
    f(ε) = ε + B (g(Bᵀε) - Bᵀε). Dinh, Sohl-Dickstein & Bengio (2017); FlowJAX has the layers.

    Parameters
    ----------
    base
        Name of the family below.
    layers, width
        Coupling layers, and hidden units of each network. On Poisson Gaussian-process regression
        (d = 13) 8 layers left 0.06 nats where 6 left 0.11; 64 units in place of 32 left as much.
    directions
        How many directions are moved where d is above 1,000: hubs, which many coordinates are
        coupled to, directions that a low-rank base stretches, and the least Gaussian coordinates.
    """

    name: ClassVar[str] = "flow"
    base: str = "fullrank"
    layers: int = 8
    width: int = 32
    directions: int = 16

    def __check_init__(self) -> None:
        for field in ("layers", "width", "directions"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field} is {value!r}, expected a positive integer")

    @property
    def below(self) -> str:  # type: ignore[override]
        """The base."""
        return self.base

    def _family(self) -> Family:
        from infimum import families

        return families.named(self.base)

    def init(self, mean: np.ndarray, scale: np.ndarray) -> Flowing:
        """The base's member of this mean and scale."""
        return self.start_from(self._family().init(mean, scale))

    def start_from(self, q: Distribution) -> Flowing:
        """The same distribution: q under the identity. Above 1,000 dimensions of no directions."""
        if isinstance(q, Flowing):
            return q
        if not isinstance(q, Pushforward):
            raise TypeError(f"a flow needs a pushforward to start from, not a {type(q).__name__}")
        return self._identity(q, np.zeros((q.dim, 0)) if q.dim > LARGEST else None)

    def start_at(self, q: Distribution, target: Target, rng: np.random.Generator) -> Flowing:
        """The same, with the directions along which this target is least like q."""
        if q.dim <= LARGEST or isinstance(q, Flowing):
            return self.start_from(q)
        if not isinstance(q, Gaussian):
            raise UnsuitableError(
                f"in {q.dim:,} dimensions, more than {LARGEST:,}, a flow goes on a Gaussian only, "
                f'and not on a {type(q).__name__}: give a base such as Flow(base="sparse")'
            )
        return self._identity(q, least_gaussian(q, target, rng, self.directions))

    def _identity(self, q: Any, directions: np.ndarray | None) -> Flowing:
        moved = q.dim if directions is None else directions.shape[1]
        identity = _skeleton(moved, self.layers, self.width).identity if moved else {}
        if directions is None and not isinstance(q, SparseGaussian):
            return Flowing(q, identity, self.layers, self.width)
        return FlowingApart(q, identity, self.layers, self.width, directions)

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> Flowing:
        """From those of the base under `base/`, those of f under `f/`, and `directions` if any."""
        below = {k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}
        f = {k.removeprefix("f/"): v for k, v in arrays.items() if k.startswith("f/")}
        base, directions = self._family().from_arrays(below), arrays.get("directions")
        if directions is not None and (directions.ndim != 2 or len(directions) != base.dim):
            raise ValueError(f"directions have shape {directions.shape}, not ({base.dim}, k)")
        blank = self._identity(base, directions)
        if {k: v.shape for k, v in f.items()} != {k: v.shape for k, v in blank.f.items()}:
            raise ValueError("the arrays of its q do not belong together")
        return blank.moved(f)

    def n_parameters(self, dim: int) -> int:
        """Those of the base and of the networks."""
        moved = dim if dim <= LARGEST else self.directions
        identity = _skeleton(moved, self.layers, self.width).identity
        return self._family().n_parameters(dim) + sum(np.size(x) for x in identity.values())

    def promise(self, left: Left, dim: int) -> Promise:
        """Nearly all that is shape: eight schools 0.23 to 0.003 nats, garch 0.22 to 0.004.

        In 66,000 to 195,000 gradients, and some 4 s of compilation. Nothing above 1,000 dimensions,
        where most of what is left is not along a few directions.
        """
        gain = 0.95 * left.shape if dim <= LARGEST else 0.0
        return Promise(gain, 150_000.0, 4.0 + 0.15 * dim)

    def on(self, family: Family) -> Flow:
        """Of as many layers, on that base."""
        return Flow(family.name, self.layers, self.width, self.directions)


class Flowing(Layered):
    """One of them: `f` holds the networks' weights by name."""

    base: Any
    f: dict[str, Any]
    layers: int = eqx.field(static=True)
    width: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.base.dim)

    def push(self, eps: Any) -> Any:
        """T(f(ε))."""
        return self.base.push(self._apply(FORWARD, eps)[0])

    def pull_back(self, z: Any) -> Any:
        """f⁻¹(T⁻¹(z))."""
        return self._apply(BACKWARD, self.base.pull_back(z))[0]

    def log_prob_base(self, eps: Any) -> Any:
        """log q(push(eps))."""
        y, log_det = self._apply(FORWARD, eps)
        return self.base.log_prob_base(y) - _normal(y) + _normal(eps) - log_det

    def land(self, y: Any) -> tuple[Any, Any]:
        """z = T(y), and log q there, for y = f(ε) of shape (n, d)."""
        eps, log_det = self._apply(BACKWARD, y)
        return self.base.push(y), self.base.log_prob_base(y) - _normal(y) + _normal(eps) + log_det

    def flow(self, eps: Any) -> Any:
        """y = f(ε)."""
        return self._apply(FORWARD, eps)[0]

    def moving(self) -> dict[str, Any]:
        """The weights of f; the base stays."""
        return self.f

    def moved(self, f: Any) -> Flowing:
        """With other weights."""
        return dataclasses.replace(self, f=f)

    def _apply(self, method: str, x: Any) -> tuple[Any, Any]:
        """f or f⁻¹, and its log-determinant, over any leading axes, for NumPy and JAX."""
        skeleton = _skeleton(x.shape[-1], self.layers, self.width)
        apply = _on_host if isinstance(x, np.ndarray) else _over_rows
        y, log_det = apply(skeleton, method, self.f, x.reshape(-1, x.shape[-1]))
        return y.reshape(x.shape), log_det.reshape(x.shape[:-1])


class FlowingApart(Flowing, Apart):
    """One of a Gaussian that stays on the host, or of a few `directions` of a large one.

    Directions are orthonormal, of shape (d, k); None where all coordinates are moved.
    """

    directions: Any

    def inner(self) -> Flowing:
        """G on independent standard normals."""
        k = self.dim if self.directions is None else self.directions.shape[1]
        return Flowing(Standard(k), self.f, self.layers, self.width)

    def within(self, x: Any) -> Any:
        """Bᵀ x."""
        return x if self.directions is None else x @ self.directions

    def across(self, x: Any) -> Any:
        """B x."""
        return x if self.directions is None else x @ self.directions.T

    def _apply(self, method: str, x: Any) -> tuple[Any, Any]:
        within = self.within(x)
        if not within.shape[-1]:
            return x, 0.0 * x[..., 0]
        y, log_det = super()._apply(method, within)
        return x + self.across(y - within), log_det


class Standard(Pushforward):
    """Independent standard normals."""

    size: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """D."""
        return self.size

    def push(self, eps: Any) -> Any:
        """ε itself."""
        return eps

    def pull_back(self, z: Any) -> Any:
        """The same."""
        return z

    def log_prob_base(self, eps: Any) -> Any:
        """Their log density."""
        return _normal(eps)


FORWARD, BACKWARD = "transform_and_log_det", "inverse_and_log_det"
"""What FlowJAX calls f and f⁻¹."""


def _normal(x: Any) -> Any:
    return -0.5 * (x**2).sum(-1) - 0.5 * x.shape[-1] * LOG_2PI


def _over_rows(skeleton: _Skeleton, method: str, f: Any, rows: Any) -> tuple[Any, Any]:
    return jax.vmap(getattr(skeleton.bijection(f), method))(rows)


_compiled = eqx.filter_jit(_over_rows)


def _on_host(skeleton: _Skeleton, method: str, f: Any, rows: Any) -> tuple[Any, Any]:
    """The same for NumPy arrays, in padded batches of one compiled program."""
    parts = []
    with double_precision():
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            padded = np.concatenate([part, np.zeros((ROWS - len(part), part.shape[1]))])
            y, log_det = _compiled(skeleton, method, f, padded)
            parts.append((np.asarray(y)[: len(part)], np.asarray(log_det)[: len(part)]))
    y, log_det = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return y, log_det


class _Skeleton:
    """A FlowJAX bijection without its weights."""

    def __init__(self, dim: int, layers: int, width: int) -> None:
        from flowjax.bijections import Chain, RationalQuadraticSpline, Scan, Vmap

        with double_precision():
            if dim == 1:
                spline = RationalQuadraticSpline(knots=2 * layers, interval=INTERVAL)
                f: Any = Vmap(spline, axis_size=1)
            else:
                f = Scan(Chain([_couplings(dim, layers, width), _shuffles(dim, layers)]))
            weights, self._rest = eqx.partition(f, eqx.is_inexact_array)
        leaves = jax.tree_util.tree_leaves_with_path(weights)
        self._names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        self._tree = jax.tree_util.tree_structure(weights)
        self.identity = {n: np.asarray(x) for n, (_, x) in zip(self._names, leaves, strict=True)}

    def bijection(self, f: dict[str, Any]) -> Any:
        """With these weights."""
        import paramax

        weights = jax.tree_util.tree_unflatten(self._tree, [f[name] for name in self._names])
        return paramax.unwrap(eqx.combine(weights, self._rest))


@functools.lru_cache(maxsize=64)
def _skeleton(dim: int, layers: int, width: int) -> _Skeleton:
    """Made once: a program is compiled for one object's functions."""
    return _Skeleton(dim, layers, width)


def _couplings(dim: int, layers: int, width: int) -> Any:
    """The layers, stacked; weights by NumPy, for JAX would compile for seconds to draw them."""
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
    """Halves change places after every other layer, at random after the rest; the last undoes all.

    So each half is looked at, and each pair of coordinates meets.
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
    """A permutation whose order is an array, so that layers of them stack."""
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
