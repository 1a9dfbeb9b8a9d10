"""Targets with a sparse Hessian, and sparse matrices, shared by tests."""

import jax.numpy as jnp
import numpy as np

import infimum


def logistic(groups, per, seed=0):
    """Random intercepts: three hubs, and a coordinate a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), per)
    x = rng.standard_normal(groups * per)
    chance = 1 / (1 + np.exp(-(0.5 + 0.8 * rng.standard_normal(groups)[group] + 0.7 * x)))
    y = jnp.asarray((rng.random(groups * per) < chance).astype(float))

    def log_density(p):
        eta = p["theta"][group] + p["beta"] * x
        prior = -0.5 * jnp.sum(((p["theta"] - p["mu"]) / p["tau"]) ** 2)
        prior -= groups * jnp.log(p["tau"]) + 0.5 * (p["mu"] ** 2 + p["beta"] ** 2) + p["tau"]
        return prior + jnp.sum(y * eta - jnp.logaddexp(0.0, eta))

    example = {"beta": 0.0, "mu": 0.0, "tau": 1.0, "theta": np.zeros(groups)}
    return infimum.Target(log_density, example, {"tau": "positive"})


def chain(steps):
    """A Gaussian random walk seen with noise, of known log Z."""
    precision = np.diag(np.full(steps, 3.0)) - np.eye(steps, k=1) - np.eye(steps, k=-1)
    mean = np.sin(np.arange(steps))
    constant = 2.0 - 0.5 * steps * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(precision)[1]

    def log_density(z):
        z = z - mean
        return constant - 1.5 * jnp.sum(z**2) + jnp.sum(z[1:] * z[:-1])

    return infimum.Target(log_density, np.zeros(steps)), mean, precision


def random_edges(dim, share, rng):
    return np.array(np.nonzero(np.tril(rng.random((dim, dim)) < share, -1)))


def dense(dim, edges, values):
    matrix = np.diag(values[:dim])
    matrix[edges[0], edges[1]] = matrix[edges[1], edges[0]] = values[dim:]
    return matrix
