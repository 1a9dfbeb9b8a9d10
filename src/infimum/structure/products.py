"""Products of the Hessian of log p̂ with vectors: by JAX, or by differences of gradients."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from infimum.base.errors import UnsuitableError, coded_error
from infimum.base.program import Program
from infimum.target.target import Target

PRODUCTS_PER_CALL = 8
"""Products with the Hessian at one point in one call: what depends on the point alone is computed
once for all of them."""

STEP = 1e-5
"""Step of a central difference, as a part of 1 + |z|: near the cube root of rounding, where what
rounding and the third derivative leave of the error are equally small."""

NOISE_PROBES = 3
"""Random vectors whose products are taken with two step sizes, to see how exact they are."""

NOISE_FACTOR = 10.0
"""How far above the largest of these differences an entry must be to count as one."""

_PRODUCTS: weakref.WeakKeyDictionary[Target, Program] = weakref.WeakKeyDictionary()


def check_curvature(target: Target, need: str) -> None:
    """Refuse a target whose Hessian can be had neither by JAX nor from gradients.

    Parameters
    ----------
    need
        What needs it, for the message.

    Raises
    ------
    UnsuitableError
        With the reason.
    """
    if target.twice_differentiable:
        _program(target, need)
    elif not target.differentiable:
        raise coded_error(
            UnsuitableError,
            "E220",
            f"{need} needs second derivatives, and log p̂ of {target.name!r} has no gradient to "
            'take differences of: give it one, or fit "fullrank"',
        )


def hessian_times(
    target: Target,
    z: Float[np.ndarray, " d"],
    v: Float[np.ndarray, "n d"],
    scale: Float[np.ndarray, " d"] | None = None,
) -> Float[np.ndarray, "n d"]:
    """∇²log p̂(z) v for one point z and each row of v.

    Parameters
    ----------
    scale
        Typical size of each coordinate, for differences; by default 1 + |z|.
    """
    if not target.twice_differentiable:
        return _differences(target, z, v, scale, STEP)
    target.counter.n_gradients += len(v)
    program = _program(target, "the pattern")

    def compute() -> np.ndarray:
        out, seeds = np.empty(v.shape), np.zeros((1 + PRODUCTS_PER_CALL, target.dim))
        seeds[0] = z
        for start in range(0, len(v), PRODUCTS_PER_CALL):
            rows = v[start : start + PRODUCTS_PER_CALL]
            seeds[1 : 1 + len(rows)] = rows
            out[start : start + len(rows)] = program(seeds.reshape(1, -1))[0, : len(rows)]
        return out

    images: np.ndarray = target.recall("products with the Hessian", lambda: (z, v), 0, compute)
    return images


def product_noise(
    target: Target,
    z: Float[np.ndarray, " d"],
    rng: np.random.Generator,
    scale: Float[np.ndarray, " d"] | None = None,
) -> Float[np.ndarray, " d"]:
    """Below what a row of a product with a v near `scale` says nothing; 0 if JAX computes it.

    Products with the same vectors and two step sizes differ by about their error.
    """
    if target.twice_differentiable:
        return np.zeros(target.dim)
    v = rng.choice([-1.0, 1.0], (NOISE_PROBES, target.dim)) * (1.0 if scale is None else scale)
    once, twice = (_differences(target, z, v, scale, step) for step in (STEP, 2 * STEP))
    rounding = np.finfo(float).eps ** (2 / 3) * np.abs(once).max()
    return NOISE_FACTOR * np.maximum(np.abs(once - twice).max(axis=0), rounding)


def _differences(
    target: Target,
    z: Float[np.ndarray, " d"],
    v: Float[np.ndarray, "n d"],
    scale: Float[np.ndarray, " d"] | None,
    step: float,
) -> Float[np.ndarray, "n d"]:
    """Products by central differences of gradients, two gradients each."""
    largest = np.abs(v / (1 + np.abs(z).max() if scale is None else scale)).max(axis=1)
    size = step / np.where(largest > 0, largest, 1.0)[:, None]
    move = size * v
    gradient = target.value_and_gradient(np.concatenate([z + move, z - move]))[1]
    return np.asarray((gradient[: len(v)] - gradient[len(v) :]) / (2 * size))


def _program(target: Target, need: str) -> Program:
    """The program for ∇²log p̂(z) v at `PRODUCTS_PER_CALL` vectors v; its input is (z, v, v, …)."""
    target = target.plain
    if target not in _PRODUCTS:
        function, d = target.program.function(), target.dim

        def images(point: Any) -> Any:
            _, push = jax.linearize(lambda z: function(z)[1], point[:d])
            return jax.lax.map(push, point[d:].reshape(PRODUCTS_PER_CALL, d))

        try:
            _PRODUCTS[target] = Program(images, (1 + PRODUCTS_PER_CALL) * d, batch=1)
        except Exception as error:  # JAX raises many types: each says that there is no derivative
            reason = str(error).split("\n")[0]
            raise coded_error(
                UnsuitableError,
                "E220",
                f"log p̂ of {target.name!r} has no second derivative, which {need} needs "
                f'({reason}): write it with jax.numpy, or fit "fullrank" or "lowrank"',
            ) from error
    return _PRODUCTS[target]
