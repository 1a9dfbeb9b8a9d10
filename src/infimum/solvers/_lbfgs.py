"""L-BFGS: directions from a history of steps (Nocedal 1980), and the search along them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PAIRS_KEPT = 10
"""Pairs of a step and its gradient change: with 10 every one of fifteen posteriors is solved, and
the cost is linear in it."""

LEAST_COSINE = 1e-8
"""A pair whose cosine is below this has no positive curvature worth keeping."""

LEAST_GAIN = 1e-4
"""Part of what the slope promises that a step must gain (Armijo 1966)."""

SHORTENED = 0.4
"""What the length of a step is multiplied by if the step does not gain enough."""

SHORTEST = 1e-8
"""Part of a whole step below which there is no way down."""

LONGEST = 2.0
"""Longest step along any natural coordinate, in which 1 is about one sd of q."""


@dataclass
class History:
    """What the last steps say of the Hessian H.

    Attributes
    ----------
    steps, changes
        Steps s, and the gradient changes y along them.
    products
        s·y of each pair.
    """

    steps: list[np.ndarray] = field(default_factory=list)
    changes: list[np.ndarray] = field(default_factory=list)
    products: list[float] = field(default_factory=list)

    def add(self, step: np.ndarray, change: np.ndarray) -> None:
        """Keep a pair, unless the function curves downwards along it."""
        product = step @ change
        if product > LEAST_COSINE * np.linalg.norm(step) * np.linalg.norm(change):
            self.steps = [*self.steps, step][-PAIRS_KEPT:]
            self.changes = [*self.changes, change][-PAIRS_KEPT:]
            self.products = [*self.products, product][-PAIRS_KEPT:]

    def direction(self, gradient: np.ndarray) -> np.ndarray:
        """The quasi-Newton descent direction -H⁻¹g at a point with gradient g."""
        q = gradient.copy()
        pairs = list(zip(self.steps, self.changes, self.products, strict=True))
        weights = []
        for s, y, product in reversed(pairs):
            weight = (s @ q) / product
            weights.append(weight)
            q -= weight * y
        q *= self.scale()
        for (s, y, product), weight in zip(pairs, reversed(weights), strict=True):
            q += s * (weight - (y @ q) / product)
        return -q

    def scale(self) -> float:
        """Diagonal of the first H⁻¹: 1, as coordinates are natural; or less, by the last pair."""
        if not self.steps:
            return 1.0
        s, y = self.steps[-1], self.changes[-1]
        return min(1.0, float(s @ y / (y @ y)))


@dataclass
class Descent:
    """A point θ of natural coordinates on its way down a loss, and the step to try from it.

    Attributes
    ----------
    theta, gradient
        The point, and the loss's gradient there.
    direction, length
        The step to try is length·direction.
    rounding
        Nats of the loss that are rounding.
    """

    theta: np.ndarray = field(default_factory=lambda: np.zeros(0))
    gradient: np.ndarray = field(default_factory=lambda: np.zeros(0))
    direction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    length: float = 1.0
    rounding: float = 0.0
    history: History = field(default_factory=History)

    def begin(self, gradient: np.ndarray, log_p: np.ndarray) -> None:
        """Start at the origin of new coordinates, given the densities that the loss averages."""
        self.theta, self.gradient, self.history = np.zeros(len(gradient)), gradient, History()
        self.rounding = 8 * np.finfo(float).eps * float(np.abs(log_p).max())

    def trial(self) -> np.ndarray:
        """The point to evaluate next."""
        return self.theta + self.length * self.direction

    def falls(self, before: float, loss: float) -> bool:
        """Whether the loss at the trial is low enough for the step, up to rounding."""
        slope = float(self.gradient @ self.direction)
        return bool(loss <= before + LEAST_GAIN * self.length * slope + self.rounding)

    def move(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        """Accept a trial, and learn from it."""
        self.history.add(theta - self.theta, gradient - self.gradient)
        self.theta, self.gradient = theta, gradient

    def aim(self) -> float:
        """Choose the next direction; the nats that are left if the loss is quadratic."""
        self.direction = self.history.direction(self.gradient)
        return self.left

    def limit(self, longest: float) -> None:
        """Keep the whole step within `LONGEST`, given its largest natural coordinate."""
        self.length = min(1.0, LONGEST / longest) if longest > 0 else 1.0

    @property
    def left(self) -> float:
        """Predicted decrease along the direction, in nats."""
        return -0.5 * float(self.gradient @ self.direction)

    def shorten(self) -> bool:
        """Shorten the step; whether it can still be told from rounding."""
        self.length *= SHORTENED
        slope = -float(self.gradient @ self.direction)
        return not (self.length * slope <= self.rounding or self.length < SHORTEST)

    def forget(self) -> bool:
        """Drop the history, to go on along the gradient; False if there is none to drop."""
        if not self.history.steps:
            return False
        self.history = History()
        return True
