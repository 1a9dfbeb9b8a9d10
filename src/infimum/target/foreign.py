"""Densities outside JAX: called in batches, guarded, checked, and bridged into compiled loops.

A `Foreign` is log p̂ of the unconstrained z as other code evaluates it: PyMC, Stan, PyTorch, a
user's own. Solvers on the host call it as they call a compiled `Program`; a loop inside the
compiler gets it as a `Program` too, whose one callback returns value and gradient together.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from infimum.base.errors import coded
from infimum.base.program import WIDE, Program
from infimum.target.bijection import Bijection
from infimum.target.guarded import Failures, Guarded, See


class Foreign:
    """log p̂ of z from code outside JAX, with its gradient.

    Parameters
    ----------
    code
        The user's code, of the parameters in a row; of z itself if `space` is not given.
    space
        The bijection from z to the parameters.
    """

    twice = False

    def __init__(self, code: Guarded, space: Bijection | None = None) -> None:
        self.code = code
        self.space = None if space is None or space.trivial else space
        self.dim = code.dim if space is None else space.dim

    def grain(self, planned: int = 0) -> int | None:
        """Rows that may be evaluated apart; None for code that takes whole batches."""
        if not self.code.pointwise or self.space is None:
            return self.code.pointwise or None
        return max(self._carried.width, self._pulled.width)

    def through(self, see: See) -> Foreign:
        """The same, whose answers to a compiled loop pass through `see`."""
        return Foreign(self.code.through(see), self.space)

    @property
    def differentiable(self) -> bool:
        """Whether there is a gradient."""
        return self.code.function is not None

    @property
    def failures(self) -> Failures:
        """Evaluations that raised."""
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
        """log p̂ at each row, however many more are planned."""
        if self.space is None:
            return self.code.values(np.ascontiguousarray(z))
        x, log_jacobian, _ = self._carried(z)
        return self.code.values(x) + log_jacobian

    @functools.cached_property
    def _carried(self) -> Program:
        """z to the parameters in a row, the log-Jacobian, and its gradient."""
        space = self.space
        assert space is not None

        def carried(z: Any) -> Any:
            def log_jacobian(z: Any) -> Any:
                params, value = space.constrain(z)
                return value, _flat(params)

            (value, x), gradient = jax.value_and_grad(log_jacobian, has_aux=True)(z)
            return x, value, gradient

        return Program(carried, self.dim, WIDE)

    @functools.cached_property
    def _pulled(self) -> Program:
        """(z, score of the parameters) to the score of z."""
        space = self.space
        assert space is not None

        def pulled(both: Any) -> Any:
            z, score = both[: self.dim], both[self.dim :]
            return jax.vjp(lambda z: _flat(space.constrain(z)[0]), z)[1](score)[0]

        return Program(pulled, self.dim + self.code.dim, WIDE)

    @functools.cached_property
    def program(self) -> Program:
        """The bridge: (value, gradient) of one point for loops that run inside the compiler.

        One callback a batch. Whatever the foreign code does, the loop ends: a point that raises is
        NaN there, and so is all after Ctrl-C, which `resume` then raises.
        """
        code = self.code
        if not self.differentiable:
            raise TypeError(
                coded(
                    "E110", "this density has no gradient, which compiled loops need: give it one"
                )
            )

        @jax.custom_vjp
        def log_density(x: Any) -> Any:
            return call(x)[0]

        def call(x: Any) -> Any:
            bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
            shape = jax.ShapeDtypeStruct((code.dim + 1, 2), jnp.uint32)
            answer = jax.pure_callback(code.from_bits, shape, bits, vmap_method="broadcast_all")
            both = jax.lax.bitcast_convert_type(answer, jnp.float64)
            return both[0], both[1:]

        log_density.defvjp(call, lambda gradient, cotangent: (cotangent * gradient,))

        def log_p(z: Any) -> Any:
            if self.space is None:
                return log_density(z)
            params, log_jacobian = self.space.constrain(z)
            return log_density(_flat(params)) + log_jacobian

        return Program(jax.value_and_grad(log_p), self.dim)

    def resume(self) -> None:
        """Raise the Ctrl-C that a compiled loop has kept."""
        self.code.resume()


def _flat(params: Any) -> Any:
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree_util.tree_leaves(params)])
