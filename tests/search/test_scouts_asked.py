"""How many scouts are sent, and what is said of it."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

import infimum


def spike(seed, dim=10, distance=0.5, width=0.05):
    """A spike inside the bulk, with 0.3 of the mass; Z is 1."""
    rng = np.random.default_rng(seed)
    away = rng.normal(size=dim)
    centres = jnp.stack([jnp.zeros(dim), jnp.array(away * distance / np.linalg.norm(away))])
    scales, part = jnp.array([1.0, width]), jnp.log(jnp.array([0.7, 0.3]))
    part = part - 0.5 * dim * jnp.log(2 * jnp.pi) - dim * jnp.log(scales)

    def log_density(z):
        return logsumexp(part - 0.5 * jnp.sum((z - centres) ** 2, axis=1) / scales**2)

    return infimum.Target(log_density, np.zeros(dim))


def test_spikes_inside_the_bulk_are_met():
    fits = [infimum.fit(spike(seed), "fullrank") for seed in range(6)]
    right = [abs(fit.log_evidence.value) < 0.05 for fit in fits]
    assert sum(right) >= 5
    assert all(fit.verdict == "reweight" for fit, met in zip(fits, right, strict=True) if met)


def normal(dim=3):
    return infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(dim))


def test_the_printed_fit_says_how_other_modes_were_looked_for():
    fit = infimum.fit(normal(), "fullrank")
    assert "other modes" in str(fit)
    assert fit.verdict == "good"
    assert fit.work.sought == (
        "32 scouts, from up to 8 sds of q and 100 units around 0, met none: one that 9% of such "
        "scouts would reach is excluded (95 %)"
    )
    none = infimum.fit(normal(), "fullrank", scouts=0)
    assert none.work.sought == "not looked for: scouts=0"
    assert none.work.n_checks < fit.work.n_checks
    many = infimum.fit(normal(), "fullrank", scouts=100)
    assert many.work.sought.startswith("100 scouts")
    assert infimum.climb(normal(), ["meanfield"], scouts=0).best.work.sought == none.work.sought
    with pytest.raises(ValueError, match="scouts"):
        infimum.fit(normal(), "fullrank", scouts=-1)


def test_where_no_scouts_go_it_is_said():
    large = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(600))
    fit = infimum.fit(large, "meanfield")
    assert fit.verdict == "good"
    assert fit.work.sought.startswith("4 scouts")
    asked = infimum.fit(large, "meanfield", scouts=16)
    assert asked.work.sought.startswith("16 scouts")


def test_where_nothing_is_looked_for_nothing_is_good():
    fit = infimum.fit(normal(), "fullrank", scouts=0)
    assert fit.verdict == "reweight"
    assert set(fit.summary()["verdict"]) == {"reweight"}
    assert "other modes were not looked for: scouts=0" in fit.advice


def test_a_climb_ends_at_what_would_be_good_if_other_modes_were_looked_for():
    climb = infimum.climb(normal(), scouts=0)
    assert [fit.family.name for fit in climb.fits] == ["meanfield"]
    assert climb.best.verdict == "reweight"


def test_a_file_keeps_that_nothing_was_looked_for(tmp_path):
    fit = infimum.fit(normal(), "fullrank", scouts=0)
    fit.save(tmp_path / "fit.zip")
    assert infimum.load(tmp_path / "fit.zip").verdict == "reweight"


def test_scouts_that_are_asked_for_are_sent_once_from_a_mixture_too():
    def log_density(z):
        centres = np.array([[-4.0, 0.0], [4.0, 2.0]])
        square = jnp.sum((z - centres) ** 2, axis=1)
        return logsumexp(-0.5 * square, b=np.array([0.7, 0.3]))

    fit = infimum.fit(infimum.Target(log_density, np.zeros(2)), "mixture", scouts=16)
    assert fit.work.sought.startswith("16 scouts")
    assert abs(fit.log_evidence.value - np.log(2 * np.pi)) < 0.01
