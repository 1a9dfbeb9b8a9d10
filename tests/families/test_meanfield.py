"""Mean-field: the closed form for a Gaussian target, by curvatures and by sketches of them."""

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import families


@pytest.mark.parametrize(
    ("dim", "condition", "scale"),
    [(1, 1, 1.0), (2, 1e8, 1.0), (10, 1e8, 1e-4), (40, 1e4, 1e4), (200, 1e8, 1.0)],
)
def test_meanfield_meets_its_closed_form(dim, condition, scale, make_gaussian):
    known = make_gaussian(dim, condition, scale)
    q = infimum.fit(known.target, "meanfield").q
    precision = np.diag(known.precision)
    np.testing.assert_allclose((q.mean - known.mean) * np.sqrt(precision), 0, atol=1e-6)
    np.testing.assert_allclose(q.scale**2 * precision, 1, rtol=1e-6)


def test_many_dimensions_meet_the_closed_form():
    """Above 2,000 dimensions q moves by sketches; its precision is the diagonal of the target's."""
    d, rng = 2500, np.random.default_rng(2500)
    scale = np.exp(rng.normal(size=d))
    loadings = 0.1 * rng.standard_normal((d, 3))
    mean = scale * rng.standard_normal(d)

    def log_density(z):
        x = (z - mean) / scale
        return 3.0 - 0.5 * x @ x - 0.5 * jnp.sum((x @ loadings) ** 2)

    fit = infimum.fit(infimum.Target(log_density, np.zeros(d)), "meanfield", starts=1)
    precision = (1 + (loadings**2).sum(axis=1)) / scale**2
    assert np.abs((fit.q.mean - mean) * np.sqrt(precision)).max() < 0.05
    loss = 0.5 * np.sum(fit.q.scale**2 * precision - 1 - np.log(fit.q.scale**2 * precision))
    assert loss < 0.05


def test_it_takes_the_conditional_variances_of_a_gaussian():
    covariance = np.array([[2.0, 0.9], [0.9, 1.0]])
    dense = families.FullRank().init(np.ones(2), np.ones(2))
    q = families.MeanField().start_from(dense.of(np.ones(2), np.linalg.cholesky(covariance)))
    np.testing.assert_allclose(q.variance(), 1 / np.diag(np.linalg.inv(covariance)), rtol=1e-12)
    with pytest.raises(TypeError, match="mean-field can start from a Gaussian, not from str"):
        families.MeanField().start_from("text")


def test_precision_between_two_members_and_their_divergence():
    a = families.MeanField().init(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    b = families.MeanField().init(np.array([1.0, 3.0]), np.array([0.5, 4.0]))
    middle = a.between(b, 0.25)
    np.testing.assert_allclose(middle.mean, 0.75 * a.mean + 0.25 * b.mean)
    np.testing.assert_allclose(1 / middle.variance(), 0.75 / a.variance() + 0.25 / b.variance())
    ratio = a.variance() / b.variance()
    offset = (a.mean - b.mean) ** 2 / b.variance()
    np.testing.assert_allclose(a.divergence(b), 0.5 * np.sum(ratio - 1 - np.log(ratio) + offset))
    np.testing.assert_allclose(a.stretched(3.0).scale, 3 * a.scale)
