"""The test of uniform ranks: its p-values are uniform themselves, and its band agrees with it."""

import numpy as np
import pytest

from infimum.checks import uniformity

LEVELS = 100


@pytest.mark.parametrize("n", [20, 300])
def test_p_values_of_uniform_ranks_are_uniform(n):
    ranks = np.random.default_rng(n).integers(0, LEVELS, (n, 4000))
    found = uniformity.p_values(ranks, LEVELS)
    for share in (0.01, 0.1, 0.5):
        error = np.sqrt(share * (1 - share) * (1 / 4000 + 1 / uniformity.SIMULATIONS))
        assert np.mean(found <= share) == pytest.approx(share, abs=4 * error)


def test_the_band_is_left_if_and_only_if_the_test_says_so():
    ranks = np.random.default_rng(0).integers(0, LEVELS - 5, (50, 400))
    band = uniformity.band(50, LEVELS, 0.03)
    share = uniformity.cumulative(ranks, LEVELS) / 50
    outside = np.any((share < band.low) | (share > band.high), axis=1)
    rejected = uniformity.p_values(ranks, LEVELS) < 0.03
    assert 0 < rejected.mean() < 1
    np.testing.assert_array_equal(outside, rejected)


def test_gross_failures_have_p_values_beyond_what_was_simulated():
    assert uniformity.p_values(np.full((300, 1), 3), LEVELS)[0] < 1e-100
