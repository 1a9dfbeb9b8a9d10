"""TODO."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

NODES = 25
SPACING = 0.36
BEND = 0.5
"""Of the rule for one variable: nodes, their distance in t, and c. Over 52 Poisson, Bernoulli and
Student-t rows with prior sds from 0.3 to 8 the median error of log ∫ was 1e-10 nats, that of a
Gaussian 8e-12, and 3e-6 the largest but where the conditional has two modes or is flat over ten sds
of its curvature (6e-5, 0.02 at worst). Gauss-Hermite rules of 9, 15 and 25 nodes had 3e-3, 3e-4 and
9e-5 in the same place, and 0.3, 0.1 and 0.02 at worst."""

PRODUCT_NODES = {2: 9, 3: 5}
"""Nodes a variable of the Gauss-Hermite rules for two and three: 81 and 125 in all. Over 20 rows of
five counts with slopes of prior sd 0.74 the errors of log ∫ were 1e-5 nats at most, 9e-7 in the
median, by 9 nodes in two variables; 2e-3 and 3e-5 by 5 in three. With sd 1.65 they were 4e-4 and
5e-6, 8e-3 and 8e-4. One node, which is Laplace's approximation, had 1e-2 to 7e-2."""


class Rule(NamedTuple):
    """Points t and weights with ∫ f(u) du ≈ |S| Σ_j exp(log_w_j) f(m + S t_j).

    Attributes
    ----------
    t
        Points in sds of the conditional, shape (j, k).
    log_w
        Shape (j,).
    name
        What to call it in print.
    """

    t: np.ndarray
    log_w: np.ndarray
    name: str


def rule_for(k: int) -> Rule:
    """The rule for k local variables."""
    if k == 1:
        return _trapezoid(NODES, SPACING, BEND)
    if k in PRODUCT_NODES:
        return _product(k, PRODUCT_NODES[k])
    return Rule(np.zeros((1, k)), np.full(1, 0.5 * k * math.log(2 * math.pi)), "Laplace")


def _trapezoid(n: int, spacing: float, bend: float) -> Rule:
    """Equal steps in t of u = sinh(c t)/c."""
    s = bend * spacing * (np.arange(n) - (n - 1) / 2)
    log_w = math.log(spacing) + np.log(np.cosh(s))
    return Rule((np.sinh(s) / bend)[:, None], log_w, f"a trapezoidal rule of {n} nodes")


def _product(k: int, n: int) -> Rule:
    """Every combination of Gauss-Hermite nodes."""
    t, w = np.polynomial.hermite_e.hermegauss(n)
    points = np.stack(np.meshgrid(*[t] * k, indexing="ij"), axis=-1).reshape(-1, k)
    each = np.log(w) + 0.5 * t**2
    log_w = np.sum(np.meshgrid(*[each] * k, indexing="ij"), axis=0).ravel()
    return Rule(points, log_w, f"Gauss-Hermite rules of {n} nodes a variable")
