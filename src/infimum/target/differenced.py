"""A density whose gradient is taken by differences of its values."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.base.program import Program
from infimum.target.density import Density, WrappedDensity
from infimum.target.guarded import Relay

STEP = 1e-4
"""Step of central differences in sds: of a log density of a few hundred nats the gradient is then
right to 1e-8."""


class DifferencedDensity(WrappedDensity):
    """The same log p̂, for searches on the host that want gradients.

    Parameters
    ----------
    scale
        Typical sizes of the coordinates, shape (d,).
    """

    def __init__(self, density: Density, scale: Float[np.ndarray, " d"]) -> None:
        super().__init__(density)
        self.scale = scale

    @property
    def differentiable(self) -> bool:
        """There is a gradient now."""
        return True

    @property
    def program(self) -> Program:
        """That of the density, without a gradient."""
        return self.density.program

    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row, from 2d + 1 values."""
        n, d = z.shape
        steps = STEP * np.diag(self.scale)
        points = z[:, None] + np.concatenate([np.zeros((1, d)), steps, -steps])
        values = self.density.values(points.reshape(-1, d)).reshape(n, -1)
        with np.errstate(invalid="ignore"):
            gradient = (values[:, 1 : 1 + d] - values[:, 1 + d :]) / (2 * STEP * self.scale)
        return values[:, 0], gradient

    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row."""
        return self.density.values(z, planned)

    def grain(self, planned: int = 0) -> int | None:
        """The grain of the density."""
        return self.density.grain(planned)

    def through(self, relay: Relay) -> Density:
        """The same density; calls of foreign code from a compiled loop pass through `relay`."""
        return DifferencedDensity(self.density.through(relay), self.scale)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has held back."""
        self.density.resume()
