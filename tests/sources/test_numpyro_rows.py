"""NumPyro models whose data are the rows of a plate: the density is that of the plain model."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import infimum
from infimum.rows import posterior

N = 90


def data(n=N):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 2))
    return x, x @ [1.0, -0.5] + rng.standard_normal(n)


def regression(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ w, sigma), obs=y)


def subsampled(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    with numpyro.plate("rows", len(x), subsample_size=7):
        x = numpyro.subsample(x, event_dim=1)
        y = numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def indexed(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    with numpyro.plate("rows", len(x), subsample_size=7) as index:
        numpyro.sample("y", dist.Normal(x[index] @ w, 1.0), obs=y[index])


def sized(x, y, n, by_index=False):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    with numpyro.plate("rows", n, subsample_size=7) as index:
        x = x[index] if by_index else numpyro.subsample(x, event_dim=1)
        y = y[index] if by_index else numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def twice_observed(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    numpyro.sample("guess", dist.Normal(w[0], 0.5), obs=1.1)
    with numpyro.plate("rows", len(x)), handlers.scale(scale=0.5):
        numpyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=x)
        with handlers.mask(mask=y > 0):
            numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)
        numpyro.factor("shift", -0.1 * x[:, 0] * w[1])


def hierarchical(x, group, n_groups, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("groups", n_groups):
        level = numpyro.sample("level", dist.Normal(0.0, scale))
    low = numpyro.sample("low", dist.Uniform(-scale, scale))
    numpyro.deterministic("spread", level.max() - level.min())
    numpyro.deterministic("half", scale / 2)
    with numpyro.plate("rows", len(group)):
        mean = numpyro.deterministic("mean", level[group] + x["first"] * low)
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def grouped():
    x, y = data()
    return {"first": x[:, 0]}, np.arange(N) % 5, 5, y


CASES = {
    "plain": (regression, data()),
    "subsampled": (subsampled, data()),
    "indexed": (indexed, data()),
    "size given, subsampled": (sized, (*data(), N)),
    "size given, indexed": (sized, (*data(), N, True)),
    "several observed": (twice_observed, data()),
    "hierarchical": (hierarchical, grouped()),
}


@pytest.fixture
def small_parts(monkeypatch):
    """Few rows are many: parts of 10."""
    monkeypatch.setattr(posterior, "FEWEST_ROWS", 10)
    monkeypatch.setattr(posterior, "ROWS_PER_COORDINATE", 1)


def agree(target, plain):
    assert target.space.names == [k for k in plain.space.names if not k.startswith("mean[")]
    z = np.random.default_rng(1).standard_normal((5, plain.dim))
    for own, known in zip(target.value_and_gradient(z), plain.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(own, known, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["whole", "minibatch"])
def test_the_density_is_that_of_the_plain_model(case, way, request):
    if way == "minibatch":
        request.getfixturevalue("small_parts")
    model, args = CASES[case]
    target = infimum.from_numpyro(model, *args, rows="rows")
    assert isinstance(target, infimum.Rows)
    assert (target.way, target.n_rows) == (way, N)
    if way == "minibatch":
        target.large.posterior.passes.size = 32
    agree(target, infimum.from_numpyro(model, *args))


def test_the_fit_is_that_of_the_plain_model(small_parts):
    args = data(4000)
    target = infimum.from_numpyro(regression, *args, rows="rows")
    fit = infimum.fit(target, "fullrank", draws=500)
    plain = infimum.fit(infimum.from_numpyro(regression, *args), "fullrank", draws=500)
    assert fit.verdict == "good"
    assert fit.elbo.value == pytest.approx(plain.elbo.value, abs=0.01)
    sd = np.sqrt(plain.q.variance())
    np.testing.assert_array_less(abs(fit.q.mean - plain.q.mean), 0.02 * sd)


def test_draws_dims_and_predictions():
    target = infimum.from_numpyro(hierarchical, *grouped(), rows="rows")
    fit = infimum.fit(target, "meanfield", draws=200)
    draws = fit.sample(10)
    assert set(draws) == {"scale", "level", "low", "spread", "half"}
    np.testing.assert_allclose(draws["spread"], np.ptp(draws["level"], axis=1))
    assert fit.to_arviz(10)["posterior"]["level"].dims == ("chain", "draw", "groups")
    new = infimum.predict(fit, {"first": np.zeros(3)}, np.array([0, 1, 4]), n=20)
    assert new["y"].shape == (20, 3)
    with pytest.raises(ValueError, match="give new rows"):
        infimum.predict(fit)
    with pytest.raises(ValueError, match="would not fit into memory"):
        fit.to_arviz(10, log_likelihood=True)


def test_memory_maps_are_read_in_blocks(tmp_path, small_parts):
    maps = []
    for name, array in zip("xy", data(), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    target = infimum.from_numpyro(regression, maps[0], y=maps[1], rows="rows")
    assert "on disk" in target.large.description()
    agree(target, infimum.from_numpyro(regression, *data()))


def test_a_models_own_argument_called_rows_is_bound():
    def model(rows, y):
        mean = numpyro.sample("mean", dist.Normal(0.0, rows))
        with numpyro.plate("each", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    y = data()[1]
    bound = functools.partial(model, 3.0)
    target = infimum.from_numpyro(bound, y, rows="each")
    agree(target, infimum.from_numpyro(bound, y))
    with pytest.raises(TypeError, match=r"rows is 3.0.*functools.partial"):
        infimum.from_numpyro(functools.partial(model, y=y), rows=3.0)


def test_the_number_of_rows_may_be_part_of_the_prior(small_parts):
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0.0, len(y) ** -0.5))
        top = numpyro.sample("top", dist.Uniform(0.0, len(y)))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1 + top), obs=y)

    y = data()[1]
    target = infimum.from_numpyro(model, y, rows="rows")
    agree(target, infimum.from_numpyro(model, y))


# ---- refusals ------------------------------------------------------------------------------------


def refused(model, *args, match, error=ValueError, rows="rows"):
    with pytest.raises(error, match=match):
        infimum.from_numpyro(model, *args, rows=rows)


def test_a_plate_that_is_not_there_is_named():
    refused(regression, *data(), rows="row", match="no plate 'row'; its plates are rows")
    refused(lambda: numpyro.sample("a", dist.Normal()), match="its plates are none")


def test_data_that_are_not_as_long_as_the_plate():
    x, y = data()
    refused(sized, x[:10], y[:10], N, True, match=r"as long as its plate 'rows', 90: .* lengths 10")


def test_rows_with_unknowns_of_their_own():
    def model(y):
        with numpyro.plate("rows", len(y)):
            theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    refused(model, data()[1], match=r"'theta' .* latent inside the plate 'rows'.*local=")
    x, group, n, _ = grouped()
    refused(hierarchical, x, group, n, match=r"'y' .*If the site is observed, give its data")


def test_what_looks_at_the_rows_outside_their_plate():
    def centred(y):
        mean = numpyro.sample("mean", dist.Normal(y.mean(), 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def bounded(y):
        mean = numpyro.sample("mean", dist.Uniform(y.min(), 10.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    def outside(y):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)
        numpyro.sample("z", dist.Normal(mean, 1.0), obs=y)

    y = data()[1]
    refused(centred, y, match="'mean' .* depends on the rows.*beforehand")
    refused(bounded, y, match="support of site 'mean' depends on the rows")
    refused(outside, y, match="'z' .* depends on the rows.*into the plate")


def test_rows_that_depend_on_each_other():
    def model(x, y):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y)):
            centred = x[:, 0] - x[:, 0].mean()
            numpyro.sample("y", dist.Normal(centred * w, 1.0), obs=y)

    refused(model, *data(), match="not a sum over rows")


def test_a_model_that_must_know_its_data():
    def model(group, y):
        with numpyro.plate("groups", int(group.max()) + 1):
            level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(level[group], 1.0), obs=y)

    refused(model, np.arange(N) % 3, data()[1], match="number of groups, must be an argument")


def test_discrete_sites_are_refused():
    def model(y):
        k = numpyro.sample("k", dist.Bernoulli(0.5))
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(jnp.where(k, mean, 0.0), 1.0), obs=y)

    refused(model, data()[1], match="'k' .* is discrete")
