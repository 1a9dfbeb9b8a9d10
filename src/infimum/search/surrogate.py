"""A part of the rows in the place of all, corrected by exact passes until it says the same.

S(z) = log p(z) + N/m Σ_part log p(x_n | z) costs as much as m rows do. What it lacks,
D = log p̂ - S, is smooth where q is: after each search a pass over all rows at structured draws
from q gives its gradients, and by Stein's identity the quadratic nearest to D under q, which S
takes on. D is a control variate's remainder, and its third derivatives are all that is left: the
mean's error falls quadratically from search to search.

Jordan, Lee & Yang (2019) for surrogates by part of the data; the second order and the draws are
this project's.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from infimum.base.seeds import Seed, generator
from infimum.families._distribution import LARGEST_DENSE, Gaussian
from infimum.objective.draws import structured_draws
from infimum.solvers._solver import FEWEST, TOLERANCE
from infimum.target.target import Target

MOST_PASSES = 12
"""Corrections after which a search goes on by exact passes alone."""

REACH = 4.0
"""Times the distance to which a correction may be followed, in sds of q, that the optimum of a part
is expected from that of all, sqrt(d N/m): beyond, a quadratic says nothing."""


class Surrogate:
    """What is searched in the place of a target of many rows.

    Parameters
    ----------
    exact
        The target itself.
    seed, stream
        Which rows are taken.

    Attributes
    ----------
    target
        S with the corrections so far.
    passes
        How many.
    """

    def __init__(self, exact: Target, seed: Seed, stream: int) -> None:
        assert exact.large is not None
        self.exact = exact
        self.seed, self.stream = seed, stream
        self.part: Target = exact.large.part(generator(seed, stream))
        self.target = self.part
        self.passes = 0

    def correct(self, q: Gaussian) -> bool:
        """Take on the quadratic nearest to what is lacking under q, by one pass.

        Returns
        -------
        Whether q was the optimum already, up to `TOLERANCE` nats of what S lacked before. Nothing
        can be taken on where the density is undefined; the check at the end tells.
        """
        d = q.dim
        dense = d <= LARGEST_DENSE
        n = max(FEWEST, 2 * (d + 2) if dense else 0)
        eps = structured_draws(generator(self.seed, self.stream, 1, self.passes), n, d)
        z = q.push(eps)
        gradient = self.exact.value_and_gradient(z)[1]
        self.passes += 1
        lacking = q.whiten(gradient - self.part.value_and_gradient(z)[1])
        before = q.whiten(gradient - self.target.value_and_gradient(z)[1])
        if not np.isfinite(lacking).all():
            return True
        slope, curvature = _moments(eps, lacking, dense)
        self.target = self.part.plus(_quadratic(q, slope, curvature, self._reach(d)))
        slope, curvature = _moments(eps, before, dense)
        return bool(0.5 * (slope @ slope) + 0.25 * (curvature**2).sum() <= TOLERANCE)

    def _reach(self, dim: int) -> float:
        """Sds of q up to which a correction is followed."""
        assert self.exact.large is not None
        scale = self.exact.large.n_rows / self.exact.large.n_part
        return float(REACH * np.sqrt(dim * (1 + scale)))


def _moments(eps: np.ndarray, pull: np.ndarray, dense: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean slope and curvature of a function of ε with these gradients.

    Of the curvature the diagonal where a matrix would be too large.
    """
    slope = pull.mean(axis=0)
    if dense:
        curvature = pull.T @ eps / len(eps)
        return slope, 0.5 * (curvature + curvature.T)
    return slope, (pull * eps).mean(axis=0)


def _quadratic(q: Gaussian, slope: np.ndarray, curvature: np.ndarray, reach: float) -> Any:
    """The quadratic in ε = L⁻¹(z - mean), followed no farther than `reach`."""
    mean = np.asarray(q.mean, np.float64)
    dense = curvature.ndim == 2
    if dense:
        inverse = np.asarray(q.pull_back(mean + np.eye(q.dim)))
    else:
        inverse = np.asarray(q.variance()) ** -0.5
    # What the function closes over is data of the compiled program: it is compiled once.
    held = [jnp.asarray(x) for x in (mean, inverse, slope, curvature)]
    limit = jnp.full(1, reach)

    def added(z: Any) -> Any:
        mean, inverse, slope, curvature = held
        eps = (z - mean) @ inverse if dense else (z - mean) * inverse
        eps = eps * jnp.minimum(1.0, limit[0] / jnp.sqrt((eps**2).sum() + 1e-300))
        return slope @ eps + 0.5 * (eps @ curvature @ eps if dense else curvature @ eps**2)

    return added
