"""Verdicts on quantities: each is judged on its own, and only if the weights can be believed."""

import numpy as np
import pytest

from infimum.checks import quantities, weights


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


def test_weights_that_lack_nothing_but_number_say_how_many_draws_they_need():
    log_w = np.random.default_rng(0).standard_normal(700)  # every third draw is effective
    assert not quantities.trusted(log_w, log_w)
    needed = quantities.growth_needed(log_w, log_w, 8.0)
    assert 1.2 < needed < 4
    more = np.random.default_rng(0).standard_normal(int(needed * 700))
    assert quantities.trusted(more, more)
    assert quantities.growth_needed(more, more, 8.0) == 1.0
    assert quantities.growth_needed(log_w, log_w, 1.1) == 1.0  # not at any price
    heavy = 3.0 * np.random.default_rng(0).standard_normal(4000)
    assert quantities.growth_needed(heavy, heavy, 8.0) == 1.0  # number is not all that lacks


def test_quantities_that_lack_nothing_but_number_say_how_many_draws_they_need():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((300, 3))
    compared = quantities.compare([draws + 1.0], 300, 1.2 * draws[:, 0])
    assert (quantities.verdicts(compared, True) == "unreliable").all()
    needed = quantities.growth_of_rows(compared, np.inf, 20.0)
    assert 2 < needed < 20
    n = int(needed * 300)
    more = rng.standard_normal((n, 3))
    many = quantities.compare([more + 1.0], n, 1.2 * more[:, 0])
    assert (quantities.verdicts(many, True) != "unreliable").all()
    assert quantities.growth_of_rows(many, np.inf, 20.0) == 1.0


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
    said = quantities.verdicts(compared, True, quantities.heavy_limit(log_w, log_w))
    assert said.tolist() == ["unreliable", "good"]
    assert quantities.heavy_limit(np.zeros(4096), log_w) == np.inf


def test_many_normal_quantities_are_not_heavy_by_chance():
    """The largest of 5,000 shares of one draw of 512 is within what is allowed to so many."""
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((512, 5000))
    largest = (draws**2).max(axis=0) / (draws**2).sum(axis=0)
    assert largest.max() < quantities.heavy_share(512.0, 5000)
    assert quantities.heavy_share(512.0, 5000) < 1.4 * quantities.heavy_share(512.0)
    assert quantities.heavy_share(512.0, 100) == quantities.heavy_share(512.0)
