"""Mass in shells that draws hardly reach, in many dimensions."""

import numpy as np
import pytest
from heavy_tails import student

import infimum
from infimum.answer.shells import find_mass_in_shells
from infimum.families.fullrank import DenseGaussian


def weighed(target, q, n, rng):
    """Draws of q itself, with log p̂ and log q."""
    eps = rng.standard_normal((n, q.dim))
    z = np.asarray(q.push(eps))
    return z, target.values(z), np.asarray(q.log_prob_base(eps))


@pytest.mark.parametrize("seed", range(4))
def test_shells_hold_the_mass_that_draws_of_q_lack(seed):
    target, rng = student(70, 8.0), np.random.default_rng(seed)
    q = DenseGaussian.of(np.zeros(70), 1.1 * np.eye(70))
    draws = weighed(target, q, 4000, rng)
    seen = np.mean(np.exp(draws[1] - draws[2]))  # of a mass of 1
    unseen, spent = find_mass_in_shells(target, q, draws, rng)
    lacks = (1 - seen) / seen
    assert lacks > 0.15
    assert 0.3 * lacks < unseen.mass < lacks
    assert 500 < spent < 5000
    radius = np.linalg.norm(unseen.z, axis=1)
    assert np.median(radius) > np.median(np.linalg.norm(draws[0], axis=1))


@pytest.mark.parametrize("dim", [70, 300])
def test_nothing_lacks_where_q_is_exact(dim):
    rng = np.random.default_rng(1)
    root = np.eye(dim) + 0.3 * rng.normal(size=(dim, dim)) / np.sqrt(dim)
    q = DenseGaussian.of(rng.normal(size=dim), np.linalg.cholesky(root @ root.T))
    target = infimum.Target(q.log_prob, np.zeros(dim))
    assert find_mass_in_shells(target, q, weighed(target, q, 2000, rng), rng)[0].mass == 0.0


def test_a_fit_whose_weights_miss_a_tail_is_refused_or_says_so():
    """Over these seeds log Z is up to four of its own standard errors off without shells."""
    for seed in range(3):
        fit = infimum.fit(student(70, 6.0), "fullrank", seed=seed)
        log_z = fit.log_evidence
        assert fit.verdict == "unreliable" or abs(log_z.value) < 3 * log_z.se
        assert (fit.summary()["verdict"] == "unreliable").all()
