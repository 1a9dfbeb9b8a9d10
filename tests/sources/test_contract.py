"""The contract of every source: one posterior in all languages has one answer."""

import jax
import jax.numpy as jnp
import languages
import numpy as np
import pytest
from languages import EFFECT, ERROR, LANGUAGES, MODELS

import infimum
from infimum.solvers import StochasticGradient


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Each language's target, made once."""
    made = {}

    def build(language):
        if language not in made:
            made[language] = LANGUAGES[language](tmp_path_factory.mktemp("library"))
        return made[language]

    return build


@pytest.fixture(scope="module")
def fitted(built):
    """Each language's full-rank fit, made once."""
    made = {}

    def fit(language):
        if language not in made:
            made[language] = infimum.fit(built(language), "fullrank", seed=3)
        return made[language]

    return fit


POINTS = np.random.default_rng(0).normal(size=(40, 10))
every = pytest.mark.parametrize("language", LANGUAGES)
every_model = pytest.mark.parametrize("language", MODELS)


@every
def test_the_density_is_the_same_number(built, language):
    target = built(language)
    log_p, gradient = target.value_and_gradient(POINTS)
    for z, value in zip(POINTS[:5], log_p, strict=False):
        expected = languages.exact(z[0], np.exp(z[9]), z[1:9]) + z[9]
        np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(target.values(POINTS), log_p, rtol=1e-12)
    np.testing.assert_allclose(gradient, languages.value_and_gradient(POINTS)[1], atol=1e-9)
    one = target.value_and_gradient(POINTS[7:8])
    np.testing.assert_allclose(one[0][0], log_p[7], rtol=1e-12)


@every
def test_compiled_loops_get_it_through_the_bridge(built, language):
    target = built(language)
    _, gradient = target.value_and_gradient(POINTS)
    with jax.enable_x64(True):
        z = jnp.asarray(POINTS[:6]).reshape(2, 3, 10)
        value = jax.vmap(jax.vmap(target.log_p))(z)
        bridged = jax.jit(jax.vmap(jax.vmap(jax.grad(target.log_p))))(z)
    np.testing.assert_allclose(np.ravel(value), target.values(POINTS[:6]), rtol=1e-12)
    np.testing.assert_allclose(np.reshape(bridged, (6, 10)), gradient[:6], atol=1e-9)


@every
@pytest.mark.parametrize("family", ["meanfield", "fullrank"])
def test_the_fit_is_the_same(built, fitted, language, family):
    if family == "fullrank":
        reference, fit = fitted("jax"), fitted(language)
    else:
        reference, fit = (infimum.fit(built(x), family, seed=3) for x in ("jax", language))
    assert abs(fit.elbo.value - reference.elbo.value) < 1e-6
    expected, draws = reference.sample(200, seed=1), fit.sample(200, seed=1)
    tau = draws["tau"] if "tau" in draws else np.exp(draws["tau_log"])
    for value, name in ((draws["mu"], "mu"), (draws["t"], "t"), (tau, "tau")):
        np.testing.assert_allclose(value, expected[name], atol=1e-5, rtol=1e-5)
    assert fit.verdict == reference.verdict


@every
def test_log_prob_inverts_the_draws(fitted, language):
    fit = fitted(language)
    expected = fitted("jax")
    draws = fit.sample(5, seed=2)
    log_prob = fit.log_prob(draws)
    reference = expected.log_prob(expected.sample(5, seed=2))
    shift = 0 if "tau" in draws else np.log(expected.sample(5, seed=2)["tau"])
    np.testing.assert_allclose(log_prob, reference + shift, atol=1e-8)
    one = {name: x[3] for name, x in draws.items()}
    np.testing.assert_allclose(fit.log_prob(one), log_prob[3], rtol=1e-12)


@every
def test_it_is_saved_summarised_and_drawn(fitted, language, tmp_path):
    fit = fitted(language)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert again.summary().equals(fit.summary())
    assert {k: x.shape for k, x in again.sample(9).items()} == {
        k: x.shape for k, x in fit.sample(9).items()
    }
    before, after = fit.to_arviz(20)["posterior"], again.to_arviz(20)["posterior"]
    assert before.to_dataset().equals(after.to_dataset())
    assert fit.plot(["mu", "t[0]"]) is not None


@pytest.mark.parametrize("language", ["stan", "torch", "numpy", "pytensor"])
def test_a_stochastic_solver_moves_it(built, language):
    fit = infimum.fit(
        built(language), "meanfield", solver=StochasticGradient(max_steps=1), starts=1, draws=500
    )
    assert abs(fit.elbo.value - -31.60) < 0.2


# ---- models know their data ---------------------------------------------------------------------


@every_model
def test_predictions_are_of_the_observed_sites(fitted, language):
    fit = fitted(language)
    site = {"stan": "effect_rep"}.get(language, "effect")
    predicted = infimum.predict(fit, n=2000, seed=1)
    assert set(predicted) == {site}
    draws = fit.sample(2000, seed=1)
    residual = (predicted[site] - draws["mu"][:, None] - draws["tau"][:, None] * draws["t"]) / ERROR
    assert abs(residual.mean()) < 4 / np.sqrt(residual.size)
    assert abs(residual.std() - 1) < 4 / np.sqrt(2 * residual.size)
    again = infimum.predict(fit, n=2000, seed=1)[site]
    np.testing.assert_array_equal(predicted[site], again)


def test_predictions_for_new_data(fitted):
    tight = 1e-3 * ERROR
    new = {
        "numpyro": ((tight,), {}),
        "pymc": (({"error": tight},), {}),
        "stan": (({"J": 8, "effect": EFFECT, "standard_error": tight},), {}),
    }
    for language, (args, kwargs) in new.items():
        fit = fitted(language)
        (predicted,) = infimum.predict(fit, *args, n=50, seed=1, **kwargs).values()
        draws = fit.sample(50, seed=1)
        np.testing.assert_allclose(predicted, draws["theta"], atol=0.1)
    kept = infimum.predict(fitted("pymc"), n=50, seed=1)["effect"]
    assert np.std(kept - fitted("pymc").sample(50, seed=1)["theta"]) > 5


@every_model
def test_arviz_gets_the_groups_of_a_sampler(fitted, language):
    from arviz_stats import loo, summary

    tree = fitted(language).to_arviz(500, posterior_predictive=True, log_likelihood=True)
    groups = {"posterior", "sample_stats", "posterior_predictive", "log_likelihood"}
    assert groups | {"observed_data", "constant_data"} == set(tree.children)
    np.testing.assert_array_equal(tree["observed_data"]["effect"], EFFECT)
    error = {"pytensor": "error", "pymc": "error", "numpyro": "error", "stan": "standard_error"}
    np.testing.assert_array_equal(tree["constant_data"][error[language]], ERROR)
    draws = fitted(language).assessment.draws.constrained(500)
    (log_likelihood,) = tree["log_likelihood"].data_vars.values()
    scaled = (EFFECT - draws["mu"][:, None] - draws["tau"][:, None] * draws["t"]) / ERROR
    expected = -0.5 * scaled**2 - np.log(ERROR) - 0.5 * languages.LOG_2PI
    np.testing.assert_allclose(log_likelihood[0], expected, rtol=1e-9)
    if language in ("pymc", "pytensor"):
        assert tree["posterior"]["theta"].dims == ("chain", "draw", "school")
        assert list(tree["posterior"]["school"].values) == list("ABCDEFGH")
    if language == "numpyro":
        assert tree["posterior"]["theta"].dims == ("chain", "draw", "school")
    with pytest.warns(UserWarning, match="Pareto"):
        assert np.isfinite(loo(tree).elpd)
    assert np.isfinite(summary(tree)["mean"].astype(float)).all()


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_leave_one_out_is_that_of_corrected_draws(fitted):
    from arviz_stats import loo

    fit = fitted("numpyro")
    found = fit.loo(pointwise=True)
    made = infimum.corrections.importance(fit, 2000)
    plain = loo(made.to_arviz(log_likelihood=True, posterior_predictive=True))
    assert found.n_data_points == len(found.pareto_k) == len(EFFECT)
    assert found.elpd == pytest.approx(plain.elpd, abs=0.3)
    with pytest.raises(ValueError, match="does not tell observations apart"):
        fitted("jax").loo()


def test_a_bare_density_says_that_it_predicts_nothing(fitted, tmp_path):
    fit = fitted("jax")
    with pytest.raises(ValueError, match="a log density, which says nothing about new data"):
        infimum.predict(fit)
    with pytest.raises(ValueError, match="does not tell observations apart"):
        fit.to_arviz(log_likelihood=True)
    with pytest.raises(TypeError, match="predict takes a fit"):
        infimum.predict(3)
    loaded = infimum.load(fitted("numpyro").save(tmp_path / "fit.zip"))
    with pytest.raises(ValueError, match="neither the model's code nor its data"):
        infimum.predict(loaded)


# ---- one suite for the files --------------------------------------------------------------------


def test_every_source_is_public_and_has_a_language_here():
    from pathlib import Path

    import infimum.sources

    folder = Path(infimum.sources.__file__).parent
    names = {path.stem for path in folder.glob("[a-z]*") if "__pycache__" not in path.name}
    assert names == {"numpy", "numpyro", "pymc", "stan", "torch"}
    assert names <= set(LANGUAGES)
    for name in names:
        assert f"from_{name}" in infimum.__all__
        assert (Path(__file__).parent / f"test_{name}.py").exists()
    assert "Rows" in infimum.__all__


@pytest.mark.parametrize(
    ("extra", "module", "call"),
    [
        ("pymc", "pymc", lambda: infimum.from_pymc(None)),
        ("stan", "bridgestan", lambda: infimum.from_stan("model.stan")),
        ("torch", "torch", lambda: infimum.from_torch(lambda p: p, 0.0)),
    ],
)
def test_without_the_extra_the_call_says_how_to_install_it(extra, module, call, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "infimum\[{extra}\]"'):
        call()
