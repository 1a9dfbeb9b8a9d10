"""A grid of effects whose sum is held near 0: a coupled field, and all pairs coupled besides."""

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum.base.program import double_precision
from infimum.structure.pattern import finite_point
from infimum.structure.soft import soft_sum

ROWS, COLUMNS = 9, 10
N = ROWS * COLUMNS
PLACE = np.arange(N).reshape(ROWS, COLUMNS)
ENDS = np.concatenate(
    [
        np.stack([PLACE[:, 1:].ravel(), PLACE[:, :-1].ravel()]),
        np.stack([PLACE[1:].ravel(), PLACE[:-1].ravel()]),
    ],
    axis=1,
)
STEP = np.zeros((ENDS.shape[1], N))
STEP[np.arange(ENDS.shape[1]), ENDS[0]] = 1.0
STEP[np.arange(ENDS.shape[1]), ENDS[1]] = -1.0
HELD = np.full(N, 1 / (0.001 * N))
Y = np.random.default_rng(0).normal(np.sin(PLACE.ravel() / 7.0), 1.0)


def grid(soft=HELD):
    """Y ~ N(τ φ, 1), with neighbours' φ alike and aᵀφ ~ N(0, 1)."""

    def log_density(p):
        tau, phi = jnp.exp(p["log_tau"]), p["phi"]
        smooth = -0.5 * jnp.sum((phi[ENDS[0]] - phi[ENDS[1]]) ** 2)
        sums = -0.5 * jnp.dot(soft, phi) ** 2
        return smooth + sums - 0.5 * jnp.sum((Y - tau * phi) ** 2) - 0.5 * p["log_tau"] ** 2

    return infimum.Target(log_density, {"log_tau": 0.0, "phi": np.zeros(N)})


def exact(soft):
    """log Z and the moments of log τ, by quadrature: φ is Gaussian given τ."""
    log_tau = np.linspace(-6, 4, 801)
    values = np.empty(len(log_tau))
    prior = STEP.T @ STEP + np.outer(soft, soft)
    for i, t in enumerate(log_tau):
        tau = np.exp(t)
        precision = prior + tau**2 * np.eye(N)
        mean = np.linalg.solve(precision, tau * Y)
        fit = 0.5 * tau * Y @ mean - 0.5 * Y @ Y
        log_det = np.linalg.slogdet(precision)[1]
        values[i] = fit - 0.5 * log_det + 0.5 * N * np.log(2 * np.pi) - 0.5 * t**2
    density = np.exp(values - values.max())
    total = np.trapezoid(density, log_tau)
    mean = np.trapezoid(density * log_tau, log_tau) / total
    variance = np.trapezoid(density * (log_tau - mean) ** 2, log_tau) / total
    return values.max() + np.log(total), mean, np.sqrt(variance)


@pytest.mark.parametrize("soft", [HELD, HELD * np.linspace(0.5, 2.0, N)], ids=["even", "uneven"])
def test_the_weights_of_a_soft_constraint_are_seen(soft):
    target = grid(soft).by_gradients()
    rng = np.random.default_rng(0)
    weights = soft_sum(target, finite_point(target, rng), rng)
    assert weights[0] == 0.0
    np.testing.assert_allclose(np.abs(weights[1:]), soft, rtol=1e-4)


def test_a_field_without_one_shows_none():
    target = grid(np.zeros(N)).by_gradients()
    rng = np.random.default_rng(0)
    assert soft_sum(target, finite_point(target, rng), rng) is None


def test_a_freed_target_lacks_the_constraint():
    target, ridge = grid(), np.linspace(0.0, 1.0, N + 1)
    weights = np.append(0.0, HELD)
    freed = target.freed(weights, ridge)
    z = np.random.default_rng(1).normal(size=(3, N + 1))
    added = 0.5 * (z @ weights) ** 2 - 0.5 * z**2 @ ridge
    value, gradient = target.value_and_gradient(z)
    got, slope = freed.value_and_gradient(z)
    np.testing.assert_allclose(got, value + added, rtol=1e-12)
    np.testing.assert_allclose(freed.values(z), got, rtol=1e-12)
    np.testing.assert_allclose(slope, gradient + np.outer(z @ weights, weights) - ridge * z)
    with double_precision():
        inside = freed.program.function()(jnp.asarray(z[0]))
    np.testing.assert_allclose(inside[0], got[0], rtol=1e-12)
    np.testing.assert_allclose(inside[1], slope[0], rtol=1e-9)


def test_a_grid_with_a_soft_sum_is_met_exactly(tmp_path):
    fit = infimum.fit(grid(), "nested")
    log_z, mean, sd = exact(HELD)
    assert [fit.target.space.free_names[i] for i in fit.q.theta] == ["log_tau"]
    assert fit.q.edges.shape[1] < 4 * N  # no dense block
    assert fit.verdict == "good"
    assert fit.ess > 0.95 * fit.n_draws
    assert abs(fit.log_evidence.value - log_z) < 4 * fit.log_evidence.se + 1e-3
    row = fit.summary(["log_tau"]).iloc[0]
    assert abs(row["weighted_mean"] - mean) < 4 * row["mcse"] + 0.01 * sd
    assert np.abs(fit.sample(500)["phi"] @ HELD).std() < 1.3
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    z = fit.points(9, seed=3)
    np.testing.assert_allclose(again.q.log_density(z), fit.q.log_density(z), rtol=1e-10)
