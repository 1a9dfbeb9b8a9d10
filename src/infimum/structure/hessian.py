"""The Hessian of log p̂ on a pattern, from one product, or one gradient, for each colour."""

from __future__ import annotations

import abc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from infimum.base.program import Program, double_precision
from infimum.structure.colours import Colouring, colouring
from infimum.structure.products import STEP
from infimum.target.target import Target

_HESSIANS: weakref.WeakKeyDictionary[Target, CompiledHessian] = weakref.WeakKeyDictionary()


POINTS_TOGETHER = 4096
"""Points of differences that are evaluated in one call."""


class Evaluated(NamedTuple):
    """log p̂ and its derivatives at a batch of points.

    Attributes
    ----------
    log_p, gradient
        At each point, shapes (n,) and (n, d).
    values
        The Hessian, summed over each group of points as far as they have a positive density: its
        diagonal, then an entry for each edge, shape (groups, d + n_edges).
    n_more
        Gradients that it took besides one at each point.
    """

    log_p: np.ndarray
    gradient: np.ndarray
    values: np.ndarray
    n_more: int = 0


class Hessian(abc.ABC):
    """log p̂, its gradient and its Hessian on a pattern.

    Parameters
    ----------
    edges
        Pairs (row > column) that the Hessian couples, shape (2, n).
    """

    def __init__(self, target: Target, edges: np.ndarray) -> None:
        self.dim, self.edges = target.dim, edges
        self.colouring = colouring(target.dim, edges)

    @property
    def n_colours(self) -> int:
        """How many products, or differences, one Hessian takes."""
        return self.colouring.n_colours

    @abc.abstractmethod
    def each(self, z: np.ndarray, scale: np.ndarray | None) -> Evaluated:
        """At each row of z (n, d), with no sum: values have shape (n, d + n_edges)."""

    def __call__(
        self, z: np.ndarray, groups: int = 1, scale: np.ndarray | None = None
    ) -> Evaluated:
        """Evaluate at each row of z (n, d), the Hessian summed over n/groups rows at a time.

        Parameters
        ----------
        scale
            Typical size of each coordinate, shape (d,), that differences take their steps from.
        """
        n, width = len(z), self.width
        log_p, gradient = np.empty(n), np.empty(z.shape)
        values = np.zeros((groups, self.dim + self.edges.shape[1]))
        for start in range(0, n, width):
            rows = slice(start, min(n, start + width))
            log_p[rows], gradient[rows], each, _ = self.each(z[rows], scale)
            for offset, value in enumerate(each):
                if log_p[start + offset] > -np.inf:
                    values[(start + offset) * groups // n] += value
        return Evaluated(log_p, gradient, values, n * self.n_differences)

    @property
    def n_differences(self) -> int:
        """Gradients that a Hessian takes besides the one at its point."""
        return 0

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Points that are evaluated together."""


class CompiledHessian(Hessian):
    """By JAX, as one compiled program: exact."""

    def __init__(self, target: Target, edges: np.ndarray) -> None:
        super().__init__(target, edges)
        function = target.program.function()
        with double_precision():
            shared, which, where = map(jnp.asarray, self.colouring[:3])

        def at(z: Any) -> Any:
            (log_p, gradient), push = jax.linearize(function, z)

            def product(c: Any) -> Any:
                """The Hessian times the sum of all unit vectors of one colour."""
                return push((shared == c).astype(z.dtype))[1]

            images = jax.lax.map(product, jnp.arange(self.n_colours))
            return log_p, gradient, images[which, where]

        self.program = Program(at, self.dim)

    @property
    def width(self) -> int:
        """As many as the program takes."""
        return self.program.width

    def each(self, z: np.ndarray, scale: np.ndarray | None) -> Evaluated:
        """By the program; nothing depends on a scale."""
        return Evaluated(*self.program(z))


class DifferencedHessian(Hessian):
    """By forward differences: one gradient, and one more for each colour."""

    def __init__(self, target: Target, edges: np.ndarray) -> None:
        super().__init__(target, edges)
        self.target = target

    @property
    def n_differences(self) -> int:
        """One for each colour."""
        return self.n_colours

    @property
    def width(self) -> int:
        """So many that the differences of all colours fit into memory."""
        return max(1, POINTS_TOGETHER // (1 + self.n_colours))

    def each(self, z: np.ndarray, scale: np.ndarray | None) -> Evaluated:
        """From gradients at the points, and at each moved by the coordinates of one colour."""
        size = 1 + np.abs(z).max(axis=1, keepdims=True) if scale is None else scale
        step = STEP * np.broadcast_to(size, z.shape)
        every = np.arange(self.dim)
        return differenced(self.target.value_and_gradient, self.colouring, z, step, every)


def differenced(
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    colouring: Colouring,
    z: Float[np.ndarray, "n d"],
    step: Float[np.ndarray, "n k"],
    coordinates: Int[np.ndarray, " k"],
) -> Evaluated:
    """The Hessian in some coordinates at each row of z: one gradient, and one for each colour.

    Parameters
    ----------
    evaluate
        Function that gives log p̂ and its gradient at each row of points.
    colouring
        Of the k coordinates.
    step
        By how much each of them moves.
    """
    colours, entry_colours, places, columns = colouring
    n, count = len(z), colouring.n_colours
    step = (z[:, coordinates] + step) - z[:, coordinates]  # what they move after rounding
    moved = np.repeat(z[:, None], count, axis=1)
    own = colours == np.arange(count)[:, None]
    moved[:, :, coordinates] += np.where(own, step[:, None], 0.0)
    log_p, gradient = evaluate(np.concatenate([z, moved.reshape(n * count, -1)]))
    inner = gradient[:, coordinates]
    images = inner[n:].reshape(n, count, -1) - inner[:n, None]
    values = images[:, entry_colours, places] / step[:, columns]
    return Evaluated(log_p[:n], gradient[:n], values)


def hessian_on(target: Target, edges: np.ndarray) -> Hessian:
    """What evaluates the Hessian of this target; a compiled program is kept for each target."""
    if not target.twice_differentiable:
        return DifferencedHessian(target, edges)
    target = target.plain
    hessian = _HESSIANS.get(target)
    if hessian is None or not np.array_equal(hessian.edges, edges):
        hessian = _HESSIANS[target] = CompiledHessian(target, edges)
    return hessian


def hessians(
    target: Target,
    edges: np.ndarray,
    z: np.ndarray,
    groups: int = 1,
    scale: np.ndarray | None = None,
) -> Evaluated:
    """log p̂, its gradient and its Hessian on a pattern at each row of z (n, d).

    The Hessian is summed over n/groups rows at a time.

    Parameters
    ----------
    scale
        Typical size of each coordinate, shape (d,); without it, 1 + |z|. Differences of gradients
        are taken over a small part of it.
    """
    if not target.twice_differentiable:  # a journal keeps the gradients, not what follows from them
        return hessian_on(target, edges)(z, groups, scale)

    target.counter.n_gradients += len(z)

    def compute() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        evaluated = hessian_on(target, edges)(z, groups)
        return evaluated.log_p, evaluated.gradient, evaluated.values

    def question() -> tuple[np.ndarray, np.ndarray, int]:
        return edges, z, groups

    return Evaluated(*target.recall("Hessians", question, (0, 0, 0), compute))
