"""Densities of single coordinates given all others, for thousands of coordinates at a time.

Given the rest, log p̂ is a sum over coordinates that don't meet, log p̂ = c + Σ_j f_j(x_j). Its
derivative by x_j is that of f_j alone; so one gradient serves one node of every coordinate. f_j is
the integral of the polynomial through the nodes, and the density is exp f_j at points of a grid
with straight lines between their logarithms: it can be drawn from, and its log density is exact.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.polynomial import chebyshev

from infimum.families.nested.kernels import cells_of, interval_masses

NODES, REACHES = {1: 23, 2: 15, 3: 9}, {1: 7.5, 2: 6.0, 3: 5.0}
"""Nodes along each coordinate where the derivative is evaluated, and sds that the grid reaches to
either side of the mode, by the size of the largest group. The log of the integrals over 5,000
logistic groups of three rows is then 4e-4 off, over 235 Poisson effects 5e-7; with 19 nodes 8e-3
and 1e-5. The derivative of a logistic coordinate has poles at ±iπ: the error falls with the nodes a
sd. Of groups with four steep rows it is 4e-4 a group of two, and up to 0.016 one of three. More
are taken for single coordinates where these are too few."""

POINTS = 76
"""Points of the grid. The straight lines change a log density by 0.005 at most, and with 5,000
coordinates the sd of a joint log weight by 0.1."""

FLAT = 1e-6
"""Change of f over an interval below which its exponential is taken for a straight line."""


class Rule(NamedTuple):
    """Where derivatives are taken, and how f follows from them, in sds.

    Attributes
    ----------
    reach, width
        Where the grid ends to either side, and the width of its intervals.
    nodes, points
        Shapes (m,) and (p,).
    integral
        Takes derivatives at the nodes to f at the points, shape (p, m); f is 0 in the middle.
    inverse
        Takes values at the nodes to coefficients of Chebyshev's polynomials, shape (m, m).
    """

    reach: float
    width: float
    nodes: Float[np.ndarray, " m"]
    points: Float[np.ndarray, " p"]
    integral: Float[np.ndarray, "p m"]
    inverse: Float[np.ndarray, "m m"]

    def shares(self, t: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n m"]:
        """What each node's value counts for in the polynomial's value at some t."""
        return chebyshev.chebvander(t / self.reach, len(self.nodes) - 1) @ self.inverse

    def normal_weights(self) -> Float[np.ndarray, " m"]:
        """Weights of the nodes for means over a standard normal, none of them negative."""
        weights = _normal(self.nodes) * np.sqrt(1 - (self.nodes / self.reach) ** 2)
        return weights / weights.sum()


@functools.cache
def rule(depth: int, n_nodes: int) -> Rule:
    """The rule by Chebyshev's points, for groups of so many coordinates."""
    reach = REACHES[depth]
    nodes = chebyshev.chebpts1(n_nodes)
    points = np.linspace(-1, 1, POINTS)
    whole = chebyshev.chebval(points, chebyshev.chebint(np.eye(n_nodes), lbnd=0.0, axis=0)).T
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, n_nodes - 1))
    width = 2 * reach / (POINTS - 1)
    return Rule(reach, width, reach * nodes, reach * points, reach * whole @ inverse, inverse)


@dataclass(frozen=True, eq=False)
class Shapes:
    """n densities.

    Attributes
    ----------
    rule
        By which they are known.
    f
        log densities at the points, up to constants, shape (n, p).
    height
        Their exponentials, the largest 1.
    log_sum
        log ∫ exp f, by the trapezoidal rule: exact to rounding for a smooth f that ends at the
        grid's ends, where the straight lines lack 0.3 %; shape (n,).
    """

    rule: Rule
    f: Float[np.ndarray, "n p"]
    height: Float[np.ndarray, "n p"]
    log_sum: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, rule: Rule, slopes: Float[np.ndarray, "n m"]) -> Shapes:
        """The densities of these derivatives of f at the nodes."""
        f = slopes @ rule.integral.T
        top = f.max(axis=1)
        height = np.exp(f - top[:, None])
        return cls(rule, f, height, top + np.log(height.sum(axis=1) * rule.width))

    @functools.cached_property
    def _masses(self) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, " n"]]:
        """The mass of each interval of the grid, up to a factor, and their sums."""
        return interval_masses(self.f, self.height, self.rule.width, FLAT)

    @functools.cached_property
    def _log_norm(self) -> Float[np.ndarray, " n"]:
        """log of the integral of the straight lines' exponentials."""
        return np.asarray(self.f.max(axis=1) + np.log(self._masses[1]))

    def _density(self) -> Float[np.ndarray, "n p"]:
        """At the points, times the width of an interval."""
        return np.exp(self.f - self.log_sum[:, None]) * self.rule.width

    def shares(self) -> Float[np.ndarray, "n m"]:
        """What each node's value counts for in the mean of a polynomial over the density."""
        return self._density() @ self.rule.shares(self.rule.points)

    def excess(self) -> Float[np.ndarray, " n"]:
        """KL of Gaussians of these means and of variance 1, the curvature at the mode."""
        t = self.rule.points
        normal = _normal(t - (self._density() @ t)[:, None])
        gap = np.log(np.maximum(normal, np.finfo(float).tiny)) - self.f + self.log_sum[:, None]
        return np.asarray((normal * gap).sum(axis=1) * self.rule.width)

    def tails(self) -> Float[np.ndarray, " n"]:
        """Mass beyond the grid's ends, if f goes on as in its last intervals; 1 sd long at most."""
        ends = np.exp(self.f[:, [0, -1]] - self.log_sum[:, None])
        fall = (self.f[:, [1, -2]] - self.f[:, [0, -1]]) / self.rule.width
        return np.asarray((ends / np.maximum(fall, 1.0)).sum(axis=1))

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """A draw of each, and its log density."""
        mass, total = self._masses
        cell = cells_of(mass, rng.random(len(total)) * total)
        low, high = self._ends(cell)
        rise, part = high - low, rng.random(len(total))
        steep = np.abs(rise) > FLAT
        slope = np.where(steep, rise, 1.0)
        place = np.where(steep, np.log1p(part * np.expm1(slope)) / slope, part)
        t = self.rule.points[cell] + place * self.rule.width
        return t, low + place * rise - self._log_norm

    def log_density(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The log density of each; -inf beyond the grid."""
        spot = (t + self.rule.reach) / self.rule.width
        cell = np.clip(np.floor(spot), 0, POINTS - 2).astype(int)
        low, high = self._ends(cell)
        inside = (spot >= 0) & (spot <= POINTS - 1)
        return np.where(inside, low + (spot - cell) * (high - low) - self._log_norm, -np.inf)

    def _ends(self, cell: Int[np.ndarray, " n"]) -> Iterator[Float[np.ndarray, " n"]]:
        """f at both ends of an interval of each."""
        rows = np.arange(len(cell))
        return (self.f[rows, cell + i] for i in (0, 1))


def _normal(t: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)
