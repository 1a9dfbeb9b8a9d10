"""Block by block: the marginal of the hubs, log Z and draws against quadrature."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import infimum
from infimum import corrections
from infimum.corrections.blocks.marginal import Marginal
from infimum.corrections.blocks.split import split_of


def exact_log_marginal(y, log_tau, mu):
    """The log marginal by quadrature of each group."""
    grid = np.linspace(-9, 9, 2001)
    theta = mu + np.exp(log_tau) * grid
    log_p = y[:, None] * theta - np.exp(theta) - 0.5 * grid**2
    groups = scipy.special.logsumexp(log_p, axis=1) + np.log(grid[1] - grid[0])
    return groups.sum() - 0.5 * (mu**2 + (log_tau + 1) ** 2)


def test_the_marginal_of_the_hubs_is_exact(intercepts):
    fit, y = intercepts
    marginal = Marginal(fit.target, fit.q, split_of(fit.q))
    at = np.array([[0.3, -0.5], [-1.0, 1.0]])
    hubs = marginal.mean[:2] + at @ marginal.factor.T
    shift = np.log(np.diag(marginal.factor)).sum()
    for value, (log_tau, mu) in zip(marginal.values(at), hubs, strict=True):
        assert value - shift == pytest.approx(exact_log_marginal(y, log_tau, mu), abs=1e-4)


def test_hubs_and_evidence_are_those_of_quadrature(intercepts):
    """q has the mean of log_tau a quarter of an sd too high, or more."""
    fit, y = intercepts
    made = corrections.blocks(fit)
    assert made.verdict == "good", made
    assert (made.numbers["hubs"], made.numbers["groups"], made.numbers["group_size"]) == (2, 30, 1)
    log_tau, mu = np.linspace(-6, 0.5, 60), np.linspace(0.5, 1.8, 30)
    log_p = np.array([[exact_log_marginal(y, a, b) for b in mu] for a in log_tau])
    cell = (log_tau[1] - log_tau[0]) * (mu[1] - mu[0])
    log_z = scipy.special.logsumexp(log_p) + np.log(cell)
    weight = np.exp(log_p - log_p.max()).sum(axis=1)
    mean = np.average(log_tau, weights=weight)
    found = made.summary().loc["log_tau"]
    assert abs(found["mean"] - mean) < 4 * found["mcse"]
    assert abs(made.log_evidence.value - log_z) < 4 * made.log_evidence.se
    assert abs(np.asarray(fit.q.mean)[0] - mean) > 0.25 * found["sd"]


def test_groups_of_up_to_three_coordinates():
    """Intercepts and slopes of counts, without some slopes, against a grid for each group."""
    rng, sizes = np.random.default_rng(0), np.array([3, 1, 2, 3, 2])
    present = np.arange(3) < sizes[:, None]
    x = rng.standard_normal((5, 8, 3)) * present[:, None]
    x[:, :, 0] = 1.0
    y = rng.poisson(2.0, size=(5, 8)).astype(float)
    place = np.flatnonzero(present)

    def log_density(p):
        b = jnp.zeros(15).at[place].set(p["b"]).reshape(5, 3)
        eta = jnp.einsum("gjk,gk->gj", x, p["mean"] + jnp.exp(p["log_sd"]) * b)
        prior = -0.5 * jnp.sum(p["b"] ** 2) - 0.5 * p["mean"] ** 2
        return jnp.sum(y * eta - jnp.exp(eta)) + prior - 0.5 * (p["log_sd"] + 1) ** 2

    example = {"mean": 0.0, "log_sd": 0.0, "b": np.zeros(len(place))}
    target = infimum.Target(log_density, example)
    fit = infimum.fit(target, "sparse", progress=False)
    split = split_of(fit.q)
    assert split.groups.shape == (5, 3)
    assert np.sum(split.groups == fit.q.dim) == 4
    marginal = Marginal(target, fit.q, split)
    marginal.check(np.random.default_rng(0))
    at = np.array([[0.3, -0.5]])
    hubs = marginal.mean[split.hubs] + at[0] @ marginal.factor.T
    hub = dict(zip(np.array(target.names)[split.hubs], hubs, strict=True))
    node, weight = np.polynomial.legendre.leggauss(70)
    log_z, means = -0.5 * hub["mean"] ** 2 - 0.5 * (hub["log_sd"] + 1) ** 2, []
    for group, size in enumerate(sizes):
        b = np.stack(np.meshgrid(*[8 * node] * size, indexing="ij"), axis=-1)
        cell = functools.reduce(np.multiply.outer, [8 * weight] * size)
        padded = np.concatenate([b, np.zeros((*b.shape[:-1], 3 - size))], axis=-1)
        eta = (hub["mean"] + np.exp(hub["log_sd"]) * padded) @ x[group].T
        log_p = (y[group] * eta - np.exp(eta)).sum(axis=-1) - 0.5 * (b**2).sum(axis=-1)
        inside = scipy.special.logsumexp(log_p, b=cell)
        w = cell * np.exp(log_p - inside)
        means.append((w[..., None] * b).reshape(-1, size).sum(axis=0))
        log_z += inside
    shift = np.log(np.diag(marginal.factor)).sum()
    assert marginal.values(at)[0] - shift == pytest.approx(log_z, abs=1e-3)
    drawn = marginal.drawn(np.repeat(at, 500, axis=0), np.random.default_rng(1))[1]
    b = drawn[:, [name.startswith("b") for name in target.names]]
    error = (b.mean(axis=0) - np.concatenate(means)) / (b.std(axis=0) / np.sqrt(500))
    assert np.abs(error).max() < 4


def test_what_does_not_fall_apart_is_refused():
    def log_density(z):
        return -0.5 * jnp.sum(jnp.diff(z) ** 2) - 0.5 * jnp.sum(z**2)

    fit = infimum.fit(infimum.Target(log_density, np.zeros(40)), "sparse", progress=False)
    with pytest.raises(ValueError, match="coupled to each other"):
        corrections.blocks(fit)
