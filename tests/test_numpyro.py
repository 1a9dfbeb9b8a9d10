"""NumPyro models as targets: the same density, supports that follow, and clear refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from numpyro.infer.util import potential_energy, unconstrain_fn

import infimum

Y = np.array([1.2, -0.3, 0.7, 2.0])


def hierarchical(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(2.0))
    with numpyro.plate("groups", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def triangle():
    x = numpyro.sample("x", dist.Uniform(0.0, 1.0))
    numpyro.sample("a", dist.Uniform(0.0, 1.0 - x))


def improper(y):
    low = y.min() - 1.0
    level = numpyro.sample("level", dist.ImproperUniform(constraints.real, (), ()))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.greater_than(low * 0), (), ()))
    numpyro.sample("y", dist.Normal(level, sigma), obs=y)


@pytest.mark.parametrize(
    ("model", "args"), [(hierarchical, (Y,)), (triangle, ()), (improper, (Y,))]
)
def test_the_density_is_numpyros(model, args):
    target = infimum.from_numpyro(model, *args)
    z = np.random.default_rng(0).normal(size=(5, target.dim))
    values = target.values(z)
    params = target.constrain(z)
    with jax.enable_x64(True):
        for i in range(5):
            one = {name: jnp.asarray(x[i]) for name, x in params.items()}
            free = unconstrain_fn(model, args, {}, one)
            energy = potential_energy(model, args, {}, free)
            np.testing.assert_allclose(values[i], -energy, rtol=1e-10)


def test_a_moving_support_is_followed():
    target = infimum.from_numpyro(triangle)
    assert target.space.dependent == ("a",)
    fit = infimum.fit(target, "fullrank")
    draws = fit.sample(2000, weighted=True)
    assert np.all(draws["x"] + draws["a"] < 1)
    np.testing.assert_allclose(draws["x"].mean(), 0.5, atol=0.05)
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se + 1e-3


def test_bounds_computed_from_data_do_not_move():
    assert infimum.from_numpyro(improper, Y).space.dependent == ()


def test_other_data_of_the_same_shape_compile_nothing():
    from infimum._program import CLOCK

    infimum.fit(infimum.from_numpyro(hierarchical, Y), "meanfield")
    before = CLOCK.compilations
    infimum.fit(infimum.from_numpyro(hierarchical, Y + 1), "meanfield")
    assert CLOCK.compilations == before


def test_discrete_sites_are_named():
    def model():
        numpyro.sample("k", dist.Poisson(3.0))

    with pytest.raises(TypeError, match="site 'k' of model 'model' is discrete"):
        infimum.from_numpyro(model)


def test_a_model_without_latent_sites_is_refused():
    def model(y):
        numpyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(ValueError, match="no latent site"):
        infimum.from_numpyro(model, Y)
    with pytest.raises(TypeError, match="model function"):
        infimum.from_numpyro(3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        infimum.from_numpyro(hierarchical)
