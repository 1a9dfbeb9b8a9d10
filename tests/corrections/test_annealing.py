"""Annealing: log Z and the weights of modes, also where p̂ is zero in a region."""

import jax.numpy as jnp
import numpy as np
import pytest
from corrections.targets import LOG_Z

import infimum
from infimum import corrections
from infimum.corrections._coordinates import coordinates
from infimum.corrections.annealing import Start


def test_log_z_and_weights_of_two_modes(two_modes):
    made = corrections.annealing(two_modes, 2048)
    assert made.verdict == "good", made
    assert abs(made.log_evidence.value - LOG_Z) < max(4 * made.log_evidence.se, 0.05)
    assert np.mean(made.z[:, 0] < 0) == pytest.approx(0.7, abs=0.05)


def test_a_region_without_density():
    def log_density(z):
        return jnp.where(z[0] > 0, LOG_Z - jnp.log(jnp.pi) - 0.5 * z @ z, -jnp.inf)

    target = infimum.Target(log_density, np.ones(2))
    made = corrections.annealing(infimum.fit(target, "fullrank", progress=False), 1024)
    assert abs(made.log_evidence.value - LOG_Z) < max(4 * made.log_evidence.se, 0.05)
    assert made.z[:, 0].min() > 0


def test_where_it_starts_has_its_share_of_every_optimum(two_modes):
    """Also where that is more than one chunk of draws."""
    start = Start(coordinates(two_modes), two_modes.proposal.others)
    z = start.map_.points(start.draws(np.random.default_rng(0), 10_000))
    away = np.sign(two_modes.q.mean[0]) * z[:, 0] < -2
    assert np.mean(away) == pytest.approx(0.2, abs=0.03)


def test_wrong_use(skewed_fit):
    with pytest.raises(ValueError, match="populations is 2"):
        corrections.annealing(skewed_fit, populations=2)
    with pytest.raises(ValueError, match="at least 16"):
        corrections.annealing(skewed_fit, 64)


def test_a_neck_of_a_funnel_has_its_share():
    """P(z_0 < -6.16) is 0.02; without moves of z_0 and all that hangs on it 0.0015 to 0.006."""

    def log_density(z):
        return -0.5 * (z[0] / 3) ** 2 - 0.5 * jnp.sum(z[1:] ** 2) * jnp.exp(-z[0]) - 4.5 * z[0]

    fit = infimum.fit(infimum.Target(log_density, np.zeros(10)), "fullrank", progress=False)
    made = corrections.annealing(fit, 2048)
    assert 0.01 < np.mean(made.z[:, 0] < -6.16) < 0.03
    assert abs(made.z[:, 0].mean()) < 0.3
