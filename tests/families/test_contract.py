"""The contract of a family, held by every file in families/."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats

import infimum
from infimum import families
from infimum.base.errors import UnsuitableError
from infimum.families import Family, Gaussian
from infimum.families._distribution import Charted
from infimum.families._family import Adaptive, Searched

NAMES = list(families.members())
PLACED = [name for name in NAMES if not issubclass(families.members()[name], Searched)]
"""Families whose members can be placed without a target."""
HELPERS = {
    *("Distribution", "Family", "Gaussian", "Hosted", "Left", "Promise", "Pushforward"),
    *("family_of", "members", "named"),
}
"""What `infimum.families` exports besides its members."""
MEAN, SCALE = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0])


def nested(dim):
    """A scale that the second coordinate depends on, if there are two; and others alone."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    if dim > 1:
        numpyro.sample("b", dist.Normal(0.0, jnp.exp(a)))
    if dim > 2:
        numpyro.sample("c", dist.Normal(0.0, 1.0).expand([dim - 2]))


def ready(name, dim=3):
    """A family, adapted to a target if it wants one."""
    family = families.named(name)
    if isinstance(family, Adaptive):
        target = infimum.from_numpyro(nested, dim)
        family = family.adapted(target, np.random.default_rng(0))
    return family


def moved(q, seed=0, size=0.3):
    """A member with every real leaf changed: these are unconstrained."""
    rng = np.random.default_rng(seed)
    real, built = eqx.partition(q, eqx.is_inexact_array_like)
    real = jax.tree_util.tree_map(lambda x: x + size * rng.standard_normal(x.shape), real)
    return eqx.combine(real, built)


def covariance(q):
    """L Lᵀ, from L times the axes."""
    root = np.asarray(q.spread(np.eye(q.dim)))
    return root.T @ root


def test_all_lists_the_helpers_and_the_members():
    """Members are found by the file system; `__all__` lists them for readers and for tools."""
    classes = {family.__name__ for family in families.members().values()}
    assert set(families.__all__) == HELPERS | classes
    assert set(dir(families)) == set(families.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Medium'"):
        families.Medium  # noqa: B018


def test_a_family_is_a_name_a_type_or_an_object():
    assert families.family_of("fullrank") == families.family_of(families.FullRank)
    assert families.family_of(families.LowRank(3)).rank == 3
    with pytest.raises(TypeError, match=r"3 is not a family: give a name \(auto, .*\) or a Family"):
        families.family_of(3)


def test_the_folder_is_the_registry():
    assert {"meanfield", "fullrank"} <= set(NAMES)
    with pytest.raises(ValueError, match=r"unknown family 'medium'; known: auto, .*fullrank"):
        families.named("medium")


@pytest.mark.parametrize("name", NAMES)
def test_is_a_documented_family(name):
    family = families.named(name)
    assert isinstance(family, Family)
    assert "Requires: " in type(family).__doc__
    assert getattr(families, type(family).__name__) is type(family)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(PLACED)))
def test_a_family_of_its_own_search_can_not_be_placed(name):
    family = families.named(name)
    for place in (lambda: family.init(MEAN, SCALE), lambda: family.start_from(None)):
        with pytest.raises(TypeError, match="its search begins at the target itself"):
            place()


@pytest.mark.parametrize("name", PLACED)
class TestContract:
    def test_init_has_the_moments_asked_for(self, name):
        """A family with fewer than 2d parameters may have one scale for all coordinates."""
        family = ready(name)
        one = family.n_parameters(len(MEAN)) < 2 * len(MEAN)
        scale = np.full(len(MEAN), SCALE.mean()) if one else SCALE
        q = family.init(MEAN, scale)
        with jax.enable_x64(True):
            draws = np.asarray(jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 20_000)))
        np.testing.assert_allclose(draws.mean(0), MEAN, atol=5 * scale.max() / np.sqrt(20_000))
        np.testing.assert_allclose(draws.std(0), scale, rtol=0.03)

    def test_log_prob_is_a_density_of_its_samples(self, name):
        """E_q[r/q] = 1 for a density r with lighter tails."""
        q = moved(ready(name).init(MEAN, SCALE), size=0.1)
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(1), 40_000)
            z, log_q = jax.vmap(q.sample_and_log_prob)(keys)
            np.testing.assert_allclose(jax.vmap(q.log_prob)(z[:50]), log_q[:50], rtol=1e-9)
        z, log_q = np.asarray(z), np.asarray(log_q)
        r = scipy.stats.multivariate_normal(z.mean(0), 0.5 * np.cov(z.T))
        ratio = np.exp(r.logpdf(z) - log_q)
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(z))

    def test_draws_are_differentiable_in_every_leaf_that_matters(self, name):
        """Such a leaf changes log q: the weight of a mixture's only component does not."""
        q = moved(ready(name).init(MEAN, SCALE), size=0.1)
        with jax.enable_x64(True):
            q = jax.tree_util.tree_map(jnp.asarray, q)
            gradient = eqx.filter_grad(lambda q: jnp.sum(q.sample(jax.random.key(0)) ** 2))(q)
            of_density = eqx.filter_grad(lambda q: q.log_prob(jnp.asarray(MEAN + 1.7 * SCALE)))(q)
        pairs = zip(*map(jax.tree_util.tree_leaves, (gradient, of_density)), strict=True)
        for leaf, matters in pairs:
            assert np.isfinite(leaf).all()
            assert np.any(np.asarray(leaf)) == np.any(np.asarray(matters))

    def test_from_arrays_restores_a_member(self, name):
        family = ready(name)
        q = moved(family.init(MEAN, SCALE))
        again = family.from_arrays(q.arrays())
        assert jax.tree_util.tree_structure(q) == jax.tree_util.tree_structure(again)
        same = jax.tree_util.tree_map(np.array_equal, q, again)
        assert all(jax.tree_util.tree_leaves(same))

    def test_starts_from_itself_unchanged(self, name):
        family = ready(name)
        q = moved(family.init(MEAN, SCALE))
        again = family.start_from(q)
        with jax.enable_x64(True):
            z = jnp.asarray(MEAN)
            np.testing.assert_allclose(again.log_prob(z), q.log_prob(z), rtol=1e-9)

    def test_one_dimension(self, name):
        try:
            q = ready(name, 1).init(np.array([2.0]), np.array([3.0]))
        except UnsuitableError:
            q = families.named(name).init(np.array([2.0]), np.array([3.0]))
        with jax.enable_x64(True):
            np.testing.assert_allclose(
                q.log_prob(jnp.array([5.0])), scipy.stats.norm(2, 3).logpdf(5), rtol=1e-12
            )


def those(capability):
    """Names of the families whose members have it."""
    return [name for name in PLACED if isinstance(ready(name).init(MEAN, SCALE), capability)]


@pytest.mark.parametrize("name", those(Gaussian))
class TestGaussian:
    def test_is_the_normal_distribution_it_claims(self, name):
        q = moved(ready(name).init(MEAN, SCALE))
        eps = np.random.default_rng(0).standard_normal((20, 3))
        z = q.push(eps)
        normal = scipy.stats.multivariate_normal(q.mean, covariance(q))
        np.testing.assert_allclose(q.log_prob_base(eps), normal.logpdf(z), rtol=1e-9)
        np.testing.assert_allclose(q.pull_back(z), eps, atol=1e-9)
        np.testing.assert_allclose(q.pull_back(z[0]), eps[0], atol=1e-9)
        np.testing.assert_allclose(q.variance(), np.diag(covariance(q)), rtol=1e-12)
        np.testing.assert_allclose(q.whiten(z), z @ q.spread(np.eye(3)).T, rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in those(Gaussian) if n in those(Charted)])
class TestChartedGaussian:
    def test_chart_gradient_is_that_of_the_loss(self, name):
        """Against finite differences of the fixed-draw loss, for a quartic log density."""
        q = moved(ready(name).init(MEAN, SCALE))
        rng = np.random.default_rng(2)
        eps = rng.standard_normal((12, 3))
        chart = q.chart(np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 0.5]]))
        theta = 0.1 * rng.standard_normal(chart.size)

        def loss(theta):
            member = chart.move(theta)
            z = member.push(eps)
            return np.mean(np.sum(z**4, axis=1)) - member.log_det()

        score = -4 * chart.move(theta).push(eps) ** 3
        steps = 1e-6 * np.eye(chart.size)
        numeric = [(loss(theta + s) - loss(theta - s)) / 2e-6 for s in steps]
        np.testing.assert_allclose(chart.pull(theta, eps, score), numeric, rtol=1e-5, atol=1e-6)

    def test_chart_begins_at_its_member(self, name):
        q = moved(ready(name).init(MEAN, SCALE))
        chart = q.chart(None)
        same = chart.move(np.zeros(chart.size))
        np.testing.assert_allclose(same.mean, q.mean)
        np.testing.assert_allclose(covariance(same), covariance(q), rtol=1e-12)


@pytest.mark.parametrize("name", ["fullrank", "sinharcsinh", "noncentred", "mixture"])
def test_dense_families_start_from_a_sparse_gaussian(name):
    rng = np.random.default_rng(0)
    edges = np.array([[1, 2, 3, 3], [0, 1, 2, 0]])
    values = np.concatenate([np.full(4, 3.0), rng.uniform(-1, 1, 4)])
    q = families.Sparse(edges).init(np.zeros(4), np.ones(4)).placed(np.arange(4.0), values)
    z = rng.standard_normal((5, 4))
    start = families.named(name).start_from(q)
    expected = q.log_prob_base(q.pull_back(z))
    if hasattr(start, "pull_back"):
        found = start.log_prob_base(start.pull_back(z))
    else:
        found = start.stack().log_density(z)
    np.testing.assert_allclose(found, expected, atol=1e-10)
