"""Low-rank Gaussians: exact where p* is one, in memory and time that grow with d·r."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import infimum
from infimum import families
from infimum.base import memory
from infimum.base.errors import UnsuitableError
from infimum.checks import quantities
from infimum.families._sketch import Sketch, orthonormal


def factor_model(dim, rank, *, precise=False, strength=0.5, log_z=3.0):
    """N(m, S(I + B Bᵀ)S), or with that middle inverted; and m, S, B."""
    rng = np.random.default_rng(dim)
    scale = np.exp(rng.normal(size=dim))
    loadings = strength * rng.standard_normal((dim, rank))
    mean = scale * rng.standard_normal(dim)
    core = np.eye(rank) + loadings.T @ loadings
    half = 0.5 * np.linalg.slogdet(core)[1]
    narrowed = np.linalg.solve(np.linalg.cholesky(core), loadings.T).T
    constant = log_z - 0.5 * dim * np.log(2 * np.pi) - np.log(scale).sum()
    constant += half if precise else -half

    def log_density(z):
        x = (z - mean) / scale
        across = jnp.sum((x @ (loadings if precise else narrowed)) ** 2)
        return constant - 0.5 * x @ x + (-0.5 if precise else 0.5) * across

    return infimum.Target(log_density, np.zeros(dim)), mean, scale, loadings


def member(dim=6, rank=2, seed=0):
    rng = np.random.default_rng(seed)
    q = families.LowRank(rank).init(rng.standard_normal(dim), np.exp(rng.standard_normal(dim)))
    return jax.tree_util.tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), q)


def covariance(q):
    root = q.spread(np.eye(q.dim))
    return root.T @ root


class TestMember:
    def test_is_a_normal_distribution_whose_numbers_are_free(self):
        q = member()
        eps = np.random.default_rng(1).standard_normal((20, 6))
        z = q.push(eps)
        normal = scipy.stats.multivariate_normal(q.mean, covariance(q))
        np.testing.assert_allclose(q.log_prob_base(eps), normal.logpdf(z), rtol=1e-9)
        np.testing.assert_allclose(q.pull_back(z), eps, atol=1e-9)
        np.testing.assert_allclose(q.variance(), np.diag(covariance(q)), rtol=1e-12)
        np.testing.assert_allclose(q.whiten(z), z @ q.spread(np.eye(6)).T, rtol=1e-9)
        with jax.enable_x64(True):
            np.testing.assert_allclose(q.log_prob(jnp.asarray(z[0])), normal.logpdf(z[0]))

    def test_precision_between_two_members_is_between_their_precisions(self):
        a, b = member(seed=1), member(seed=2)
        a, b = (families.LowRank(5).start_from(q) for q in (a, b))
        middle = a.between(b, 0.3)
        expected = 0.7 * np.linalg.inv(covariance(a)) + 0.3 * np.linalg.inv(covariance(b))
        np.testing.assert_allclose(np.linalg.inv(covariance(middle)), expected, rtol=1e-8)
        np.testing.assert_allclose(middle.mean, 0.7 * a.mean + 0.3 * b.mean)

    def test_divergence_is_that_of_two_normals(self):
        a, b = member(seed=1), member(seed=2)
        ratio = np.linalg.solve(covariance(b), covariance(a))
        offset = b.mean - a.mean
        known = np.trace(ratio) - 6 - np.linalg.slogdet(ratio)[1]
        known += offset @ np.linalg.solve(covariance(b), offset)
        np.testing.assert_allclose(a.divergence(b), 0.5 * known, rtol=1e-10)

    def test_a_whole_sketch_is_followed_to_its_gaussian(self):
        """With the curvature on all of R^d the step ends at the minimiser of the quadratic."""
        q = families.LowRank(5).start_from(member())
        rng = np.random.default_rng(3)
        root = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        h = (root * np.linspace(0.5, 2, 6)) @ root.T
        pull = rng.standard_normal(6)
        diagonal = np.diag(h).copy()
        basis = orthonormal(rng.standard_normal((6, 6)))
        core = basis.T @ (h - np.diag(diagonal)) @ basis
        sketch = Sketch(pull, diagonal, np.zeros(6), basis, core)
        goal = q.towards(sketch)
        inverse = np.linalg.inv(q.spread(np.eye(6)).T)
        expected = inverse.T @ h @ inverse
        np.testing.assert_allclose(goal.mean, q.push(np.linalg.solve(h, pull)), rtol=1e-8)
        ratio = expected @ covariance(goal)
        kl = 0.5 * (np.trace(ratio) - 6 - np.linalg.slogdet(ratio)[1])
        assert kl < 0.01  # of six directions five are kept

    @pytest.mark.parametrize("coordinate", [8.0, 0.2])
    def test_no_direction_is_spent_on_a_coordinate_of_its_own(self, coordinate):
        """The diagonal has it already; a direction across coordinates stays."""
        across = np.array([0.0, 0.6, 0.8, 0.0])
        basis = np.column_stack([np.eye(4)[0], across])
        core = np.diag([coordinate - 1, 4.0])
        q = families.LowRank().init(np.zeros(4), np.ones(4))
        goal = q.of_precision(np.zeros(4), np.ones(4), basis, core)
        assert goal.rank == 1
        np.testing.assert_allclose(np.abs(goal.directions[:, 0]), across, atol=1e-12)
        precision = np.eye(4) + basis @ core @ basis.T
        np.testing.assert_allclose(covariance(goal), np.linalg.inv(precision), rtol=1e-9, atol=1e-9)

    def test_starts_from_diagonal_and_dense_gaussians(self):
        diagonal = families.MeanField().init(np.ones(3), np.array([1.0, 2.0, 3.0]))
        q = families.LowRank().start_from(diagonal)
        assert q.rank == 0
        np.testing.assert_allclose(q.variance(), [1, 4, 9])
        rng = np.random.default_rng(0)
        loadings = rng.standard_normal((8, 2))
        factor = np.linalg.cholesky(np.eye(8) + loadings @ loadings.T)
        dense = families.FullRank().init(np.zeros(8), np.ones(8)).of(np.zeros(8), factor)
        near = families.LowRank(7).start_from(dense)
        np.testing.assert_allclose(covariance(near), factor @ factor.T, rtol=0.05, atol=0.05)
        with pytest.raises(TypeError, match="from a Gaussian, not from str"):
            families.LowRank().start_from("text")


@pytest.mark.parametrize("precise", [False, True], ids=["factors", "regression"])
@pytest.mark.parametrize(("dim", "rank"), [(10, 2), (200, 5)])
def test_a_factor_model_is_met_and_its_rank_found(dim, rank, precise):
    target, mean, _, _ = factor_model(dim, rank, precise=precise)
    fit = infimum.fit(target, "lowrank", starts=1)
    assert fit.reason.converged
    assert fit.kl.value < 0.02
    assert abs(fit.log_evidence.value - 3) < 4 * fit.log_evidence.se + 1e-3
    assert fit.verdict == "good"
    assert np.abs((fit.q.mean - mean) / np.sqrt(fit.q.variance())).max() < 0.02
    if dim == 200:
        assert rank <= fit.family.rank <= rank + 1
        assert f"{fit.family.n_parameters(dim):,} parameters" in str(fit)


def test_a_given_rank_is_the_largest_and_keeps_what_gains_most():
    """By one direction of two independent pairs of strongly correlated coordinates."""
    correlation = np.array([0.99, 0.6])
    left = -0.5 * np.log1p(-(correlation**2))  # nats that each pair's correlation is worth

    def log_density(z):
        pairs = z.reshape(2, 2)
        across = pairs[:, 0] * pairs[:, 1] * correlation
        return jnp.sum((across - 0.5 * jnp.sum(pairs**2, axis=1)) / (1 - correlation**2))

    fit = infimum.fit(infimum.Target(log_density, np.zeros(4)), "lowrank", starts=1)
    one = infimum.fit(fit.target, families.LowRank(1), starts=1)
    assert fit.kl.value < 0.02
    assert one.family.rank == 1
    np.testing.assert_allclose(one.kl.value, left[1], atol=0.03)


def test_what_is_not_gaussian_is_averaged_over_batches(skewed):
    """exp(-e^a + 3a) and a Gamma(2): q meets the best Gaussian, which full-rank finds."""
    best = infimum.fit(skewed, "fullrank", tolerance=1e-3)
    fit = infimum.fit(skewed, "lowrank")
    assert fit.reason.converged
    assert abs(fit.elbo.value - best.elbo.value) < 0.02 + 3 * np.hypot(fit.elbo.se, best.elbo.se)


def test_zero_density_and_undefined_values_are_survived():
    def log_density(z):
        inside = jnp.where(z[0] > -1.0, 0.0, -jnp.inf)
        return inside - 0.5 * jnp.sum(z**2) + 0.3 * z[1] * z[2]

    fit = infimum.fit(infimum.Target(log_density, np.zeros(5)), "lowrank")
    assert fit.work.n_zero > 0
    assert np.isfinite(fit.elbo.value)
    with pytest.raises(ValueError, match="at every start tried"):
        infimum.fit(infimum.Target(lambda z: jnp.log(-1.0 - z @ z), np.zeros(5)), "lowrank")


def test_same_seed_same_answer_and_files(tmp_path):
    target, *_ = factor_model(30, 2)
    a, b = (infimum.fit(target, "lowrank", seed=5, starts=1) for _ in range(2))
    np.testing.assert_array_equal(a.q.basis, b.q.basis)
    again = infimum.load(a.save(tmp_path / "fit.zip"))
    assert again.family == a.family
    np.testing.assert_array_equal(again.sample(20), a.sample(20))


@pytest.mark.parametrize("rank", [0, -1, 2.5, True, "two"])
def test_a_wrong_rank_is_refused(rank):
    with pytest.raises(ValueError, match=r"rank is .* at least 1, or None"):
        families.LowRank(rank)


def test_a_rank_of_all_dimensions_is_refused_before_the_work():
    target = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(3))
    with pytest.raises(ValueError, match=r"rank is 3, and the target has 3 dimensions.*fullrank"):
        infimum.fit(target, families.LowRank(3))


class TestMemory:
    def test_a_family_larger_than_the_machine_is_refused_with_what_to_try(self, monkeypatch):
        monkeypatch.setattr(memory, "total", lambda: 24 * 10**9)
        target = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(50_000))
        with pytest.raises(UnsuitableError, match=r"at d = 50,000 needs about .* GB .* 24 GB: try"):
            infimum.fit(target, "fullrank")

    def test_a_climb_skips_it_and_says_so(self, monkeypatch):
        target = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(20))
        small = families.MeanField().n_bytes(20)
        monkeypatch.setattr(memory, "total", lambda: small)
        monkeypatch.setattr(families.FullRank, "n_bytes", lambda self, dim: small + 1)
        climb = infimum.climb(target, ["meanfield", "fullrank"], tol=0)
        assert [name for name, _ in climb.skipped] == ["fullrank"]
        assert "of memory" in climb.skipped[0][1]

    def test_the_machine_says_what_it_has(self):
        assert memory.total() is None or memory.total() > 10**8


def test_streamed_moments_are_those_of_all_draws_at_once():
    rng = np.random.default_rng(0)
    draws, log_w = 5 + rng.standard_normal((300, 4)), rng.standard_normal(300)
    whole = quantities.compare([draws], 200, log_w)
    parts = quantities.compare(np.split(draws, [90, 250]), 200, log_w)
    for name in whole._fields:
        about = 1e-10 if "largest" not in name else 0.05  # of the first chunk's mean
        a, b = getattr(whole, name), getattr(parts, name)
        np.testing.assert_allclose(a, b, rtol=about, atol=1e-12, err_msg=name)
