"""Student's t: its density against SciPy's, and the radii of its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from infimum.gaussian.stack import Stack
from infimum.gaussian.student_t import StudentT, log_decay, log_height, random_radii
from infimum.gaussian.student_t_mixture import AROUND_ALL, StudentTMixture

RNG = np.random.default_rng(0)
MEAN = np.array([1.0, -2.0, 0.5])
LOWER = np.linalg.cholesky(np.cov(RNG.standard_normal((3, 30))))


@pytest.mark.parametrize("factor", [LOWER, np.array([0.5, 1.0, 3.0])], ids=["dense", "diagonal"])
def test_the_density_is_that_of_scipy(factor):
    matrix = factor if factor.ndim == 2 else np.diag(factor)
    z = MEAN + RNG.standard_normal((20, 3))
    expected = stats.multivariate_t.logpdf(z, MEAN, matrix @ matrix.T, df=4.5)
    np.testing.assert_allclose(StudentT(MEAN, factor, 4.5).log_prob(z), expected, rtol=1e-10)


def test_a_scale_widens_it_and_jax_computes_the_same():
    squares = np.array([0.0, 1.0, 30.0])
    values = log_height(3, 4.0, scale=2.0) + log_decay(squares, 3, 4.0, 2.0)
    expected = stats.multivariate_t.logpdf(
        np.sqrt(squares)[:, None] * [1, 0, 0], np.zeros(3), 4 * np.eye(3), df=4.0
    )
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    with jax.enable_x64(True):
        traced = jax.jit(lambda x: log_decay(x, 3, 4.0, 2.0))(jnp.asarray(squares))
    np.testing.assert_allclose(traced, log_decay(squares, 3, 4.0, 2.0), rtol=1e-12)


def test_draws_have_its_covariance():
    z = StudentT(MEAN, LOWER, 12.0).draw(np.random.default_rng(1), 40_000)
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), 1.2 * LOWER @ LOWER.T, atol=0.06)
    assert random_radii(np.random.default_rng(1), 5.0, (7, 1)).shape == (7, 1)


def test_a_mixture_of_them_has_one_component_more_around_all():
    one = Stack(MEAN[None], LOWER[None], np.zeros(1))
    two = Stack(np.array([MEAN, -MEAN]), np.array([LOWER, LOWER]), np.log([0.7, 0.3]))
    z = MEAN + RNG.standard_normal((20, 3))
    wide = StudentTMixture.around(two)
    weights = np.exp(wide.log_weights)
    np.testing.assert_allclose(
        weights, [0.7 * (1 - AROUND_ALL), 0.3 * (1 - AROUND_ALL), AROUND_ALL]
    )
    parts = [
        stats.multivariate_t.logpdf(z, mean, factor @ factor.T, df=wide.freedom)
        for mean, factor in zip(wide.means, wide.factors, strict=True)
    ]
    expected = np.log(np.exp(np.array(parts).T) @ weights)
    np.testing.assert_allclose(wide.log_prob(z), expected, rtol=1e-10)
    np.testing.assert_allclose(wide.factors[2] @ wide.factors[2].T, two.covariance(), rtol=1e-10)
    same = StudentT(MEAN, LOWER, wide.freedom).log_prob(z)
    np.testing.assert_allclose(StudentTMixture.around(one).log_prob(z), same, rtol=1e-10)
