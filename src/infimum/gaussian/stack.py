"""A stack of K Gaussians with weights: mixed densities, and natural coordinates for all of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Float

LOG_2PI = float(np.log(2 * np.pi))

NOTHING = 1e-15
"""Share of a point that changes no sum at the precision of float64."""

LIGHTEST = 1e-6
"""Weight below which a coordinate's unit stops growing: 1/√w is then a thousand sds a step."""

HEAVIEST = 3.0
"""Fewest degrees of freedom of a wide proposal: its tails are heavier than any with a variance.
Its radius varies by 1/√(2ν), so ν = d/2 in high dimensions keeps it near the shell of q."""

WHOLE = 0.2
"""Share of a wide proposal for the component around all others: it sees what lies between them."""


class Mixed(NamedTuple):
    """A mixture at n points.

    Attributes
    ----------
    log_q
        Log density, shape (n,).
    shares
        Probability that each component made the point, shape (K, n).
    score
        Gradient of log q, shape (n, d).
    """

    log_q: np.ndarray
    shares: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Stack:
    """N(m_k, L_k L_kᵀ), k = 1..K, on the host.

    Attributes
    ----------
    means
        Shape (K, d).
    factors
        Lower triangular, shape (K, d, d); or the diagonals alone, shape (K, d).
    log_weights
        Normalised, shape (K,).
    """

    means: Float[np.ndarray, "k d"]
    factors: np.ndarray
    log_weights: Float[np.ndarray, " k"]

    @property
    def dense(self) -> bool:
        """Whether factors are matrices."""
        return self.factors.ndim == 3

    @property
    def weights(self) -> Float[np.ndarray, " k"]:
        """They sum to one."""
        return np.exp(self.log_weights)

    def __len__(self) -> int:
        return len(self.means)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.means.shape[1])

    def push(self, eps: Float[np.ndarray, "k m d"]) -> Float[np.ndarray, "k m d"]:
        """m_k + L_k ε for M base draws of each component."""
        if self.dense:
            return self.means[:, None] + eps @ self.factors.transpose(0, 2, 1)
        return self.means[:, None] + eps * self.factors[:, None]

    def whiten(self, score: Float[np.ndarray, "k m d"]) -> Float[np.ndarray, "k m d"]:
        """L_kᵀ s for M scores of each component."""
        return score @ self.factors if self.dense else score * self.factors[:, None]

    @functools.cached_property
    def inverses(self) -> Float[np.ndarray, "k d d"]:
        """L_k⁻¹ of dense factors."""
        one = np.eye(self.dim)
        return np.array([scipy.linalg.solve_triangular(x, one, lower=True) for x in self.factors])

    def pull_back(self, k: int, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """ε = L_k⁻¹(z - m_k)."""
        apart = z - self.means[k]
        return apart @ self.inverses[k].T if self.dense else apart / self.factors[k]

    def log_dets(self) -> Float[np.ndarray, " k"]:
        """log |det L_k|."""
        diagonal = np.diagonal(self.factors, axis1=1, axis2=2) if self.dense else self.factors
        return np.log(diagonal).sum(axis=1)

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """N draws, stratified: of each component its share of n, to within one."""
        return _drawn(self, rng, n)

    def log_densities(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k n"]:
        """Log density of every component at every point."""
        squares = np.empty((len(self), len(z)))
        for k in range(len(self)):
            eps = self.pull_back(k, z)
            squares[k] = np.einsum("nd,nd->n", eps, eps)
        return -0.5 * squares - (self.log_dets() + 0.5 * self.dim * LOG_2PI)[:, None]

    def log_density(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Log Σ_k w_k N(z; m_k, L_k L_kᵀ)."""
        parts = self.log_densities(z) + self.log_weights[:, None]
        return np.asarray(log_sum(parts))

    def mixed(self, z: Float[np.ndarray, "n d"]) -> Mixed:
        """Density, shares and score of the mixture."""
        parts = self.log_densities(z) + self.log_weights[:, None]
        log_q = log_sum(parts)
        shares = np.exp(parts - log_q)
        score = np.zeros(z.shape)
        for k in range(len(self)):
            rows = np.flatnonzero(shares[k] > NOTHING)
            eps = self.pull_back(k, z[rows])
            pulled = eps @ self.inverses[k] if self.dense else eps / self.factors[k]
            score[rows] -= shares[k, rows, None] * pulled
        return Mixed(log_q, shares, score)

    def covariances(self) -> Float[np.ndarray, "k d d"]:
        """L_k L_kᵀ."""
        if self.dense:
            return self.factors @ self.factors.transpose(0, 2, 1)
        return np.einsum("kd,de->kde", self.factors**2, np.eye(self.dim))

    def mean(self) -> Float[np.ndarray, " d"]:
        """Of the mixture."""
        return self.weights @ self.means

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Of the mixture: the mean covariance, and the covariance of the means."""
        apart = self.means - self.mean()
        within = np.einsum("k,kij->ij", self.weights, self.covariances())
        return within + (self.weights * apart.T) @ apart

    def overlap(self, k: int, other: int) -> float:
        """Bhattacharyya distance between two components; inf where their means alone say enough."""
        apart = self.means[k] - self.means[other]
        if not self.dense:
            first, second = self.factors[k] ** 2, self.factors[other] ** 2
            middle = 0.5 * (first + second)
            volume = np.log(middle).sum() - 0.5 * np.log(first * second).sum()
            return float(0.125 * (apart**2 / middle).sum() + 0.5 * volume)
        if (self.pull_back(k, self.means[[other]]) ** 2).sum() > 1:
            return np.inf
        pair = self.factors[[k, other]]
        root = np.linalg.cholesky(0.5 * (pair @ pair.transpose(0, 2, 1)).sum(axis=0))
        volume = 2 * np.log(np.diag(root)).sum() - self.log_dets()[[k, other]].sum()
        away = scipy.linalg.solve_triangular(root, apart, lower=True)
        return float(0.125 * away @ away + 0.5 * volume)

    def merged(self, k: int, other: int) -> Stack:
        """With one component of the same moments in the place of two."""
        pair = self.taken(np.array([k, other]))
        if self.dense:
            factor = np.linalg.cholesky(pair.covariance())
        else:
            spread = pair.factors**2 + (pair.means - pair.mean()) ** 2
            factor = np.sqrt(pair.weights @ spread)
        rest = np.array([i for i in range(len(self)) if i not in (k, other)], int)
        both = np.logaddexp(self.log_weights[k], self.log_weights[other])
        return normalised(
            np.concatenate([self.means[rest], pair.mean()[None]]),
            np.concatenate([self.factors[rest], factor[None]]),
            np.append(self.log_weights[rest], both),
        )

    def taken(self, places: np.ndarray) -> Stack:
        """Some of the components, their weights normalised again."""
        return normalised(self.means[places], self.factors[places], self.log_weights[places])

    def joined(self, other: Stack, share: float) -> Stack:
        """These components, and others with this share of the weight."""
        return normalised(
            np.concatenate([self.means, other.means]),
            np.concatenate([self.factors, other.factors]),
            np.concatenate(
                [self.log_weights + np.log1p(-share), other.log_weights + np.log(share)]
            ),
        )


def freedom_for(dim: int) -> float:
    """Degrees of freedom of a wide proposal in so many dimensions."""
    return max(HEAVIEST, dim / 2)


@dataclass(frozen=True)
class Tails:
    """The same components as multivariate t, and around them all one more: a wider proposal.

    Attributes
    ----------
    means, factors, log_weights
        As in a `Stack`.
    freedom
        Degrees of freedom.
    """

    means: Float[np.ndarray, "k d"]
    factors: np.ndarray
    log_weights: Float[np.ndarray, " k"]
    freedom: float

    @classmethod
    def around(cls, stack: Stack) -> Tails:
        """Of these components, and of one with the moments of them all."""
        if len(stack) == 1:
            whole = stack.factors[0]
        elif stack.dense:
            whole = np.linalg.cholesky(stack.covariance())
        else:
            apart = (stack.means - stack.mean()) ** 2
            whole = np.sqrt(stack.weights @ (stack.factors**2 + apart))
        one = Stack(stack.mean()[None], whole[None], np.zeros(1))
        both = stack.joined(one, WHOLE)
        return cls(both.means, both.factors, both.log_weights, freedom_for(stack.dim))

    @property
    def stack(self) -> Stack:
        """The components as Gaussians."""
        return Stack(self.means, self.factors, self.log_weights)

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        """N draws, stratified."""
        return _drawn(self.stack, rng, n, self.freedom)

    def log_prob(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Log density at each row."""
        stack, nu = self.stack, self.freedom
        d = stack.dim
        constant = scipy.special.gammaln((nu + d) / 2) - scipy.special.gammaln(nu / 2)
        constant -= 0.5 * d * np.log(nu * np.pi)
        squares = np.array([(stack.pull_back(k, z) ** 2).sum(axis=1) for k in range(len(stack))])
        parts = constant - stack.log_dets()[:, None] - 0.5 * (nu + d) * np.log1p(squares / nu)
        return np.asarray(log_sum(parts + self.log_weights[:, None]))


def _drawn(
    stack: Stack, rng: np.random.Generator, n: int, freedom: float | None = None
) -> Float[np.ndarray, "n d"]:
    """Of each component its share of n draws, to within one; in random order."""
    ranks = (rng.permutation(n) + rng.random(n)) / n
    chosen = np.minimum(np.searchsorted(np.cumsum(stack.weights), ranks), len(stack) - 1)
    eps = rng.standard_normal((n, stack.dim))
    if freedom is not None:
        eps *= np.sqrt(freedom / rng.chisquare(freedom, size=(n, 1)))
    z = np.empty(eps.shape)
    for k in np.unique(chosen):
        rows = chosen == k
        z[rows] = stack.taken(np.array([k])).push(eps[None, rows])[0]
    return z


def log_sum(parts: Any) -> Any:
    """log Σ exp over the first axis, in a third of the time of SciPy's."""
    parts = np.asarray(parts)
    largest = parts.max(axis=0)
    safe = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(parts - safe).sum(axis=0)) + safe


def normalised(means: np.ndarray, factors: np.ndarray, log_weights: np.ndarray) -> Stack:
    """A stack whose weights sum to one."""
    return Stack(means, factors, log_weights - log_sum(log_weights))


class StackChart:
    """θ: for each component √w·(u, v, b, a), in the units of the stack that the chart is around.

    Mean m + L u; factor L·B with B_ii = exp(v_i/√2) and b below the diagonal; weight times exp(a),
    and then normalised. Where components lie apart the KL's Hessian is I in these coordinates, but
    for the one direction in which all weights grow.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.below = np.tril_indices(stack.dim, -1) if stack.dense else (np.zeros(0, int),) * 2
        self.row = 2 * stack.dim + len(self.below[0]) + 1
        self.unit = 1 / np.sqrt(np.maximum(stack.weights, LIGHTEST))[:, None]

    @property
    def size(self) -> int:
        """How many coordinates."""
        return self.row * len(self.stack)

    def steps(self, theta: np.ndarray) -> Float[np.ndarray, "k row"]:
        """(u, v, b, a) of each component: in sds, and in logarithms."""
        return theta.reshape(len(self.stack), self.row) * self.unit

    def _turn(self, theta: np.ndarray) -> np.ndarray:
        """B of each component, (K, d, d), or its diagonal."""
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
        """Gradient of Σ_k w_k mean_i f(z_ki) for a function f that does not itself move.

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
        self, theta: np.ndarray, z: np.ndarray, shares: np.ndarray, counted: np.ndarray
    ) -> np.ndarray:
        """Gradient of Σ_i counted_i log q(z_i) at points that do not move; on average over q, 0.

        Parameters
        ----------
        z, shares
            Points (n, d), and the components' shares of them (K, n), at the stack of `theta`.
        counted
            Weight of each point, shape (n,).
        """
        moved, turn = self.move(theta), self._turn(theta)
        held = shares * counted
        means, moments = np.zeros(moved.means.shape), np.zeros(moved.factors.shape)
        for k in range(len(moved)):
            rows = np.flatnonzero(shares[k] > NOTHING)
            eps, part = moved.pull_back(k, z[rows]), held[k, rows]
            first, total = part @ eps, part.sum()
            if moved.dense:
                second = (part * eps.T) @ eps - total * np.eye(moved.dim)
                both = np.column_stack([first, second])
                both = scipy.linalg.solve_triangular(turn[k], both, lower=True, trans="T")
                means[k], moments[k] = both[:, 0], both[:, 1:]
            else:
                means[k] = first / turn[k]
                moments[k] = (part @ eps**2 - total) / turn[k]
        weight = held.sum(axis=1) - moved.weights * counted.sum()
        return self._gathered(theta, means, moments, weight)

    def _gathered(
        self, theta: np.ndarray, mean: np.ndarray, moments: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """One gradient from those of u, of B, and of a."""
        d = self.stack.dim
        if not self.stack.dense:
            diagonal, below = moments.reshape(mean.shape), np.zeros((len(mean), 0))
        else:
            diagonal = np.diagonal(moments, axis1=1, axis2=2)
            below = moments[:, self.below[0], self.below[1]]
        grown = np.exp(self.steps(theta)[:, d : 2 * d] / np.sqrt(2))
        parts = [mean, diagonal * grown / np.sqrt(2), below, weight[:, None]]
        return (np.concatenate(parts, axis=1) * self.unit).ravel()
