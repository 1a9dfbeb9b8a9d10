"""A density without one soft constraint of it, so that its Hessian is sparse."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from infimum.base.program import Program
from infimum.target.density import Density, WrappedDensity
from infimum.target.guarded import Relay


class FreedDensity(WrappedDensity):
    """log p̂ + ½ (aᵀz)² - ½ Σ_i r_i z_i²: without aᵀz ~ N(0, 1), and held by r instead.

    Parameters
    ----------
    soft, ridge
        a and r, shape (d,).
    """

    def __init__(
        self, density: Density, soft: Float[np.ndarray, " d"], ridge: Float[np.ndarray, " d"]
    ) -> None:
        super().__init__(density)
        self.soft, self.ridge = soft, ridge

    @functools.cached_property
    def program(self) -> Program:
        """(value, gradient) of one point, for loops inside the compiler."""
        soft, ridge = self.soft, self.ridge

        def added(z: jax.Array) -> jax.Array:
            return 0.5 * (jnp.dot(soft, z) ** 2 - jnp.dot(ridge, z**2))

        return self.density.program.plus(added, len(soft))

    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row."""
        value, gradient = self.density(z)
        along = z @ self.soft
        return value + self._added(z), gradient + along[:, None] * self.soft - self.ridge * z

    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row."""
        return self.density.values(z, planned) + self._added(z)

    def _added(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return np.asarray(0.5 * ((z @ self.soft) ** 2 - z**2 @ self.ridge))

    def grain(self, planned: int = 0) -> int | None:
        """The number of rows that are always evaluated together; none, as the sums are not."""
        return None

    def through(self, relay: Relay) -> Density:
        """The same density; calls of foreign code from a compiled loop pass through `relay`."""
        return FreedDensity(self.density.through(relay), self.soft, self.ridge)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has held back."""
        self.density.resume()
