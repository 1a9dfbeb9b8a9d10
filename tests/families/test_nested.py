"""The nested family: exact for Gaussian effects, exact shapes for others, and honest where not."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import infimum
from infimum.base.errors import UnsuitableError
from infimum.families import Gaussian, Nested
from infimum.families._smooth.density import SmoothDensity
from infimum.families._smooth.warp import Warp
from infimum.families.nested.field import NaturalField
from infimum.families.nested.shaped import ShapedField
from infimum.families.nested.table import Table
from infimum.solvers import Reason

N_GROUPS = 25


def normal_groups():
    """Effects of 25 groups of three rows each, with a scale and a level that are unknown."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(N_GROUPS), 3)
    y = 1 + 0.7 * rng.normal(size=N_GROUPS)[group] + rng.normal(size=len(group))

    def model():
        mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
        log_tau = numpyro.sample("log_tau", dist.Normal(-1.0, 1.0))
        with numpyro.plate("groups", N_GROUPS):
            u = numpyro.sample("u", dist.Normal(mu, jnp.exp(log_tau)))
        numpyro.sample("y", dist.Normal(u[group], 1.0), obs=y)

    return infimum.from_numpyro(model), y.reshape(N_GROUPS, 3)


def exact_normal(y):
    """log Z, and mean and sd of log τ, by quadrature: y is normal given log τ."""
    log_tau = np.linspace(-7, 2, 3001)
    values = []
    for value in log_tau:
        shared = np.kron(np.eye(len(y)), np.ones((3, 3))) * np.exp(2 * value)
        covariance = np.eye(y.size) + shared + 4.0
        density = scipy.stats.multivariate_normal(np.zeros(y.size), covariance)
        values.append(density.logpdf(y.ravel()) + scipy.stats.norm(-1, 1).logpdf(value))
    values = np.array(values)
    weight = np.exp(values - values.max())
    total = np.trapezoid(weight, log_tau)
    mean = np.trapezoid(weight * log_tau, log_tau) / total
    variance = np.trapezoid(weight * (log_tau - mean) ** 2, log_tau) / total
    return values.max() + np.log(total), mean, np.sqrt(variance)


@pytest.fixture(scope="module")
def normal_fit():
    target, y = normal_groups()
    return infimum.fit(target, "nested"), y


def test_gaussian_effects_are_met_exactly(normal_fit):
    fit, y = normal_fit
    log_z, mean, sd = exact_normal(y)
    assert isinstance(fit.q.conditional, NaturalField)
    assert fit.verdict == "good"
    assert fit.ess > 0.97 * fit.n_draws
    assert abs(fit.log_evidence.value - log_z) < 4 * fit.log_evidence.se + 1e-3
    row = fit.summary(["log_tau"]).iloc[0]
    assert abs(row["weighted_mean"] - mean) < 4 * row["mcse"] + 0.01 * sd
    assert abs(row["weighted_sd"] / sd - 1) < 0.1


def test_few_gradients_are_enough(normal_fit):
    """The search; a draw of the check takes one value."""
    fit, _ = normal_fit
    assert fit.work.n_gradients < 5000


def test_a_draw_has_its_density_whenever_it_is_asked_for(normal_fit):
    fit, _ = normal_fit
    z = fit.points(40, seed=5)
    drawn = fit.q.log_density(z)
    backwards = fit.q.log_density(z[::-1].copy())[::-1]
    alone = np.concatenate([fit.q.log_density(row[None]) for row in z])
    np.testing.assert_allclose(backwards, drawn, rtol=1e-9)
    np.testing.assert_allclose(alone, drawn, rtol=1e-9)


def test_a_file_keeps_q_whole(normal_fit, tmp_path):
    fit, _ = normal_fit
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert again.summary().equals(fit.summary())
    z = fit.points(7, seed=5)
    np.testing.assert_array_equal(again.points(7, seed=5), z)
    np.testing.assert_allclose(again.q.log_density(z), fit.q.log_density(z), rtol=1e-12)


def test_the_kl_of_the_scales_and_of_the_rest_are_told_apart(normal_fit, tmp_path):
    """Given the scale, normal effects are exact, and nothing is left there."""
    fit, _ = normal_fit
    assert fit.assessment.kl_conditional.value < 1e-3
    assert "of the scales, " in " ".join(str(fit).split())
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert again.assessment.kl_conditional == fit.assessment.kl_conditional
    crossed = infimum.fit(crossed_plates(), "nested")
    assert 0.5 < crossed.assessment.kl_conditional.value / crossed.kl.value < 1.5


def test_code_outside_jax_gives_the_same_answer(normal_fit):
    fit, _ = normal_fit
    target = fit.target
    names = target.space.free_names
    foreign = infimum.from_numpy(target.value_and_gradient, target.dim, names, batched=True)
    again = infimum.fit(foreign, "nested")
    assert again.verdict == "good"
    assert abs(again.log_evidence.value - fit.log_evidence.value) < 0.01


def test_scales_may_be_named(normal_fit):
    fit, _ = normal_fit
    again = infimum.fit(fit.target, Nested(scales="log_*"))
    np.testing.assert_array_equal(again.q.theta, fit.q.theta)
    assert again.target.space.free_names[again.q.theta[0]] == "log_tau"


@pytest.mark.parametrize(
    ("scales", "words"),
    [("sigma*", "no coordinate is called 'sigma\\*'"), ("*", "all coordinates")],
)
def test_names_of_no_scale_are_refused(normal_fit, scales, words):
    fit, _ = normal_fit
    with pytest.raises(ValueError, match=words):
        infimum.fit(fit.target, Nested(scales=scales))


def binary_groups(n_groups=40, rows=3):
    """Binary counts of few rows a group: Laplace is off, and the groups are independent."""
    rng = np.random.default_rng(1)
    count = rng.binomial(rows, scipy.special.expit(-1 + rng.normal(size=n_groups)))

    def model():
        mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
        log_tau = numpyro.sample("log_tau", dist.Normal(0.0, 1.0))
        with numpyro.plate("groups", n_groups):
            u = numpyro.sample("u", dist.Normal(mu, jnp.exp(log_tau)))
            numpyro.sample("y", dist.Binomial(rows, logits=u), obs=count)

    return infimum.from_numpyro(model), count


def exact_binary(count, rows=3):
    """log Z and the moments of log τ, by quadrature in all coordinates."""
    mu, log_tau = np.linspace(-4, 2, 121), np.linspace(-4.5, 2.5, 141)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    values = np.empty((len(mu), len(log_tau)))
    kinds, times = np.unique(count, return_counts=True)
    choose = np.log(scipy.special.binom(rows, kinds))
    for j, t in enumerate(log_tau):
        u = mu[:, None] + np.exp(t) * nodes
        terms = kinds[:, None, None] * u - rows * np.logaddexp(0, u) + choose[:, None, None]
        inner = np.log(np.exp(terms) @ (weights / weights.sum()))
        values[:, j] = times @ inner
    values += scipy.stats.norm(0, 3).logpdf(mu)[:, None] + scipy.stats.norm(0, 1).logpdf(log_tau)
    top = values.max()
    along = np.trapezoid(np.exp(values - top), mu, axis=0)
    total = np.trapezoid(along, log_tau)
    mean = np.trapezoid(along * log_tau, log_tau) / total
    variance = np.trapezoid(along * (log_tau - mean) ** 2, log_tau) / total
    return top + np.log(total), mean, np.sqrt(variance)


def test_effects_of_small_counts_have_their_exact_shapes():
    target, count = binary_groups()
    fit = infimum.fit(target, "nested")
    log_z, mean, sd = exact_binary(count)
    assert isinstance(fit.q.conditional, ShapedField)
    assert fit.verdict != "unreliable"
    assert fit.ess > 0.9 * fit.n_draws
    assert abs(fit.log_evidence.value - log_z) < 4 * fit.log_evidence.se + 0.01
    row = fit.summary(["log_tau"]).iloc[0]
    assert abs(row["weighted_mean"] - mean) < 0.1 * sd
    assert abs(row["weighted_sd"] / sd - 1) < 0.1


def test_a_coupled_field_is_met():
    """A random walk of unknown step and noise: x is a chain, and Gaussian given both."""
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(0, 0.4, 30)) + rng.normal(0, 0.5, 30)

    def model():
        step = numpyro.sample("step", dist.Normal(-1.0, 1.0))
        noise = numpyro.sample("noise", dist.Normal(-1.0, 0.5))
        first = numpyro.sample("first", dist.Normal(0.0, 1.0))
        jumps = numpyro.sample("jumps", dist.Normal(0.0, 1.0).expand([29]).to_event(1))
        walk = first + jnp.exp(step) * jnp.concatenate([jnp.zeros(1), jnp.cumsum(jumps)])
        numpyro.sample("y", dist.Normal(walk, jnp.exp(noise)), obs=y)

    fit = infimum.fit(infimum.from_numpyro(model), "nested")
    names = [fit.target.space.free_names[i] for i in fit.q.theta]
    assert names == ["noise", "step"]
    assert fit.verdict == "good"
    log_step, log_noise = np.linspace(-5, 2, 141), np.linspace(-4, 1, 101)
    low = np.tril(np.ones((30, 30)))[:, 1:]
    values = np.array(
        [
            [
                scipy.stats.multivariate_normal(
                    np.zeros(30),
                    1.0 + np.exp(2 * a) * low @ low.T + np.exp(2 * b) * np.eye(30),
                ).logpdf(y)
                for b in log_noise
            ]
            for a in log_step
        ]
    )
    values += scipy.stats.norm(-1, 1).logpdf(log_step)[:, None]
    values += scipy.stats.norm(-1, 0.5).logpdf(log_noise)
    inner = np.trapezoid(np.exp(values - values.max()), log_noise, axis=1)
    log_z = values.max() + np.log(np.trapezoid(inner, log_step))
    assert abs(fit.log_evidence.value - log_z) < 4 * fit.log_evidence.se + 5e-3


@pytest.mark.parametrize(
    ("dim", "words"), [(5, "it has 5 dimensions, fewer than 9"), (12, "no coordinate is a scale")]
)
def test_a_target_without_scales_is_left_to_others(dim, words):
    rng = np.random.default_rng(0)
    coupling = 0.3 * rng.normal(size=dim - 1)

    def log_density(z):
        return -0.5 * jnp.sum(z**2) - 0.1 * jnp.sum(coupling * z[1:] * z[:-1])

    with pytest.raises(UnsuitableError, match=words):
        infimum.fit(infimum.Target(log_density, np.zeros(dim)), "nested")


def test_a_field_of_several_modes_is_told():
    """x sits at plus or minus two, each on its own: the marginal jumps from one to the other."""

    def log_density(p):
        scale = jnp.exp(p["s"])
        wells = jnp.logaddexp(-8 * (p["x"] - 2) ** 2, -8 * (p["x"] + 2) ** 2 + 0.5 * p["s"])
        return jnp.sum(wells - 0.5 * (p["x"] / scale) ** 2 - p["s"]) - 0.5 * p["s"] ** 2

    target = infimum.Target(log_density, {"s": 0.0, "x": np.zeros(10)})
    try:
        fit = infimum.fit(target, "nested")
    except UnsuitableError:
        return
    assert fit.verdict == "unreliable" or fit.ess > 0.5 * fit.n_draws


def test_a_table_is_a_density_and_its_draws_follow_it():
    root, mean = np.array([[2.0, 0.0], [0.5, 0.1]]), np.array([1.0, -3.0])
    low, width, shape = np.full(2, -5.0), np.full(2, 0.1), (100, 100)
    u = Table.centres(low, width, shape)
    table = Table.of(mean, root, low, width, (-0.5 * (u**2).sum(axis=1)).reshape(shape))
    z = table.draw(np.random.default_rng(0), 4000)
    exact = scipy.stats.multivariate_normal(mean, root @ root.T)
    sd = np.sqrt(np.diag(root @ root.T))
    assert (np.abs(z.mean(axis=0) - mean) < 4 * sd / np.sqrt(4000)).all()
    np.testing.assert_allclose(table.log_density(z), exact.logpdf(z), atol=0.3)
    assert table.log_density(mean[None] + 100.0)[0] == -np.inf
    with pytest.raises(TypeError, match="inside a program of JAX"):
        table.sample(None)


def test_a_warp_and_its_inverse():
    rng = np.random.default_rng(0)
    root = np.array([[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.2, 0.1, 2.0]])
    warp = Warp(np.array([1.0, -2.0, 5.0]), root, np.array([1.2, 0.0, 3.0]), np.array([0, 0.5, 0]))
    u = 2 * rng.normal(size=(50, 3))
    np.testing.assert_allclose(warp.u(warp.theta(u)), u, atol=1e-12)
    step = 1e-6 * np.eye(3)
    sides = [(warp.theta(u + row) - warp.theta(u - row)) / 2e-6 for row in step]
    jacobian = np.stack(sides, axis=2)
    np.testing.assert_allclose(warp.stretch(u)[1], np.linalg.slogdet(jacobian)[1], atol=1e-7)
    bent = [(warp.stretch(u + row)[1] - warp.stretch(u - row)[1]) / 2e-6 for row in step]
    np.testing.assert_allclose(warp.stretch(u)[2], np.stack(bent, axis=1), atol=1e-7)
    slopes = rng.normal(size=(50, 3))
    chained = np.einsum("nji,nj->ni", jacobian, slopes)
    np.testing.assert_allclose(warp.pulled(u, slopes), chained, atol=1e-6)


def skewed(u):
    """log of a product of four densities of skew, log gammas, and its slopes."""
    return (3 * u - np.exp(u)).sum(axis=1), 3 - np.exp(u)


def test_an_emulated_density_and_its_draws():
    """Four log gammas: the density is near, its draws follow it, and it adds up to 1."""
    rng = np.random.default_rng(0)
    middle, sd = np.log(3.0), 1 / np.sqrt(3.0)
    warp = Warp.straight(np.full(4, middle), sd * np.eye(4))
    u = np.concatenate([np.zeros((1, 4)), np.eye(4), -np.eye(4), 1.5 * rng.normal(size=(160, 4))])
    values, slopes = skewed(warp.theta(u))
    q = SmoothDensity.through(warp, u, values + warp.stretch(u)[1], warp.pulled(u, slopes), 6.0)
    z = q.draw(np.random.default_rng(1), 4000)
    exact = skewed(z)[0] - 4 * scipy.special.gammaln(3.0)
    log_weights = exact - q.log_density(z)
    weights = np.exp(log_weights)
    np.testing.assert_allclose(weights.mean(), 1.0, atol=0.03)
    assert weights.sum() ** 2 / (weights**2).sum() > 0.95 * len(z)
    np.testing.assert_allclose(z.mean(axis=0), scipy.special.digamma(3.0), atol=0.04)
    assert q.log_density(np.full((1, 4), 100.0))[0] == -np.inf


def crossed_plates(n_plates=5, n_levels=12, n_rows=300):
    """Poisson counts with crossed effects: as many scales as plates, and a field that couples."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, n_levels, size=(n_rows, n_plates))
    effects = 0.5 * rng.normal(size=(n_plates, n_levels))
    rate = np.exp(0.5 + sum(effects[k, level[:, k]] for k in range(n_plates)))
    count = rng.poisson(rate)

    def model():
        mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
        tau = numpyro.sample("tau", dist.HalfNormal(1.0).expand([n_plates]).to_event(1))
        spread = jnp.broadcast_to(tau[:, None], (n_plates, n_levels))
        u = numpyro.sample("u", dist.Normal(0.0, spread).to_event(2))
        eta = mu + sum(u[k, level[:, k]] for k in range(n_plates))
        numpyro.sample("y", dist.Poisson(jnp.exp(eta)), obs=count)

    return infimum.from_numpyro(model)


def test_five_crossed_effects_have_five_scales(tmp_path):
    target = crossed_plates()
    fit = infimum.fit(target, "nested")
    names = [target.space.free_names[i] for i in fit.q.theta]
    assert set(names) - {"mu"} == {f"tau[{k}]" for k in range(5)}
    assert isinstance(fit.q.outer, SmoothDensity)
    assert fit.verdict != "unreliable"
    assert fit.ess > 0.3 * fit.n_draws  # the effects are skewed, and their field is Gaussian
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    z = fit.points(9, seed=3)
    np.testing.assert_allclose(again.q.log_density(z), fit.q.log_density(z), rtol=1e-12)
    outside = np.where(np.arange(len(z[0])) == fit.q.theta[0], -50.0, z[0])
    assert fit.q.log_density(outside[None])[0] == -np.inf


def test_the_structure_is_shown(normal_fit):
    fit, _ = normal_fit
    structure = fit.structure
    assert structure.scales == ("log_tau",)
    assert structure.pattern.shape == (fit.q.dim, fit.q.dim)
    assert len(structure.colours) == fit.q.dim
    assert sum(map(len, structure.blocks)) == fit.q.dim - 1
    assert "1 scale (log_tau), 1 block given them" in " ".join(str(fit).split())


def test_a_stop_leaves_the_rough_gaussian_and_its_file(normal_fit, tmp_path):
    fit, _ = normal_fit
    stopped = infimum.fit(fit.target, "nested", callback=lambda progress: True)
    assert stopped.reason is Reason.INTERRUPTED
    assert isinstance(stopped.q, Gaussian)
    assert stopped.family.name == "sparse"
    again = infimum.load(stopped.save(tmp_path / "fit.zip"))
    np.testing.assert_array_equal(again.sample(5)["u"], stopped.sample(5)["u"])
