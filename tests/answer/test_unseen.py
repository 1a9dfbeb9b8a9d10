"""Unseen mass: found where it is, and not where nothing is."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import infimum
from infimum import corrections, families
from infimum.answer.assessment import assess
from infimum.answer.proposal import propose
from infimum.answer.record import Work
from infimum.answer.unseen import find_unseen_mass
from infimum.answer.weighed import weigh
from infimum.checks import quantities
from infimum.families._dense import raw_of
from infimum.solvers._solver import Reason

WIDTH, END, COMPONENTS = 0.05, 2.1, 60


def banana(z):
    """A ridge 0.05 wide, three times as bent as it is long; log Z is that of a Gaussian."""
    bent = (z[1] - 3 * z[0] ** 2) / WIDTH
    return -0.5 * (z[0] ** 2 + bent**2 + z[2] ** 2 + z[3] ** 2)


def chain_of_gaussians():
    """A mixture along the ridge that ends before the ridge does, given by its arrays.

    The components are tangents of the ridge, each with an sd of 0.08 in z[0]. Up to |z[0]| = 2.1
    their sum is nearly p*. Its draws miss 2.4 % of Z.
    """
    length = 0.08
    z0 = np.linspace(-END, END, COMPONENTS)
    means = np.stack([z0, 3 * z0**2 + 3 * length**2, 0 * z0, 0 * z0], axis=1)
    factors = np.tile(np.eye(4), (COMPONENTS, 1, 1))
    factors[:, 0, 0] = length
    factors[:, 1, 0] = 6 * z0 * length
    factors[:, 1, 1] = 1.1 * WIDTH
    arrays = {
        "logits": -0.5 * z0**2 / (1 - length**2),
        "means": means,
        "raw": np.array([raw_of(factor) for factor in factors]),
    }
    return families.named("mixture").from_arrays(arrays)


@pytest.fixture(scope="module")
def ridge():
    """The chain of Gaussians as a fit that was never fitted.

    A true fit of so many components depends on rounding, and differs from machine to machine.
    """
    target = infimum.Target(banana, np.zeros(4))
    draws = weigh(target, propose(chain_of_gaussians(), None), 4096, 0)
    assessment, _ = assess(target, draws, Reason.CONVERGED)
    work = Work(n_gradients=0, n_calls=0, compile_seconds=0.0, run_seconds=0.0)
    family = families.named("mixture")
    return infimum.Fit(family, "banana", assessment, (), work, target=target)


class TestRidge:
    """sd z[1] is √18; log Z is 2 log 2π + log 0.05."""

    def test_weights_alone_would_be_believed(self, ridge):
        assert quantities.trusted(ridge.log_w, ridge.log_weights)
        verdicts = quantities.verdicts(ridge.comparison, True)
        assert verdicts[1] != "unreliable"
        assert ridge.comparison.weighted_sd[1] < 0.9 * np.sqrt(18)

    def test_what_is_missing_is_found(self, ridge):
        log_z = 2 * np.log(2 * np.pi) + np.log(0.05)
        short = 1 - np.exp(ridge.log_evidence.value - log_z)
        assert 0.2 * short < ridge.unseen_mass < 1.5 * short
        assert ridge.verdicts[1] == "unreliable"
        assert ridge.verdict != "good"
        assert "of the posterior mass lies where neither q nor its wider proposal" in ridge.advice
        assert "z[1]" in ridge.advice
        assert ridge.log_evidence.se >= ridge.unseen_mass

    def test_whatever_the_seed(self, ridge):
        draws = ridge.weighed
        known = (draws.points(), draws.log_p, draws.log_r)
        for seed in range(5):
            rng = np.random.default_rng(seed)
            unseen, spent = find_unseen_mass(ridge.target, draws.proposal, draws.n, known, rng)
            assert unseen.mass > 0.004
            assert spent < 6000

    def test_functions_of_the_draws_are_told_too(self, ridge):
        event = ridge.expect(lambda z: z[:, 1] > 11.5)
        assert event.verdict == "unreliable"
        assert "unseen mass" in event.reason
        assert ridge.expect(lambda z: z[:, 2]).verdict != "unreliable"

    def test_importance_is_not_believed_either(self, ridge):
        made = corrections.importance(ridge, 1000)
        assert made.verdict == "unreliable"
        assert "of the posterior mass lies where neither q" in made.reason

    def test_a_file_keeps_it(self, ridge, tmp_path):
        loaded = infimum.load(ridge.save(tmp_path / "fit.zip"))
        assert loaded.unseen_mass == ridge.unseen_mass
        assert list(loaded.verdicts) == list(ridge.verdicts)
        assert loaded.advice == ridge.advice
        assert loaded.expect(lambda z: z[:, 1] > 11.5).verdict == "unreliable"


def test_nothing_lies_beyond_an_exact_q():
    target = infimum.Target(lambda z: -0.5 * (z @ z + z[0] * z[1]), np.zeros(3))
    fit = infimum.fit(target, "fullrank")
    assert fit.unseen_mass < 1e-3
    assert fit.verdict == "good"


def test_a_tail_that_the_proposal_has_is_no_part_of_it():
    """Student's t with 10 degrees of freedom: q is too light, its wider proposal is not."""
    target = infimum.Target(lambda z: -5.5 * jnp.log1p(z**2 / 10).sum(), np.zeros(2))
    fit = infimum.fit(target, "fullrank")
    assert fit.unseen_mass < 2e-3
    assert fit.verdict == "good"


def test_what_it_moves_is_that_of_a_mixture():
    rng = np.random.default_rng(0)
    z, away = rng.standard_normal((50_000, 2)), rng.normal([0.0, 4.0], 1.0, (5000, 2))
    compared = quantities.compare([z], len(z), np.zeros(len(z)))
    moved = quantities.shift(compared, away, 0.05)
    share = 0.05 / 1.05
    sd = np.sqrt(1 + share * (1 - share) * 16)
    np.testing.assert_allclose(moved, [0.0, max(4 * share, sd - 1)], atol=0.01)


def test_an_event_that_q_never_sees_is_not_good():
    """Six of a thousand of the wider proposal's draws see it, with tiny weights."""
    fit = infimum.fit(infimum.Target(lambda z: -0.5 * z @ z, np.zeros(1)), "fullrank")
    rare = fit.expect(lambda z: z[:, 0] > 4.2)
    assert rare.mean == 0
    assert 0 < rare.weighted_mean < 10 * scipy.stats.norm.sf(4.2)
    assert rare.verdict == "unreliable"


@pytest.mark.parametrize("cliff", [1e150, np.inf])
def test_walls_and_cliffs_at_the_edge_do_no_harm(cliff):
    """Steep, or infinitely so, just beyond where nearly all draws are."""

    def log_density(z):
        wall = jnp.maximum(z[0] - 3.0, 0.0)
        return -0.5 * z @ z - jnp.where(wall > 0, cliff, 0.0) * jnp.where(wall > 0, wall, 1.0)

    fit = infimum.fit(infimum.Target(log_density, np.zeros(2)), "fullrank", progress=False)
    assert 0 <= fit.unseen_mass < 1e-2
    assert fit.log_evidence.value == pytest.approx(np.log(2 * np.pi), abs=0.01)
