"""TODO."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infimum.base.program import Program, double_precision
from infimum.structure.colours import coloured, readable
from infimum.target.target import Target


class Evaluated:
    """What a batch of points gives.

    Attributes
    ----------
    log_p, gradient
        Of each point, shapes (n,) and (n, d).
    values
        Sums of the Hessian's values over points of positive density, a group of points at a time:
        its diagonal, then an entry for each edge, shape (groups, d + n_edges).
    """

    def __init__(self, log_p: np.ndarray, gradient: np.ndarray, values: np.ndarray) -> None:
        self.log_p, self.gradient, self.values = log_p, gradient, values


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
        colours = coloured(d, edges)
        self.n_colours = int(colours.max()) + 1
        colour, place = readable(d, edges, colours)
        function = target.program.function()
        with double_precision():
            shared, which, where = (jnp.asarray(x) for x in (colours, colour, place))

        def at(z: Any) -> Any:
            (log_p, gradient), push = jax.linearize(function, z)
            image = lambda c: push((shared == c).astype(z.dtype))[1]  # noqa: E731
            images = jax.lax.map(image, jnp.arange(self.n_colours))
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
            log_p[rows], gradient[rows], found = self.program(z[rows])
            for offset, value in enumerate(found):
                if log_p[start + offset] > -np.inf:
                    values[(start + offset) * groups // n] += value
        return Evaluated(log_p, gradient, values)


def hessian_on(target: Target, edges: np.ndarray) -> Hessian:
    """The program of this target and pattern; one is kept for each target."""
    target = target.plain
    kept = HESSIANS.get(target)
    if kept is None or not np.array_equal(kept.edges, edges):
        kept = HESSIANS[target] = Hessian(target, edges)
    return kept


def hessians(target: Target, edges: np.ndarray, z: np.ndarray, groups: int = 1) -> Evaluated:
    """log p̂, its gradient and its Hessian on a pattern at each row of z (n, d).

    The Hessian is summed over n/groups rows at a time.
    """

    def compute() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = hessian_on(target, edges)(z, groups)
        return found.log_p, found.gradient, found.values

    asked = lambda: (edges, z, groups)  # noqa: E731
    return Evaluated(*target.recall("Hessians", asked, (0, 0, 0), compute))


HESSIANS: weakref.WeakKeyDictionary[Target, Hessian] = weakref.WeakKeyDictionary()
