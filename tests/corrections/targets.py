"""Targets that corrections are tried on."""

import jax.numpy as jnp
import numpy as np

import infimum

LOG_Z = 3.0


def two_modes():
    """0.7 N(-4, 1) + 0.3 N(4, 1) in each of two coordinates together."""

    def log_density(z):
        parts = [jnp.log(w) - 0.5 * jnp.sum((z - m) ** 2) for w, m in ((0.7, -4.0), (0.3, 4.0))]
        return LOG_Z - jnp.log(2 * jnp.pi) + jnp.logaddexp(*parts)

    return infimum.Target(log_density, np.zeros(2))


def intercepts():
    """Counts of 30 groups with a common mean and scale: the target, and the counts."""
    y = np.random.default_rng(0).poisson(3.0, size=30).astype(float)

    def log_density(p):
        inside = jnp.sum(y * p["theta"] - jnp.exp(p["theta"]))
        spread = (p["theta"] - p["mu"]) * jnp.exp(-p["log_tau"])
        prior = -0.5 * jnp.sum(spread**2) - 30 * p["log_tau"]
        return inside + prior - 0.5 * (p["mu"] ** 2 + (p["log_tau"] + 1) ** 2)

    example = {"log_tau": 0.0, "mu": 0.0, "theta": np.zeros(30)}
    return infimum.Target(log_density, example), y
