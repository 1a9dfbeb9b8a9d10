"""Densities with heavy tails, of which log Z is 0."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

import infimum


def student(dim, freedom):
    """A t whose coordinates share one radius."""
    constant = gammaln((freedom + dim) / 2) - gammaln(freedom / 2)
    constant -= 0.5 * dim * jnp.log(freedom * jnp.pi)
    return infimum.Target(
        lambda z: constant - 0.5 * (freedom + dim) * jnp.log1p(jnp.sum(z**2) / freedom),
        np.zeros(dim),
    )
