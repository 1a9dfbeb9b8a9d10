"""x given θ by natural parameters: exact terms hold far from the scales that were looked at."""

import numpy as np
import pytest
import scipy.stats

import infimum
from infimum.families.nested.field import FactoredField, NaturalField
from infimum.families.nested.precision import SparseFields
from infimum.families.nested.terms import Terms
from infimum.search.nested.field import Field
from infimum.search.nested.natural import moves_by_powers, natural_at

EDGES = np.array([[1, 2, 3, 3], [0, 1, 0, 2]])


def precisions(rng, n=5):
    """Diagonally dominant values on a ring of four."""
    return np.concatenate([rng.uniform(4, 6, (n, 4)), rng.uniform(-1, 1, (n, 4))], axis=1)


def dense(values):
    out = np.diag(values[:4])
    out[EDGES[0], EDGES[1]] = out[EDGES[1], EDGES[0]] = values[4:]
    return out


@pytest.mark.parametrize("soft", [np.zeros(0), np.array([1.0, -2.0, 0.5, 3.0])])
def test_fields_have_the_densities_of_dense_normals(soft):
    rng = np.random.default_rng(0)
    fields, values, away = SparseFields(4, EDGES, soft), precisions(rng), rng.normal(size=(5, 4))
    precision = fields.factors(values)
    matrices = [dense(row) + (np.outer(soft, soft) if soft.size else 0) for row in values]
    exact = [
        scipy.stats.multivariate_normal(np.zeros(4), np.linalg.inv(h)).logpdf(x)
        for h, x in zip(matrices, away, strict=True)
    ]
    np.testing.assert_allclose(fields.log_normal(precision, away), exact, rtol=1e-10)
    solved = [np.linalg.solve(h, x) for h, x in zip(matrices, away, strict=True)]
    np.testing.assert_allclose(fields.inverse_times(precision, away), solved, rtol=1e-9)
    of_factors = fields.of_factors(precision.below, precision.pivots)
    np.testing.assert_allclose(of_factors.log_det(), precision.log_det())


def test_terms_are_sums_of_exponentials():
    entry, way = np.array([0, 2, 2]), np.array([0, 0, 1])
    rates, size = np.array([[-2.0, 0.0], [1.0, -1.0]]), np.array([3.0, 4.0, 5.0])
    terms = Terms(np.array([0.5, -0.5]), rates, entry, way, size)
    theta = np.array([[1.0, 2.0], [0.5, -0.5]])
    powers = np.exp((theta - terms.centre) @ rates.T)
    exact = np.stack(
        [3 * powers[:, 0], np.zeros(2), 4 * powers[:, 0] + 5 * powers[:, 1], np.zeros(2)], axis=1
    )
    np.testing.assert_allclose(terms.at(theta, 4), exact)
    assert not Terms.none(terms.centre).at(theta, 4).any()


def regression(likelihood, k=6, n=60):
    """Effects of two crossed factors with two scales, centred; a normal or a Poisson likelihood.

    z is log σ of the noise, or a location where there is none; two scales; and the effects.
    """
    rng = np.random.default_rng(1)
    rows = np.arange(n)
    design = np.zeros((n, 2 * k))
    design[rows, rng.integers(0, k, n)] = 1
    design[rows, k + rng.integers(0, k, n)] = 1
    y = rng.normal(size=n) if likelihood == "normal" else rng.poisson(2.0, n).astype(float)

    def value_and_gradient(z):
        first, scales, x = z[:, :1], z[:, 1:3], z[:, 3:]
        spread = np.repeat(scales, k, axis=1)
        eta = x @ design.T
        grad = np.empty(z.shape)
        if likelihood == "normal":
            left = (y - eta) * np.exp(-2 * first)
            value = -0.5 * ((y - eta) * left).sum(axis=1) - n * first[:, 0]
            grad[:, 0] = ((y - eta) * left).sum(axis=1) - n
        else:
            rate = np.exp(first + eta)
            left = y - rate
            value = (y * (first + eta) - rate).sum(axis=1)
            grad[:, 0] = left.sum(axis=1)
        pull = x * np.exp(-2 * spread)
        value = value - (0.5 * x * pull + spread).sum(axis=1) - 0.5 * (z[:, :3] ** 2).sum(axis=1)
        grad[:, 1:3] = ((x * pull).reshape(-1, 2, k) - 1).sum(axis=2)
        grad[:, :3] -= z[:, :3]
        grad[:, 3:] = left @ design - pull
        return value, grad

    target = infimum.from_numpy(value_and_gradient, 3 + 2 * k, batched=True)
    edges = np.array([(k + j, i) for i in range(k) for j in range(k)]).T
    return Field(target, np.arange(3), np.arange(3, 3 + 2 * k), edges, np.ones(2 * k))


def modes_around(field, rng, n):
    z = np.zeros((n, field.target.dim))
    z[:, :3] = rng.normal(-0.3, 0.5, (n, 3))
    for _ in range(30):
        modes = field.look(z)
        z = z.copy()
        z[:, field.rest] += field.step(modes)
    return field.look(z)


def test_normal_effects_are_exact_terms_and_constants():
    """H and b of the data hang on the noise alone, those of priors on their scales."""
    field = regression("normal")
    modes = modes_around(field, np.random.default_rng(2), 6)
    values, pull, terms = natural_at(field, modes, modes.of([0]))
    real = np.abs(terms.size) > 1e-6
    rates = {tuple(rate) for rate in terms.rates[terms.way[real]].astype(int).tolist()}
    assert rates == {(-2, 0, 0), (0, -2, 0), (0, 0, -2)}
    assert np.abs(values).max() < 1e-4
    assert np.abs(pull).max() < 1e-4
    far = np.array([[1.5, -4.0, 2.0]])
    z = np.concatenate([far, np.zeros((1, 12))], axis=1)
    looked = field.curved(z).values
    np.testing.assert_allclose(
        terms.at(far, looked.shape[1] + 12)[:, : looked.shape[1]], looked, rtol=1e-5, atol=1e-5
    )


def test_a_location_of_counts_has_no_terms_and_the_scales_have():
    """At a fixed x the precision of Poisson counts is exp of the location, and not at another."""
    field = regression("poisson")
    rng = np.random.default_rng(2)
    modes = modes_around(field, rng, 6)
    terms = natural_at(field, modes, modes.of([0])).terms
    np.testing.assert_array_equal(terms.rates.any(axis=0), [False, True, True])
    pair = np.repeat(modes.z[:1], 2, axis=0)
    pair[1, field.rest] += 0.3 * rng.normal(size=12)
    np.testing.assert_array_equal(moves_by_powers(field, pair), [False, True, True])


def few_levels(kind, centred):
    """Two crossed effects of twelve levels each."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    rng = np.random.default_rng(0)
    level = rng.integers(0, 12, size=(200, 2))
    effects = 0.6 * rng.normal(size=(2, 12))
    eta = 0.4 + effects[0, level[:, 0]] + effects[1, level[:, 1]]
    y = rng.poisson(np.exp(eta)) if kind == "poisson" else eta + 0.7 * rng.normal(size=200)

    def model():
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        tau = numpyro.sample("tau", dist.HalfNormal(1).expand([2]).to_event(1))
        spread = tau[:, None] if centred else 1.0
        scale = jnp.broadcast_to(spread, (2, 12))
        e = numpyro.sample("e", dist.Normal(0, scale).to_event(2))
        u = e if centred else tau[:, None] * e
        eta = mu + u[0, level[:, 0]] + u[1, level[:, 1]]
        if kind == "poisson":
            numpyro.sample("y", dist.Poisson(jnp.exp(eta)), obs=y)
        else:
            noise = numpyro.sample("noise", dist.HalfNormal(1))
            numpyro.sample("y", dist.Normal(eta, noise), obs=y)

    return infimum.from_numpyro(model)


@pytest.mark.parametrize(
    ("kind", "centred", "way"),
    [
        ("normal", True, NaturalField),
        ("normal", False, NaturalField),
        ("poisson", False, FactoredField),
    ],
)
def test_the_nearer_way_is_taken_and_kept_in_files(kind, centred, way, tmp_path):
    fit = infimum.fit(few_levels(kind, centred), "nested")
    assert isinstance(fit.q.conditional, way)
    assert fit.verdict != "unreliable"
    assert fit.ess > (0.97 if kind == "normal" else 0.8) * fit.n_draws
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    z = fit.points(9, seed=3)
    np.testing.assert_array_equal(again.points(9, seed=3), z)
    np.testing.assert_allclose(again.q.log_density(z), fit.q.log_density(z), rtol=1e-12)


def test_a_scale_that_the_curvature_of_the_rest_does_not_hang_on():
    """Two normal modes along one coordinate, and the others are normal whatever it is."""
    import jax.numpy as jnp

    def log_density(z):
        wells = jnp.logaddexp(jnp.log(0.6) - 0.5 * z[0] ** 2, jnp.log(0.4) - 0.5 * (z[0] - 4) ** 2)
        return wells - 0.5 * jnp.sum(z[1:] ** 2) - 6 * jnp.log(2 * jnp.pi)

    fit = infimum.fit(infimum.Target(log_density, np.zeros(12)), infimum.families.Nested("z?0?"))
    assert fit.q.theta.tolist() == [0]
    assert fit.verdict == "good"
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se + 1e-3
    assert abs(fit.summary()["mean"].iloc[0] - 1.6) < 0.15
