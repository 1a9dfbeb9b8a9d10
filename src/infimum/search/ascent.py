"""Ways up log p̂ by L-BFGS from many points at once: all arithmetic of a step in one array."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from infimum.solvers._lbfgs import CURVED, MEMORY
from infimum.solvers._solver import Differentiable

ASCENT_STEPS = 45
"""Evaluations of an ascent; q needs a mode's neighbourhood only, not the mode."""

ASCENT_GAIN = 0.01
"""Nats: an ascent ends when a step gains less."""

ENOUGH = 1e-4
"""Part of what the slope promises that a step must gain (Armijo 1966)."""

MOST_FAILURES = 15
"""Steps in a row that gain too little; the last of them is 1e-13 of a full one."""

TINY = 1e-300
"""In the place of a zero by which one would divide."""


class Ascent:
    """n points on their way up.

    Attributes
    ----------
    x, value, gradient
        Where each is, and log p̂ and its gradient there; shapes (n, d), (n,), (n, d).
    done
        Shape (n,); whoever watches may set it.
    n_steps, n_zero, n_undefined
        Of each, evaluations so far; those of zero density, NaN among them; and those of NaN or
        +inf. Shape (n,).
    first_undefined
        The first point of such a density, or None, for each.
    """

    def __init__(self, points: Float[np.ndarray, "n d"]) -> None:
        n, _ = points.shape
        self.x = points.copy()
        self.value = np.full(n, -np.inf)
        self.gradient = np.zeros(points.shape)
        self.done: Bool[np.ndarray, " n"] = np.zeros(n, bool)
        self.n_steps, self.n_zero, self.n_undefined = np.zeros((3, n), int)
        self.first_undefined: list[np.ndarray | None] = [None] * n
        self._begun = np.zeros(n, bool)
        self._direction = np.zeros(points.shape)
        self._length = np.ones(n)
        self._failures = np.zeros(n, int)
        # The last steps, and changes of the gradient, go round: the newest of each point is before
        # its next place. An empty place has an infinite product, by which nothing comes of it.
        self._steps, self._changes = np.zeros((2, MEMORY, *points.shape))
        self._products = np.full((MEMORY, n), np.inf)
        self._next = np.zeros(n, int)

    def run(
        self,
        target: Differentiable,
        look: Callable[[Int[np.ndarray, " running"]], None] | None = None,
    ) -> None:
        """Climb until all are done, one batched call a step.

        Parameters
        ----------
        look
            Called after each step with which ones took part.
        """
        while len(running := np.flatnonzero(~self.done)):
            trial = self.x[running] + self._length[running, None] * self._direction[running]
            log_p, gradient = target.value_and_gradient(trial)
            self._count(running, trial, log_p)
            with np.errstate(over="ignore", invalid="ignore"):
                self._advance(running, trial, log_p, gradient)
            if look is not None:
                look(running)

    def curvature(self) -> Float[np.ndarray, "n d"]:
        """Secant curvature along each coordinate, Σ s·y / Σ s²; NaN for those that had no way."""
        products = np.abs(np.einsum("mnd,mnd->nd", self._steps, self._changes))
        squares = np.einsum("mnd,mnd->nd", self._steps, self._steps)
        curvature = products / np.maximum(squares, TINY)
        least = 1e-12 * np.maximum(curvature.max(axis=1), TINY)
        known = np.isfinite(self._products).any(axis=0)
        return np.where(known[:, None], np.maximum(curvature, least[:, None]), np.nan)

    def _count(self, running: np.ndarray, trial: np.ndarray, log_p: np.ndarray) -> None:
        undefined = np.isnan(log_p) | (log_p == np.inf)
        self.n_steps[running] += 1
        self.n_zero[running] += ~(log_p > -np.inf)
        self.n_undefined[running] += undefined
        for i in np.flatnonzero(undefined):
            if self.first_undefined[running[i]] is None:
                self.first_undefined[running[i]] = trial[i].copy()

    def _advance(
        self, running: np.ndarray, trial: np.ndarray, value: np.ndarray, gradient: np.ndarray
    ) -> None:
        finite = np.isfinite(value) & np.isfinite(gradient).all(axis=1)
        first, late = ~self._begun[running], self.n_steps[running] > ASCENT_STEPS
        self._begun[running] = True
        gain = np.where(first, np.inf, value - self.value[running])
        slope = (self.gradient[running] * self._direction[running]).sum(axis=1)
        taken = first | (finite & (gain >= ENOUGH * self._length[running] * slope))

        short = running[~taken]
        self._failures[short] += 1
        self._length[short] *= np.where(self._failures[short] < 3, 0.5, 0.1)
        self.done[short] = (self._failures[short] > MOST_FAILURES) | late[~taken]

        moved = taken & ~first
        at = running[moved]
        self._remember(at, trial[moved] - self.x[at], self.gradient[at] - gradient[moved])
        at = running[taken]
        self.x[at], self.value[at], self.gradient[at] = trial[taken], value[taken], gradient[taken]
        self.done[at] = np.where(first, ~finite, (gain < ASCENT_GAIN) | late)[taken]
        self._failures[at], self._length[at] = 0, 1.0
        self._aim(at)

    def _remember(self, at: np.ndarray, step: np.ndarray, change: np.ndarray) -> None:
        """Keep pairs, unless the function curves upwards along them."""
        product = (step * change).sum(axis=1)
        size = np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
        kept = product > CURVED * size
        at, place = at[kept], self._next[at[kept]]
        self._steps[place, at], self._changes[place, at] = step[kept], change[kept]
        self._products[place, at] = product[kept]
        self._next[at] = (place + 1) % MEMORY

    def _aim(self, at: np.ndarray) -> None:
        """Take quasi-Newton directions; from those that do not lead up, steepest ascent."""
        self._direction[at] = self._newton(at)
        down = at[~((self._direction[at] * self.gradient[at]).sum(axis=1) > 0)]
        self._products[:, down] = np.inf
        self._steps[:, down] = self._changes[:, down] = 0.0
        self._direction[down] = self._newton(down)
        self.done[at] |= ~self._direction[at].any(axis=1)

    def _newton(self, at: np.ndarray) -> Float[np.ndarray, "m d"]:
        """The two loops of L-BFGS (Nocedal 1980), from the secant scale or, at first, 1/|g|."""
        places = (self._next[at] - 1 - np.arange(MEMORY)[:, None]) % MEMORY  # from the newest on
        products = self._products[places, at]
        used = max(1, int(np.isfinite(products).sum(axis=0).max(initial=0)))
        steps, changes = self._steps[places[:used], at], self._changes[places[:used], at]
        gradient = self.gradient[at]
        q, weights = gradient.copy(), np.zeros(products.shape)
        for j in range(used):
            weights[j] = np.vecdot(steps[j], q) / products[j]
            q -= weights[j, :, None] * changes[j]
        secant = products[0] / np.maximum(np.vecdot(changes[0], changes[0]), TINY)
        steepest = 1 / np.maximum(1.0, np.linalg.norm(gradient, axis=1))
        q *= np.where(np.isfinite(products[0]), secant, steepest)[:, None]
        for j in reversed(range(used)):
            back = np.vecdot(changes[j], q) / products[j]
            q += steps[j] * (weights[j] - back)[:, None]
        return q
