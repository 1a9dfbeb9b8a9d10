"""Full-rank: exact for a Gaussian target of any size, scale and condition."""

import numpy as np
import pytest

import infimum
from infimum import families
from infimum.families import Left


@pytest.mark.parametrize(
    ("dim", "condition", "scale"),
    [(1, 1, 1.0), (2, 1e8, 1.0), (10, 1e8, 1e-4), (40, 1e4, 1e4), (200, 1e8, 1.0)],
)
def test_fullrank_is_exact(dim, condition, scale, make_gaussian):
    known = make_gaussian(dim, condition, scale)
    fit = infimum.fit(known.target, "fullrank")
    assert abs(known.kl_from(fit.q)) < 1e-6
    assert abs(fit.log_evidence.value - known.log_z) < 1e-8 * abs(known.log_z)
    assert fit.kl.value < 1e-6
    assert fit.verdict == "good"


def test_a_natural_step_ends_at_the_gaussian_of_the_curvature():
    """From any member, with the curvature of a Gaussian target: mean and covariance are exact."""
    rng = np.random.default_rng(0)
    q = families.FullRank().init(np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0]))
    root = np.linalg.cholesky(np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 1.5]]))
    precision = np.linalg.inv(root @ root.T)
    mean = q.mean + 0.3 * rng.standard_normal(3)
    factor = q.factor
    pull = factor.T @ precision @ (mean - q.mean)
    moved = q.natural_step(pull, factor.T @ precision @ factor, 1.0)
    np.testing.assert_allclose(moved.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(moved.covariance(), root @ root.T, rtol=1e-10, atol=1e-12)
    assert q.decrement(pull, factor.T @ precision @ factor) > 0
    assert moved.decrement(np.zeros(3), np.eye(3)) == 0


def test_a_step_changes_no_precision_by_more_than_twenty():
    q = families.FullRank().init(np.zeros(2), np.ones(2))
    moved = q.natural_step(np.zeros(2), np.diag([1e6, 1e-6]), 1.0)
    np.testing.assert_allclose(moved.variance(), [1 / 20, 20], rtol=1e-12)


def test_it_promises_the_correlation_and_starts_from_gaussians_only():
    assert families.FullRank().promise(Left(2.0, 1.0, 0.5), 10).gain == 2.0
    with pytest.raises(TypeError, match="full-rank can start from a Gaussian, not from str"):
        families.FullRank().start_from("text")
