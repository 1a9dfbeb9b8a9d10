"""What importance weights say, against closed forms; and what they must refuse to say."""

import math

import numpy as np
import pytest

from infimum.checks import quantities, weights
from infimum.checks.weights import Estimate


def gaussian_weights(n=200_000, sd=0.8, log_z=2.0, seed=0):
    """q = N(0, sd²), p* = N(0, 1): log weights and KL[q ‖ p*]."""
    z = sd * np.random.default_rng(seed).standard_normal(n)
    log_q = -0.5 * (z / sd) ** 2 - np.log(sd)
    return log_z - 0.5 * z**2 - log_q, log_z, 0.5 * (sd**2 - 1) - np.log(sd)


def test_estimates_meet_the_closed_form():
    log_w, log_z, distance = gaussian_weights()
    for estimate, truth in [
        (weights.elbo(log_w), log_z - distance),
        (weights.log_evidence(log_w), log_z),
        (weights.kl(log_w), distance),
    ]:
        assert abs(estimate.value - truth) < 4 * estimate.se
        assert estimate.se < 0.01


def test_standard_errors_are_the_spread_over_repetitions():
    runs = [gaussian_weights(2000, seed=seed)[0] for seed in range(200)]
    for statistic in (weights.elbo, weights.log_evidence, weights.kl):
        values = [statistic(log_w) for log_w in runs]
        spread = np.std([v.value for v in values])
        assert 0.8 < np.mean([v.se for v in values]) / spread < 1.25


def test_the_control_variate_makes_an_exact_q_exact():
    rng = np.random.default_rng(0)
    log_q_minus_r = rng.normal(size=500)
    estimate = weights.log_evidence(3.0 + log_q_minus_r, log_q_minus_r)
    assert abs(estimate.value - 3.0) < 1e-12
    assert estimate.se < 1e-12
    assert weights.kl(np.full(250, 3.0), 3.0 + log_q_minus_r, log_q_minus_r).value < 1e-12


def test_zero_weights_restrict_q():
    log_w = np.array([0.0, 0.0, 0.0, -np.inf])
    assert weights.elbo(log_w).value == pytest.approx(np.log(0.75))
    assert weights.log_evidence(log_w).value == pytest.approx(np.log(0.75))
    assert weights.ess(log_w) == pytest.approx(3)


@pytest.mark.parametrize("log_w", [[0.0, np.nan], [0.0, np.inf], [-np.inf, -np.inf], [0.0]])
def test_what_cannot_be_counted_is_nan(log_w):
    log_w = np.array(log_w)
    assert math.isnan(weights.elbo(log_w).value)
    assert math.isnan(weights.log_evidence(log_w).value)
    assert math.isnan(weights.kl(log_w).value)
    assert math.isnan(weights.ess(log_w))
    assert math.isnan(weights.khat(log_w))
    assert np.isnan(weights.normalised(log_w)).all()
    assert not quantities.trusted(log_w, log_w)


def test_khat_is_the_tail_index_of_the_weights():
    """Pareto weights of index k = 0.5 and 1.2; and a tail too short to judge."""
    u = np.random.default_rng(0).uniform(size=100_000)
    assert weights.khat(-0.5 * np.log(u)) == pytest.approx(0.5, abs=0.15)
    assert weights.khat(-1.2 * np.log(u)) == pytest.approx(1.2, abs=0.2)
    assert math.isnan(weights.khat(np.zeros(50)))
    assert weights.khat(np.zeros(500)) == -math.inf


def test_an_estimate_prints_its_significant_digits():
    assert str(Estimate(-31.5432, 0.0171)) == "-31.543 ± 0.017"
    assert str(Estimate(12.0, 0.0)) == "12"
    assert str(Estimate(math.nan, math.nan)) == "nan"
    assert float(Estimate(2.5, 1.0)) == 2.5


def test_the_kl_conditional_scales_leaves_out_what_only_they_add():
    """Normal log weights of variance v: the KL is v/2, whatever each row adds to them."""
    rng = np.random.default_rng(0)
    log_w = 0.4 * rng.standard_normal((4000, 8)) + 100 * rng.standard_normal((4000, 1))
    estimate = weights.kl_conditional(log_w)
    assert abs(estimate.value - 0.08) < 4 * estimate.se + 2e-3
    assert np.isnan(weights.kl_conditional(np.where(log_w > 250, -np.inf, log_w)).value)
