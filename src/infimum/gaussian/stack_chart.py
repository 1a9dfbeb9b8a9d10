"""Natural coordinates of a whole stack of Gaussians, in which the KL's Hessian is near I."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float

from infimum.gaussian.stack import NEGLIGIBLE_SHARE, Stack, normalised

LIGHTEST_WEIGHT = 1e-6
"""Weight below which a coordinate's unit stops growing: 1/√w is then a thousand sds a step."""


class StackChart:
    """θ: for each component √w·(u, v, b, a), in the units of the stack that the chart is around.

    The mean is m + L u. The factor is L·B, with B_ii = exp(v_i/√2) and b below the diagonal. The
    weight is w exp(a), normalised. If the components lie apart, the KL's Hessian is I in these
    coordinates, except along the one direction in which all weights grow.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.below = np.tril_indices(stack.dim, -1) if stack.dense else (np.zeros(0, int),) * 2
        self.row = 2 * stack.dim + len(self.below[0]) + 1
        self.unit = 1 / np.sqrt(np.maximum(stack.weights, LIGHTEST_WEIGHT))[:, None]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.row * len(self.stack)

    def steps(self, theta: np.ndarray) -> Float[np.ndarray, "k row"]:
        """(u, v, b, a) of each component: u in sds, v and a in logarithms."""
        return theta.reshape(len(self.stack), self.row) * self.unit

    def _turn(self, theta: np.ndarray) -> np.ndarray:
        """B of each component, shape (K, d, d); or its diagonal, shape (K, d)."""
        d, steps = self.stack.dim, self.steps(theta)
        diagonal = np.exp(steps[:, d : 2 * d] / np.sqrt(2))
        if not self.stack.dense:
            return diagonal
        turn = np.zeros((len(steps), d, d))
        turn[:, np.arange(d), np.arange(d)] = diagonal
        turn[:, self.below[0], self.below[1]] = steps[:, 2 * d : -1]
        return turn

    def move(self, theta: np.ndarray) -> Stack:
        """The stack at these coordinates."""
        s, steps, turn = self.stack, self.steps(theta), self._turn(theta)
        u = steps[:, : s.dim]
        means = s.push(u[:, None])[:, 0]
        factors = s.factors @ turn if s.dense else s.factors * turn
        return normalised(means, factors, s.log_weights + steps[:, -1])

    def along_draws(
        self, theta: np.ndarray, eps: np.ndarray, residual: np.ndarray, values: np.ndarray
    ) -> np.ndarray:
        """Gradient of Σ_k w_k mean_i f(z_ki), for a function f that does not depend on θ.

        Parameters
        ----------
        eps
            Base draws, shape (K, M, d).
        residual
            -∇f at the draws m_k + L_k ε_ki, shape (K, M, d).
        values
            f there, shape (K, M).
        """
        weights = self.move(theta).weights
        pulled = self.stack.whiten(residual)
        mean = -weights[:, None] * pulled.mean(axis=1)
        if self.stack.dense:
            moments = -(pulled.transpose(0, 2, 1) @ eps) / eps.shape[1]
        else:
            moments = -(pulled * eps).mean(axis=1)
        each = values.mean(axis=1)
        weight = weights * (each - weights @ each)
        moments = np.einsum("k,k...->k...", weights, moments)
        return self._gathered(theta, mean, moments, weight)

    def of_density(
        self, theta: np.ndarray, z: np.ndarray, shares: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        """Gradient of Σ_i c_i log q(z_i) at fixed points; zero on average if these are draws of q.

        Parameters
        ----------
        z, shares
            Points (n, d), and the components' shares of them (K, n), at the stack of `theta`.
        counts
            Weight c_i of each point, shape (n,).
        """
        moved, turn = self.move(theta), self._turn(theta)
        masses = shares * counts
        means, moments = np.zeros(moved.means.shape), np.zeros(moved.factors.shape)
        for k in range(len(moved)):
            rows = np.flatnonzero(shares[k] > NEGLIGIBLE_SHARE)
            eps, part = moved.pull_back(k, z[rows]), masses[k, rows]
            first, total = part @ eps, part.sum()
            if moved.dense:
                second = (part * eps.T) @ eps - total * np.eye(moved.dim)
                both = np.column_stack([first, second])
                both = scipy.linalg.solve_triangular(turn[k], both, lower=True, trans="T")
                means[k], moments[k] = both[:, 0], both[:, 1:]
            else:
                means[k] = first / turn[k]
                moments[k] = (part @ eps**2 - total) / turn[k]
        weight = masses.sum(axis=1) - moved.weights * counts.sum()
        return self._gathered(theta, means, moments, weight)

    def _gathered(
        self, theta: np.ndarray, mean: np.ndarray, moments: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """One gradient, from those with respect to u, B and a."""
        d = self.stack.dim
        if not self.stack.dense:
            diagonal, below = moments.reshape(mean.shape), np.zeros((len(mean), 0))
        else:
            diagonal = np.diagonal(moments, axis1=1, axis2=2)
            below = moments[:, self.below[0], self.below[1]]
        grown = np.exp(self.steps(theta)[:, d : 2 * d] / np.sqrt(2))
        parts = [mean, diagonal * grown / np.sqrt(2), below, weight[:, None]]
        return (np.concatenate(parts, axis=1) * self.unit).ravel()
