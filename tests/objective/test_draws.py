"""Base draws carry the moments that they claim; fresh draws come in chunks, with their density."""

import numpy as np
import pytest

from infimum import families
from infimum.objective.draws import chunk_sizes, fresh_draws, log_density, structured_draws


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


def test_fresh_draws_come_in_chunks_with_their_density():
    q = families.named("fullrank").init(np.zeros(3), np.ones(3))
    chunks = list(fresh_draws(q, 1500, 0, 1))
    assert [len(z) for z, _ in chunks] == chunk_sizes(1500, 3) == [1024, 476]
    for z, log_q in chunks:
        np.testing.assert_allclose(log_density(q, z), log_q)
    assert max(chunk_sizes(10, 10**7)) == 1
