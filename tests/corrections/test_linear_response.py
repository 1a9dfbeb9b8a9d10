"""Linear response: exact on Gaussians; the new q has an assessment of its own."""

import dataclasses

import numpy as np
import pytest

import infimum
from infimum import corrections
from infimum.answer.unseen import UnseenMass
from infimum.checks import weights
from infimum.objective.draws import log_density


@pytest.mark.parametrize("rho", [0.95, 0.999])
def test_is_exact_on_gaussians(rho):
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


def test_of_a_full_rank_optimum_and_of_a_function(skewed_fit):
    made = corrections.linear_response(skewed_fit)
    assert made.expect(lambda p: p["b"]).weighted_mean == pytest.approx(2, abs=0.1)


def test_wrong_use(two_modes):
    mixture = infimum.fit(two_modes.target, "mixture", progress=False)
    with pytest.raises(TypeError, match="meanfield"):
        corrections.linear_response(mixture)


def test_the_new_q_has_an_assessment_of_its_own():
    """Mean-field has unseen mass by what is written into it; the corrected q has none."""
    precision = np.linalg.inv([[1.0, 0.9], [0.9, 1.0]])
    fit = infimum.fit(infimum.Target(lambda z: -0.5 * z @ precision @ z, np.zeros(2)), "meanfield")
    unseen = UnseenMass(0.3, np.full((8, 2), 5.0), np.full(2, 0.5))
    doubtful = dataclasses.replace(
        fit, assessment=dataclasses.replace(fit.assessment, unseen=unseen)
    )
    assert doubtful.verdict == "unreliable"
    made = corrections.linear_response(doubtful)
    assert made.verdict == "good"
    assert list(made.verdicts) == ["good"] * 2
    assert made.unseen_mass < 1e-3
    assert made.assessment.unseen is not doubtful.assessment.unseen
    assert not made.assessment.affected.any()
    z = made.weighed.points()
    np.testing.assert_allclose(made.log_q, log_density(made.q, z), atol=1e-9)
    np.testing.assert_allclose(made.log_p, made.target.values(z), atol=1e-9)
    assert made.elbo == weights.elbo((made.log_p - made.log_q)[: made.n_draws])
    assert made.kl.value < 1e-3 < doubtful.kl.value
