"""The quadratic nearest to log p̂ over draws, from values alone: what stands in for gradients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Quadratic(NamedTuple):
    """The quadratic in ε that is nearest to log p̂ over base draws.

    Attributes
    ----------
    slope
        Estimates E_q[Lᵀ ∇log p̂], shape (d,).
    curvature
        Estimates E_q[Lᵀ ∇²log p̂ L], shape (d, d).
    noise
        Variance of log p̂ less the quadratic, at one draw, in nats².
    """

    slope: np.ndarray
    curvature: np.ndarray
    noise: float


def n_coefficients(dim: int) -> int:
    """How many coefficients a quadratic in d variables has."""
    return 1 + dim + dim * (dim + 1) // 2


def quadratic(eps: Float[np.ndarray, "n d"], log_p: Float[np.ndarray, " n"]) -> Quadratic:
    """Regress log p̂ on Hermite polynomials of degree <= 2, because there are no gradients.

    By Stein's identity the coefficients are the expected gradient and Hessian, to which the
    quadratic part of log p̂ adds no noise.

    Parameters
    ----------
    eps
        Base draws, more of them than `n_coefficients`.
    log_p
        log p̂ at the draws of q, finite.
    """
    n, d = eps.shape
    i, j = np.tril_indices(d)
    products = eps[:, i] * eps[:, j] - (i == j)
    design = np.concatenate([np.ones((n, 1)), eps, products], axis=1)
    coefficients = np.linalg.lstsq(design, log_p, rcond=None)[0]
    left = log_p - design @ coefficients
    curvature = np.zeros((d, d))
    curvature[i, j] = coefficients[1 + d :]
    noise = float(left @ left) / max(1, n - len(coefficients))
    return Quadratic(coefficients[1 : 1 + d], curvature + curvature.T, noise)
