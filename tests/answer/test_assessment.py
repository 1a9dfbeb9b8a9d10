"""The assessment of one q: its verdict follows from its weights, its reason and unseen mass."""

import dataclasses

import numpy as np
import pytest

import infimum
from infimum.answer.assessment import Assessment, assess
from infimum.answer.proposal import propose
from infimum.answer.unseen import UnseenMass
from infimum.answer.weighed import weigh
from infimum.base.stopping import Stop, Stopped
from infimum.solvers._solver import Reason

LOG_Z = 2.0


@pytest.fixture(scope="module")
def normal() -> infimum.Target:
    """N(0, I) in two dimensions, times e²."""
    constant = LOG_Z - np.log(2 * np.pi)
    return infimum.Target(lambda z: constant - 0.5 * (z**2).sum(), np.zeros(2))


def weighed(target: infimum.Target, scale: float, n: int = 2000):
    q = infimum.families.MeanField().init(np.zeros(2), np.full(2, scale))
    return weigh(target, propose(q, None), n, seed=3)


def test_an_exact_q_is_good_and_its_elbo_is_log_z(normal):
    assessment, spent = assess(normal, weighed(normal, 1.0), Reason.CONVERGED)
    assert assessment.verdict == "good"
    assert assessment.elbo.value == pytest.approx(LOG_Z, abs=1e-12)
    assert assessment.log_evidence.value == pytest.approx(LOG_Z, abs=0.05)
    assert spent > 0  # unseen mass was looked for


def test_the_gap_is_that_of_two_gaussians(normal):
    scale = 0.8
    assessment = Assessment(weighed(normal, scale), Reason.CONVERGED)
    exact = scale**2 - 1 - np.log(scale**2)
    assert abs(assessment.kl.value - exact) < 4 * assessment.kl.se


def test_an_improper_posterior_is_not_trusted(normal):
    assessment, spent = assess(normal, weighed(normal, 1.0), Reason.IMPROPER)
    assert assessment.verdict == "unreliable"
    assert spent == 0


@pytest.mark.parametrize("scale", [1.0, 0.8, 0.3])
def test_a_search_that_was_cut_short_is_judged_by_its_weights(normal, scale):
    whole, _ = assess(normal, weighed(normal, scale), Reason.CONVERGED)
    short, _ = assess(normal, weighed(normal, scale), Reason.INTERRUPTED)
    assert short.verdict == whole.verdict


def test_unseen_mass_counts_in_the_verdict_and_in_the_error_of_log_z(normal):
    plain = Assessment(weighed(normal, 1.0), Reason.CONVERGED)
    away = UnseenMass(0.01, np.full((5, 2), 9.0), np.array([0.2, 0.0]))
    marked = dataclasses.replace(plain, unseen=away)
    assert list(marked.affected) == [True, False]
    assert marked.log_evidence.se == pytest.approx(np.hypot(plain.log_evidence.se, 0.01))
    assert list(marked.verdicts) == ["unreliable", "good"]
    much = dataclasses.replace(plain, unseen=away._replace(mass=0.5))
    assert not much.trusted


def test_a_stop_leaves_the_assessment_without_unseen_mass(normal):
    draws, stop = weighed(normal, 1.0), Stop()

    class Interrupted:
        """The target, stopped at the first evaluation."""

        differentiable, large = True, None

        def value_and_gradient(self, z):
            raise Stopped

        values = value_and_gradient

    assessment, _ = assess(Interrupted(), draws, Reason.CONVERGED, stop)
    assert stop.requested
    assert assessment.unseen is None
    assert assessment.verdict == "good"


def test_another_q_has_another_assessment(normal):
    near = Assessment(weighed(normal, 1.0), Reason.CONVERGED)
    far = Assessment(weighed(normal, 0.3), Reason.CONVERGED)
    assert near.verdict == "good"
    assert far.verdict == "unreliable"
    assert far.draws.q is not near.draws.q
