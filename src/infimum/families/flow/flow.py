"""Flow: a coupling flow on the draws of another family, for the shape that this family misses."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._distribution import (
    Apart,
    Distribution,
    Gaussian,
    Layered,
    Pushforward,
    Rows,
    SparseGaussian,
)
from infimum.families._family import Directed, Family, Left, Promise, Stacking
from infimum.families.flow.couplings import BACKWARD, FORWARD, coupled, skeleton_of
from infimum.families.flow.directions import least_gaussian
from infimum.gaussian.stack import LOG_2PI
from infimum.target.target import Target

LARGEST_FULL_DIM = 1000
"""Largest d for a flow of all coordinates. A step of 128 draws takes 10 ms of processor time at
d = 100, 42 ms at 300, 155 ms at 1,000."""


class Flow(Stacking, Directed):
    """Q = {z = T(f(ε))}: f a stack of affine coupling layers, T the map of the family `base`.

    A layer moves and stretches half of the coordinates by what a small network makes of the other
    half; between layers the coordinates are shuffled. f begins as the identity, so that q begins
    as the base's fit; the base stays as it is. In one dimension, where there is no other half, f is
    a spline. Above 1,000 dimensions f moves only a few directions B, by a flow g within them:
    f(ε) = ε + B (g(Bᵀε) - Bᵀε). Dinh, Sohl-Dickstein & Bengio (2017); FlowJAX has the layers.

    Requires: a gradient of log p̂, and the extra "flows". It starts from a pushforward, such as a
    Gaussian; above 1,000 dimensions from a Gaussian.

    Parameters
    ----------
    base
        Name of the family below.
    layers, width
        Coupling layers, and hidden units of each network. On Poisson Gaussian-process regression
        (d = 13) 8 layers left 0.06 nats, 6 layers 0.11; 64 units instead of 32 left as much.
    directions
        How many directions are moved if d is above 1,000: hubs, which many coordinates are coupled
        to, directions that a low-rank base stretches, and the least Gaussian coordinates.
    """

    name: ClassVar[str] = "flow"
    libraries: ClassVar[tuple[str, ...]] = ("flowjax",)
    extra: ClassVar[str] = "flows"
    base: str = "fullrank"
    layers: int = 8
    width: int = 32
    directions: int = 16

    def __check_init__(self) -> None:
        for field in ("layers", "width", "directions"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise coded_error(
                    ValueError, "E203", f"{field} is {value!r}, expected a positive integer"
                )

    @property
    def below(self) -> str:  # type: ignore[override]
        """Name of the base."""
        return self.base

    def _family(self) -> Family:
        from infimum import families

        return families.named(self.base)

    def init(self, mean: np.ndarray, scale: np.ndarray) -> _Bent:
        """The base's member of this mean and scale."""
        return self.start_from(self._family().init(mean, scale))

    def start_from(self, q: Distribution) -> _Bent:
        """q itself, under the identity; above 1,000 dimensions a flow without directions."""
        if isinstance(q, _Bent):
            return q
        if not isinstance(q, Pushforward):
            raise coded_error(
                TypeError,
                "E202",
                f"a flow needs a pushforward to start from, not a {type(q).__name__}: begin "
                "with init",
            )
        return self._identity(q, np.zeros((q.dim, 0)) if q.dim > LARGEST_FULL_DIM else None)

    def start_at(self, q: Distribution, target: Target, rng: np.random.Generator) -> _Bent:
        """q itself, with the directions along which the target is least like q."""
        if q.dim <= LARGEST_FULL_DIM or isinstance(q, _Bent):
            return self.start_from(q)
        if not isinstance(q, Gaussian):
            raise coded_error(
                UnsuitableError,
                "E211",
                f"in {q.dim:,} dimensions, more than {LARGEST_FULL_DIM:,}, a flow goes on a "
                f"Gaussian only, and not on a {type(q).__name__}: give a base such as "
                'Flow(base="sparse")',
            )
        return self._identity(q, least_gaussian(q, target, rng, self.directions))

    def _identity(self, q: Any, directions: np.ndarray | None) -> _Bent:
        moved = q.dim if directions is None else directions.shape[1]
        identity = skeleton_of(moved, self.layers, self.width).identity if moved else {}
        if directions is None and not isinstance(q, SparseGaussian):
            return Flowing(q, identity, self.layers, self.width)
        return FlowingApart(q, identity, self.layers, self.width, directions)

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> _Bent:
        """From the base's leaves under `base/`, those of f under `f/`, and `directions` if any."""
        below = {k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}
        f = {k.removeprefix("f/"): v for k, v in arrays.items() if k.startswith("f/")}
        base, directions = self._family().from_arrays(below), arrays.get("directions")
        if directions is not None and (directions.ndim != 2 or len(directions) != base.dim):
            raise ValueError(f"directions have shape {directions.shape}, not ({base.dim}, k)")
        blank = self._identity(base, directions)
        if {k: v.shape for k, v in f.items()} != {k: v.shape for k, v in blank.f.items()}:
            raise ValueError("the arrays of its q do not belong together")
        return dataclasses.replace(blank, f=f)

    def n_parameters(self, dim: int) -> int:
        """Numbers in the base, and in the networks."""
        moved = dim if dim <= LARGEST_FULL_DIM else self.directions
        identity = skeleton_of(moved, self.layers, self.width).identity
        return self._family().n_parameters(dim) + sum(np.size(x) for x in identity.values())

    def promise(self, left: Left, dim: int) -> Promise:
        """Nearly all of the shape: eight schools from 0.23 to 0.003 nats, garch 0.22 to 0.004.

        In 66,000 to 195,000 gradients, and some 4 s of compilation. Nothing above 1,000 dimensions:
        most of what is left there does not lie along a few directions.
        """
        gain = 0.95 * left.shape if dim <= LARGEST_FULL_DIM else 0.0
        return Promise(gain, 150_000.0, 4.0 + 0.15 * dim)

    def on(self, family: Family) -> Flow:
        """A flow of the same size on another base."""
        return Flow(family.name, self.layers, self.width, self.directions)


class _Bent(Layered):
    """z = T(f(ε)) for any kind of f."""

    f: eqx.AbstractVar[dict[str, Any]]

    @abc.abstractmethod
    def apply(self, method: str, x: Rows) -> tuple[Rows, Rows]:
        """f or f⁻¹ with its log-determinant, over any leading axes, for NumPy and JAX."""

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.base.dim)

    def push(self, eps: Rows) -> Rows:
        """T(f(ε))."""
        return self.base.push(self.apply(FORWARD, eps)[0])

    def pull_back(self, z: Rows) -> Rows:
        """f⁻¹(T⁻¹(z))."""
        return self.apply(BACKWARD, self.base.pull_back(z))[0]

    def log_prob_base(self, eps: Rows) -> Rows:
        """log q(push(eps)): T's density at f(ε), less log |det f'|."""
        y, log_det = self.apply(FORWARD, eps)
        return self.base.log_prob_base(y) - _normal(y) + _normal(eps) - log_det

    def land(self, y: Rows) -> tuple[Rows, Rows]:
        """z = T(y) and log q(z), for y = f(ε) of shape (n, d)."""
        eps, log_det = self.apply(BACKWARD, y)
        return self.base.push(y), self.base.log_prob_base(y) - _normal(y) + _normal(eps) + log_det

    def flow(self, eps: Rows) -> Rows:
        """y = f(ε)."""
        return self.apply(FORWARD, eps)[0]

    def moving(self) -> dict[str, Any]:
        """The weights of f."""
        return self.f

    def moved(self, f: Any) -> Any:
        """The member with other weights, and the same base."""
        return dataclasses.replace(self, f=f)


class Flowing(_Bent):
    """A flow that moves all coordinates: `f` holds the networks' weights by name."""

    base: Any
    f: dict[str, Any]
    layers: int = eqx.field(static=True)
    width: int = eqx.field(static=True)

    def apply(self, method: str, x: Rows) -> tuple[Rows, Rows]:
        """f or f⁻¹ with its log-determinant."""
        return coupled(self.f, self.layers, self.width, method, x)


class FlowingApart(_Bent, Apart):
    """A flow on a Gaussian that stays on the host, or of a few directions of a large Gaussian.

    `directions` are orthonormal, shape (d, k); None if all coordinates are moved.
    """

    base: Any
    f: dict[str, Any]
    layers: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    directions: Any

    def inner(self) -> Flowing:
        """The flow g on independent standard normals."""
        k = self.dim if self.directions is None else self.directions.shape[1]
        return Flowing(Standard(k), self.f, self.layers, self.width)

    def within(self, x: Rows) -> Rows:
        """Bᵀ x."""
        return x if self.directions is None else x @ self.directions

    def across(self, x: Rows) -> Rows:
        """B x."""
        return x if self.directions is None else x @ self.directions.T

    def apply(self, method: str, x: Rows) -> tuple[Rows, Rows]:
        """f or f⁻¹ with its log-determinant, which is that of g."""
        within = self.within(x)
        if not within.shape[-1]:
            return x, 0.0 * x[..., 0]
        y, log_det = coupled(self.f, self.layers, self.width, method, within)
        return x + self.across(y - within), log_det


class Standard(Pushforward):
    """Independent standard normals."""

    size: int = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.size

    def push(self, eps: Rows) -> Rows:
        """z = ε."""
        return eps

    def pull_back(self, z: Rows) -> Rows:
        """ε = z."""
        return z

    def log_prob_base(self, eps: Rows) -> Rows:
        """log N(ε; 0, I)."""
        return _normal(eps)


def _normal(x: Rows) -> Rows:
    return -0.5 * (x**2).sum(-1) - 0.5 * x.shape[-1] * LOG_2PI
