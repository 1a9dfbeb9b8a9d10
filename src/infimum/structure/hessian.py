"""The Hessian of log p̂ on a pattern, from one product for each colour."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infimum.base.program import Program, double_precision
from infimum.structure.colours import colour, entry_places
from infimum.target.target import Target

_HESSIANS: weakref.WeakKeyDictionary[Target, Hessian] = weakref.WeakKeyDictionary()


class Evaluated(NamedTuple):
    """log p̂ and its derivatives at a batch of points.

    Attributes
    ----------
    log_p, gradient
        At each point, shapes (n,) and (n, d).
    values
        The Hessian, summed over each group of points as far as they have a positive density: its
        diagonal, then an entry for each edge, shape (groups, d + n_edges).
    """

    log_p: np.ndarray
    gradient: np.ndarray
    values: np.ndarray


class Hessian:
    """log p̂, its gradient and its Hessian on a pattern, as one compiled program.

    Parameters
    ----------
    edges
        Pairs (row > column) that the Hessian couples, shape (2, n).
    """

    def __init__(self, target: Target, edges: np.ndarray) -> None:
        d = target.dim
        self.edges = edges
        colours = colour(d, edges)
        self.n_colours = int(colours.max()) + 1
        entry_colours, places = entry_places(d, edges, colours)
        function = target.program.function()
        with double_precision():
            shared, which, where = (jnp.asarray(x) for x in (colours, entry_colours, places))

        def at(z: Any) -> Any:
            (log_p, gradient), push = jax.linearize(function, z)

            def product(c: Any) -> Any:
                """The Hessian times the sum of all unit vectors of one colour."""
                return push((shared == c).astype(z.dtype))[1]

            images = jax.lax.map(product, jnp.arange(self.n_colours))
            return log_p, gradient, images[which, where]

        self.program = Program(at, d)

    def __call__(self, z: np.ndarray, groups: int = 1) -> Evaluated:
        """Evaluate at each row of z (n, d), the Hessian summed over n/groups rows at a time."""
        n, width = len(z), self.program.width
        log_p, gradient = np.empty(n), np.empty(z.shape)
        d = z.shape[1]
        values = np.zeros((groups, d + self.edges.shape[1]))
        for start in range(0, n, width):
            rows = slice(start, min(n, start + width))
            log_p[rows], gradient[rows], each = self.program(z[rows])
            for offset, value in enumerate(each):
                if log_p[start + offset] > -np.inf:
                    values[(start + offset) * groups // n] += value
        return Evaluated(log_p, gradient, values)


def hessian_on(target: Target, edges: np.ndarray) -> Hessian:
    """The program of this target and pattern; one is kept for each target."""
    target = target.plain
    hessian = _HESSIANS.get(target)
    if hessian is None or not np.array_equal(hessian.edges, edges):
        hessian = _HESSIANS[target] = Hessian(target, edges)
    return hessian


def hessians(target: Target, edges: np.ndarray, z: np.ndarray, groups: int = 1) -> Evaluated:
    """log p̂, its gradient and its Hessian on a pattern at each row of z (n, d).

    The Hessian is summed over n/groups rows at a time.
    """

    def compute() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        evaluated = hessian_on(target, edges)(z, groups)
        return evaluated.log_p, evaluated.gradient, evaluated.values

    def question() -> tuple[np.ndarray, np.ndarray, int]:
        return edges, z, groups

    return Evaluated(*target.recall("Hessians", question, (0, 0, 0), compute))
