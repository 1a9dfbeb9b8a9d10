"""log p̂ by code outside JAX: called in batches, and bridged into compiled loops.

A `ForeignDensity` is log p̂ of the unconstrained z as other code evaluates it: PyMC, Stan, PyTorch,
a user's own. Solvers on the host call it as they call a compiled `Program`. A loop inside the
compiler gets it as a `Program` too, whose one callback returns value and gradient together.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from infimum.base.errors import coded_error
from infimum.base.program import WIDE, Program
from infimum.target.bijection import Bijection
from infimum.target.density import Density
from infimum.target.guarded import Failures, GuardedCode, Relay


class ForeignDensity(Density):
    """log p̂ of z from code outside JAX, with its gradient.

    Parameters
    ----------
    code
        The user's code, of the parameters in a row; of z itself if `space` is not given.
    space
        The bijection from z to the parameters.
    """

    twice_differentiable = False

    def __init__(self, code: GuardedCode, space: Bijection | None = None) -> None:
        self.code = code
        self.space = None if space is None or space.trivial else space
        self.dim = code.dim if space is None else space.dim

    def grain(self, planned: int = 0) -> int | None:
        """Rows that are evaluated together; None for code that takes whole batches."""
        if not self.code.pointwise or self.space is None:
            return self.code.pointwise or None
        return max(self._carried.width, self._pulled.width)

    def through(self, relay: Relay) -> ForeignDensity:
        """The same density, whose answers to a compiled loop pass through `relay`."""
        return ForeignDensity(self.code.through(relay), self.space)

    @property
    def differentiable(self) -> bool:
        """Whether the code gives a gradient."""
        return self.code.function is not None

    @property
    def failures(self) -> Failures:
        """Evaluations that raised an error."""
        return self.code.failures

    def __call__(self, z: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """log p̂ (n,) and its gradient (n, d) at each row; nothing is padded or repeated."""
        if self.space is None:
            return self.code(np.ascontiguousarray(z))
        x, log_jacobian, pull = self._carried(z)
        log_p, score = self.code(x)
        back = self._pulled(np.concatenate([z, score], axis=1))
        return log_p + log_jacobian, back + pull

    def values(self, z: Float[np.ndarray, "n d"], planned: int = 0) -> Float[np.ndarray, " n"]:
        """log p̂ at each row; how many more are planned does not matter."""
        if self.space is None:
            return self.code.values(np.ascontiguousarray(z))
        x, log_jacobian, _ = self._carried(z)
        return self.code.values(x) + log_jacobian

    @functools.cached_property
    def _carried(self) -> Program:
        """From z to the parameters in a row, the log-Jacobian, and its gradient."""
        space = self.space
        assert space is not None

        def carried(z: Array) -> tuple[Array, Array, Array]:
            def log_jacobian(z: Array) -> tuple[Array, Array]:
                params, value = space.constrain(z)
                return value, _flat(params)

            (value, x), gradient = jax.value_and_grad(log_jacobian, has_aux=True)(z)
            return x, value, gradient

        return Program(carried, self.dim, WIDE)

    @functools.cached_property
    def _pulled(self) -> Program:
        """From z and the score of the parameters, side by side, to the score of z."""
        space = self.space
        assert space is not None

        def pulled(both: Array) -> Array:
            z, score = both[: self.dim], both[self.dim :]
            pull = jax.vjp(lambda z: _flat(space.constrain(z)[0]), z)[1]
            score_of_z: Array = pull(score)[0]
            return score_of_z

        return Program(pulled, self.dim + self.code.dim, WIDE)

    @functools.cached_property
    def program(self) -> Program:
        """The bridge: (value, gradient) of one point for loops that run inside the compiler.

        A batch is one callback. The loop ends whatever the foreign code does: a point that raises
        is NaN, and so is every point after Ctrl-C, which `resume` then raises.
        """
        code = self.code
        if not self.differentiable:
            raise coded_error(
                TypeError,
                "E110",
                "this density has no gradient, which compiled loops need: give it one",
            )

        @jax.custom_vjp
        def log_density(x: Array) -> Array:
            return call(x)[0]

        def call(x: Array) -> tuple[Array, Array]:
            # As bits, because a callback rounds float64 to JAX's default precision.
            bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
            shape = jax.ShapeDtypeStruct((code.dim + 1, 2), jnp.uint32)
            answer = jax.pure_callback(code.from_bits, shape, bits, vmap_method="broadcast_all")
            both = jax.lax.bitcast_convert_type(answer, jnp.float64)
            return both[0], both[1:]

        log_density.defvjp(call, lambda gradient, cotangent: (cotangent * gradient,))

        def log_p(z: Array) -> Array:
            if self.space is None:
                value: Array = log_density(z)
                return value
            params, log_jacobian = self.space.constrain(z)
            value = log_density(_flat(params)) + log_jacobian
            return value

        return Program(jax.value_and_grad(log_p), self.dim)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has held back."""
        self.code.resume()


def _flat(params: PyTree) -> Array:
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree_util.tree_leaves(params)])
