"""Likelihoods with local variables, and what is known of them by other means."""

import jax
import jax.numpy as jnp
import numpy as np

import infimum

HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def normal(x, scale=1.0):
    return -0.5 * (x / scale) ** 2 - jnp.log(scale) - HALF_LOG_2PI


def log_prior(p):
    return normal(p["mu"], 2.0) + normal(p["s"])


EXAMPLE = {"mu": 0.0, "s": 0.0}


NOISE = 0.7


def groups(n, size=4, seed=0):
    """Groups of one to `size` members, padded; what is padded is nonsense."""
    rng = np.random.default_rng(seed)
    y = 0.5 + 1.2 * rng.standard_normal((n, 1)) + NOISE * rng.standard_normal((n, size))
    inside = np.arange(size) < rng.integers(1, size + 1, n)[:, None]
    return {"y": np.where(inside, y, 99.0), "inside": inside}


def intercepts(p, local, rows):
    error = rows["y"] - p["mu"] - local["u"][:, None]
    members = jnp.where(rows["inside"], normal(error, NOISE), 0.0).sum(axis=1)
    return normal(local["u"], jnp.exp(p["s"])) + members


def closed(p, rows):
    """The same, integrated: the members of a group are jointly normal."""
    count = rows["inside"].sum(axis=1)
    error = jnp.where(rows["inside"], rows["y"] - p["mu"], 0.0)
    ratio = jnp.exp(2 * p["s"]) / NOISE**2
    square = (error**2).sum(axis=1) - ratio / (1 + ratio * count) * error.sum(axis=1) ** 2
    log_det = jnp.log1p(ratio * count) + 2 * count * np.log(NOISE)
    return (-0.5 * square / NOISE**2 - 0.5 * log_det - count * HALF_LOG_2PI).sum()


def grouped(rows, **options):
    return infimum.Rows(log_prior, intercepts, rows, EXAMPLE, local={"u": 0.0}, **options)


def poisson(p, local, rows):
    eta = p["mu"] + local["u"]
    return normal(local["u"], jnp.exp(p["s"])) + rows * eta - jnp.exp(eta)


def bernoulli(p, local, rows):
    eta = p["mu"] + local["u"]
    return normal(local["u"], jnp.exp(p["s"])) + rows * eta - 8 * jnp.logaddexp(0.0, eta)


def student(p, local, rows):
    u = local["u"]
    return normal(u, jnp.exp(p["s"])) - 2 * jnp.log1p((rows - p["mu"] - u) ** 2 / 3)


def reference(joint, p, rows, nodes=20_001):
    """log ∫ of each row on a dense grid, its gradient, and mean and sd of u."""
    u = np.linspace(-25, 25, nodes)

    def integrals(p):
        values = jax.vmap(lambda u: joint(p, {"u": jnp.full(len(rows), u)}, rows))(u)
        return jax.nn.logsumexp(values, axis=0) + np.log(u[1] - u[0]), values

    def only(p):
        return integrals(p)[0].sum()

    (total, values), slope = jax.jit(lambda p: (integrals(p), jax.jacrev(only)(p)))(p)
    w = np.exp(values - np.max(values, axis=0))
    mean = u @ w / w.sum(axis=0)
    return total, slope, mean, np.sqrt(u**2 @ w / w.sum(axis=0) - mean**2)


ERRORS = {"poisson": 3e-6, "bernoulli": 1e-6, "student": 3e-4}
"""Of log ∫ in a row: the conditionals of Student-t rows far out have two modes."""

LIKELIHOODS = {
    "poisson": (poisson, np.array([0.0, 1.0, 3.0, 40.0, 2000.0])),
    "bernoulli": (bernoulli, np.arange(9.0)),
    "student": (student, np.array([-9.0, -3.0, 0.0, 0.5, 2.0, 6.0])),
}


def slopes(p, local, rows):
    """Counts with an intercept and slopes of their own: rows {"x": (n, m, k), "y": (n, m)}."""
    eta = p["mu"] + jnp.einsum("nmk,nk->nm", rows["x"], local["u"])
    return normal(local["u"], jnp.exp(p["s"])).sum(axis=1) + (rows["y"] * eta - jnp.exp(eta)).sum(
        axis=1
    )


def linear_slopes(p, local, rows):
    """The same with normal errors, for which every rule is exact."""
    eta = p["mu"] + jnp.einsum("nmk,nk->nm", rows["x"], local["u"])
    prior = normal(local["u"], jnp.exp(p["s"])).sum(axis=1)
    return prior + normal(rows["y"] - eta, NOISE).sum(axis=1)


def sloped(n, k, m=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, m, k)) / np.sqrt(k)
    return {"x": x, "y": rng.poisson(np.exp(x.sum(axis=2))).astype(float)}
