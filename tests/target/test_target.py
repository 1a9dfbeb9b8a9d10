"""The target: what it computes, what it compiles, and what bad densities get."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum.base.program import CLOCK


def regression(x, y):
    """Linear regression whose data the density closes over."""

    def log_density(params):
        mean = x @ params["beta"]
        scaled = (y - mean) / params["sigma"]
        return -0.5 * jnp.sum(scaled**2) - len(y) * jnp.log(params["sigma"])

    return infimum.Target(
        log_density, {"beta": np.zeros(2), "sigma": 1.0}, {"sigma": "positive"}, name="regression"
    )


def data(seed, n=50):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, x @ np.array([1.0, -2.0]) + rng.normal(size=n)


def test_value_and_gradient_match_autodiff_and_the_loop():
    x, y = data(0)
    target = regression(x, y)
    z = np.random.default_rng(1).normal(size=(70, 3))
    log_p, gradient = target.value_and_gradient(z)
    with jax.enable_x64(True):
        for i in (0, 33, 69):
            beta, sigma = z[i, :2], np.exp(z[i, 2])
            expected = -0.5 * np.sum(((y - x @ beta) / sigma) ** 2) - 50 * z[i, 2] + z[i, 2]
            np.testing.assert_allclose(log_p[i], expected, rtol=1e-12)
            single = target.value_and_gradient(z[i : i + 1])
            np.testing.assert_allclose(single[0][0], log_p[i], rtol=1e-12)
            np.testing.assert_allclose(jax.grad(target.log_p)(jnp.asarray(z[i])), gradient[i])
    step = 1e-6 * np.eye(3)
    numeric = (target.values(z[0] + step) - target.values(z[0] - step)) / 2e-6
    np.testing.assert_allclose(gradient[0], numeric, rtol=1e-6)


def test_log_p_is_traceable_in_either_precision():
    target = regression(*data(0))
    z = np.array([0.3, -0.2, 0.1])
    for double in (False, True):
        with jax.enable_x64(double):
            slope = jax.jit(jax.grad(target.log_p))(jnp.asarray(z))
        np.testing.assert_allclose(slope, target.value_and_gradient(z[None])[1][0], rtol=1e-5)


def test_data_are_arguments_and_a_refit_compiles_nothing():
    first, second = regression(*data(0)), regression(*data(1))
    infimum.fit(first, "fullrank", seed=0).sample(10)
    before = CLOCK.compilations
    a = infimum.fit(first, "fullrank", seed=1)
    b = infimum.fit(second, "fullrank", seed=0)
    b.sample(10)
    assert CLOCK.compilations == before
    assert a.work.compile_seconds == 0
    assert abs(a.elbo.value - b.elbo.value) > 0.1


def test_different_programs_of_equal_shape_are_told_apart():
    plus = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(2))
    minus = infimum.Target(lambda z: -0.25 * jnp.sum(z**2), np.zeros(2))
    table = infimum.Target(lambda z: -jnp.sum(jax.nn.softplus(z) + z**2), np.zeros(2))
    z = np.ones((1, 2))
    np.testing.assert_allclose(plus.values(z), -1.0)
    np.testing.assert_allclose(minus.values(z), -0.5)
    np.testing.assert_allclose(table.values(z), -2 * (np.log1p(np.e) + 1))


def test_precision_is_double_and_the_configuration_stays():
    target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2) + 1e6, np.zeros(2))
    log_p, gradient = target.value_and_gradient(np.full((1, 2), 1e-4))
    assert log_p.dtype == gradient.dtype == np.float64
    np.testing.assert_allclose(log_p - 1e6, -1e-8, rtol=0.02)
    assert jnp.zeros(2).dtype == jnp.float32
    assert target.constrain(np.zeros(2)).dtype == np.float64


def test_constrain_and_unconstrain_are_inverse():
    target = regression(*data(0))
    z = np.random.default_rng(0).normal(size=(5, 3))
    params = target.constrain(z)
    assert params["beta"].shape == (5, 2)
    one = jax.tree_util.tree_map(lambda x: x[3], params)
    np.testing.assert_allclose(target.unconstrain(one), z[3])


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (lambda p: p["a"], "must return a scalar, it returned an array of shape"),
        (lambda p: (p["a"].sum(), 1.0), "must return one number"),
        (lambda p: None, "must return one number"),
        (lambda p: 3, "not a float"),
        (lambda p: p["b"], "asks for parameter 'b'"),
        (lambda p: jnp.sum(p["a"] @ jnp.ones(5)), "raised TypeError.*shapes"),
        (lambda p: np.log(p["a"]).sum(), "not differentiable by JAX"),
        (lambda p: p["a"][0] if p["a"][0] > 0 else 0.0, "not differentiable by JAX"),
        (
            lambda p: jax.lax.while_loop(lambda x: x < 1, lambda x: 2 * x, p["a"][0]),
            "can't be differentiated by JAX",
        ),
    ],
)
def test_bad_densities_are_refused_at_once(density, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        infimum.Target(density, {"a": np.zeros(3)})


def test_a_density_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="must be a function"):
        infimum.Target(3.0, np.zeros(2))


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (lambda z: jnp.sum(jnp.sqrt(z - 50)), r"log density is NaN at every start tried.*z\[0\] ="),
        (lambda z: jnp.where(z[0] > 50, 0.0, -jnp.inf), "-inf at every start tried.*supports"),
        (lambda z: jnp.where(z[0] > 0, jnp.inf, 0.0) - z[0] ** 2, r"\+inf at"),
        (lambda z: jnp.sqrt(jnp.sum(0 * z)) - jnp.sum(z**2), "with gradient nan in coordinate"),
    ],
)
def test_a_density_without_a_start_is_refused_before_fitting(density, message):
    target = infimum.Target(density, np.zeros(2))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        infimum.fit(target, "meanfield")


def test_unconstraining_the_wrong_structure_says_so():
    target = regression(*data(0))
    with pytest.raises(ValueError, match="structure"):
        target.unconstrain({"beta": np.zeros(2)})
    with pytest.raises(ValueError, match=r"'beta' has shape \(3,\)"):
        target.unconstrain({"beta": np.zeros(3), "sigma": 1.0})
