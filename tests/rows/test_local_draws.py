"""Draws of local variables: their moments, and what they depend on."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from local_models import (
    EXAMPLE,
    LIKELIHOODS,
    NOISE,
    closed,
    grouped,
    groups,
    linear_slopes,
    log_prior,
    normal,
    poisson,
    reference,
    sloped,
)

import infimum
from infimum.base.program import double_precision
from infimum.rows import local_draws
from infimum.rows.local_samplers import GRID_CELLS
from infimum.rows.quadrature import NODES


@pytest.mark.parametrize("name", ["poisson", "student"])
def test_draws_of_one_variable_have_the_moments_of_the_conditional(name):
    joint, rows = LIKELIHOODS[name]
    target = infimum.Rows(log_prior, joint, rows, EXAMPLE, local={"u": 0.0})
    n = 5000
    [(start, block)] = target.locals({"mu": np.full(n, 0.4), "s": np.zeros(n)})
    assert start == 0
    assert block["u"].shape == (n, len(rows))
    with double_precision():
        _, _, mean, sd = reference(joint, {"mu": 0.4, "s": 0.0}, rows)
    z = (block["u"] - mean) / sd
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(n)
    spread = (z**2).std(axis=0) / np.sqrt(n)
    assert (np.abs((z**2).mean(axis=0) - 1) / spread).max() < 4.5
    assert np.abs(np.corrcoef(z.T) - np.eye(len(rows))).max() < 4.5 / np.sqrt(n)


def test_draws_of_one_variable_have_its_distribution():
    target = infimum.Rows(
        lambda p: normal(p["a"]),
        lambda p, local, rows: rows * local["u"] - p["a"] * 0 - jnp.exp(local["u"]),
        np.array([3.0, 1.0]),
        {"a": 0.0},
        local={"u": 0.0},
    )
    [(_, block)] = target.locals({"a": np.zeros(4000)})
    for row, shape in enumerate((3, 1)):
        known = scipy.stats.gamma(shape)
        assert scipy.stats.kstest(np.exp(block["u"][:, row]), known.cdf).pvalue > 1e-3


@pytest.mark.parametrize("k", [2, 5])
def test_draws_of_several_variables_have_the_moments_of_the_conditional(k):
    rows = sloped(3, k)
    target = infimum.Rows(log_prior, linear_slopes, rows, EXAMPLE, local={"u": np.zeros(k)})
    n = 2000
    [(_, block)] = target.locals({"mu": np.full(n, 0.4), "s": np.full(n, 0.3)})
    assert block["u"].shape == (n, 3, k)
    for row, x in enumerate(rows["x"]):
        covariance = np.linalg.inv(x.T @ x / NOISE**2 + np.eye(k) * np.exp(-0.6))
        mean = covariance @ x.T @ (rows["y"][row] - 0.4) / NOISE**2
        z = np.linalg.solve(np.linalg.cholesky(covariance), (block["u"][:, row] - mean).T)
        assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(n)
        assert np.abs(z @ z.T / n - np.eye(k)).max() < 4.5 * np.sqrt(2 / n)


def test_draws_follow_the_parameters_and_the_seed_not_the_blocks(monkeypatch):
    rows = groups(100)
    target = grouped(rows)
    rng = np.random.default_rng(0)
    draws = {"mu": rng.normal(0.5, 0.1, 40), "s": rng.normal(0.2, 0.1, 40)}
    [(_, whole)] = target.locals(draws)
    monkeypatch.setattr(local_draws, "DRAW_SET", 2**20)
    blocks = list(target.locals(draws))
    assert len(blocks) > 1
    assert [start for start, _ in blocks] == list(range(0, 100, target._local_draws.block_size))
    np.testing.assert_allclose(
        np.concatenate([b["u"] for _, b in blocks], axis=1), whole["u"], rtol=1e-9, atol=1e-12
    )
    [(start, some)] = target.locals(draws, rows=[3, 70])
    assert start == 0
    np.testing.assert_allclose(some["u"], whole["u"][:, [3, 70]], rtol=1e-9)
    [(_, other)] = target.locals(draws, rows=[3, 70], seed=1)
    assert not np.any(other["u"] == some["u"])


# ---- memory --------------------------------------------------------------------------------------


def test_only_blocks_are_ever_held():
    """Of 200,000 rows, on which local variables and nodes would take 1.3 GB a batch of points."""
    sizes = []

    def joint(p, local, rows):
        sizes.append(local["u"].shape[0])
        return poisson(p, local, rows)

    n = 200_000
    y = np.random.default_rng(0).poisson(2.0, n).astype(np.float32)
    target = infimum.Rows(log_prior, joint, y, EXAMPLE, local={"u": 0.0}, way="blocks")
    total, _ = target.value_and_gradient(np.zeros((1, 2)))
    assert np.isfinite(total).all()
    size = target.large.posterior.passes.size
    assert max(sizes) <= max(1000, size)
    assert size * NODES * 8 * 32 <= 2**22
    draws = {"mu": np.zeros(3), "s": np.zeros(3)}
    blocks = itertools.islice(target.locals(draws), 3)
    places = [(start, block["u"].shape) for start, block in blocks]
    width = target._local_draws.block_size
    assert places == [(i * width, (3, width)) for i in range(3)]
    assert width * GRID_CELLS * 8 * 32 <= local_draws.DRAW_SET


def test_draws_and_rows_that_do_not_fit():
    rows = groups(10)
    draws = {"mu": np.zeros(4), "s": np.zeros(4)}
    with pytest.raises(ValueError, match=r"Rows\(local=\.\.\.\)"):
        infimum.Rows(log_prior, closed, rows, EXAMPLE).locals(draws)
    target = grouped(rows)
    for wrong in (
        {"mu": np.zeros(4)},
        {"mu": 0.0, "s": 0.0},
        {"mu": np.zeros(4), "s": np.zeros(3)},
    ):
        with pytest.raises(ValueError, match=r"give fit\.sample"):
            target.locals(wrong)
    for wrong in ([3, 1], [10], [-1], [0.5], []):
        with pytest.raises(ValueError, match="rows"):
            target.locals(draws, rows=wrong)
