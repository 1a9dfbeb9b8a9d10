"""Stan programs run by stanli: supports, draws, predictions, data, and what users get wrong."""

import contextlib
import io
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from languages import EFFECT, ERROR

import infimum
from infimum.sources.stan import interpreted

stanli = pytest.importorskip("stanli")
pytest.importorskip("bridgestan")


def sum_to_zero(z):
    """The isometric map from R^k to the vectors of k + 1 entries that sum to zero."""
    x, total = np.zeros(len(z) + 1), 0.0
    for i in range(len(z), 0, -1):
        w = z[i - 1] / np.sqrt(i * (i + 1))
        total += w
        x[i - 1] += total
        x[i] -= w * i
    return x


def simplex(z):
    x = np.exp(sum_to_zero(z))
    return x / x.sum()


def correlation_factor(z, k=3):
    """Rows of a Cholesky factor from the tanh of the coordinates, row by row."""
    partial = iter(np.tanh(z))
    factor = np.eye(k)
    for i in range(1, k):
        rest = 1.0
        for j in range(i):
            factor[i, j] = next(partial) * np.sqrt(rest)
            rest -= factor[i, j] ** 2
        factor[i, i] = np.sqrt(rest)
    return factor


def covariance_factor(z, rows, columns):
    """Row by row, with the exponential on the diagonal."""
    entries = iter(z)
    factor = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(min(i + 1, columns)):
            factor[i, j] = np.exp(next(entries)) if i == j else next(entries)
    return factor


def product(factor):
    return factor @ factor.T


LOWER = np.tril_indices(3, -1)
SUPPORTS = {
    "real": (lambda z: z[0], ...),
    "real<lower=2>": (lambda z: 2 + np.exp(z[0]), ...),
    "real<upper=-1>": (lambda z: -1 - np.exp(z[0]), ...),
    "real<lower=-1, upper=3>": (lambda z: -1 + 4 / (1 + np.exp(-z[0])), ...),
    "real<offset=3, multiplier=2>": (lambda z: 3 + 2 * z[0], ...),
    "vector<lower=0>[3]": (np.exp, ...),
    "row_vector[2]": (lambda z: z, ...),
    "matrix[2, 3]": (lambda z: z.reshape(2, 3), ...),
    "array[2, 2] real<lower=0>": (lambda z: np.exp(z).reshape(2, 2), ...),
    "ordered[3]": (lambda z: np.cumsum([z[0], *np.exp(z[1:])]), ...),
    "positive_ordered[3]": (lambda z: np.cumsum(np.exp(z)), ...),
    "simplex[4]": (simplex, slice(3)),
    "array[2] simplex[3]": (
        lambda z: np.array([simplex(z[:2]), simplex(z[2:])]),
        (slice(None), slice(2)),
    ),
    "sum_to_zero_vector[4]": (sum_to_zero, None),
    "unit_vector[3]": (lambda z: z / np.linalg.norm(z), None),
    "cholesky_factor_corr[3]": (correlation_factor, LOWER),
    "corr_matrix[3]": (lambda z: product(correlation_factor(z)), LOWER),
    "cholesky_factor_cov[3]": (lambda z: covariance_factor(z, 3, 3), np.tril_indices(3)),
    "cholesky_factor_cov[3, 2]": (lambda z: covariance_factor(z, 3, 2), None),
}
"""Each support with the map from z, and the entries that are as many as coordinates."""


@pytest.mark.parametrize("support", SUPPORTS)
def test_draws_are_those_of_the_transform_written_by_hand(support):
    constrain, free = SUPPORTS[support]
    target = infimum.from_stan(f"parameters {{ {support} x; }} model {{ }}")
    z = np.random.default_rng(0).normal(size=(3, target.dim))
    draws = target.space.draws(z)
    np.testing.assert_allclose(draws["x"], [constrain(row) for row in z], rtol=1e-12, atol=1e-12)
    if support.startswith("unit_vector"):  # its length has no part in the draw
        return
    back, log_jacobian = target.space.free(draws)
    np.testing.assert_allclose(back, z, atol=1e-9)
    np.testing.assert_allclose(log_jacobian, target.values(z), atol=1e-9)
    if free is not None:
        steps = 1e-5 * np.eye(target.dim)
        for row, value in zip(z, log_jacobian, strict=True):
            slopes = [
                np.ravel(np.asarray(constrain(row + h) - constrain(row - h))[free]) / 2e-5
                for h in steps
            ]
            assert np.linalg.slogdet(slopes)[1] == pytest.approx(value, abs=1e-6)


REGRESSION = """
data { int<lower=1> N; int K; matrix[N, K] x; vector[N] y; }
parameters { real alpha; vector[K] beta; real<lower=0> sigma; }
transformed parameters { vector[N] mu = alpha + x * beta; }
model {
  alpha ~ normal(0, 2);
  beta ~ normal(0, 1);
  sigma ~ normal(0, 1);
  y ~ normal(mu, sigma);
}
generated quantities {
  vector[N] log_lik;
  array[N] real y_rep = normal_rng(mu, sigma);
  for (n in 1 : N) log_lik[n] = normal_lpdf(y[n] | mu[n], sigma);
}
"""
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 2))
Y = 1 + X @ [0.5, -1.0] + 0.5 * RNG.normal(size=20)
DATA = {"N": 20, "K": 2, "x": X, "y": Y}


@pytest.fixture(scope="module")
def fit():
    return infimum.fit(infimum.from_stan(REGRESSION, DATA), "fullrank")


def test_transformed_parameters_and_generated_quantities_are_drawn(fit):
    draws = fit.sample(50)
    expected = draws["alpha"][:, None] + draws["beta"] @ X.T
    np.testing.assert_allclose(draws["mu"], expected)
    scaled = (Y - expected) / draws["sigma"][:, None]
    log_lik = -0.5 * scaled**2 - np.log(draws["sigma"])[:, None] - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(draws["log_lik"], log_lik)
    noisy = {leaf.name for leaf in fit.space.leaves if leaf.noisy}
    assert noisy == {"log_lik", "y_rep"}


def test_predictions_of_its_own_and_of_new_data(fit):
    replicated = infimum.predict(fit, n=4000, seed=1)
    assert set(replicated) == {"y_rep"}
    draws = fit.sample(4000, seed=1)
    scaled = (replicated["y_rep"] - draws["mu"]) / draws["sigma"][:, None]
    assert abs(scaled.std() - 1) < 4 / np.sqrt(2 * scaled.size)
    new = {"N": 1, "K": 2, "x": jnp.array([[3.0, 0.0]]), "y": [0], "left out": "text"}
    predicted = infimum.predict(fit, new, n=4000, seed=1)["y_rep"]
    assert predicted.shape == (4000, 1)
    mean = draws["alpha"] + 3 * draws["beta"][:, 0]
    assert abs(np.mean((predicted[:, 0] - mean) / draws["sigma"])) < 4 / np.sqrt(4000)
    with pytest.raises(ValueError, match=r"the data lack 'x', which the Stan program declares"):
        infimum.predict(fit, {"N": 1, "K": 2, "y": [0]})
    with pytest.raises(ValueError, match=r"new data do not suit the Stan program: .*name=y"):
        infimum.predict(fit, new | {"y": [1.0, 2.0]})


def test_leave_one_out(fit):
    assert fit.loo().n_data_points == 20
    tree = fit.to_arviz(100, posterior_predictive=True, log_likelihood=True)
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)
    assert set(tree["constant_data"].data_vars) == {"N", "K", "x"}


def test_data_in_every_form_give_the_same_target(tmp_path):
    z = np.zeros((1, 4))
    text = json.dumps({name: np.asarray(value).tolist() for name, value in DATA.items()})
    (tmp_path / "my data.json").write_text(text)
    (tmp_path / "my program.stan").write_text(REGRESSION)
    jax_data = DATA | {"x": jnp.asarray(X, jnp.float32), "N": np.int64(20)}
    lists = json.loads(text)
    for data in (text, tmp_path / "my data.json", str(tmp_path / "my data.json"), lists):
        target = infimum.from_stan(tmp_path / "my program.stan", data)
        assert target.name == "my program"
        assert target.values(z)[0] == infimum.from_stan(REGRESSION, DATA).values(z)[0]
    assert infimum.from_stan(REGRESSION, jax_data, "stanli").values(z)[0] == pytest.approx(
        target.values(z)[0], rel=1e-6
    )


def test_models_of_stanli_are_taken_as_they_are():
    z = np.random.default_rng(0).normal(size=(3, 4))
    expected = infimum.from_stan(REGRESSION, DATA)
    target = infimum.from_stan(stanli.Model(stan_code=REGRESSION, data=DATA))
    np.testing.assert_array_equal(target.values(z), expected.values(z))
    np.testing.assert_array_equal(target.space.draws(z)["mu"], expected.space.draws(z)["mu"])
    bridged = infimum.from_stan(stanli.bridgestan_model(stan_code=REGRESSION, data=DATA))
    assert "because the program's text is not" in bridged.model.unknown_constant
    assert np.ptp(bridged.values(z) - expected.values(z)) < 1e-9
    with pytest.raises(TypeError, match="has its data already"):
        infimum.from_stan(stanli.Model(stan_code=REGRESSION, data=DATA), DATA)


def test_bridgestan_gives_the_same_numbers(tmp_path):
    bridgestan = pytest.importorskip("bridgestan")
    with contextlib.redirect_stdout(io.StringIO()):
        if not bridgestan.compile.get_bridgestan_path(download=False):
            pytest.skip("BridgeStan's toolchain is not installed: engine='bridgestan' is not run")
    (tmp_path / "regression.stan").write_text(REGRESSION)
    z = np.random.default_rng(0).normal(size=(3, 4))
    compiled = infimum.from_stan(tmp_path / "regression.stan", DATA, "bridgestan")
    target = infimum.from_stan(REGRESSION, DATA)
    np.testing.assert_allclose(target.values(z), compiled.values(z), rtol=1e-10)
    np.testing.assert_allclose(target.space.draws(z)["mu"], compiled.space.draws(z)["mu"])


def test_threads_and_single_calls_give_the_same_bits(monkeypatch):
    z = np.random.default_rng(0).normal(size=(40, 4))
    z[7] = np.nan
    targets = []
    for quick in (0.0, np.inf):
        monkeypatch.setattr(interpreted, "QUICK", quick)
        targets.append(infimum.from_stan(REGRESSION, DATA))
    (threaded, gradient), (single, expected) = (x.value_and_gradient(z) for x in targets)
    np.testing.assert_array_equal(threaded, single)
    np.testing.assert_array_equal(gradient, expected)
    assert single[7] == -np.inf
    assert targets[0].failures.first == targets[1].failures.first


def test_an_error_of_the_program_is_zero_density_and_shown():
    program = """parameters { real x; } transformed parameters { real y = x;
    if (x > 1) reject("too large: ", x); } model { x ~ normal(0, 1); }"""
    target = infimum.from_stan(program)
    fit = infimum.fit(target, "meanfield", draws=500, starts=2)
    assert fit.work.n_failed > 0
    assert "RuntimeError: too large: 1." in fit.work.first_failure
    draws = target.space.draws(np.array([[0.5], [2.0]]))
    np.testing.assert_array_equal(draws["x"], [0.5, 2.0])
    np.testing.assert_array_equal(draws["y"], [0.5, np.nan])


def test_a_program_that_fails_at_most_points_is_read():
    program = """parameters { real x; } model { x ~ normal(0, 1);
    if (x < 0.97) reject("x is ", x); }"""
    target = infimum.from_stan(program)
    assert target.model.unknown_constant is None
    far = infimum.from_stan(program.replace("0.97", "1.5"))
    assert 1.5 <= far.example[0] <= 2
    assert infimum.fit(far, "meanfield", draws=200).work.n_failed > 0
    with pytest.raises(ValueError, match="E107"):
        infimum.fit(infimum.from_stan(program.replace("0.97", "2.5")), "meanfield")


def test_an_ode_has_one_value_at_one_point():
    target = infimum.from_stan(
        """functions { vector decay(real t, vector y, real k) { return -k * y; } }
        data { array[3] real t; vector[3] y; }
        parameters { real<lower=0> k; real<lower=0> start; }
        model {
          array[3] vector[1] path = ode_rk45(decay, [start]', 0, t, k);
          y ~ normal(to_vector(path[ : , 1]), 0.1);
          k ~ lognormal(0, 1);
          start ~ lognormal(0, 1);
        }""",
        {"t": [0.5, 1.0, 2.0], "y": [0.6, 0.4, 0.1]},
    )
    z = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(target.values(z), target.value_and_gradient(z)[0])
    path = np.exp(z[:, 1:]) * np.exp(-np.exp(z[:, :1]) * [0.5, 1.0, 2.0])
    squares = (([0.6, 0.4, 0.1] - path) ** 2).sum(axis=1) / 0.02 + (z**2).sum(axis=1) / 2
    constant = -3 * np.log(0.1) - 5 * 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(target.values(z), constant - squares, rtol=1e-4)


def test_values_that_differ_by_a_solvers_tolerance_are_taken_from_gradients(monkeypatch):
    value = interpreted.Interpreted.value
    monkeypatch.setattr(interpreted.Interpreted, "value", lambda self, z: value(self, z) + 1e-4)
    target = infimum.from_stan(REGRESSION, DATA)
    z = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal(target.values(z), target.value_and_gradient(z)[0])


# ---- what users get wrong -----------------------------------------------------------------------

LOCATION = "data { int N; vector[N] y; } parameters { real m; } model { y ~ normal(m, 1); }"
FINE = {"N": 2, "y": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            (LOCATION, [1.0, 2.0]),
            TypeError,
            r"dict with an entry for each variable, not list.*E632",
        ),
        ((LOCATION, {"N": 2}), ValueError, r"the data lack 'y', which the Stan program.*have 'N'"),
        ((LOCATION,), ValueError, r"the data lack 'N', 'y'.*they have no entries"),
        (
            (LOCATION, FINE | {"y": [1.0]}),
            ValueError,
            r"do not suit.*name=y.*dims found=\(1\).*E632",
        ),
        ((LOCATION, FINE | {"N": 2.5}), ValueError, r"non-int values.*name=N.*E632"),
        ((LOCATION, FINE | {"y": [1.0, np.nan]}), ValueError, r"data entry y\[1\] is nan.*of 2:"),
        ((LOCATION, FINE | {"y": jnp.array([jnp.inf, 1])}), ValueError, r"y\[0\] is inf, counted"),
        ((LOCATION, FINE | {"y": ["a", "b"]}), TypeError, r"'y' holds <U1 values, not numbers"),
        ((LOCATION, {"N": 2, "y": [[1.0], [1.0, 2.0]]}), ValueError, r"'y' is not rectangular"),
        ((LOCATION, "{'N': 2}"), ValueError, r"data: not valid JSON"),
        ((LOCATION, "absent.json"), FileNotFoundError, r"no file absent.json with the data.*E901"),
        (("absent.stan", {}), FileNotFoundError, r"there is no file absent.stan: give the path"),
        (
            ("parameters { real x }",),
            ValueError,
            r"(?s)not compile.*in 'the program', line 1.*E631",
        ),
        (("data {int N;} model {}", {"N": 1}), ValueError, r"has no parameter.*E122"),
        ((LOCATION, FINE, "cmdstan"), ValueError, r"'cmdstan', expected 'stanli' or 'bridgestan'"),
        (("model.so", FINE, "stanli"), ValueError, r"cannot run the compiled library model.so"),
        (("model.so", FINE), FileNotFoundError, r"there is no file model.so: .* a compiled one"),
        ((3,), TypeError, r"a stanli.Model, not 3"),
        (
            ("parameters { complex c; } model { }",),
            ValueError,
            r'stanli cannot run the program: .*Give engine="bridgestan" to compile it',
        ),
    ],
)
def test_wrong_use_is_refused_with_its_cure(arguments, kind, message):
    with pytest.raises(kind, match=message):
        infimum.from_stan(*arguments)


def test_the_old_name_of_the_argument_works():
    with pytest.warns(DeprecationWarning, match=r"is now called from_stan\(program=.*W103"):
        target = infimum.from_stan(stan_model=LOCATION, data=FINE)
    assert target.dim == 1


def test_a_missing_folder_of_includes_is_named():
    with pytest.raises(FileNotFoundError, match=r"there is no folder absent: include_paths"):
        infimum.from_stan(LOCATION, FINE, include_paths=["absent"])


def test_a_syntax_error_is_named_with_its_file_and_line(tmp_path):
    path = tmp_path / "old.stan"
    path.write_text("data {\n  int N;\n  real y[N];\n}\nparameters { real x; }\nmodel { }\n")
    with pytest.raises(ValueError, match=r"(?s)in 'old.stan', line 3, .*real y\[N\];.*\[E631\]"):
        infimum.from_stan(path, {"N": 1, "y": [1.0]})


def test_a_file_that_is_no_library_is_named(tmp_path):
    (tmp_path / "model.so").write_text("nothing")
    with pytest.raises(ValueError, match=r"model.so is not a library that BridgeStan compiled"):
        infimum.from_stan(tmp_path / "model.so")


def test_the_schools_have_their_names():
    data = {"J": 8, "effect": EFFECT, "standard_error": ERROR}
    program = Path(__file__).parents[2] / "examples" / "eight_schools.stan"
    target = infimum.from_stan(program, data)
    assert target.name == "eight_schools"
    assert target.space.free_names == ["mu", *(f"t[{i}]" for i in range(8)), "tau"]
