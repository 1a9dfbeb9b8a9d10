"""Emulated: exponentials of smooth functions that go through log p̂, for few dimensions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from infimum.base.errors import UnsuitableError, coded_error
from infimum.families._family import Left, Promise, Searched
from infimum.families._smooth.density import SmoothDensity
from infimum.target.target import Target

LARGEST_DIM = 10
"""Largest d: the linear system of n points has n (d + 1) rows. 330 points in eight dimensions took
a second each time that points were added."""


def aside(target: Target, why: str) -> UnsuitableError:
    """The error by which the family steps aside for others."""
    return coded_error(
        UnsuitableError, "E227", f"the emulated family does not suit {target.name!r}: {why}"
    )


class Emulated(Searched):
    """Q = {exp s(u) / norm}: s is smooth, and has the values and slopes of log p̂ at some points.

    The points are where q has its mass, and farther out. A density that is expensive, such as one
    with an ODE, needs few evaluations: 150 to 450 in four to eight dimensions, where a flow takes
    66,000. Tails may be long to either side; no mass of q is beyond 6 sds of warped coordinates.
    (Wendland 2005; Conrad, Marzouk, Pillai & Smith 2016 for such functions in place of log p̂.)

    Requires: at most ten dimensions, and a gradient. It starts from a Gaussian fit.
    """

    name: ClassVar[str] = "emulated"
    below: ClassVar[str | None] = "fullrank"

    def check(self, target: Target) -> None:
        """Refuse many dimensions, and densities without a gradient."""
        if not target.differentiable:
            raise aside(target, "it has no gradient")
        if target.dim > LARGEST_DIM:
            raise aside(target, f"it has {target.dim} dimensions, more than {LARGEST_DIM}")

    def from_arrays(self, arrays: dict[str, np.ndarray]) -> SmoothDensity:
        """The points, the coefficients of s, and the t that is drawn from."""
        return SmoothDensity.from_arrays(arrays)

    def n_parameters(self, dim: int) -> int:
        """That of a Gaussian: how many points a target needs is not known before."""
        return dim + dim * (dim + 1) // 2

    def promise(self, left: Left, dim: int) -> Promise:
        """Nearly all that is left of one mode; nothing above ten dimensions."""
        gain = 0.95 * (left.correlation + left.shape) if dim <= LARGEST_DIM else 0.0
        return Promise(gain, 60.0 * dim, 0.2 + 0.05 * dim**2)
