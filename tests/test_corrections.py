"""Corrections against closed forms: draws, covariances, log Z, and what they refuse to say."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import infimum
from infimum import corrections
from infimum.corrections._coordinates import Start
from infimum.corrections._coordinates import coordinates
from infimum.corrections._corrected import Corrected
from infimum.corrections.blocks.marginal import Marginal
from infimum.corrections.blocks.blocks import split_of

LOG_Z = 3.0


@pytest.fixture(scope="module")
def two_modes():
    """0.7 N(-4, 1) + 0.3 N(4, 1) in each of two coordinates together, and a fit of one mode."""

    def log_density(z):
        parts = [jnp.log(w) - 0.5 * jnp.sum((z - m) ** 2) for w, m in ((0.7, -4.0), (0.3, 4.0))]
        return LOG_Z - jnp.log(2 * jnp.pi) + jnp.logaddexp(*parts)

    return infimum.fit(infimum.Target(log_density, np.zeros(2)), "fullrank", progress=False)


@pytest.fixture(scope="module")
def intercepts():
    """Counts of 30 groups with a common mean and scale, fitted by a sparse Gaussian."""
    y = np.random.default_rng(0).poisson(3.0, size=30).astype(float)

    def log_density(p):
        inside = jnp.sum(y * p["theta"] - jnp.exp(p["theta"]))
        spread = (p["theta"] - p["mu"]) * jnp.exp(-p["log_tau"])
        prior = -0.5 * jnp.sum(spread**2) - 30 * p["log_tau"]
        return inside + prior - 0.5 * (p["mu"] ** 2 + (p["log_tau"] + 1) ** 2)

    example = {"log_tau": 0.0, "mu": 0.0, "theta": np.zeros(30)}
    target = infimum.Target(log_density, example)
    return infimum.fit(target, "sparse", progress=False), y


class TestImportance:
    def test_exactly_n_draws_with_the_right_moments(self, skewed_fit):
        """exp(a) ~ Gamma(3), b ~ Gamma(2)."""
        made = corrections.importance(skewed_fit, 4000)
        assert len(made) == len(made.sample()["b"]) == 4000
        assert made.verdict == "good"
        assert made.told["unique"] > 2000
        table = made.summary()
        assert abs(table.loc["b", "mean"] - 2) < 4 * table.loc["b", "mcse"]
        assert abs(made.log_evidence.value - np.log(2)) < 4 * made.log_evidence.se

    def test_without_replacement_all_are_distinct(self, skewed_fit):
        made = corrections.importance(skewed_fit, 500, replace=False)
        assert made.told["unique"] == 500
        assert len(np.unique(made.z[:, 0])) == 500

    def test_seeds_decide(self, skewed_fit):
        one, same, other = (corrections.importance(skewed_fit, 50, seed=s).z for s in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_wrong_use(self, skewed_fit):
        with pytest.raises(ValueError, match="positive number"):
            corrections.importance(skewed_fit, 0)
        with pytest.raises(ValueError, match="loaded from disk"):
            corrections.importance(dataclasses.replace(skewed_fit, target=None))
        with pytest.raises(ValueError, match="this correction made 50"):
            corrections.importance(skewed_fit, 50).sample(51)


class TestLinearResponse:
    @pytest.mark.parametrize("rho", [0.95, 0.999])
    def test_is_exact_on_gaussians(self, rho):
        units = np.array([1.0, 100.0, 0.01])
        covariance = np.outer(units, units) * (rho + (1 - rho) * np.eye(3))
        precision = np.linalg.inv(covariance)
        target = infimum.Target(lambda z: -0.5 * z @ precision @ z, np.zeros(3))
        fit = infimum.fit(target, "meanfield", progress=False)
        assert np.sqrt(fit.q.variance()[0]) < 0.5
        made = corrections.linear_response(fit)
        np.testing.assert_allclose(made.q.covariance(), covariance, rtol=1e-4)
        assert made.verdict == "good"
        assert made.family.name == "fullrank"

    def test_of_a_full_rank_optimum_and_of_a_function(self, skewed_fit):
        made = corrections.linear_response(skewed_fit)
        assert made.expect(lambda p: p["b"]).weighted_mean == pytest.approx(2, abs=0.1)

    def test_wrong_use(self, two_modes):
        mixture = infimum.fit(two_modes.target, "mixture", progress=False)
        with pytest.raises(TypeError, match="meanfield"):
            corrections.linear_response(mixture)


class TestChains:
    @pytest.mark.parametrize("kernel", ["nuts", "independence"])
    def test_right_moments_and_told_errors(self, skewed_fit, kernel):
        made = corrections.mcmc(skewed_fit, 500, kernel=kernel)
        assert made.chains == 4
        assert len(made) == 2000
        assert made.verdict == "good", made
        table = made.summary()
        assert abs(table.loc["b", "mean"] - 2) < 5 * table.loc["b", "mcse"]
        tree = made.to_arviz()
        assert tree.posterior["b"].shape == (4, 500)

    def test_chains_that_stay_at_their_modes_are_not_believed(self, two_modes):
        made = corrections.mcmc(two_modes, 200)
        assert made.verdict == "unreliable"
        assert made.told["rhat"] > 1.01

    def test_wrong_use(self, skewed_fit):
        with pytest.raises(ValueError, match="chains is 1"):
            corrections.mcmc(skewed_fit, chains=1)
        with pytest.raises(ValueError, match="'nuts' or 'independence'"):
            corrections.mcmc(skewed_fit, kernel="gibbs")


class TestAnnealing:
    def test_log_z_and_weights_of_two_modes(self, two_modes):
        made = corrections.annealing(two_modes, 2048)
        assert made.verdict == "good", made
        assert abs(made.log_evidence.value - LOG_Z) < max(4 * made.log_evidence.se, 0.05)
        assert np.mean(made.z[:, 0] < 0) == pytest.approx(0.7, abs=0.05)

    def test_a_region_without_density(self):
        def log_density(z):
            return jnp.where(z[0] > 0, LOG_Z - jnp.log(jnp.pi) - 0.5 * z @ z, -jnp.inf)

        target = infimum.Target(log_density, np.ones(2))
        made = corrections.annealing(infimum.fit(target, "fullrank", progress=False), 1024)
        assert abs(made.log_evidence.value - LOG_Z) < max(4 * made.log_evidence.se, 0.05)
        assert made.z[:, 0].min() > 0

    def test_where_it_starts_has_its_share_of_every_optimum(self, two_modes):
        """Also where that is more than one chunk of draws."""
        start = Start(coordinates(two_modes), two_modes.proposal.others)
        z = start.map_.points(start.draws(np.random.default_rng(0), 10_000))
        away = np.sign(two_modes.q.mean[0]) * z[:, 0] < -2
        assert np.mean(away) == pytest.approx(0.2, abs=0.03)

    def test_wrong_use(self, skewed_fit):
        with pytest.raises(ValueError, match="populations is 2"):
            corrections.annealing(skewed_fit, populations=2)
        with pytest.raises(ValueError, match="at least 16"):
            corrections.annealing(skewed_fit, 64)


class TestBlocks:
    def exact(self, y, log_tau, mu):
        """The log marginal by quadrature of each group."""
        grid = np.linspace(-9, 9, 2001)
        theta = mu + np.exp(log_tau) * grid
        log_p = y[:, None] * theta - np.exp(theta) - 0.5 * grid**2
        groups = scipy.special.logsumexp(log_p, axis=1) + np.log(grid[1] - grid[0])
        return groups.sum() - 0.5 * (mu**2 + (log_tau + 1) ** 2)

    def test_the_marginal_of_the_hubs_is_exact(self, intercepts):
        fit, y = intercepts
        marginal = Marginal(fit.target, fit.q, split_of(fit.q))
        at = np.array([[0.3, -0.5], [-1.0, 1.0]])
        hubs = marginal.mean[:2] + at @ marginal.factor.T
        shift = np.log(np.diag(marginal.factor)).sum()
        for value, (log_tau, mu) in zip(marginal.values(at), hubs, strict=True):
            assert value - shift == pytest.approx(self.exact(y, log_tau, mu), abs=1e-4)

    def test_hubs_and_evidence_are_those_of_quadrature(self, intercepts):
        """q has the mean of log_tau half an sd too high."""
        fit, y = intercepts
        made = corrections.blocks(fit)
        assert made.verdict == "good", made
        assert (made.told["hubs"], made.told["groups"], made.told["group_size"]) == (2, 30, 1)
        log_tau, mu = np.linspace(-6, 0.5, 60), np.linspace(0.5, 1.8, 30)
        log_p = np.array([[self.exact(y, a, b) for b in mu] for a in log_tau])
        cell = (log_tau[1] - log_tau[0]) * (mu[1] - mu[0])
        log_z = scipy.special.logsumexp(log_p) + np.log(cell)
        weight = np.exp(log_p - log_p.max()).sum(axis=1)
        mean = np.average(log_tau, weights=weight)
        found = made.summary().loc["log_tau"]
        assert abs(found["mean"] - mean) < 4 * found["mcse"]
        assert abs(made.log_evidence.value - log_z) < 4 * made.log_evidence.se
        assert abs(np.asarray(fit.q.mean)[0] - mean) > 0.3 * found["sd"]

    def test_groups_of_up_to_three_coordinates(self):
        """Intercepts and slopes of counts, without some slopes, against a grid for each group."""
        rng, sizes = np.random.default_rng(0), np.array([3, 1, 2, 3, 2])
        present = np.arange(3) < sizes[:, None]
        x = rng.standard_normal((5, 8, 3)) * present[:, None]
        x[:, :, 0] = 1.0
        y = rng.poisson(2.0, size=(5, 8)).astype(float)
        place = np.flatnonzero(present)

        def log_density(p):
            b = jnp.zeros(15).at[place].set(p["b"]).reshape(5, 3)
            eta = jnp.einsum("gjk,gk->gj", x, p["mean"] + jnp.exp(p["log_sd"]) * b)
            prior = -0.5 * jnp.sum(p["b"] ** 2) - 0.5 * p["mean"] ** 2
            return jnp.sum(y * eta - jnp.exp(eta)) + prior - 0.5 * (p["log_sd"] + 1) ** 2

        example = {"mean": 0.0, "log_sd": 0.0, "b": np.zeros(len(place))}
        target = infimum.Target(log_density, example)
        fit = infimum.fit(target, "sparse", progress=False)
        split = split_of(fit.q)
        assert split.groups.shape == (5, 3)
        assert np.sum(split.groups == fit.q.dim) == 4
        marginal = Marginal(target, fit.q, split)
        marginal.check(np.random.default_rng(0))
        at = np.array([[0.3, -0.5]])
        hubs = marginal.mean[split.hubs] + at[0] @ marginal.factor.T
        hub = dict(zip(np.array(target.names)[split.hubs], hubs, strict=True))
        node, weight = np.polynomial.legendre.leggauss(70)
        log_z, means = -0.5 * hub["mean"] ** 2 - 0.5 * (hub["log_sd"] + 1) ** 2, []
        for group, size in enumerate(sizes):
            b = np.stack(np.meshgrid(*[8 * node] * size, indexing="ij"), axis=-1)
            cell = functools.reduce(np.multiply.outer, [8 * weight] * size)
            padded = np.concatenate([b, np.zeros((*b.shape[:-1], 3 - size))], axis=-1)
            eta = (hub["mean"] + np.exp(hub["log_sd"]) * padded) @ x[group].T
            log_p = (y[group] * eta - np.exp(eta)).sum(axis=-1) - 0.5 * (b**2).sum(axis=-1)
            inside = scipy.special.logsumexp(log_p, b=cell)
            w = cell * np.exp(log_p - inside)
            means.append((w[..., None] * b).reshape(-1, size).sum(axis=0))
            log_z += inside
        shift = np.log(np.diag(marginal.factor)).sum()
        assert marginal.values(at)[0] - shift == pytest.approx(log_z, abs=1e-3)
        drawn = marginal.drawn(np.repeat(at, 500, axis=0), np.random.default_rng(1))[1]
        b = drawn[:, [name.startswith("b") for name in target.names]]
        error = (b.mean(axis=0) - np.concatenate(means)) / (b.std(axis=0) / np.sqrt(500))
        assert np.abs(error).max() < 4

    def test_what_does_not_fall_apart_is_refused(self):
        def log_density(z):
            return -0.5 * jnp.sum(jnp.diff(z) ** 2) - 0.5 * jnp.sum(z**2)

        fit = infimum.fit(infimum.Target(log_density, np.zeros(40)), "sparse", progress=False)
        with pytest.raises(ValueError, match="coupled to each other"):
            corrections.blocks(fit)


class TestHeavyTails:
    """Of 2,000 normal draws whose variance one or more quantities owe to a single one of them."""

    def made(self, n_heavy):
        target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(5))
        fit = infimum.fit(target, "fullrank", starts=1)
        z = np.random.default_rng(0).standard_normal((2000, 5))
        z[7, :n_heavy] = 30.0
        return Corrected(fit, "made", z, lambda x: x.std(axis=0) / np.sqrt(len(x)), why="Tried.")

    def test_a_quantity_whose_sd_one_draw_decides_is_not_good(self):
        made = self.made(1)
        assert list(made.summary()["verdict"]) == ["unreliable", *["good"] * 4]
        assert made.verdict == "good"
        assert "Tried. Few draws decide the sd of z[0], of 1 in all." in str(made)

    def test_draws_of_which_many_quantities_are_so_are_not_good(self):
        assert self.made(0).verdict == "good"
        assert self.made(2).verdict == "unreliable"


class TestCorrect:
    def test_the_cheapest_that_can_be_believed(self, skewed_fit, two_modes, intercepts):
        assert infimum.correct(skewed_fit).method == "importance"
        lonely = dataclasses.replace(
            two_modes,
            log_p=np.where(np.arange(len(two_modes.log_p)) == 5, 50.0, two_modes.log_p),
        )
        assert lonely.verdict == "unreliable"
        made = infimum.correct(lonely, 4096)
        assert made.method == "annealing"
        assert made.verdict == "good"
        assert "draws in" in str(made)


def test_evidence_is_annealed_where_weights_are_poor(two_modes, skewed_fit):
    found = infimum.evidence(skewed_fit)
    assert (found.method, found.reliable) == ("importance", True)
    assert abs(found.log_z.value - np.log(2)) < 4 * found.log_z.se
    annealed = infimum.evidence(two_modes, method="smc")
    assert annealed.method == "smc"
    assert abs(annealed.log_z.value - LOG_Z) < 0.1
    with pytest.raises(ValueError, match="'auto', 'importance' or 'smc'"):
        infimum.evidence(skewed_fit, method="bridge")


def test_evidence_of_a_climb_takes_every_rung(skewed):
    climb = infimum.climb(skewed, ["meanfield", "fullrank"], tol=0, progress=False)
    found = infimum.evidence(climb)
    assert found.method == "mixture"
    assert abs(found.log_z.value - np.log(2)) < 4 * found.log_z.se


def test_models_are_compared_by_bayes_factors(make_gaussian):
    fits = [
        infimum.fit(make_gaussian(2, log_z=log_z).target, "fullrank", progress=False)
        for log_z in (1.0, 3.0)
    ]
    table = infimum.compare(fits, names=["small", "large"])
    assert list(table.index) == ["large", "small"]
    assert table.loc["small", "log_bayes_factor"] == pytest.approx(-2, abs=1e-6)
    assert table["weight"].sum() == pytest.approx(1)
    assert table.loc["large", "weight"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert len(infimum.compare(fits).index.unique()) == 2
    with pytest.raises(ValueError, match="at least two"):
        infimum.compare(fits[:1])
    doubtful = dataclasses.replace(infimum.evidence(fits[0]), reliable=False)
    with pytest.raises(ValueError, match="not to be believed"):
        infimum.compare([doubtful, fits[1]])
