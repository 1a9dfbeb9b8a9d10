"""Nested: q(θ) q(x | θ), for hierarchies that hang on few scales θ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Float

from infimum.base.errors import coded_error
from infimum.families._family import Left, Promise, Searched
from infimum.families._host import Conditioned
from infimum.families.nested.conditional import GaussianField, ShapedField
from infimum.families.nested.table import Table

CHUNK = 2**17
"""Numbers of the draws that are worked on together: their differences then stay in the cache."""

SMALLEST_DIM = 9
"""Smallest d: below it a full-rank or flow fit of everything is as quick."""


class Nested(Searched):
    """Q = {q(θ) q(x | θ)}: θ are the scales of a hierarchy, x is all the rest.

    q(θ) is a table, q(x | θ) a Gaussian at the mode of x given θ, whose mean is moved for its skew;
    or the exact shape of each coordinate of x, where these are independent given θ and few others
    and a Gaussian would not do. A Gaussian of everything can't have effects whose spread depends on
    their scale. (Tierney & Kadane 1986; Rue, Martino & Chopin 2009; van Niekerk & Rue 2021.)

    Requires: at least 9 dimensions, a gradient, one to three scales, and the extra "sparse". It
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

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> NestedDistribution:
        """The scales' table, and nothing that x given the scales could be drawn with."""
        start = "outer/"
        outer = {k[len(start) :]: x for k, x in arrays.items() if k.startswith(start)}
        return NestedDistribution(
            Table(**outer), theta=arrays["theta"], rest=arrays["rest"], edges=arrays["edges"]
        )

    def n_parameters(self, dim: int) -> int:
        """That of a Gaussian of independent coordinates: what depends on the target is not kept."""
        return 2 * dim

    def promise(self, left: Left, dim: int) -> Promise:
        """Nearly all that is left of a hierarchy; nothing of few dimensions."""
        gain = 0.95 * (left.correlation + left.shape) if dim >= SMALLEST_DIM else 0.0
        return Promise(gain, 5e3, 0.5 + 1e-3 * dim)


class NestedDistribution(Conditioned):
    """q(θ, x) = q(θ) q(x | θ).

    Attributes
    ----------
    outer
        q(θ).
    theta, rest
        The coordinates of θ and of x in z, shapes (h,) and (k,).
    edges
        Pairs of coordinates that the target couples, shape (2, n).
    conditional
        q(x | θ), which evaluates the target; None in a loaded fit.
    """

    portable: ClassVar[bool] = False
    outer: Table
    theta: np.ndarray
    rest: np.ndarray
    edges: np.ndarray
    conditional: GaussianField | ShapedField | None = eqx.field(
        static=True, default=None, repr=False
    )

    @property
    def dim(self) -> int:
        """d."""
        return len(self.theta) + len(self.rest)

    @property
    def cost(self) -> int:
        """Gradients of a draw."""
        return self._at_hand().cost

    def scales(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n h"]:
        """θ at each row."""
        return z[:, self.theta]

    def extended(
        self, theta: Float[np.ndarray, "n h"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n d"]:
        """Each row of θ with a draw of x given it; the density of these draws is kept."""
        conditional = self._at_hand()
        z, log_q = np.empty((len(theta), self.dim)), np.empty(len(theta))
        z[:, self.theta] = theta
        for rows in self._chunks(len(z)):
            z[rows, self.rest], log_q[rows] = conditional.draw(theta[rows], rng)
        conditional.last = z, log_q
        return z

    def log_given(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(x | θ): of the last draws at once, else found again from the target."""
        conditional = self._at_hand()
        if conditional.last is None or not np.array_equal(conditional.last[0], z):
            log_q = np.empty(len(z))
            for rows in self._chunks(len(z)):
                log_q[rows] = conditional.log_density(z[rows, self.theta], z[rows, self.rest])
            conditional.last = z, log_q
        return np.asarray(conditional.last[1])

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """θ from its table, and x given each θ."""
        return self.extended(self.outer.draw(rng, n), rng)

    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q(θ) + log q(x | θ)."""
        return np.asarray(self.outer.log_density(self.scales(z)) + self.log_given(z))

    def _chunks(self, n: int) -> list[slice]:
        """Rows that are worked on together."""
        size = max(1, CHUNK // self.dim)
        return [slice(start, start + size) for start in range(0, n, size)]

    def _at_hand(self) -> GaussianField | ShapedField:
        if self.conditional is None:
            raise coded_error(
                ValueError,
                "E401",
                "this q finds x given its scales from the model's own density, which a file does "
                "not hold: use the original fit, or fit again",
            )
        return self.conditional
