"""x given θ as a Gaussian field, by its natural parameters or by the factors of its precision."""

from __future__ import annotations

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float

from infimum.families.nested.conditional import Conditional
from infimum.families.nested.known import Known
from infimum.families.nested.precision import Precision, SparseFields
from infimum.families.nested.terms import Terms


class GaussianField(Conditional):
    """x given θ as N(m, H⁻¹), with H on a sparse pattern.

    Attributes
    ----------
    edges
        Pairs (row > column) of x that H couples, shape (2, m).
    soft
        Weights a of a soft constraint aᵀx ~ N(0, 1), by which the precision is more by a aᵀ, shape
        (k,); or none, shape (0,).
    """

    edges: eqx.AbstractVar[np.ndarray]
    soft: eqx.AbstractVar[np.ndarray]

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """k."""

    @property
    def size(self) -> int:
        """H, its factor, and a few numbers a coordinate."""
        entries = len(self.fields().analysis.layout.rows)
        return self.edges.shape[1] + entries + 5 * self.dim

    def fields(self) -> SparseFields:
        """The algebra of fields on this pattern."""
        return SparseFields(self.dim, self.edges, self.soft)

    @abc.abstractmethod
    def at(
        self,
        fields: SparseFields,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
    ) -> tuple[Float[np.ndarray, "m k"], Precision]:
        """The mean and the precision at each θ."""

    def draw_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
        """A draw of x for each θ, and its log density."""
        fields = self.fields()
        mean, precision = self.at(fields, theta, shares)
        away = fields.spread(precision, rng.standard_normal(mean.shape))
        if self.soft.size:
            away = fields.constrained(precision, away, rng.standard_normal(len(theta)))
        return mean + away, fields.log_normal(precision, away)

    def density_at(
        self,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
        x: Float[np.ndarray, "m k"],
    ) -> Float[np.ndarray, " m"]:
        """log q(x | θ)."""
        fields = self.fields()
        mean, precision = self.at(fields, theta, shares)
        return fields.log_normal(precision, x - mean)


class NaturalField(GaussianField):
    """N(H⁻¹ b, H⁻¹), by H and b.

    Parts of them are sums of powers of the scales, such as the 1/σ² of a prior. These terms are
    exact. The rest, the part of the data, hardly changes with θ, and is interpolated linearly. So a
    direction in which it is 0 at all known θ keeps a 0. Small errors there would matter most: H may
    be a millionth of what it is in other directions.

    Attributes
    ----------
    values
        H at each known θ without its terms: the diagonal, then an entry for each edge, shape
        (n, v).
    pull
        b at each known θ without its terms, shape (n, k).
    terms
        Of H and b, one after the other.
    """

    known: Known
    values: np.ndarray
    pull: np.ndarray
    terms: Terms
    edges: np.ndarray
    soft: np.ndarray

    @property
    def dim(self) -> int:
        """k."""
        return self.pull.shape[1]

    def at(
        self,
        fields: SparseFields,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
    ) -> tuple[Float[np.ndarray, "m k"], Precision]:
        """The mean and the precision at each θ."""
        n = self.values.shape[1]
        exact = self.terms.at(theta, n + self.dim)
        precision = fields.factors(shares @ self.values + exact[:, :n])
        return fields.inverse_times(precision, shares @ self.pull + exact[:, n:]), precision


class FactoredField(GaussianField):
    """N(m, H⁻¹), by m and by the factors of H.

    For scales that H hangs on by no sums of powers, as where effects of a nonlinear likelihood are
    multiplied by their scale.

    Attributes
    ----------
    mean
        m at each known θ, shape (n, k).
    log_pivots, below
        log D and the entries of L, with H = (I + L) D (I + L)ᵀ in the order of its factor, shapes
        (n, k) and (n, e).
    """

    known: Known
    mean: np.ndarray
    log_pivots: np.ndarray
    below: np.ndarray
    edges: np.ndarray
    soft: np.ndarray

    @property
    def dim(self) -> int:
        """k."""
        return self.mean.shape[1]

    def at(
        self,
        fields: SparseFields,
        theta: Float[np.ndarray, "m h"],
        shares: Float[np.ndarray, "m n"],
    ) -> tuple[Float[np.ndarray, "m k"], Precision]:
        """The mean and the precision at each θ."""
        precision = fields.of_factors(shares @ self.below, np.exp(shares @ self.log_pivots))
        return shares @ self.mean, precision
