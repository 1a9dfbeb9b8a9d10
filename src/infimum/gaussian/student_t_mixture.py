"""A wider proposal for a mixture: its components as multivariate t, plus one around them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from infimum.gaussian.stack import Stack, log_sum
from infimum.gaussian.student_t import freedom_for, log_decay, log_height

AROUND_ALL = 0.2
"""Share of the component around all others: its draws reach what lies between them."""


@dataclass(frozen=True)
class StudentTMixture:
    """K components as multivariate t, with ν degrees of freedom in common.

    Attributes
    ----------
    means, factors, log_weights
        As in a `Stack`.
    freedom
        ν.
    """

    means: Float[np.ndarray, "k d"]
    factors: np.ndarray
    log_weights: Float[np.ndarray, " k"]
    freedom: float

    @classmethod
    def around(cls, stack: Stack) -> StudentTMixture:
        """The components of a stack, and one with the mean and covariance of them all."""
        whole = stack.factors[0] if len(stack) == 1 else stack.whole_factor()
        one = Stack(stack.mean()[None], whole[None], np.zeros(1))
        both = stack.joined(one, AROUND_ALL)
        return cls(both.means, both.factors, both.log_weights, freedom_for(stack.dim))

    @property
    def stack(self) -> Stack:
        """The components as Gaussians."""
        return Stack(self.means, self.factors, self.log_weights)

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """n draws in random order, stratified by component."""
        return self.stack.draw(rng, n, self.freedom)

    def log_prob(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Log density at each row."""
        stack, nu = self.stack, self.freedom
        d = stack.dim
        squares = np.array([(stack.pull_back(k, z) ** 2).sum(axis=1) for k in range(len(stack))])
        parts = log_height(d, nu) - stack.log_dets()[:, None] + log_decay(squares, d, nu)
        return np.asarray(log_sum(parts + self.log_weights[:, None]))
