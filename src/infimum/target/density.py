"""The contract of a density: log p̂ of the unconstrained z and its gradient, by whatever code."""

from __future__ import annotations

import abc

import numpy as np
from jaxtyping import Float

from infimum.base.program import Program
from infimum.target.guarded import Failures, Relay


class Density(abc.ABC):
    """log p̂ and its gradient, by JAX or by other code."""

    @property
    @abc.abstractmethod
    def program(self) -> Program:
        """(value, gradient) of one point, for loops inside the compiler."""

    @property
    @abc.abstractmethod
    def differentiable(self) -> bool:
        """Whether there is a gradient."""

    @property
    @abc.abstractmethod
    def twice_differentiable(self) -> bool:
        """Whether JAX may differentiate that gradient."""

    @property
    @abc.abstractmethod
    def failures(self) -> Failures:
        """Evaluations that raised an error."""

    @abc.abstractmethod
    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row."""

    @abc.abstractmethod
    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row.

        Parameters
        ----------
        planned
            How many points will be asked for in all, if `z` is one chunk of them.
        """

    @abc.abstractmethod
    def grain(self, planned: int = 0) -> int | None:
        """The number of rows that are always evaluated together.

        A batch may be cut at its multiples without a change in a bit. None if the answer at a row
        may depend on all rows of its batch.
        """

    @abc.abstractmethod
    def through(self, relay: Relay) -> Density:
        """The same density; calls of foreign code from a compiled loop pass through `relay`."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has held back."""


class WrappedDensity(Density):
    """Another density, whose answers are changed or kept on their way.

    Parameters
    ----------
    density
        The other one.
    """

    def __init__(self, density: Density) -> None:
        self.density = density

    @property
    def differentiable(self) -> bool:
        """Whether there is a gradient."""
        return self.density.differentiable

    @property
    def twice_differentiable(self) -> bool:
        """Whether JAX may differentiate that gradient."""
        return self.density.twice_differentiable

    @property
    def failures(self) -> Failures:
        """Evaluations that raised an error."""
        return self.density.failures
