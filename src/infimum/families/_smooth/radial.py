"""Smooth functions through values and slopes: radial functions with a quadratic.

s(u) = Σ_i a_i φ(u - u_i) - Σ_i b_i · ∇φ(u - u_i) + a quadratic, with φ = |u|³: no length has to be
chosen, and far from all points s is nearly quadratic. (Wendland 2005, chapter 16.) With |u|⁵ the
marginal of five scales was never nearer than 0.02 nats, with |u|³ 0.009.
"""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.linalg import LinAlgWarning
from scipy.spatial.distance import cdist

CHUNK = 2**22
"""Distances that are worked on together."""


def quadratic_terms(u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, "n m"]:
    """1, u_a and u_a u_b at each row."""
    a, b = np.tril_indices(u.shape[1])
    return np.concatenate([np.ones((len(u), 1)), u, u[:, a] * u[:, b]], axis=1)


def quadratic_slopes(u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, "h n m"]:
    """Derivatives of the terms by each coordinate."""
    n, h = u.shape
    a, b = np.tril_indices(h)
    eye = np.eye(h)[:, None]
    second = eye[:, :, a] * u[:, b] + eye[:, :, b] * u[:, a]
    return np.concatenate([np.zeros((h, n, 1)), np.broadcast_to(eye, (h, n, h)), second], axis=2)


def _kernels(u: Float[np.ndarray, "n h"]) -> Float[np.ndarray, "t t"]:
    """Values and slopes at each point of the function of each point, and of its slopes."""
    n, h = u.shape
    away = u[:, None] - u
    r = np.sqrt((away**2).sum(axis=2))
    first = 3 * r
    second = 3 / np.where(r > 0, r, np.inf)
    out = np.empty((1 + h, n, 1 + h, n))
    out[0, :, 0] = r**3
    for a in range(h):
        out[1 + a, :, 0] = first * away[..., a]
        out[0, :, 1 + a] = -out[1 + a, :, 0]
        for b in range(h):
            out[1 + a, :, 1 + b] = -second * away[..., a] * away[..., b] - (first if a == b else 0)
    return out.reshape((1 + h) * n, (1 + h) * n)


def through(
    u: Float[np.ndarray, "n h"], values: Float[np.ndarray, " n"], slopes: Float[np.ndarray, "n h"]
) -> Float[np.ndarray, " c"]:
    """Coefficients of the function with these values and slopes: a, b by coordinate, quadratic."""
    kernels = _kernels(u)
    terms = np.concatenate([quadratic_terms(u), *quadratic_slopes(u)])
    m = terms.shape[1]
    system = np.block([[kernels, terms], [terms.T, np.zeros((m, m))]])
    right = np.concatenate([values, slopes.T.ravel(), np.zeros(m)])
    if len(kernels) > m:
        with contextlib.suppress(np.linalg.LinAlgError, LinAlgWarning):
            return _solved(system, right)
    # Least squares, as few points leave some of the quadratic open: the smallest one is taken.
    scale = 1 / np.sqrt(np.maximum(np.abs(system).max(axis=1), np.finfo(float).tiny))
    solved = np.linalg.lstsq(scale[:, None] * system * scale, scale * right, rcond=None)[0]
    return np.asarray(scale * solved)


def _solved(
    system: Float[np.ndarray, "c c"], right: Float[np.ndarray, " c"]
) -> Float[np.ndarray, " c"]:
    """The solution of a symmetric system; a LinAlgWarning is raised if it is near singular."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LinAlgWarning)
        return np.asarray(scipy.linalg.solve(system, right, assume_a="sym"))


def at(
    coefficients: Float[np.ndarray, " c"], u: Float[np.ndarray, "n h"], x: Float[np.ndarray, "m h"]
) -> Float[np.ndarray, " m"]:
    """The function at each row of x.

    Parameters
    ----------
    u
        The points that it goes through.
    """
    n, h = u.shape
    a, b = coefficients[:n], coefficients[n : n * (1 + h)].reshape(h, n)
    out = quadratic_terms(x) @ coefficients[n * (1 + h) :]
    along = (u.T * b).sum(axis=0)
    size = max(1, CHUNK // n)
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        r = cdist(x[rows], u)
        out[rows] += (r * r * r) @ a - 3 * np.einsum("mn,mn->m", r, x[rows] @ b - along)
    return np.asarray(out)
