"""Integrals over one to three coordinates along diameters, for functions known by their derivative.

∫ exp f(e) de over k coordinates is Σ_m W_m ∫ |r|^(k-1) exp f(r ω_m) dr, with directions ω_m on half
a sphere. The directions are equidistant on the circle; on the sphere they are equidistant in angle,
with the heights of Gauss and Legendre. Both rules are exact for polynomials up to a degree, so that
for a smooth f the error falls faster than any power of it. Along a diameter f is the integral of
its derivative, which is interpolated by a Chebyshev series.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev, legendre

HALF_LENGTH = 6.0
"""Half the length of a diameter, in sds: 2e-9 of a normal coordinate lies beyond its ends."""

POINTS = 48
"""Points along a diameter at which exp f is summed: half of them on either side, by the rule of
Gauss and Legendre, which sums r² exp(-r²/2) to 1e-14. Draws are uniform between two points, which
adds 0.4 % to sds."""

LARGEST_GROUP = 3
"""Most coordinates of a group: with four, half a sphere needs hundreds of directions."""


@dataclass(frozen=True)
class Polar:
    """The rule for k coordinates, with m diameters.

    Attributes
    ----------
    directions
        Unit vectors along the diameters, shape (m, k).
    nodes
        Positions on a diameter where the derivative is evaluated, shape (n,).
    points
        Positions on a diameter where exp f is summed, ascending, shape (p,).
    edges
        Ends of the part of a diameter that each point stands for, shape (p + 1,).
    weights
        Weights of exp f at all points of all diameters, shape (m, p).
    rim
        Surface that either end of each diameter stands for, shape (m,).
    rule
        Matrix that takes derivatives at the nodes to f at the points, shape (p, n); f is 0 in the
        middle.
    """

    directions: Float[np.ndarray, "m k"]
    nodes: Float[np.ndarray, " n"]
    points: Float[np.ndarray, " p"]
    edges: Float[np.ndarray, " p+1"]
    weights: Float[np.ndarray, "m p"]
    rim: Float[np.ndarray, " m"]
    rule: Float[np.ndarray, "p n"]


@functools.lru_cache(maxsize=16)
def polar(k: int, n_nodes: int, degree: int) -> Polar:
    """The rule for k coordinates, 1 to 3, with so many nodes on each diameter.

    Parameters
    ----------
    degree
        Polynomials of a lower degree are summed exactly over the directions. It is even; for one
        coordinate it has no effect.
    """
    half, weight = legendre.leggauss(POINTS // 2)
    half, weight = 0.5 * HALF_LENGTH * (half + 1), 0.5 * HALF_LENGTH * weight
    points = np.concatenate([-half[::-1], half])
    along = np.concatenate([weight[::-1], weight])
    edges = np.concatenate([[-HALF_LENGTH], np.cumsum(along) - HALF_LENGTH])
    nodes = HALF_LENGTH * chebyshev.chebpts1(n_nodes)
    vander = chebyshev.chebvander(nodes / HALF_LENGTH, n_nodes - 1)
    integral = chebyshev.chebval(
        points / HALF_LENGTH, chebyshev.chebint(np.eye(n_nodes), lbnd=0.0, axis=0)
    )
    directions, part = _half_sphere(k, degree)
    return Polar(
        directions=directions,
        nodes=nodes,
        points=points,
        edges=edges,
        weights=part[:, None] * along * np.abs(points) ** (k - 1),
        rim=part * HALF_LENGTH ** (k - 1),
        rule=HALF_LENGTH * integral.T @ np.linalg.inv(vander),
    )


def _half_sphere(k: int, degree: int) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    """One end of every diameter, and the part of half a sphere's surface that it stands for."""
    if k == 1:
        return np.ones((1, 1)), np.ones(1)
    if k == 2:
        count = degree // 2
        angle = np.pi * np.arange(count) / count
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(count, np.pi / count)
    height, weight = (x[degree // 4 :] for x in legendre.leggauss(2 * (degree // 4)))
    angle = 2 * np.pi * np.arange(degree) / degree
    round_ = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    out = np.sqrt(1 - height**2)[:, None, None] * round_
    up = np.broadcast_to(height[:, None, None], (*out.shape[:2], 1))
    part = np.repeat(weight * 2 * np.pi / degree, degree)
    return np.concatenate([out, up], axis=2).reshape(-1, 3), part
