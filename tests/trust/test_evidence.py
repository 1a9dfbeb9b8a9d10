"""Evidence: log Z by the weights that can be believed, else by annealing; and Bayes factors."""

import dataclasses

import numpy as np
import pytest
from corrections.targets import LOG_Z

import infimum


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
    with pytest.raises(ValueError, match="not reliable"):
        infimum.compare([doubtful, fits[1]])
