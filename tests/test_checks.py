"""What importance weights say, against closed forms; and what they must refuse to say."""

import math

import numpy as np
import pytest

from infimum.checks import quantities
from infimum.checks import weights
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


def test_one_draw_that_dominates_is_not_trusted():
    log_w = np.zeros(1000)
    log_w[3] = 50.0
    assert weights.ess(log_w) == pytest.approx(1)
    assert not quantities.trusted(log_w, log_w)


def test_quantities_are_judged_one_by_one():
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((20_000, 3)) * [1.0, 0.7, 1.0] + [0.0, 0.0, 0.5]
    log_w = -0.5 * (draws**2).sum(1) + 0.5 * (((draws - [0, 0, 0.5]) / [1, 0.7, 1]) ** 2).sum(1)
    compared = quantities.compare([draws], len(draws), log_w)
    assert quantities.verdicts(compared, True).tolist() == ["good", "reweight", "reweight"]
    assert quantities.verdicts(compared, False).tolist() == ["unreliable"] * 3
    assert compared.sd_error[1] == pytest.approx(-0.3, abs=0.06)
    assert compared.mean_error[2] == pytest.approx(0.5, abs=0.06)


def test_a_constant_quantity_has_no_error():
    compared = quantities.compare([np.ones((500, 1))], 500, np.zeros(500))
    assert compared.mean_error[0] == compared.sd_error[0] == 0


def test_an_estimate_prints_its_significant_digits():
    assert str(Estimate(-31.5432, 0.0171)) == "-31.543 ± 0.017"
    assert str(Estimate(12.0, 0.0)) == "12"
    assert str(Estimate(math.nan, math.nan)) == "nan"
    assert float(Estimate(2.5, 1.0)) == 2.5


def test_of_a_quantity_that_is_undefined_at_a_draw_nothing_is_known():
    draws = np.random.default_rng(0).standard_normal((500, 2))
    draws[7, 1] = np.nan
    compared = quantities.compare([draws], 500, np.zeros(500))
    assert quantities.verdicts(compared, True).tolist() == ["good", "unreliable"]


def test_the_noise_of_a_comparison_is_its_spread_over_repetitions():
    """q = N(0, 0.9²) and p* = N(0, 1), the proposal q and a wider normal."""
    rng = np.random.default_rng(0)

    def once():
        z = np.concatenate([0.9 * rng.standard_normal(2000), 1.5 * rng.standard_normal(1000)])
        log_q = -0.5 * (z / 0.9) ** 2 - np.log(0.9)
        log_wide = -0.5 * (z / 1.5) ** 2 - np.log(1.5)
        log_r = np.logaddexp(log_q + np.log(2 / 3), log_wide + np.log(1 / 3))
        return quantities.compare([z[:, None]], 2000, -0.5 * z**2 - log_r)

    runs = [once() for _ in range(300)]
    for error, noise in [("mean_error", "mean_noise"), ("sd_error", "sd_noise")]:
        spread = np.std([getattr(run, error) for run in runs])
        assert 0.85 < np.mean([getattr(run, noise) for run in runs]) / spread < 1.15
    spread = np.std([run.weighted_mean for run in runs])
    assert 0.85 < np.mean([run.mcse for run in runs]) / spread < 1.15
    assert np.mean([run.sd_error for run in runs]) == pytest.approx(-0.1, abs=0.005)


def test_few_draws_of_an_exact_q_are_enough_for_many_quantities():
    """Even weights: both sides are the same draws, and no difference arises by chance."""
    draws = np.random.default_rng(0).standard_normal((512, 20_000))
    compared = quantities.compare([draws], 512, np.zeros(512))
    assert set(quantities.verdicts(compared, True)) == {"good"}


def test_a_search_that_has_not_ended_must_leave_even_weights():
    log_w = np.random.default_rng(0).standard_normal(4000)
    assert quantities.trusted(0.5 * log_w, 0.5 * log_w, converged=False)
    assert quantities.trusted(1.2 * log_w, 1.2 * log_w)
    assert not quantities.trusted(1.2 * log_w, 1.2 * log_w, converged=False)


def test_bounded_weights_are_believed_whatever_their_tail_index():
    """Half of the weights at their bound: the Pareto fit says anything, the mean is right."""
    log_w = np.log(np.where(np.arange(4000) % 2, 1.0, np.linspace(0.1, 0.9, 4000)))
    assert weights.largest(log_w) < 2
    assert quantities.trusted(log_w, log_w)


def test_an_sd_that_one_draw_decides_is_not_known():
    """Student's t with two degrees of freedom has none, whatever a sample says."""
    rng = np.random.default_rng(2)
    draws = np.stack([rng.standard_t(2, 4096), rng.standard_normal(4096)], axis=1)
    log_w = 0.3 * rng.standard_normal(4096)
    compared = quantities.compare([draws], 4096, log_w)
    said = quantities.verdicts(compared, True, quantities.heavy(log_w, log_w))
    assert said.tolist() == ["unreliable", "good"]
    assert quantities.heavy(np.zeros(4096), log_w) == np.inf
