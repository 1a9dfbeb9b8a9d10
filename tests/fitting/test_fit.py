"""A fit: its estimates, draws, tables and verdicts, on targets with known answers."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import infimum
from infimum.solvers._solver import Reason


def test_estimates_bracket_the_truth(skewed_fit):
    truth = np.log(2.0)
    assert abs(skewed_fit.log_evidence.value - truth) < 4 * skewed_fit.log_evidence.se
    assert skewed_fit.elbo.value < truth
    assert skewed_fit.kl.value == pytest.approx(truth - skewed_fit.elbo.value, abs=0.05)
    assert 0 < skewed_fit.kl.se < 0.05
    assert 1 <= skewed_fit.ess <= skewed_fit.n_draws


def test_weighted_draws_have_the_posterior_moments(skewed_fit):
    """exp(a) ~ Gamma(3), b ~ Gamma(2)."""
    draws = skewed_fit.sample(20_000, weighted=True)
    assert draws["b"].shape == draws["a"].shape == (20_000,)
    np.testing.assert_allclose(np.exp(draws["a"]).mean(), 3, atol=0.1)
    np.testing.assert_allclose(draws["b"].mean(), 2, atol=0.08)
    np.testing.assert_allclose(draws["b"].std(), np.sqrt(2), atol=0.1)


@pytest.mark.parametrize("n", [1, 7, 1024, 1025, 5000])
@pytest.mark.parametrize("weighted", [False, True])
def test_sample_gives_exactly_n(skewed_fit, n, weighted):
    draws = skewed_fit.sample(n, weighted=weighted, seed=3)
    assert {name: x.shape for name, x in draws.items()} == {"a": (n,), "b": (n,)}
    assert np.all(draws["b"] > 0)


def test_seeds_decide_bit_for_bit(skewed, skewed_fit):
    again = infimum.fit(skewed, "fullrank")
    np.testing.assert_array_equal(again.q.raw, skewed_fit.q.raw)
    np.testing.assert_array_equal(again.log_p, skewed_fit.log_p)
    np.testing.assert_array_equal(again.sample(9)["b"], skewed_fit.sample(9)["b"])
    assert again.elbo == skewed_fit.elbo
    other = infimum.fit(skewed, "fullrank", seed=1)
    assert other.elbo != skewed_fit.elbo
    assert abs(other.elbo.value - skewed_fit.elbo.value) < 0.1
    keyed = infimum.fit(skewed, "fullrank", seed=jax.random.key(5))
    assert abs(keyed.elbo.value - skewed_fit.elbo.value) < 0.1


def test_log_prob_is_the_density_of_the_draws(skewed_fit):
    draws = skewed_fit.sample(50)
    log_prob = skewed_fit.log_prob(draws)
    z = np.column_stack([draws["a"], np.log(draws["b"])])
    from infimum.objective.draws import log_density

    np.testing.assert_allclose(log_prob, log_density(skewed_fit.q, z) - z[:, 1], rtol=1e-10)
    one = skewed_fit.log_prob({"a": draws["a"][4], "b": draws["b"][4]})
    assert one.shape == ()
    np.testing.assert_allclose(one, log_prob[4])
    with pytest.raises(ValueError, match="structure"):
        skewed_fit.log_prob({"a": 0.0})


def test_summary_has_a_row_for_each_quantity(skewed_fit):
    table = skewed_fit.summary()
    assert list(table.index) == ["a", "b"]
    assert list(table.columns) == [
        *("mean", "sd", "5%", "50%", "95%"),
        *("weighted_mean", "weighted_sd", "mcse", "mean_error", "sd_error", "verdict"),
    ]
    assert set(table["verdict"]) <= {"good", "reweight", "unreliable"}
    truth = scipy.special.digamma(3)
    assert table.loc["a", "weighted_mean"] == pytest.approx(truth, abs=0.05)
    off = (table.loc["a", "mean"] - table.loc["a", "weighted_mean"]) / table.loc["a", "weighted_sd"]
    assert table.loc["a", "mean_error"] == pytest.approx(off)
    assert list(skewed_fit.summary(["b"]).index) == ["b"]
    with pytest.raises(ValueError, match="no quantity 'c'; there are a, b"):
        skewed_fit.summary(["c"])


def test_arviz_reads_it(skewed_fit):
    import arviz_stats

    tree = skewed_fit.to_arviz(500)
    assert tree["posterior"]["a"].sizes == {"chain": 1, "draw": 500}
    assert {"lp", "log_q", "log_weight"} <= set(tree["sample_stats"].data_vars)
    weights = tree["sample_stats"]["log_weight"].values[0]
    np.testing.assert_array_equal(weights, skewed_fit.log_w[:500])
    assert arviz_stats.summary(tree, kind="stats").shape[0] == 2


def test_print_says_what_a_person_needs(skewed_fit):
    text = str(skewed_fit)
    for word in ("skewed", "fullrank", "ELBO", "log Z", "KL", "k̂", "ESS", "verdict", "stopped"):
        assert word in text
    assert "agree" in text
    assert "<table>" in skewed_fit._repr_html_()


def test_a_good_verdict_is_for_what_is_near(make_gaussian):
    known = make_gaussian(3, condition=1.5)
    fit = infimum.fit(known.target, "fullrank")
    assert fit.verdict == "good"
    assert fit.advice == "Use the draws as they are."
    assert set(fit.summary()["verdict"]) == {"good"}


@pytest.mark.parametrize("correlation", [0.9, 0.9999])
def test_meanfield_is_told_to_reweight_where_it_is_too_narrow(correlation):
    """Draws from q alone look even here: only the wider proposal sees what q misses."""
    precision = np.linalg.inv([[1.0, correlation], [correlation, 1.0]])
    target = infimum.Target(lambda z: 1.0 - 0.5 * z @ (precision @ z), np.zeros(2))
    truth = 1 + np.log(2 * np.pi) + 0.5 * np.log(1 - correlation**2)
    fit = infimum.fit(target, "meanfield")
    assert fit.verdict == "reweight"
    assert abs(fit.log_evidence.value - truth) < 4 * fit.log_evidence.se
    exact = -0.5 * np.log(1 - correlation**2)
    assert abs(fit.kl.value - exact) < 4 * fit.kl.se + 1e-3
    np.testing.assert_allclose(fit.sample(8000, weighted=True).std(0), 1, atol=0.08)


HEAVY = {
    "cauchy": lambda z: -jnp.sum(jnp.log1p(z**2)),
    "t3": lambda z: -2 * jnp.sum(jnp.log1p(z**2 / 3)),
    "laplace": lambda z: -jnp.sum(jnp.abs(z)),
    "funnel": lambda z: (
        -((z[0] / 3) ** 2) / 2 - 0.5 * jnp.sum(z[1:] ** 2) * jnp.exp(-z[0]) - 2 * z[0]
    ),
}


@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.parametrize("seed", [0, 1])
def test_heavy_tails_are_not_called_good(name, seed):
    target = infimum.Target(HEAVY[name], np.zeros(5), name=name)
    assert infimum.fit(target, "fullrank", seed=seed).verdict != "good"


@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_two_modes_that_starts_found_are_both_weighed(weight):
    """N(±6, 1) with weights w and 1 - w: q covers one mode, weighted draws cover both."""

    def log_density(z):
        modes = jnp.array([jnp.sum((z - 6) ** 2), jnp.sum((z + 6) ** 2)])
        return jax.scipy.special.logsumexp(
            -0.5 * modes, b=jnp.array([weight, 1 - weight])
        ) - 0.5 * jnp.log(2 * jnp.pi)

    fit = infimum.fit(infimum.Target(log_density, np.zeros(1)), "fullrank")
    assert fit.rivals == 1
    assert fit.verdict == "reweight"
    assert "2 modes" in fit.advice
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se
    assert np.mean(fit.sample(10_000, weighted=True) > 0) == pytest.approx(weight, abs=0.03)
    assert "others ended" in str(fit) or weight == 0.5


IMPROPER = {
    "x": lambda p: -0.5 * p["y"] ** 2 + 0 * p["x"],
    "+x": lambda p: -0.5 * p["y"] ** 2 + 0.1 * p["x"],
    "-x": lambda p: -0.5 * p["y"] ** 2 - jnp.logaddexp(0.0, 5 * p["x"]),
    "+1·x -1·y": lambda p: -0.5 * (p["x"] + p["y"] - 1) ** 2,
}


@pytest.mark.parametrize("along", IMPROPER)
def test_an_improper_posterior_is_named_with_its_direction(along):
    target = infimum.Target(IMPROPER[along], {"x": 0.0, "y": 0.1})
    climb = infimum.climb(target)
    fit = climb.best
    assert fit.reason is Reason.IMPROPER
    assert fit.verdict == "unreliable"
    assert f"improper: along {along} " in fit.advice
    assert "improper" in climb.ended
    assert len(climb) <= 2


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_proper_posterior_that_was_cut_short_is_not_called_improper(scale):
    """Student-t with 2 degrees of freedom: its tails fall as fast as 1/t³."""
    target = infimum.Target(lambda z: -1.5 * jnp.log1p((z[0] / scale) ** 2 / 2), np.zeros(1))
    fit = infimum.fit(target, "fullrank", max_steps=2)
    assert not fit.reason.converged
    assert fit.work.improper is None


def test_adding_a_million_changes_nothing_but_log_z(skewed, skewed_fit):
    raised = infimum.Target(
        lambda p: 3 * p["a"] - jnp.exp(p["a"]) + jnp.log(p["b"]) - p["b"] + 1e6,
        {"a": 0.0, "b": 1.0},
        {"b": "positive"},
    )
    fit = infimum.fit(raised, "fullrank")
    np.testing.assert_allclose(fit.q.mean, skewed_fit.q.mean, atol=1e-4)
    np.testing.assert_allclose(fit.elbo.value - 1e6, skewed_fit.elbo.value, atol=1e-4)


def test_the_climb_never_falls_and_auto_stops_when_near(make_gaussian):
    known = make_gaussian(4)
    climb = infimum.climb(known.target)
    assert [fit.family.name for fit in climb] == ["meanfield", "fullrank"]
    low, high = climb
    assert high.elbo.value >= low.elbo.value - 2 * np.hypot(low.elbo.se, high.elbo.se)
    assert climb.best is high
    assert high.starts[0].kind == "climb"
    assert "fullrank" in climb.table()
    assert infimum.fit(known.target).family.name == "fullrank"
    independent = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(3))
    assert infimum.fit(independent).family.name == "meanfield"


def test_starts_of_several_kinds_are_reported(skewed_fit):
    assert {"ascent", "cold", "example"} >= {start.kind for start in skewed_fit.starts}
    assert len(skewed_fit.starts) == 5
    assert sum(start.reason is Reason.MERGED for start in skewed_fit.starts) == 4


def test_a_callback_sees_progress_and_can_stop(skewed):
    seen = []

    def stop(progress):
        seen.append(progress)
        return progress.stage == "fitting" and progress.n_calls > 5

    fit = infimum.fit(skewed, "fullrank", callback=stop)
    assert fit.reason is Reason.INTERRUPTED
    assert fit.advice.startswith("Interrupted: this is the best q so far")
    assert np.isfinite(fit.elbo.value)
    assert seen[0].stage == "starting"
    assert seen[-1].stage == "checking"


def test_ctrl_c_in_the_density_returns_the_best_so_far(skewed):
    class Impatient(infimum.Target):
        calls = 0

        def value_and_gradient(self, z):
            Impatient.calls += 1
            if Impatient.calls in (8, 25):
                raise KeyboardInterrupt
            return skewed.value_and_gradient(z)

    target = Impatient(lambda p: p["a"] + p["b"], {"a": 0.0, "b": 1.0}, {"b": "positive"})
    fit = infimum.fit(target, "fullrank")
    assert fit.reason is Reason.INTERRUPTED
    assert "Interrupted" in fit.advice
    assert np.isfinite(fit.q.mean).all()


def test_progress_is_shown_when_asked_for(skewed, capsys, monkeypatch):
    monkeypatch.setattr("infimum.fitting.display.SILENT_SECONDS", 0.0)
    monkeypatch.setattr("infimum.fitting.display.LINE_SECONDS", 0.0)
    infimum.fit(skewed, "meanfield", progress=True)
    told = capsys.readouterr().err
    assert "ELBO" in told
    assert "inf" not in told.replace("infimum", "")
    infimum.fit(skewed, "meanfield")
    assert capsys.readouterr().err == ""


def test_an_error_that_is_not_known_is_not_called_one():
    def log_density(p):
        z = jnp.log(p["scale"])
        return -0.5 * (z / 1.5) ** 2 - z + 0.3 * jnp.tanh(2 * z)

    target = infimum.Target(log_density, {"scale": 1.0}, {"scale": "positive"})
    fit = infimum.fit(target, "fullrank", starts=1)
    assert fit.summary()[["mean_error", "sd_error"]].abs().max().max() < 0.1
    assert fit.verdict == "reweight"
    assert "q is not known to be near enough in scale (see summary())" in fit.advice


def test_a_notebook_has_one_line_that_goes_with_the_fit(skewed, capsys, monkeypatch):
    shown = []

    class Shown:
        def update(self, line):
            shown.append(line)

    def display(line, display_id):
        shown.append(line)
        return Shown()

    page = types.SimpleNamespace(HTML=str, display=display)
    shell = types.SimpleNamespace(kernel=None)
    library = types.SimpleNamespace(get_ipython=lambda: shell, display=page)
    monkeypatch.setitem(sys.modules, "IPython", library)
    monkeypatch.setitem(sys.modules, "IPython.display", page)
    monkeypatch.setattr("infimum.fitting.display.SILENT_SECONDS", 0.0)
    monkeypatch.setattr("infimum.fitting.display.PAGE_SECONDS", 0.0)
    infimum.fit(skewed, "meanfield")
    assert shown[0].startswith("<code>meanfield, starting: ")
    assert any("fitting" in line and "ELBO" in line for line in shown)
    assert shown[-1] == ""
    assert capsys.readouterr().err == ""
    shown.clear()
    infimum.fit(skewed, "meanfield", progress=False)
    assert not shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "medium"}, "unknown family 'medium'"),
        ({"family": 3}, "3 is not a family"),
        ({"starts": 0}, "starts is 0"),
        ({"draws": 2.5}, "draws is 2.5"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"seed": -3}, "seed is -3"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"solver": "adam", "family": "fullrank"}, "not a solver; known: Natural"),
    ],
)
def test_wrong_use_is_refused(skewed, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        infimum.fit(skewed, **arguments)


def test_a_target_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"infimum\.Target"):
        infimum.fit(lambda z: -(z**2).sum())


@pytest.mark.parametrize(
    ("ladder", "message"),
    [([], "empty"), (["fullrank", "fullrank"], "twice"), (["x"], "unknown family 'x'")],
)
def test_a_wrong_ladder_is_refused(skewed, ladder, message):
    with pytest.raises(ValueError, match=message):
        infimum.climb(skewed, ladder)


def test_sample_refuses_what_is_no_number(skewed_fit):
    for n in (0, -1, 2.5):
        with pytest.raises(ValueError, match="positive number of draws"):
            skewed_fit.sample(n)


def test_a_million_numbers_take_no_more_than_themselves():
    import tracemalloc

    target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(20))
    fit = infimum.fit(target, "meanfield", draws=200)
    for weighted in (False, True):
        fit.sample(10, weighted=weighted)
        tracemalloc.start()
        draws = fit.sample(100_000, weighted=weighted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert draws.nbytes == 16e6
        assert peak < (2.5 if weighted else 1.1) * draws.nbytes + 2e7  # resampling holds weights


def test_many_dimensions_take_linear_memory():
    """A mean-field fit of 5,000 dimensions forms no square matrix, which would take 200 MB."""
    import tracemalloc

    target = infimum.Target(lambda z: -0.5 * jnp.sum((z - 1.0) ** 2), np.zeros(5_000))
    tracemalloc.start()
    fit = infimum.fit(target, "meanfield", starts=1, draws=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(fit.q.mean, 1, atol=1e-6)
    assert peak < 1.5e8
    climb = infimum.climb(target, ["meanfield", "fullrank"], tol=0, starts=1, draws=200)
    assert climb.skipped[0][0] == "fullrank"


def test_an_exact_fit_of_very_many_dimensions_can_be_trusted():
    target = infimum.Target(lambda z: -0.5 * jnp.sum((z - 1.0) ** 2), np.zeros(50_000))
    fit = infimum.fit(target, "meanfield", starts=1)
    assert fit.n_draws == 512
    assert fit.ess > 500
    assert fit.verdict != "unreliable"


class TestExpectations:
    def test_of_functions_of_the_draws(self, skewed_fit):
        """exp(a) ~ Gamma(3), b ~ Gamma(2)."""
        found = skewed_fit.expect(lambda p: np.exp(p["a"]) * p["b"])
        assert abs(found.weighted_mean - 6) < 4 * found.mcse
        assert found.verdict in ("good", "reweight")
        both = skewed_fit.expect(lambda p: np.stack([p["b"], p["b"] > 2], axis=-1))
        assert both.mean.shape == both.verdict.shape == (2,)
        assert both.weighted_mean[1] == pytest.approx(3 * np.exp(-2), abs=0.03)

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            (lambda p: 1.0, "leading axis"),
            (lambda p: p["b"].mean(), "leading axis"),
            (lambda p: p["b"][:5], "leading axis"),
            (lambda p: "text", "real numbers"),
            (lambda p: np.where(p["b"] > 3, np.nan, p["b"]), "NaN"),
            (lambda p: 1 / np.maximum(p["b"] - 2, 0), "NaN or infinite"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_what_is_wrong_with_a_function_is_said(self, skewed_fit, function, reason):
        found = skewed_fit.expect(function)
        assert found.verdict == "unreliable"
        assert reason in found.reason


class TestForSamplers:
    def test_inits_are_distinct_and_fine(self, skewed, skewed_fit):
        start = skewed_fit.inits(6, seed=2)
        assert len(start) == len(list(start)) == 6
        assert start.unconstrained.shape == (6, 2)
        assert len(np.unique(start.unconstrained, axis=0)) == 6
        np.testing.assert_allclose(skewed.unconstrain(start[3]), start.unconstrained[3], rtol=1e-12)
        np.testing.assert_array_equal(
            start.unconstrained, skewed_fit.inits(6, seed=2).unconstrained
        )
        with pytest.raises(ValueError, match="chains is 0"):
            skewed_fit.inits(0)

    def test_the_inverse_mass_matrix_is_the_covariance(self, make_gaussian):
        known = make_gaussian(4)
        covariance = np.linalg.inv(known.precision)
        full = infimum.fit(known.target, "fullrank", progress=False)
        np.testing.assert_allclose(full.inverse_mass_matrix(), covariance, rtol=1e-6)
        np.testing.assert_allclose(
            full.inverse_mass_matrix(dense=False), np.diag(covariance), rtol=1e-6
        )
        assert infimum.fit(known.target, "meanfield").inverse_mass_matrix().shape == (4,)
        mixture = infimum.fit(known.target, "mixture", progress=False).inverse_mass_matrix()
        np.testing.assert_allclose(np.diag(mixture), np.diag(covariance), rtol=0.15)


def test_a_scale_without_its_support_is_told_as_that():
    y = np.array([1.0, 2.0, 3.0, 2.5])

    def log_density(p):
        spread = jnp.sum((y - p["m"]) ** 2) / p["s"] ** 2
        return -4 * jnp.log(p["s"]) - 0.5 * spread - 0.5 * p["m"] ** 2 - p["s"]

    fit = infimum.fit(infimum.Target(log_density, {"m": 0.0, "s": 1.0}), "fullrank")
    assert fit.verdict == "unreliable"
    assert "log p̂ is NaN or +inf at" in fit.advice
    assert "give parameters the supports" in fit.advice


def test_a_misspelt_family_is_guessed(skewed):
    with pytest.raises(ValueError, match="Did you mean 'fullrank'"):
        infimum.fit(skewed, "fulrank")


def test_what_is_no_function_of_the_draws_is_refused(skewed_fit):
    with pytest.raises(TypeError, match="'a' is not a function of the draws"):
        skewed_fit.expect("a")


def test_one_fit_alone_is_not_compared(skewed_fit):
    with pytest.raises(TypeError, match="expected a list"):
        infimum.compare(skewed_fit)
    with pytest.raises(ValueError, match="n is 'mcmc'"):
        infimum.correct(skewed_fit, "mcmc")
