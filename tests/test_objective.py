"""Base draws carry the moments they claim; the loss has one sign and tells what it can't count."""

import jax
import numpy as np
import pytest

from infimum import families
from infimum.objective.loss import OUTSIDE_PENALTY
from infimum.objective.draws import chunk_sizes
from infimum.objective.draws import fresh_draws
from infimum.base.seeds import generator
from infimum.objective.draws import log_density
from infimum.objective.loss import outcome
from infimum.objective.draws import structured_draws


@pytest.mark.parametrize(("n", "dim"), [(64, 1), (24, 10), (64, 10), (404, 200)])
def test_structured_draws_are_whitened(n, dim):
    eps = structured_draws(np.random.default_rng(0), n, dim)
    assert eps.shape == (n, dim)
    np.testing.assert_allclose(eps.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(eps.T @ eps / n, np.eye(dim), atol=1e-10)
    np.testing.assert_allclose(eps[: n // 2], -eps[n // 2 :])


def test_with_fewer_draws_each_coordinate_alone_is_whitened():
    eps = structured_draws(np.random.default_rng(0), 16, 100)
    np.testing.assert_allclose(eps.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose((eps**2).mean(0), 1)


def test_loss_is_minus_the_elbo():
    log_q, log_p = np.array([1.0, 2.0]), np.array([0.0, -1.0])
    assert outcome(log_q, log_p).loss == 2.0


def test_zero_density_restricts_q_and_costs():
    log_q, log_p = np.zeros(4), np.array([1.0, 1.0, 1.0, -np.inf])
    result = outcome(log_q, log_p)
    np.testing.assert_allclose(result.loss, -1 - np.log(0.75) + 0.25 * OUTSIDE_PENALTY)
    assert result.inside.tolist() == [True, True, True, False]
    assert outcome(log_q, np.full(4, -np.inf)).loss == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_undefined_density_is_no_number(wrong):
    log_p = np.array([0.0, wrong, 0.0])
    result = outcome(np.zeros(3), log_p)
    assert result.loss == np.inf
    assert result.undefined == 1
    gradient = np.array([[0.0], [0.0], [wrong]])
    assert outcome(np.zeros(3), np.zeros(3), gradient).undefined == 2


def test_seeds_give_streams_of_their_own():
    def draw(seed, *stream):
        return generator(seed, *stream).standard_normal()

    values = {draw(0), draw(1), draw(0, 0), draw(0, 0, 0), draw(0, 1), draw(0, 1, 0)}
    values |= {draw(jax.random.key(3), 1), draw(jax.random.PRNGKey(7), 1)}
    assert len(values) == 8
    assert draw(jax.random.key(3)) == draw(jax.random.PRNGKey(3))
    with pytest.raises(ValueError, match="negative"):
        generator(-1)
    with pytest.raises(TypeError, match="int or a JAX key"):
        generator("a")


def test_fresh_draws_come_in_chunks_with_their_density():
    q = families.named("fullrank").init(np.zeros(3), np.ones(3))
    chunks = list(fresh_draws(q, 1500, 0, 1))
    assert [len(z) for z, _ in chunks] == chunk_sizes(1500, 3) == [1024, 476]
    for z, log_q in chunks:
        np.testing.assert_allclose(log_density(q, z), log_q)
    assert max(chunk_sizes(10, 10**7)) == 1
