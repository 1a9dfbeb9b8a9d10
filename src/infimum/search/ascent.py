"""Ascents of log p̂ by L-BFGS from many points at once; each step is arithmetic on whole arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from infimum.solvers._lbfgs import LEAST_COSINE, PAIRS_KEPT
from infimum.solvers._solver import Differentiable

ASCENT_STEPS = 45
"""Most evaluations of an ascent: q needs only the neighbourhood of a mode, not the mode itself."""

ASCENT_GAIN = 0.01
"""Nats below which the gain of a step ends the ascent."""

LEAST_PART_OF_GAIN = 1e-4
"""Share of the gain predicted by the slope that a step must reach (Armijo 1966)."""

MOST_FAILURES = 15
"""Steps in a row that may gain too little; the last of them is 1e-13 of a full one."""

TINY = 1e-300
"""Smallest divisor."""


class Ascent:
    """n points that climb independently of each other.

    Attributes
    ----------
    x
        Where each point is, shape (n, d).
    value, gradient
        log p̂ and its gradient there, shapes (n,) and (n, d).
    done
        Which points have stopped, shape (n,). The `look` of `run` may set it.
    n_steps
        Evaluations so far, shape (n,).
    n_zero, n_undefined
        How many of them had zero density or NaN, and how many NaN or +inf, shape (n,).
    first_undefined
        The first point with a density of NaN or +inf, or None, for each of the n.
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
        # The last steps and changes of the gradient are kept in rings: `_next` is where each point
        # writes next. The product of an empty place is infinite, which makes its terms zero.
        self._steps, self._changes = np.zeros((2, PAIRS_KEPT, *points.shape))
        self._products = np.full((PAIRS_KEPT, n), np.inf)
        self._next = np.zeros(n, int)

    def run(
        self,
        target: Differentiable,
        look: Callable[[Int[np.ndarray, " running"]], None] | None = None,
    ) -> None:
        """Climb until all points are done, with one batched call a step.

        Parameters
        ----------
        look
            Called after each step with the indices of the points that took it.
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
        """Secant curvature along each coordinate, Σ s·y / Σ s²; NaN if a point kept no step."""
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
        """Take the steps that gain enough; shorten the others."""
        finite = np.isfinite(value) & np.isfinite(gradient).all(axis=1)
        first, late = ~self._begun[running], self.n_steps[running] > ASCENT_STEPS
        self._begun[running] = True
        gain = np.where(first, np.inf, value - self.value[running])
        slope = (self.gradient[running] * self._direction[running]).sum(axis=1)
        accept = first | (finite & (gain >= LEAST_PART_OF_GAIN * self._length[running] * slope))

        rejected = running[~accept]
        self._failures[rejected] += 1
        self._length[rejected] *= np.where(self._failures[rejected] < 3, 0.5, 0.1)
        self.done[rejected] = (self._failures[rejected] > MOST_FAILURES) | late[~accept]

        move = accept & ~first
        at = running[move]
        self._remember(at, trial[move] - self.x[at], self.gradient[at] - gradient[move])
        at = running[accept]
        self.x[at], self.value[at] = trial[accept], value[accept]
        self.gradient[at] = gradient[accept]
        self.done[at] = np.where(first, ~finite, (gain < ASCENT_GAIN) | late)[accept]
        self._failures[at], self._length[at] = 0, 1.0
        self._aim(at)

    def _remember(self, at: np.ndarray, step: np.ndarray, change: np.ndarray) -> None:
        """Keep steps with their change of gradient, unless log p̂ curves upwards along them."""
        product = (step * change).sum(axis=1)
        size = np.linalg.norm(step, axis=1) * np.linalg.norm(change, axis=1)
        keep = product > LEAST_COSINE * size
        at, place = at[keep], self._next[at[keep]]
        self._steps[place, at], self._changes[place, at] = step[keep], change[keep]
        self._products[place, at] = product[keep]
        self._next[at] = (place + 1) % PAIRS_KEPT

    def _aim(self, at: np.ndarray) -> None:
        """Set quasi-Newton directions; if one does not lead up, that of steepest ascent."""
        self._direction[at] = self._newton(at)
        down = at[~((self._direction[at] * self.gradient[at]).sum(axis=1) > 0)]
        self._products[:, down] = np.inf
        self._steps[:, down] = self._changes[:, down] = 0.0
        self._direction[down] = self._newton(down)
        self.done[at] |= ~self._direction[at].any(axis=1)

    def _newton(self, at: np.ndarray) -> Float[np.ndarray, "m d"]:
        """The two loops of L-BFGS (Nocedal 1980), from the secant scale or, at first, 1/|g|."""
        places = (self._next[at] - 1 - np.arange(PAIRS_KEPT)[:, None]) % PAIRS_KEPT
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
