"""Chains: right moments and errors, and no trust in chains that stay at their modes."""

import pytest

from infimum import corrections


@pytest.mark.parametrize("kernel", ["nuts", "independence"])
def test_right_moments_and_told_errors(skewed_fit, kernel):
    made = corrections.mcmc(skewed_fit, 500, kernel=kernel)
    assert made.chains == 4
    assert len(made) == 2000
    assert made.verdict == "good", made
    table = made.summary()
    assert abs(table.loc["b", "mean"] - 2) < 5 * table.loc["b", "mcse"]
    tree = made.to_arviz()
    assert tree.posterior["b"].shape == (4, 500)


def test_chains_that_stay_at_their_modes_are_not_believed(two_modes):
    made = corrections.mcmc(two_modes, 200)
    assert made.verdict == "unreliable"
    assert made.numbers["rhat"] > 1.01


def test_wrong_use(skewed_fit):
    with pytest.raises(ValueError, match="chains is 1"):
        corrections.mcmc(skewed_fit, chains=1)
    with pytest.raises(ValueError, match="'nuts' or 'independence'"):
        corrections.mcmc(skewed_fit, kernel="gibbs")
