"""The loss has one sign, and sets apart the draws that it can't use."""

import numpy as np
import pytest

from infimum.objective.loss import OUTSIDE_PENALTY, outcome


def test_loss_is_minus_the_elbo():
    log_q, log_p = np.array([1.0, 2.0]), np.array([0.0, -1.0])
    assert outcome(log_q, log_p).loss == 2.0


def test_zero_density_restricts_q_and_costs():
    log_q, log_p = np.zeros(4), np.array([1.0, 1.0, 1.0, -np.inf])
    result = outcome(log_q, log_p)
    np.testing.assert_allclose(result.loss, -1 - np.log(0.75) + 0.25 * OUTSIDE_PENALTY)
    assert result.inside.tolist() == [True, True, True, False]
    assert outcome(log_q, np.full(4, -np.inf)).loss == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_undefined_density_is_no_number(wrong):
    log_p = np.array([0.0, wrong, 0.0])
    result = outcome(np.zeros(3), log_p)
    assert result.loss == np.inf
    assert result.undefined == 1
    gradient = np.array([[0.0], [0.0], [wrong]])
    assert outcome(np.zeros(3), np.zeros(3), gradient).undefined == 2


def test_strata_count_by_their_weights():
    log_q, log_p = np.array([1.0, 3.0]), np.zeros(2)
    assert outcome(log_q, log_p, counted=np.array([0.25, 0.75])).loss == 2.5
