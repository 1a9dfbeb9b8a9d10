"""The C library that stands in for compiled Stan programs, against known answers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from stan.library import HAS_COMPILER, compiled

bridgestan = pytest.importorskip("bridgestan", reason="bridgestan is not installed")
pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler")

SCHOOLS = {
    "J": 8,
    "effect": [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0],
    "standard_error": [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0],
}
POINTS = {
    "N": 5,
    "K": 2,
    "x": [[0.5, -1.0], [1.5, 0.2], [-0.7, 0.4], [2.0, 1.0], [-1.2, 3.0]],
    "y": [1, 0, 0, 1, 1],
}
DATA = {"eight_schools": SCHOOLS, "logistic": POINTS, "covariance": None, "broken": {}}
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stan")


@pytest.fixture(scope="module")
def load(folder):
    def model(name, data=None, *flags):
        return bridgestan.StanModel(compiled(name, folder, *flags), data or DATA[name])

    return model


@pytest.fixture(scope="module", params=DATA)
def model(request, load):
    return load(request.param)


@pytest.fixture(scope="module")
def schools(load):
    return load("eight_schools")


@pytest.fixture(scope="module")
def logistic(load):
    return load("logistic")


@pytest.fixture(scope="module")
def shapes(load):
    return load("covariance")


def point(model, seed=0):
    return np.random.default_rng(seed).normal(size=model.param_unc_num())


def slopes(function, x, step=1e-5):
    """The central differences of a function along every coordinate, as the last axis."""
    moves = step * np.eye(len(x))
    return np.stack([(function(x + h) - function(x - h)) / (2 * step) for h in moves], axis=-1)


def test_the_schools_density_is_that_of_their_program(schools):
    x = point(schools)
    mu, tau, t = x[0], np.exp(x[1]), x[2:]
    expected = (
        stats.norm(0, 5).logpdf(mu)
        + stats.halfcauchy(0, 5).logpdf(tau)
        + stats.norm.logpdf(t).sum()
        + stats.norm(mu + tau * t, SCHOOLS["standard_error"]).logpdf(SCHOOLS["effect"]).sum()
    )
    density = schools.log_density
    assert density(x, propto=False, jacobian=False) == pytest.approx(expected, rel=1e-12)
    assert density(x, propto=False) == pytest.approx(expected + x[1], rel=1e-12)
    # A truncation's log 2 stays under propto, as it does in Stan.
    dropped = 17 * HALF_LOG_2PI + 2 * np.log(5) + np.log(np.pi)
    dropped += np.log(SCHOOLS["standard_error"]).sum()
    assert density(x, propto=True) == pytest.approx(expected + x[1] + dropped, rel=1e-12)


def test_the_logistic_density_is_that_of_its_program(logistic):
    x = point(logistic)
    logits = x[0] + np.array(POINTS["x"]) @ x[1:]
    prior = stats.norm(0, [5, 2.5, 2.5])
    expected = prior.logpdf(x).sum() + stats.bernoulli(expit(logits)).logpmf(POINTS["y"]).sum()
    assert logistic.log_density(x, propto=False) == pytest.approx(expected, rel=1e-12)
    dropped = 3 * HALF_LOG_2PI + np.log([5, 2.5, 2.5]).sum()
    assert logistic.log_density(x) == pytest.approx(expected + dropped, rel=1e-12)
    assert np.isfinite(logistic.log_density(np.array([-1e4, 0.0, 0.0])))


def test_the_shapes_have_the_densities_they_claim(shapes):
    x = point(shapes)
    theta = shapes.param_constrain(x)
    p = theta[:6].reshape(3, 2).T
    np.testing.assert_allclose(p.sum(axis=1), 1)
    m = theta[6:12].reshape(3, 2).T
    mean = 10 * np.array([[1], [2]]) + np.array([1, 2, 3])
    expected = sum(stats.dirichlet([1, 2, 3]).logpdf(row) for row in p)
    expected += stats.norm(mean, 1).logpdf(m).sum() + stats.uniform(-1, 3).logpdf(theta[12])
    assert shapes.log_density(x, propto=False, jacobian=False) == pytest.approx(expected)
    with_total = shapes.param_constrain(x, include_gq=True, rng=shapes.new_rng(0))
    assert with_total[-1] == pytest.approx(m.sum())


def test_the_broken_density_has_log_z_three(load):
    model = load("broken")
    x = point(model)
    expected = 3 + stats.norm(1, 2).logpdf(x).sum()
    assert model.log_density(x, propto=False) == pytest.approx(expected)
    assert model.log_density(x) == pytest.approx(expected + 3 * (np.log(2) + HALF_LOG_2PI))


@pytest.mark.parametrize("jacobian", [True, False])
def test_derivatives(model, jacobian):
    x = point(model, 1)

    def gradient(x):
        return model.log_density_gradient(x, jacobian=jacobian)[1]

    value, slope, hessian = model.log_density_hessian(x, jacobian=jacobian)
    assert value == model.log_density(x, jacobian=jacobian)
    expected = slopes(lambda x: np.array(model.log_density(x, jacobian=jacobian)), x)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(slope, gradient(x))
    np.testing.assert_allclose(hessian, slopes(gradient, x), rtol=1e-6, atol=1e-6)
    v = point(model, 2)
    product = model.log_density_hessian_vector_product(x, v, jacobian=jacobian)
    assert product[0] == value
    np.testing.assert_allclose(product[1], hessian @ v, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "free"),
    # The last entry of a simplex follows from the others.
    [
        ("eight_schools", range(10)),
        ("logistic", range(3)),
        ("covariance", [*range(4), *range(6, 13)]),
    ],
)
def test_log_jacobians(load, name, free):
    model = load(name)
    x = point(model)
    with_jacobian, without = (model.log_density(x, jacobian=choice) for choice in (True, False))
    jacobian = slopes(lambda x: model.param_constrain(x)[list(free)], x)
    assert with_jacobian - without == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-8)


def test_round_trip(model):
    x = point(model)
    theta = model.param_constrain(x)
    np.testing.assert_allclose(model.param_unconstrain(theta), x, atol=1e-12)


def test_round_trip_through_json(shapes):
    x = point(shapes)
    theta = shapes.param_constrain(x)
    nested = {"p": theta[:6].reshape(3, 2).T, "m": theta[6:12].reshape(3, 2).T, "u": theta[12]}
    np.testing.assert_allclose(shapes.param_unconstrain_json(nested), x, atol=1e-12)
    del nested["m"]
    with pytest.raises(RuntimeError, match="parameter initialization; variable name=m"):
        shapes.param_unconstrain_json(nested)


def test_names_and_counts(schools, logistic, shapes):
    eight = [str(j) for j in range(1, 9)]
    names = ["mu", "tau", *(f"t.{j}" for j in eight)]
    assert schools.param_names() == schools.param_unc_names() == names
    names += [f"{name}.{j}" for name in ("theta", "log_lik", "effect_rep") for j in eight]
    assert schools.param_names(include_tp=True, include_gq=True) == names
    assert schools.param_num(include_tp=True, include_gq=True) == len(names) == 34
    assert schools.param_names(include_tp=True) == names[:18]
    assert schools.param_names(include_gq=True) == names[:10] + names[18:]
    assert logistic.param_names() == ["alpha", "beta.1", "beta.2"]
    p = ["p.1.1", "p.2.1", "p.1.2", "p.2.2", "p.1.3", "p.2.3"]
    m_u = ["m.1.1", "m.2.1", "m.1.2", "m.2.2", "m.1.3", "m.2.3", "u"]
    assert shapes.param_names(include_gq=True) == [*p, *m_u, "total"]
    assert shapes.param_unc_names() == [*p[:4], *m_u]
    assert schools.name() == "eight_schools_model"


def test_free_coordinates_hold_one_simplex_after_the_other(shapes):
    before = shapes.param_constrain(np.zeros(11))
    after = shapes.param_constrain(np.array([0.0, 1, *np.zeros(9)]))
    assert [bool(change) for change in after != before] == [True, False] * 3 + [False] * 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effect": None}, "does not exist; .*variable name=effect"),
        ({"effect": [1.0]}, r"variable name=effect; dims declared=\(8\); dims found=\(1\)"),
        ({"effect": [[1.0] * 8]}, "mismatch in number dimensions"),
        ({"effect": [[1.0], [1.0, 2.0]]}, "rectangular"),
        ({"effect": [1.0, [2.0]]}, "rectangular"),
        ({"effect": ["high"] * 8}, "expected a number"),
        ({"standard_error": [-1.0] * 8}, "standard_error is -1"),
        ({"J": 8.5}, "non-int values; .*variable name=J"),
    ],
)
def test_data_that_do_not_fit(load, change, message):
    data = {key: value for key, value in (SCHOOLS | change).items() if value is not None}
    with pytest.raises(RuntimeError, match=message):
        load("eight_schools", data)


@pytest.mark.parametrize("data", ["{", '{"J" 8}', '{"J": 8}}', "[1]", '{"J": 8,}'])
def test_data_that_are_no_json(load, data):
    with pytest.raises(RuntimeError, match="JSON"):
        load("eight_schools", data)


def test_the_schools_reject_what_has_no_density(load, schools):
    x = np.zeros(10)
    message = "Scale parameter is inf, but must be positive finite"
    bounded = load("eight_schools", SCHOOLS | {"throw_above": 2.0})
    assert bounded.log_density(x) == schools.log_density(x)
    for model, log_tau in [(bounded, 1.0), (schools, 1e3)]:
        x[1] = log_tau
        for evaluate in (model.log_density, model.log_density_gradient, model.log_density_hessian):
            with pytest.raises(RuntimeError, match=rf"^{evaluate.__name__}\(\) failed.*{message}"):
                evaluate(x)
    with pytest.raises(RuntimeError, match="normal_rng"):
        schools.param_constrain(x + 1, include_gq=True, rng=schools.new_rng(0))


@pytest.mark.parametrize("wrong", [{0: 0.9}, {12: 3.0}])
def test_parameters_outside_their_constraints(shapes, wrong):
    theta = shapes.param_constrain(np.zeros(11))
    theta[list(wrong)] = list(wrong.values())
    with pytest.raises(RuntimeError, match="not within its constraints"):
        shapes.param_unconstrain(theta)


def test_the_switches_of_the_broken_model(load):
    x = np.array([2.0, 0.5, -1.0])
    sound, turned = load("broken"), load("broken", {"sign": -1})
    assert turned.log_density(x) == sound.log_density(x)
    gradient = sound.log_density_gradient(x)[1]
    np.testing.assert_array_equal(turned.log_density_gradient(x)[1], -gradient)
    limited = load("broken", {"nan_above": 1.5})
    assert np.isnan(limited.log_density(x))
    assert limited.log_density(x - 1) == sound.log_density(x - 1)
    empty = load("broken", {"no_parameters": 1})
    assert empty.param_unc_num() == empty.param_num() == 0
    assert empty.log_density(np.zeros(0)) == 3


def test_random_numbers(schools):
    x = point(schools)
    rng = schools.new_rng(3)

    def generate(rng):
        return schools.param_constrain(x, include_tp=True, include_gq=True, rng=rng)

    draws = np.stack([generate(rng) for _ in range(4000)])
    again, other = generate(schools.new_rng(3)), generate(schools.new_rng(4))
    np.testing.assert_array_equal(again, draws[0])
    assert np.all(other[26:] != draws[0, 26:])
    theta, log_lik = draws[0, 10:18], draws[0, 18:26]
    errors = np.array(SCHOOLS["standard_error"])
    np.testing.assert_allclose(
        log_lik, stats.norm(theta, errors).logpdf(SCHOOLS["effect"]), rtol=1e-12
    )
    noise = ((draws[:, 26:] - theta) / errors).ravel()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03


def test_random_responses(logistic):
    x = point(logistic)
    rng = logistic.new_rng(0)
    draws = np.stack([logistic.param_constrain(x, include_gq=True, rng=rng) for _ in range(4000)])
    chances = expit(x[0] + np.array(POINTS["x"]) @ x[1:])
    np.testing.assert_allclose(draws[:, 8:].mean(axis=0), chances, atol=0.04)
    assert set(np.unique(draws[:, 8:])) == {0, 1}
    np.testing.assert_allclose(
        draws[0, 3:8], stats.bernoulli(chances).logpmf(POINTS["y"]), rtol=1e-12
    )


def test_initial_points(shapes, load):
    rng = shapes.new_rng(0)
    x = shapes.param_initialize(rng, {"u": 0.5, "p": [[0.2, 0.3, 0.5]] * 2}, init_radius=0.1)
    theta = shapes.param_constrain(x)
    np.testing.assert_allclose(theta[[0, 2, 4, 12]], [0.2, 0.3, 0.5, 0.5])
    assert 0 < np.abs(x[4:10]).max() < 0.1
    hopeless = load("broken", {"nan_above": -10})
    with pytest.raises(RuntimeError, match="after 5 attempts"):
        hopeless.param_initialize(hopeless.new_rng(0), max_tries=5)


def test_what_a_compilation_says_of_itself(load):
    assert "\tSTAN_THREADS=false\n" in load("broken").model_info()
    assert "\tSTAN_THREADS=true\n" in load("broken", {}, "-DSTAN_THREADS").model_info()
    with pytest.warns(RuntimeWarning, match="does not match the version"):
        assert load("broken", {}, "-DBS_MINOR=2").model_version() == (2, 2, 0)


def test_threads_agree(schools):
    points = np.random.default_rng(0).normal(size=(200, 10))
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(schools.log_density, points))
    assert threaded == [schools.log_density(x) for x in points]
