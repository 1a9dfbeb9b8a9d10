"""Nested: q(θ) q(x | θ), for hierarchies that hang on few scales θ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._family import Left, Promise, Searched, arrays_below
from infimum.families._host import Conditioned
from infimum.families._smooth.density import SmoothDensity
from infimum.families._smooth.warp import Warp
from infimum.families.nested.conditional import Conditional
from infimum.families.nested.field import FactoredField, NaturalField
from infimum.families.nested.known import Known
from infimum.families.nested.shaped import ShapedField
from infimum.families.nested.table import Table
from infimum.families.nested.terms import Terms
from infimum.target.target import Target

SMALLEST_DIM = 9
"""Smallest d: below it a full-rank or flow fit of everything is as quick."""


def aside(target: Target, why: str) -> UnsuitableError:
    """The error by which the family steps aside for others."""
    return coded_error(
        UnsuitableError, "E226", f"the nested family does not suit {target.name!r}: {why}"
    )


class Nested(Searched):
    """Q = {q(θ) q(x | θ)}: θ are the scales of a hierarchy, x is all the rest.

    q(θ) is a table, or the exponential of a smooth function where the scales are more than two.
    q(x | θ) is a Gaussian at the mode of x given θ, whose mean is moved for its skew; or the exact
    shape of each group of at most three coordinates of x, where these groups are independent given
    θ and a Gaussian would not do.
    A Gaussian of everything can't have effects whose spread depends on their scale. (Tierney &
    Kadane 1986; Rue, Martino & Chopin 2009; van Niekerk & Rue 2021.)

    Requires: at least 9 dimensions, a gradient, one to twelve scales, and the extra "sparse". It
    finds its own starts.

    Parameters
    ----------
    scales
        Names of the scales, such as ``("tau*", "sigma")`` with * for any ending; without any they
        are found by what they do to the curvature.
    """

    name: ClassVar[str] = "nested"
    libraries: ClassVar[tuple[str, ...]] = ("asdex", "numba", "qdldl")
    extra: ClassVar[str] = "sparse"
    scales: tuple[str, ...] = ()

    def __init__(self, scales: str | Sequence[str] = ()) -> None:
        self.scales = (scales,) if isinstance(scales, str) else tuple(scales)

    def check(self, target: Target) -> None:
        """Refuse few dimensions, and rows that are read from blocks."""
        if target.dim < SMALLEST_DIM:
            raise aside(target, f"it has {target.dim} dimensions, fewer than {SMALLEST_DIM}")
        if target.large is not None:
            raise aside(target, "its rows are read from blocks")

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> NestedDistribution:
        """The scales' density, and x given them."""
        outer, inner = arrays_below("outer", arrays), arrays_below("conditional", arrays)
        box = {name: inner[f"known/{name}"] for name in ("u", "low", "high", "steep")}
        known = Known(Warp(**arrays_below("known/warp", inner)), **box)
        own: dict[str, Any] = {name: x for name, x in inner.items() if "/" not in name}
        return NestedDistribution(
            outer=SmoothDensity.from_arrays(outer) if "ceiling" in outer else Table(**outer),
            conditional=_conditional(known, own, arrays_below("terms", inner)),
            theta=arrays["theta"],
            rest=arrays["rest"],
            edges=arrays["edges"],
        )

    def n_parameters(self, dim: int) -> int:
        """That of a Gaussian of independent coordinates: what depends on the target is not kept."""
        return 2 * dim

    def promise(self, left: Left, dim: int) -> Promise:
        """Nearly all that is left of a hierarchy; nothing of few dimensions."""
        gain = 0.95 * (left.correlation + left.shape) if dim >= SMALLEST_DIM else 0.0
        return Promise(gain, 5e3, 0.5 + 1e-3 * dim)


def _conditional(known: Known, own: dict[str, Any], terms: dict[str, Any]) -> Conditional:
    if terms:
        return NaturalField(known, **own, terms=Terms(**terms))
    return (ShapedField if "parts" in own else FactoredField)(known, **own)


class NestedDistribution(Conditioned):
    """q(θ, x) = q(θ) q(x | θ).

    Attributes
    ----------
    outer
        q(θ).
    conditional
        q(x | θ).
    theta, rest
        The coordinates of θ and of x in z, shapes (h,) and (k,).
    edges
        Pairs of coordinates that the target couples, shape (2, n).
    """

    outer: Table | SmoothDensity
    conditional: Conditional
    theta: np.ndarray
    rest: np.ndarray
    edges: np.ndarray

    @property
    def dim(self) -> int:
        """d."""
        return len(self.theta) + len(self.rest)

    @property
    def size(self) -> int:
        """Numbers that a draw takes while it is made."""
        return self.conditional.size

    def scales(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n h"]:
        """θ at each row."""
        return z[:, self.theta]

    def extended(
        self, theta: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n d"]:
        """Each row of θ with a draw of x given it."""
        z = np.empty((len(theta), self.dim))
        z[:, self.theta], z[:, self.rest] = theta, self.conditional.draw(theta, rng)[0]
        return z

    def log_given(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(x | θ)."""
        return self.conditional.log_density(z[:, self.theta], z[:, self.rest])

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """θ from its density, and x given each θ."""
        return self.extended(self.outer.draw(rng, n), rng)

    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(θ) + log q(x | θ)."""
        return np.asarray(self.outer.log_density(self.scales(z)) + self.log_given(z))
