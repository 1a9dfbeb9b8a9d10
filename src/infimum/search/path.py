"""The path of an ascent: the point on it around which a Gaussian has the best ELBO.

The mode of a hierarchy is often at infinity, and the ascent's end says nothing; the mass lies
somewhere on the way there. Diagonal curvature follows from the changes of the gradient along the
path. (Zhang, Carpenter, Gelman & Vehtari 2022, with a diagonal in place of a low rank.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.optimize
from jaxtyping import Float

from infimum.gaussian.stack import LOG_2PI
from infimum.target.target import Target

MOST_ITERATIONS = 200
"""Iterations of the ascent."""

LOOKS = 12
"""Points of the path at which an ELBO is estimated."""

LOOK_DRAWS = 8
"""Draws of each estimate."""


class Local(NamedTuple):
    """A Gaussian of independent coordinates somewhere on a path.

    Attributes
    ----------
    elbo
        In nats, from few draws.
    mean, scale
        Shapes (d,).
    n_gradients
        What the whole path has cost.
    """

    elbo: float
    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    n_gradients: int


def best_on_path(target: Target, start: Float[np.ndarray, " d"], rng: np.random.Generator) -> Local:
    """Ascend log p̂ by L-BFGS, and return the best of the Gaussians along the way."""
    path: list[tuple[float, np.ndarray, np.ndarray]] = []

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        log_p, gradient = target.value_and_gradient(z[None])
        fine = bool(np.isfinite(log_p[0]) and np.isfinite(gradient).all())
        if fine and (not path or log_p[0] > path[-1][0]):
            path.append((float(log_p[0]), z.copy(), gradient[0]))
        return (-float(log_p[0]), -gradient[0]) if fine else (np.inf, np.zeros(len(z)))

    ended = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS}
    )
    spent = int(ended.nfev)
    if not path:
        return Local(-np.inf, start, np.ones(len(start)), spent)
    best = Local(-np.inf, path[0][1], np.ones(len(start)), spent)
    variance, looks = np.ones(len(start)), set(np.linspace(0, len(path) - 1, LOOKS).astype(int))
    for i, (_, z, gradient) in enumerate(path):
        if i:
            variance = _updated(variance, z - path[i - 1][1], path[i - 1][2] - gradient)
        if i not in looks:
            continue
        half = rng.standard_normal((LOOK_DRAWS // 2, len(z)))
        eps, sd = np.concatenate([half, -half]), np.sqrt(variance)
        mean = z + variance * gradient
        log_p = target.values(mean + sd * eps)
        spent += LOOK_DRAWS
        elbo = float(np.mean(log_p + 0.5 * (eps**2).sum(1)) + np.log(sd).sum())
        elbo += 0.5 * len(z) * LOG_2PI
        if elbo > best.elbo:
            best = Local(elbo, mean, sd, spent)
    return best._replace(n_gradients=spent)


def _updated(
    variance: Float[np.ndarray, " d"],
    moved: Float[np.ndarray, " d"],
    change: Float[np.ndarray, " d"],
) -> Float[np.ndarray, " d"]:
    """The diagonal of the inverse Hessian after one more step of the path.

    Parameters
    ----------
    moved, change
        The step s, and by how much the gradient of -log p̂ changes along it, y.
    """
    along = float(moved @ change)
    if along <= 1e-12 * float(change @ change):
        return variance
    a, c = float(change @ (variance * change)), float((moved / variance) @ moved)
    inverse = a / (along * variance) + change**2 / along - a * moved**2 / (along * c * variance**2)
    return np.asarray(np.clip(1 / np.maximum(inverse, 1e-12), 1e-10, 1e6))
