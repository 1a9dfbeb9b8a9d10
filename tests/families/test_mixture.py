"""Mixtures: every mode with its weight, exact where p* is a member, one component where one does.

The exact numbers are those of densities with a known log Z; tolerances are standard errors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import families
from infimum.families._dense import raw_of
from infimum.gaussian.stack import normalised
from infimum.gaussian.stack_chart import StackChart
from infimum.gaussian.student_t_mixture import StudentTMixture

LOG_Z = 2.0


def stack(k=3, d=3, dense=True, seed=0):
    rng = np.random.default_rng(seed)
    diagonals = np.exp(0.3 * rng.standard_normal((k, d)))
    below = np.tril(0.5 * rng.standard_normal((k, d, d)), -1)
    factors = below + diagonals[:, :, None] * np.eye(d) if dense else diagonals
    return normalised(rng.standard_normal((k, d)), factors, rng.standard_normal(k))


def gaussians(means, weights, sd=1.0):
    """A target that is a mixture of round Gaussians, with log Z = 2."""
    means, d = np.asarray(means, float), np.shape(means)[1]
    log_w = np.log(np.asarray(weights) / np.sum(weights))

    def log_density(z):
        squares = jnp.sum((z - means) ** 2, axis=1) / sd**2
        parts = log_w - 0.5 * squares - d * np.log(sd) - 0.5 * d * np.log(2 * np.pi)
        return LOG_Z + jax.scipy.special.logsumexp(parts)

    return infimum.Target(log_density, np.zeros(d))


def weights_near(q, means, radius=2.0):
    """The weight of q's components near each of the means."""
    held = q.stack()
    near = np.linalg.norm(held.means - np.asarray(means)[:, None], axis=2) < radius
    return near @ held.weights


@pytest.mark.parametrize("dense", [True, False])
def test_gradient_of_the_chart_is_that_of_the_loss(dense):
    """Against finite differences, for a quartic log density and log q that moves with its draws."""
    rng, s = np.random.default_rng(1), stack(dense=dense)
    chart, eps = StackChart(s), rng.standard_normal((3, 8, 3))

    def value(theta):
        moved = chart.move(theta)
        z = moved.push(eps).reshape(-1, 3)
        each = (moved.log_density(z) + np.sum(z**4, axis=1)).reshape(3, 8)
        return moved.weights @ each.mean(axis=1)

    theta = 0.1 * rng.standard_normal(chart.size)
    moved = chart.move(theta)
    z = moved.push(eps).reshape(-1, 3)
    mixed = moved.evaluate(z)
    residual = -(mixed.score + 4 * z**3).reshape(3, 8, 3)
    values = (mixed.log_q + np.sum(z**4, axis=1)).reshape(3, 8)
    counted = np.repeat(moved.weights / 8, 8)
    found = chart.along_draws(theta, eps, residual, values)
    found = found + chart.of_density(theta, z, mixed.shares, counted)
    steps = 1e-6 * np.eye(chart.size)
    numeric = [(value(theta + s) - value(theta - s)) / 2e-6 for s in steps]
    np.testing.assert_allclose(found, numeric, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dense", [True, False])
def test_host_and_jax_agree_and_draws_have_the_moments(dense):
    s = stack(dense=dense)
    family = families.Mixture()
    raw = np.array([raw_of(x) for x in s.factors]) if dense else np.log(s.factors)
    q = family.from_arrays({"logits": s.log_weights, "means": s.means, "raw": raw})
    z = q.draw(np.random.default_rng(0), 20_000)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.vmap(q.log_prob)(z[:50]), q.log_density(z[:50]), rtol=1e-10)
        own = np.asarray(jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 20_000)))
    sd = np.sqrt(np.diag(q.covariance()))
    for draws in (z, own):
        np.testing.assert_allclose((draws.mean(0) - q.mean) / sd, 0, atol=5 / np.sqrt(20_000))
        np.testing.assert_allclose(draws.std(0) / sd, 1, atol=0.04)
    ratio = np.exp(StudentTMixture.around(s).log_prob(z) - q.log_density(z))
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(len(z))


def test_draws_differentiate_in_the_weights():
    """d/dlogit E|z|² by implicit reparameterisation, against the exact moments."""
    s = stack(2, 2)
    q = families.Mixture().start_from_all(
        [families.FullRank().init(m, np.ones(2)) for m in s.means], [0.0, 1.0]
    )
    with jax.enable_x64(True):
        q = jax.tree_util.tree_map(jnp.asarray, q)
        keys = jax.random.split(jax.random.key(0), 10_000)
        each_draw = jax.vmap(lambda key: jax.grad(lambda q: jnp.sum(q.sample(key) ** 2))(q).logits)
        own = np.asarray(jax.jit(each_draw)(keys))
    each = (s.means**2).sum(axis=1) + 2
    w = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    exact = w * (each - w @ each)
    error = np.std(own, axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.mean(own, axis=0) - exact) < 5 * error)


def test_wrong_use_says_what_to_do():
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match=r"components is .*, expected at least 1"):
            families.Mixture(components=wrong)
    with pytest.raises(TypeError, match="can start from Gaussians, not from str"):
        families.Mixture().start_from_all(["text"], [0.0])


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.95, 0.05)])
def test_two_far_modes_are_found_with_their_weights(weights, tmp_path):
    """Starts near the origin see one of them; p* is a member, and is met."""
    means = [[-3.0, 0.0], [12.0, 0.0]]
    fit = infimum.fit(gaussians(means, weights), "mixture")
    assert fit.verdict == "good"
    np.testing.assert_allclose(weights_near(fit.q, means), weights, rtol=1e-4)
    assert abs(fit.log_evidence.value - LOG_Z) < 1e-6
    assert fit.kl.value < 1e-6
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    np.testing.assert_array_equal(again.sample(20), fit.sample(20))
    assert again.verdict == fit.verdict
    assert again.log_evidence == fit.log_evidence


def test_a_gaussian_with_a_far_mode_is_not_called_good():
    """q covers 95 %, and weights from around q would look even: scouts see the rest."""
    fit = infimum.fit(gaussians([[-3.0, 0.0], [12.0, 0.0]], [0.95, 0.05]), "fullrank")
    assert fit.rivals == 1
    assert fit.verdict == "reweight"
    assert abs(fit.log_evidence.value - LOG_Z) < 4 * fit.log_evidence.se + 1e-3


def test_four_modes_in_twenty_dimensions():
    means = np.random.default_rng(0).standard_normal((4, 20))
    means *= 6 / np.linalg.norm(means, axis=1)[:, None]
    fit = infimum.fit(gaussians(means, np.ones(4)), "mixture", seed=1)
    np.testing.assert_allclose(weights_near(fit.q, means), 0.25, rtol=0.02)
    assert abs(fit.log_evidence.value - LOG_Z) < 0.01
    assert fit.verdict == "good"


def test_one_component_where_one_is_enough(make_gaussian):
    known = make_gaussian(20, 1e4)
    fit = infimum.fit(known.target, "mixture")
    assert len(fit.q.weights) == 1
    assert known.kl_from(fit.q) < 1e-6
    assert fit.verdict == "good"
    one = infimum.fit(known.target, "fullrank")
    assert fit.work.n_gradients < 4 * one.work.n_gradients


def test_components_are_added_where_mass_is_missing():
    """A banana: log Z by hand. Each refinement lowers the KL, and no more than asked are placed."""

    def log_density(z):
        return -0.25 * (1 - z[0]) ** 2 - 5 * (z[1] - z[0] ** 2) ** 2 + 2

    target = infimum.Target(log_density, np.zeros(2))
    exact = 2 + np.log(2 * np.pi / np.sqrt(0.5 * 10))
    one = infimum.fit(target, "fullrank")
    few = infimum.fit(target, families.Mixture(components=4))
    assert 1 < len(few.q.weights) <= 4
    assert few.family.n_parameters(2) == 6 * len(few.q.weights) - 1
    assert few.elbo.value > one.elbo.value + 0.5
    assert abs(few.log_evidence.value - exact) < 4 * few.log_evidence.se + 1e-3
