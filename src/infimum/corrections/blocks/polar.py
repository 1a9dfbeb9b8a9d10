"""Integrals over few coordinates along diameters, of functions known by their derivatives.

∫ exp f(e) de over k coordinates is Σ_m W_m ∫ |r|^(k-1) exp f(r ω_m) dr, with ω_m on half a sphere.
On the circle even steps, on the sphere even steps times those of Gauss and Legendre, are exact for
polynomials of a degree, so that the error falls with it faster than any power where f is smooth.
Along a diameter f is the integral of its derivative there, which a Chebyshev series interpolates.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev, legendre

REACH = 6.0
"""sds that a diameter reaches on either side: beyond are 2e-9 of a normal coordinate."""

POINTS = 48
"""Points along a diameter at which exp f is summed, half of them on either side by Gauss and
Legendre: r² exp(-r²/2) is summed to 1e-14. Draws are uniform between two points, which adds 0.4 %
to sds."""

MOST_TOGETHER = 3
"""Coordinates at most: from four on the directions of half a sphere are hundreds."""


@dataclass(frozen=True)
class Polar:
    """A rule for k coordinates.

    Attributes
    ----------
    directions
        Unit vectors, shape (m, k).
    nodes
        Where along each the derivative is asked for, shape (n,).
    points
        Where along each f is told, shape (p,), ascending.
    edges
        Between the points, shape (p + 1,): each has the part of the line that it stands for.
    weights
        Of exp f at all points of all directions, shape (m, p).
    rim
        Surface that either end of each direction stands for, shape (m,).
    rule
        From derivatives at the nodes to f at the points, shape (p, n); f is 0 in the middle.
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
    """The rule for k coordinates, 1 to 3, with so many nodes.

    Parameters
    ----------
    degree
        On the sphere polynomials below it are summed exactly; even, and nothing to one coordinate.
    """
    half, weight = legendre.leggauss(POINTS // 2)
    half, weight = 0.5 * REACH * (half + 1), 0.5 * REACH * weight
    points = np.concatenate([-half[::-1], half])
    along = np.concatenate([weight[::-1], weight])
    edges = np.concatenate([[-REACH], np.cumsum(along) - REACH])
    nodes = REACH * chebyshev.chebpts1(n_nodes)
    vander = chebyshev.chebvander(nodes / REACH, n_nodes - 1)
    integral = chebyshev.chebval(
        points / REACH, chebyshev.chebint(np.eye(n_nodes), lbnd=0.0, axis=0)
    )
    directions, part = _half_sphere(k, degree)
    return Polar(
        directions=directions,
        nodes=nodes,
        points=points,
        edges=edges,
        weights=part[:, None] * along * np.abs(points) ** (k - 1),
        rim=part * REACH ** (k - 1),
        rule=REACH * integral.T @ np.linalg.inv(vander),
    )


def _half_sphere(k: int, degree: int) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    """One end of every diameter, and the part of the half sphere's surface it stands for."""
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
