"""Sparse factors: LDLᵀ, entries of the inverse, and products, against dense matrices."""

import numpy as np
import pytest
from sparse_models import dense, random_edges

from infimum.gaussian.sparse import Analysis


@pytest.mark.parametrize(("dim", "share"), [(1, 0.0), (2, 1.0), (12, 0.2), (40, 0.1), (30, 1.0)])
def test_factor_and_inverse_entries_are_those_of_the_dense_matrix(dim, share):
    rng = np.random.default_rng(dim)
    edges = random_edges(dim, share, rng)
    values = np.concatenate([dim + rng.random(dim), rng.uniform(-1, 1, edges.shape[1])])
    matrix, analysis = dense(dim, edges, values), Analysis.of(dim, edges)
    factor = analysis.factor(values)
    inverse = np.linalg.inv(matrix)
    entries = np.concatenate([np.diag(inverse), inverse[edges[0], edges[1]]])
    np.testing.assert_allclose(analysis.inverse(factor), entries, atol=1e-14)
    assert np.log(factor.pivots).sum() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    x = rng.standard_normal((3, dim))
    np.testing.assert_allclose(analysis.times(values, x), x @ matrix, rtol=1e-12, atol=1e-12)
