"""A target in the coordinates of one Gaussian."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from infimum.gaussian.stack import Stack
from infimum.target.target import Target


class WhitenedTarget:
    """log p̂ as a function of ε, the whitened coordinates of one Gaussian."""

    def __init__(self, target: Target, stack: Stack) -> None:
        self.target = target
        self.stack = stack

    def points(self, eps: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """z of each row ε."""
        return self.stack.push(eps[None])[0]

    def value_and_gradient(
        self, eps: Float[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
        """log p̂ at each row ε, and its gradient in ε."""
        log_p, gradient = self.target.value_and_gradient(self.points(eps))
        return log_p, self.stack.whiten(gradient[None])[0]
