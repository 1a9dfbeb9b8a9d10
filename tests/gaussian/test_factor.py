"""Triangular and diagonal factors: the same verbs, against dense matrices."""

import numpy as np
import pytest

from infimum.gaussian.factor import Diagonal, Triangular, factor_beside, lower_factor

RNG = np.random.default_rng(0)
MEAN = np.zeros(4)
LOWER = np.linalg.cholesky(np.cov(RNG.standard_normal((4, 30))))


@pytest.mark.parametrize("entries", [LOWER, RNG.uniform(0.5, 2.0, 4)], ids=["dense", "diagonal"])
def test_verbs_are_those_of_the_matrix(entries):
    factor = factor_beside(MEAN, entries)
    matrix, rows = factor.matrix(), RNG.standard_normal((7, 4))
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(factor.times(rows), rows @ matrix.T, rtol=1e-12)
    np.testing.assert_allclose(factor.times_transposed(rows), rows @ matrix, rtol=1e-12)
    for solve in (factor.solve, factor.times_inverse):
        np.testing.assert_allclose(solve(rows), rows @ inverse.T, rtol=1e-9)
    np.testing.assert_allclose(factor.times_inverse_transposed(rows), rows @ inverse, rtol=1e-9)
    np.testing.assert_allclose(factor.covariance(), matrix @ matrix.T, rtol=1e-12)
    assert factor.log_det() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)


def test_a_stack_is_its_members():
    rows = RNG.standard_normal((2, 7, 4))
    for stack in (
        Triangular(np.array([LOWER, 2 * LOWER])),
        Diagonal(np.array([MEAN + 1, MEAN + 3])),
    ):
        for name in ("times", "times_transposed"):
            expected = [getattr(stack[k], name)(rows[k]) for k in range(2)]
            np.testing.assert_allclose(getattr(stack, name)(rows), expected, rtol=1e-12)
        np.testing.assert_allclose(stack.log_det(), [stack[k].log_det() for k in range(2)])
        np.testing.assert_allclose(stack.covariance(), [stack[k].covariance() for k in range(2)])


@pytest.mark.parametrize("root", [RNG.standard_normal((4, 4)), RNG.uniform(-1, 1, 4)])
def test_scaled_has_the_covariance_of_the_product(root):
    matrix = np.diag(root) if root.ndim == 1 else root
    whole = LOWER @ matrix @ matrix.T @ LOWER.T
    np.testing.assert_allclose(Triangular(LOWER).scaled(root).covariance(), whole, rtol=1e-9)
    sds = np.sqrt(np.diag(matrix @ matrix.T))
    np.testing.assert_allclose(Diagonal(MEAN + 2).scaled(np.abs(root)).entries, 2 * sds)


def test_the_lower_factor_has_a_positive_diagonal():
    root = RNG.standard_normal((3, 8))
    factor = lower_factor(root)
    np.testing.assert_allclose(factor, np.linalg.cholesky(root @ root.T), atol=1e-12)
