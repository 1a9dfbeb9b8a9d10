"""Sparse Gaussians: a precision on the Hessian's pattern, and the optimum of full-rank."""

import numpy as np
import pytest
from sparse_models import chain, dense, logistic, random_edges

import infimum
from infimum import families
from infimum.base.errors import UnsuitableError


def test_a_member_has_the_covariance_of_its_precision():
    rng = np.random.default_rng(1)
    edges = random_edges(15, 0.2, rng)
    values = np.concatenate([np.full(15, 6.0), rng.uniform(-1, 1, edges.shape[1])])
    q = families.Sparse(edges).init(np.zeros(15), np.ones(15)).placed(np.arange(15.0), values)
    covariance = np.linalg.inv(dense(15, edges, values))
    root = q.spread(np.eye(15))
    np.testing.assert_allclose(root.T @ root, covariance, atol=1e-14)
    np.testing.assert_allclose(q.variance(), np.diag(covariance), rtol=1e-12)
    np.testing.assert_allclose(q.precision(), values, atol=1e-13)
    assert q.placed(q.mean, -values) is None


@pytest.mark.parametrize("steps", [2, 30, 400])
def test_a_gaussian_chain_is_exact(steps):
    target, mean, precision = chain(steps)
    if steps == 2:
        with pytest.raises(UnsuitableError, match="has no zeros"):
            infimum.fit(target, "sparse")
        return
    fit = infimum.fit(target, "sparse")
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-7)
    np.testing.assert_allclose(fit.q.variance(), np.diag(np.linalg.inv(precision)), rtol=1e-8)
    assert fit.log_evidence.value == pytest.approx(2.0, abs=1e-7)
    assert fit.verdict == "good"


def test_equals_fullrank_on_common_fresh_draws():
    target = logistic(12, 5)
    sparse = infimum.fit(target, "sparse", tolerance=1e-3)
    full = infimum.fit(target, "fullrank", tolerance=1e-3)
    eps = np.random.default_rng(9).standard_normal((20_000, target.dim))

    def gain(q):
        return target.values(q.push(eps)) - q.log_prob_base(eps)

    apart = gain(sparse.q) - gain(full.q)
    assert abs(apart.mean()) < 4 * apart.std() / np.sqrt(len(eps)) + 3e-3
    np.testing.assert_allclose(sparse.q.variance(), full.q.variance(), rtol=0.03)


def test_a_pattern_that_lacks_entries_is_refused():
    target, _, _ = chain(30)
    with pytest.raises(UnsuitableError, match="lacks entries"):
        infimum.fit(target, families.Sparse(np.array([[1, 2], [0, 1]])))
    with pytest.raises(ValueError, match="outside 0 to 29"):
        infimum.fit(target, families.Sparse(np.array([[40], [0]])))


def test_code_without_a_gradient_is_refused():
    target = infimum.from_numpy(lambda z: -0.5 * float(z @ z), 3)
    with pytest.raises(UnsuitableError, match="has no gradient"):
        infimum.fit(target, "sparse")


def test_code_outside_jax_gives_the_fit_of_jax():
    target, _, _ = chain(30)
    foreign = infimum.from_numpy(target.value_and_gradient, 30, batched=True)
    ours, theirs = infimum.fit(target, "sparse"), infimum.fit(foreign, "sparse")
    assert theirs.verdict == ours.verdict == "good"
    np.testing.assert_allclose(theirs.elbo.value, ours.elbo.value, atol=1e-4)
    np.testing.assert_array_equal(theirs.q.edges, ours.q.edges)


def test_survives_a_file(tmp_path):
    target, _, _ = chain(20)
    fit = infimum.fit(target, "sparse", draws=200)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert str(again) == str(fit)
    np.testing.assert_array_equal(again.sample(5), fit.sample(5))


@pytest.mark.parametrize("wrong", ["rows", "order", "mean"])
def test_arrays_that_do_not_belong_together_are_refused(wrong):
    """They may come from a file that somebody has changed."""
    q = families.Sparse(np.array([[1, 2], [0, 1]])).init(np.zeros(3), np.ones(3))
    arrays = q.arrays()
    arrays[wrong] = arrays[wrong][::-1] * 2 if wrong == "order" else arrays[wrong][:-1]
    with pytest.raises(ValueError, match=r"shape|not those of a sparse factor"):
        families.Sparse().from_arrays(arrays)
