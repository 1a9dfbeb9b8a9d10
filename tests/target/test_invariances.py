"""What must not change the answer: units, constants, the order of parameters, batches."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infimum

FEW = settings(max_examples=6, deadline=None, derandomize=True)


def logistic(scales):
    """A skewed three-parameter logistic regression, in other units of each coefficient."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 3))
    y = (rng.uniform(size=30) < 1 / (1 + np.exp(-x @ [1.0, -1.0, 0.5]))).astype(float)
    scales = np.asarray(scales, float)

    def log_density(z):
        beta = z / scales
        eta = x @ beta
        fit = jnp.sum(y * eta - jnp.logaddexp(0.0, eta)) - 0.5 * jnp.sum(beta**2)
        return fit - jnp.sum(jnp.log(scales))

    return infimum.Target(log_density, np.zeros(3))


@pytest.fixture(scope="module")
def plain():
    return {name: infimum.fit(logistic(np.ones(3)), name) for name in ("meanfield", "fullrank")}


@pytest.mark.parametrize("family", ["meanfield", "fullrank"])
@pytest.mark.parametrize("exponents", [(4, 0, 0), (0, -4, 0), (4, -4, 0), (-4, -4, 4)])
def test_units_do_not_matter(plain, family, exponents):
    scales = 10.0 ** np.array(exponents)
    fit = infimum.fit(logistic(scales), family)
    sd = np.sqrt(np.diag(plain[family].q.covariance()))
    np.testing.assert_allclose((fit.q.mean / scales - plain[family].q.mean) / sd, 0, atol=3e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.q.covariance())) / scales / sd, 1, rtol=3e-4)
    assert abs(fit.elbo.value - plain[family].elbo.value) < 3e-5


@FEW
@given(st.floats(-1e6, 1e6))
def test_a_constant_moves_elbo_and_log_z_alone(shift):
    target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2) - jnp.exp(z[0]) + shift, np.zeros(2))
    base = infimum.Target(lambda z: -0.5 * jnp.sum(z**2) - jnp.exp(z[0]), np.zeros(2))
    a, b = infimum.fit(target, "fullrank"), infimum.fit(base, "fullrank")
    np.testing.assert_allclose(a.q.mean, b.q.mean, atol=1e-4)
    np.testing.assert_allclose(a.log_evidence.value - shift, b.log_evidence.value, atol=1e-4)
    np.testing.assert_allclose(a.kl.value, b.kl.value, atol=1e-4)


@FEW
@given(st.permutations(range(4)))
def test_the_order_of_parameters_does_not_matter(order):
    """For a Gaussian exactly; the optimum is the same, whatever the draws."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    precision = root @ root.T + np.eye(4)
    moved = precision[np.ix_(order, order)]
    a = infimum.fit(infimum.Target(lambda z: -0.5 * z @ (precision @ z), np.zeros(4)), "fullrank")
    b = infimum.fit(infimum.Target(lambda z: -0.5 * z @ (moved @ z), np.zeros(4)), "fullrank")
    np.testing.assert_allclose(b.q.covariance(), a.q.covariance()[np.ix_(order, order)], atol=1e-6)
    np.testing.assert_allclose(a.log_evidence.value, b.log_evidence.value, atol=1e-8)


@FEW
@given(st.integers(1, 100))
def test_batches_are_loops(n):
    target = logistic(np.ones(3))
    z = np.random.default_rng(n).normal(size=(n, 3))
    log_p, gradient = target.value_and_gradient(z)
    rows = [target.value_and_gradient(row[None]) for row in z]
    np.testing.assert_allclose(log_p, [value[0] for value, _ in rows], rtol=1e-12)
    np.testing.assert_allclose(gradient, [g[0] for _, g in rows], rtol=1e-10, atol=1e-12)
