"""L-BFGS directions from a history of steps and gradient changes (Nocedal 1980)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PAIRS_KEPT = 10
"""Pairs kept: with 10 every one of fifteen posteriors is solved, and cost is linear in it."""

LEAST_COSINE = 1e-8
"""A pair whose cosine is below this has no positive curvature worth keeping."""


@dataclass
class History:
    """Steps s, gradient changes y, products s·y; `direction` is -H⁻¹g for the implied H."""

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
        """The quasi-Newton descent direction at a point with this gradient."""
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
        """Initial inverse Hessian, in coordinates that are natural already: 1, or the secant."""
        if not self.steps:
            return 1.0
        s, y = self.steps[-1], self.changes[-1]
        return min(1.0, float(s @ y / (y @ y)))
