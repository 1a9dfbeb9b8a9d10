"""What a fit hands to a sampler: starting points for chains, with an inverse mass matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from infimum.base.errors import coded_error
from infimum.families._distribution import Distribution, Gaussian
from infimum.target.space import Space
from infimum.target.target import Target

MOST_STARTS = 8
"""Draws tried for each chain."""

MOST_MASS = 200
"""Largest d for which an inverse mass matrix is dense by default: every leapfrog step of a sampler
multiplies by it."""

MASS_DRAWS = 4096
"""Draws from which the covariance of a q that is not Gaussian is taken."""


@dataclass(frozen=True, eq=False)
class Inits:
    """Starting points of chains.

    Attributes
    ----------
    unconstrained
        Shape (chains, d).
    constrained
        The parameters' pytree, each array with a leading axis of chains. Indexing and iterating
        give them chain by chain.
    """

    unconstrained: Float[np.ndarray, "chains d"]
    constrained: PyTree

    def __len__(self) -> int:
        return len(self.unconstrained)

    def __getitem__(self, chain: int) -> PyTree:
        return jax.tree_util.tree_map(lambda x: x[chain], self.constrained)

    def __iter__(self) -> Iterator[PyTree]:
        return (self[chain] for chain in range(len(self)))


def inits(z: Float[np.ndarray, "n d"], chains: int, space: Space, target: Target | None) -> Inits:
    """The first distinct draws at which density and gradient are finite.

    Raises
    ------
    ValueError
        If there are fewer than `chains`.
    """
    fine = np.isfinite(z).all(axis=1)
    if target is not None and target.differentiable:
        log_p, gradient = target.value_and_gradient(z)
        fine &= np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)
    elif target is not None:
        fine &= np.isfinite(target.values(z))
    distinct = np.sort(np.unique(z[fine], axis=0, return_index=True)[1])
    if len(distinct) < chains:
        raise coded_error(
            ValueError,
            "E405",
            f"only {len(distinct)} of {len(z)} draws are distinct with a finite density and "
            f"gradient, too few for {chains} chains: see fit.advice",
        )
    chosen = z[fine][distinct[:chains]]
    leaves = jax.tree_util.tree_leaves(space.draws(chosen))
    kept = [x for x, leaf in zip(leaves, space.leaves, strict=True) if not leaf.derived]
    return Inits(chosen, jax.tree_util.tree_unflatten(space.structure, kept))


def inverse_mass_matrix(q: Distribution, dense: bool, points: Callable[[int], Any]) -> np.ndarray:
    """Covariance of q, or of its draws if q is not Gaussian.

    Parameters
    ----------
    dense
        Whether (d, d) or its diagonal (d,).
    points
        Makes so many unconstrained draws.
    """
    if isinstance(q, Gaussian):
        if not dense:
            return np.asarray(q.variance())
        root = np.asarray(q.spread(np.eye(q.dim)))
        return np.asarray(root.T @ root)
    z = points(max(MASS_DRAWS, 8 * q.dim) if dense else MASS_DRAWS)
    return np.atleast_2d(np.cov(z.T)) if dense else np.asarray(z.var(axis=0, ddof=1))
