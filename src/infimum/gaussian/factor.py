"""The factor L of a covariance L Lᵀ: lower triangular or diagonal, with the same verbs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Triangular:
    """Lower triangular L, or a stack of them. NumPy and JAX alike multiply with it.

    Rows are vectors x, shape (..., n, d); or one vector (d,).

    Attributes
    ----------
    entries
        Shape (d, d), or (K, d, d).
    """

    entries: Any

    def __getitem__(self, k: int) -> Triangular:
        """The k-th of a stack."""
        return Triangular(self.entries[k])

    def times(self, rows: Any) -> Any:
        """L x for each row."""
        return rows @ self.entries.swapaxes(-1, -2)

    def times_transposed(self, rows: Any) -> Any:
        """Lᵀ x for each row."""
        return rows @ self.entries

    def solve(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """L⁻¹ x for each row, by substitution."""
        return np.asarray(scipy.linalg.solve_triangular(self.entries, rows.T, lower=True).T)

    @functools.cached_property
    def inverse(self) -> Float[np.ndarray, "d d"]:
        """L⁻¹, for an L that many batches are solved with."""
        one = np.eye(len(self.entries))
        return np.ascontiguousarray(scipy.linalg.solve_triangular(self.entries, one, lower=True))

    def times_inverse(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """L⁻¹ x for each row, by the inverse."""
        return np.asarray(rows @ self.inverse.T)

    def times_inverse_transposed(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """L⁻ᵀ x for each row, by the inverse."""
        return np.asarray(rows @ self.inverse)

    def log_det(self) -> Any:
        """log |det L|: a number, or shape (K,) of a stack."""
        return np.log(np.diagonal(self.entries, axis1=-2, axis2=-1)).sum(axis=-1)

    def covariance(self) -> Float[np.ndarray, "*k d d"]:
        """L Lᵀ."""
        return np.asarray(self.entries @ self.entries.swapaxes(-1, -2))

    def matrix(self) -> Float[np.ndarray, "d d"]:
        """L itself."""
        return np.asarray(self.entries)

    def scaled(self, root: np.ndarray) -> Triangular:
        """The factor of L R Rᵀ Lᵀ for a root R: a matrix (d, d), or a diagonal (d,)."""
        product = self.entries * root if root.ndim == 1 else self.entries @ root
        return Triangular(lower_factor(product))


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Diagonal L, or a stack of them, with the verbs of `Triangular`.

    Attributes
    ----------
    entries
        The diagonal, shape (d,), or (K, d).
    """

    entries: Any

    def __getitem__(self, k: int) -> Diagonal:
        """The k-th of a stack."""
        return Diagonal(self.entries[k])

    @property
    def _row(self) -> Any:
        """The diagonal in a shape that multiplies rows: (d,), or (K, 1, d)."""
        return self.entries if self.entries.ndim == 1 else self.entries[:, None]

    def times(self, rows: Any) -> Any:
        """L x for each row."""
        return rows * self._row

    times_transposed = times

    def solve(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """L⁻¹ x for each row."""
        return np.asarray(rows / self._row)

    times_inverse = times_inverse_transposed = solve

    def log_det(self) -> Any:
        """log |det L|: a number, or shape (K,) of a stack."""
        return np.log(self.entries).sum(axis=-1)

    def covariance(self) -> Float[np.ndarray, "*k d d"]:
        """L Lᵀ as a full matrix."""
        return np.asarray((self.entries**2)[..., None] * np.eye(self.entries.shape[-1]))

    def matrix(self) -> Float[np.ndarray, "d d"]:
        """L as a full matrix."""
        return np.diag(self.entries)

    def scaled(self, root: np.ndarray) -> Diagonal:
        """The diagonal with the variances of L R Rᵀ Lᵀ, for a root R: a matrix, or a diagonal."""
        return Diagonal(self.entries * (root if root.ndim == 1 else np.linalg.norm(root, axis=1)))


for kind in (Triangular, Diagonal):  # a compiled program takes the entries as data
    jax.tree_util.register_dataclass(kind, data_fields=["entries"], meta_fields=[])

Factor = Triangular | Diagonal


def factor_beside(mean: Any, entries: Any) -> Factor:
    """The factor with these entries: a matrix has one axis more than the mean, a diagonal none."""
    return Triangular(entries) if entries.ndim > mean.ndim else Diagonal(entries)


def lower_factor(root: Float[np.ndarray, "d n"]) -> Float[np.ndarray, "d d"]:
    """The Cholesky factor of root·rootᵀ, which is not formed: by the QR decomposition of rootᵀ."""
    factor = np.asarray(np.linalg.qr(root.T, mode="r")).T
    return factor * np.where(np.diag(factor) < 0, -1.0, 1.0)
