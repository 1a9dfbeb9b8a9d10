"""Curvature of log p̂ at points, from central differences of its gradient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def difference_steps(root: Float[np.ndarray, "d d"], step: float) -> Float[np.ndarray, "m d"]:
    """Steps to take the gradient at: forward along each of the d columns of a root, then back."""
    return step * np.concatenate([root.T, -root.T])


def slope_changes(
    gradient: Float[np.ndarray, "*n m d"], step: float
) -> Float[np.ndarray, "*n d d"]:
    """Derivative of the gradient along each column.

    Parameters
    ----------
    gradient
        At one point, or at n points, moved by the m = 2d steps of `difference_steps`.
    """
    half = gradient.shape[-2] // 2
    return (gradient[..., :half, :] - gradient[..., half:, :]) / (2 * step)


def curvature_from(
    whitened: Float[np.ndarray, "*n m d"], step: float
) -> Float[np.ndarray, "*n d d"]:
    """-Rᵀ ∇²log p̂ R, made symmetric.

    Parameters
    ----------
    whitened
        Rᵀ ∇log p̂ at points moved by the m = 2d steps along the root R.
    """
    change = slope_changes(whitened, step)
    return -0.5 * (change + np.swapaxes(change, -1, -2))
