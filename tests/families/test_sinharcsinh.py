"""Sinh-arcsinh: exact where p* is a member, and never behind the Gaussian it starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import families


def member(dim=3, seed=0):
    rng = np.random.default_rng(seed)
    q = families.named("sinharcsinh").init(np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0]))
    return jax.tree_util.tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), q)


def test_chart_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(1)
    q, eps = member(), rng.standard_normal((12, 3))
    chart = q.chart(None)
    theta = 0.1 * rng.standard_normal(chart.size)

    def loss(theta):
        moved = chart.move(theta)
        return np.mean(moved.log_prob_base(eps) + np.sum(moved.push(eps) ** 4, axis=1))

    score = -4 * chart.move(theta).push(eps) ** 3
    numeric = [(loss(theta + s) - loss(theta - s)) / 2e-6 for s in 1e-6 * np.eye(chart.size)]
    np.testing.assert_allclose(chart.pull(theta, eps, score), numeric, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(q.pull_back(q.push(eps)), eps, atol=1e-9)


def test_a_skewed_posterior_with_heavy_tails_is_met():
    """p* is a member, with log Z = 3: what is left is the tolerance of the draws."""
    with jax.enable_x64(True):
        truth = jax.tree_util.tree_map(jnp.asarray, member(seed=2))
    target = infimum.Target(lambda z: 3.0 + truth.log_prob(z), np.zeros(3))
    climb = infimum.climb(target, ["fullrank", "sinharcsinh"], tol=0)
    gaussian, bent = climb
    assert gaussian.kl.value > 0.02
    assert abs(bent.kl.value) < 0.02
    assert abs(bent.log_evidence.value - 3) < 4 * bent.log_evidence.se + 1e-3
    assert bent.verdict == "good"
    assert climb.best is bent


def test_it_starts_from_the_full_rank_fit_and_is_kept(skewed, tmp_path):
    gaussian, fit = (infimum.fit(skewed, name) for name in ("fullrank", "sinharcsinh"))
    assert fit.elbo.value > gaussian.elbo.value
    assert fit.starts[0].kind == "climb"
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    np.testing.assert_array_equal(again.sample(20)["b"], fit.sample(20)["b"])
    assert again.verdict == fit.verdict
    with pytest.raises(TypeError, match="can start from a Gaussian, not from str"):
        families.named("sinharcsinh").start_from("text")
