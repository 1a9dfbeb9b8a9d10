"""NumPyro models as targets: the same density, supports that follow, and clear refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer.reparam import LocScaleReparam
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
    from infimum.base.program import CLOCK

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
    with pytest.raises(TypeError, match="model 'hierarchical': missing a required argument: 'y'"):
        infimum.from_numpyro(hierarchical)


def masked(y):
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    numpyro.factor("shift", jnp.log(5.0))
    with handlers.mask(mask=y > 0):
        numpyro.sample("y", dist.Normal(0.0, scale).expand(y.shape).to_event(0), obs=y)


def test_factors_count_and_masked_observations_do_not():
    target = infimum.from_numpyro(masked, Y)
    z = 0.3
    kept = Y[Y > 0]
    expected = (
        np.log(5) + scipy.stats.norm.logpdf(z) + scipy.stats.norm.logpdf(kept, 0, np.exp(z)).sum()
    )
    np.testing.assert_allclose(target.values(np.array([[z]])), expected, rtol=1e-6)
    assert target.model.observed().keys() == {"y"}


def test_deterministic_and_reparametrised_sites_are_in_every_draw():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        with numpyro.plate("groups", len(y)), handlers.reparam(config={"t": LocScaleReparam(0)}):
            t = numpyro.sample("t", dist.Normal(mu, 2.0))
        numpyro.deterministic("largest", t.max())
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(t, 1.0), obs=y)

    target = infimum.from_numpyro(model, Y)
    assert target.dim == 5
    fit = infimum.fit(target, "fullrank")
    draws = fit.sample(100)
    assert set(draws) == {"mu", "t", "t_decentered", "largest"}
    np.testing.assert_allclose(draws["t"], draws["mu"][:, None] + 2 * draws["t_decentered"])
    np.testing.assert_allclose(draws["largest"], draws["t"].max(axis=1))
    assert "largest" in fit.summary().index
    parameters = {name: draws[name] for name in ("mu", "t_decentered")}
    np.testing.assert_allclose(fit.log_prob(draws), fit.log_prob(parameters))
    tree = fit.to_arviz(10)
    assert tree["posterior"]["t"].dims == ("chain", "draw", "groups")


def subsampling(x, by_index):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 100, subsample_size=10) as index:
        rows = x[index] if by_index else x
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=rows)


@pytest.mark.parametrize("by_index", [True, False])
def test_a_subsampled_plate_is_whole_or_scaled(by_index):
    """Whole where the model has all rows; with the plate's scale where it is given a part."""
    x = np.random.default_rng(0).normal(size=100)
    given = x if by_index else x[:10]
    target = infimum.from_numpyro(subsampling, given, by_index)
    log_likelihood = scipy.stats.norm.logpdf(given, 0.3).sum() * (1 if by_index else 10)
    expected = log_likelihood + scipy.stats.norm.logpdf(0.3)
    np.testing.assert_allclose(target.values(np.array([[0.3]])), expected, rtol=1e-6)
    assert infimum.fit(target, "meanfield", draws=200).reason.converged


def mixture(x=None, n=40):
    weight = numpyro.sample("weight", dist.Beta(2.0, 2.0))
    centre = numpyro.sample("centre", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
    numpyro.deterministic("gap", centre[1] - centre[0])
    with numpyro.plate("rows", n):
        k = numpyro.sample("k", dist.Bernoulli(weight))
        numpyro.deterministic("own_centre", centre[k])
        numpyro.sample("x", dist.Normal(centre[k], 1.0), obs=x)


def test_finite_discrete_sites_are_summed_out():
    pytest.importorskip("funsor")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 1, 25), rng.normal(3, 1, 15)])
    target = infimum.from_numpyro(mixture, x)
    assert [leaf.name for leaf in target.space.leaves] == ["centre", "gap", "weight"]
    z = rng.normal(size=(3, target.dim))
    params = target.constrain(z)
    for i, value in enumerate(target.values(z)):
        w, (a, b) = params["weight"][i], params["centre"][i]
        normal = scipy.stats.norm.pdf
        expected = np.log((1 - w) * normal(x, a) + w * normal(x, b)).sum()
        expected += scipy.stats.norm.logpdf([a, b], 0, 5).sum()
        expected += scipy.stats.beta.logpdf(w, 2, 2) + np.log(w * (1 - w))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    fit = infimum.fit(target, "fullrank", draws=500)
    assert infimum.predict(fit, n=7)["x"].shape == (7, 40)
    assert infimum.predict(fit, None, 3, n=7)["x"].shape == (7, 3)
    with pytest.raises(ValueError, match="discrete sites k are summed out"):
        fit.to_arviz(log_likelihood=True)


def test_models_that_leave_nothing_to_fit_are_refused():
    def discrete():
        numpyro.sample("k", dist.Categorical(jnp.ones(3) / 3))

    def constant():
        numpyro.param("p", 1.0)
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match=r"only discrete latent sites \(k\)"):
        infimum.from_numpyro(discrete)
    with pytest.raises(ValueError, match=r"site 'p' of model 'constant' is a numpyro.param"):
        infimum.from_numpyro(constant)


def test_predictions_take_new_arguments():
    """Those not given stay as they are, apart from observations, which are left out."""

    def regression(x, sigma, y):
        slope = numpyro.sample("slope", dist.Normal(0.0, 10.0))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)

    x, other = np.linspace(0, 1, 20), np.array([10.0, 20.0])
    fit = infimum.fit(infimum.from_numpyro(regression, x, 0.01, y=3 * x), "fullrank")
    new = infimum.predict(fit, other, n=400, weighted=True)["y"]
    np.testing.assert_allclose(new.mean(axis=0), [30, 60], rtol=0.01)
    np.testing.assert_array_equal(
        infimum.predict(fit, x=other, y=None, n=400, weighted=True)["y"], new
    )
    assert infimum.predict(fit, other, 5.0, n=400)["y"].std() > 4
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        infimum.predict(fit, z=1)
