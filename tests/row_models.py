"""Models of many rows with known answers, for tests and for the processes that they start."""

import jax.numpy as jnp
import numpy as np
import scipy.stats

import infimum

SIGMA = 2.0


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return {"x": x, "y": x @ [1.0, -0.5] + SIGMA * rng.standard_normal(n)}


def log_prior(p):
    return -0.5 * (p["w"] ** 2).sum()


def log_likelihood(p, rows):
    error = (rows["y"] - rows["x"] @ p["w"]) / SIGMA
    return -0.5 * (error**2).sum() - len(rows["y"]) * np.log(SIGMA * np.sqrt(2 * np.pi))


def logistic(p, rows):
    eta = rows["x"] @ p["w"]
    return (rows["y"] * eta - jnp.logaddexp(0.0, eta)).sum()


EXAMPLE = {"w": np.zeros(2)}


def linear(rows, **options):
    return infimum.Rows(log_prior, log_likelihood, rows, EXAMPLE, **options)


def exact(rows):
    """Mean, covariance and log Z of the linear model; the prior lacks its constant, log 2π."""
    precision = np.eye(2) + rows["x"].T @ rows["x"] / SIGMA**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ rows["x"].T @ rows["y"] / SIGMA**2
    n = len(rows["y"])
    marginal = SIGMA**2 * np.eye(n) + rows["x"] @ rows["x"].T
    log_z = scipy.stats.multivariate_normal(np.zeros(n), marginal).logpdf(rows["y"])
    return mean, covariance, log_z + np.log(2 * np.pi)
