"""Gaussian fields on one sparse pattern, many at a time: factors, solves, draws and densities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from infimum.gaussian.sparse import Analysis
from infimum.gaussian.sparse_solve import solve_each, times_transposed_each
from infimum.gaussian.stack import LOG_2PI

LEAST_PIVOT = 1e-8
"""Least pivot of a factor of H, as a part of the diagonal."""

NONE = np.zeros(0)
"""What there is of a soft constraint where there is none."""


class Precision(NamedTuple):
    """Precisions (I + L) diag(pivots) (I + L)ᵀ of n fields, in the order of their layout.

    Attributes
    ----------
    values
        Of H, if they were given, shape (n, v).
    below, pivots
        Shapes (n, entries) and (n, k).
    turned
        Whether H was not positive definite, and was made so, shape (n,).
    across, stiffness
        With a soft constraint aᵀx ~ N(0, 1) beside, so that H + a aᵀ is the precision: H⁻¹ a and
        1 + aᵀ H⁻¹ a, shapes (n, k) and (n,); without one, (n, 0) and ones.
    """

    values: Float[np.ndarray, "n v"]
    below: Float[np.ndarray, "n e"]
    pivots: Float[np.ndarray, "n k"]
    turned: Bool[np.ndarray, " n"]
    across: Float[np.ndarray, "n s"]
    stiffness: Float[np.ndarray, " n"]

    def log_det(self) -> Float[np.ndarray, " n"]:
        """log |H|, the soft constraint included."""
        return np.asarray(np.log(self.pivots).sum(axis=1) + np.log(self.stiffness))


class SparseFields:
    """Fields of k coordinates whose precisions have entries in the same places.

    Parameters
    ----------
    k
        Number of coordinates.
    edges
        Pairs (row > column) that H couples, shape (2, m). The values of H are one vector: its
        diagonal, then an entry for each edge.
    soft
        Weights a of a soft constraint aᵀx ~ N(0, 1), by which the precision is more by a aᵀ, shape
        (k,); or none, shape (0,).
    """

    def __init__(
        self, k: int, edges: Int[np.ndarray, "2 m"], soft: Float[np.ndarray, " s"] = NONE
    ) -> None:
        self.edges, self.soft = edges, soft
        self.analysis = Analysis.of(k, edges)

    def factors(self, values: Float[np.ndarray, "n v"]) -> Precision:
        """Factors of H, made positive definite: pivots below a small part of the diagonal turn."""
        layout, k = self.analysis.layout, self.analysis.dim
        diagonal = np.abs(values[:, layout.order])
        pivots, below = values[:, layout.order], np.zeros((len(values), len(layout.rows)))
        if self.edges.size:
            for i, row in enumerate(values):
                factor = self.analysis.factor(row)
                if factor is not None:
                    pivots[i], below[i] = factor.pivots, factor.below
        least = LEAST_PIVOT * diagonal + np.finfo(float).tiny
        turned = np.asarray(~(pivots > 0).all(axis=1))
        pivots = np.maximum(np.abs(pivots), least).reshape(-1, k)
        return self.of_factors(below, pivots)._replace(values=values, turned=turned)

    def of_factors(
        self, below: Float[np.ndarray, "n e"], pivots: Float[np.ndarray, "n k"]
    ) -> Precision:
        """The precisions of these factors; their values are left out."""
        n, empty = len(pivots), np.zeros((len(pivots), 0))
        free = Precision(empty, below, pivots, np.zeros(n, bool), empty, np.ones(n))
        if not self.soft.size:
            return free
        across = self.inverse_times(free, np.broadcast_to(self.soft, pivots.shape))
        return free._replace(across=across, stiffness=1 + across @ self.soft)

    def whitened(
        self, precision: Precision, x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """D^-½ (I + L)⁻¹ P x."""
        layout = self.analysis.layout
        y = solve_each(layout, precision.below, x[:, layout.order], False)
        return np.asarray(y / np.sqrt(precision.pivots))

    def spread(
        self, precision: Precision, eps: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """Pᵀ (I + L)⁻ᵀ D^-½ ε: of covariance H⁻¹ if ε is standard normal."""
        out, layout = np.empty(eps.shape), self.analysis.layout
        scaled = eps / np.sqrt(precision.pivots)
        out[:, layout.order] = solve_each(layout, precision.below, scaled, True)
        return out

    def base(
        self, precision: Precision, away: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """The ε of which `away` is the spread: D^½ (I + L)ᵀ P away."""
        layout = self.analysis.layout
        y = times_transposed_each(layout, precision.below, away[:, layout.order])
        return np.asarray(y * np.sqrt(precision.pivots))

    def inverse_times(
        self, precision: Precision, x: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """H⁻¹ x, the soft constraint included."""
        y = self.spread(precision, self.whitened(precision, x))
        if not precision.across.shape[1]:
            return y
        along = (precision.across * x).sum(axis=1) / precision.stiffness
        return np.asarray(y - along[:, None] * precision.across)

    def constrained(
        self,
        precision: Precision,
        away: Float[np.ndarray, "n k"],
        errors: Float[np.ndarray, " n"],
    ) -> Float[np.ndarray, "n k"]:
        """Draws of the fields without the soft constraint, as draws with it.

        Conditional simulation: each is moved to where its sum, with an error of N(0, 1), is 0.
        """
        sums = away @ self.soft + errors
        return away - (sums / precision.stiffness)[:, None] * precision.across

    def log_normal(
        self, precision: Precision, away: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, " n"]:
        """log density so far from the mean."""
        along = away @ self.soft if self.soft.size else np.zeros(len(away))
        squares = (self.base(precision, away) ** 2).sum(axis=1) + along**2
        return np.asarray(0.5 * (precision.log_det() - squares - away.shape[1] * LOG_2PI))
