"""Emulated: exponentials of smooth functions through log p̂, for few dimensions."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import infimum
from infimum import supports as S
from infimum.base.errors import UnsuitableError
from infimum.families._smooth import radial


def banana(dim=3, bend=0.25):
    """z_2 lies on a parabola over z_1: log Z is known, and no Gaussian is near."""

    def log_density(p):
        z = p["z"]
        return -0.5 * (z[0] ** 2 + ((z[1] - bend * z[0] ** 2) / 0.6) ** 2 + jnp.sum(z[2:] ** 2))

    log_z = 0.5 * dim * np.log(2 * np.pi) + np.log(0.6)
    return infimum.Target(log_density, example={"z": jnp.zeros(dim)}), log_z


def test_a_smooth_function_goes_through_its_values_and_slopes():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((30, 3))
    values, slopes = np.sin(u).sum(axis=1), np.cos(u)
    coefficients = radial.through(u, values, slopes)
    np.testing.assert_allclose(radial.at(coefficients, u, u), values, atol=1e-8)
    step = 1e-5 * np.eye(3)
    for j in range(3):
        ahead, behind = (radial.at(coefficients, u, u + s * step[j]) for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / 2e-5, slopes[:, j], atol=1e-5)


def test_a_banana_is_met_with_few_gradients(tmp_path):
    target, log_z = banana()
    fit = infimum.fit(target, "emulated")
    assert fit.verdict == "good"
    assert fit.kl.value < 0.05
    assert abs(fit.log_evidence.value - log_z) < 4 * fit.log_evidence.se + 0.01
    assert fit.work.n_gradients < 1000
    z = fit.sample(4000, seed=1)["z"]
    np.testing.assert_allclose(np.mean(z[:, 1]), 0.25, atol=0.06)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    np.testing.assert_array_equal(again.sample(50, seed=2)["z"], fit.sample(50, seed=2)["z"])


def test_long_tails_to_one_side_are_followed():
    """The log of a gamma variable of shape 0.3 falls by 0.3 nats a unit to the left."""
    target = infimum.Target(
        lambda p: jnp.sum(-0.7 * jnp.log(p["x"]) - p["x"]),
        example={"x": jnp.ones(2)},
        supports={"x": S.positive},
    )
    fit = infimum.fit(target, "emulated")
    assert fit.verdict in ("good", "reweight")
    assert abs(fit.log_evidence.value - 2 * scipy.special.gammaln(0.3)) < 0.05
    rows = fit.summary()
    np.testing.assert_allclose(rows["weighted_mean"].iloc[:2], 0.3, rtol=0.1)


def test_it_says_what_it_needs():
    family = infimum.families.Emulated()
    with pytest.raises(TypeError, match="can't start from another q"):
        family.init(np.zeros(2), np.ones(2))
    wide, _ = banana(11)
    with pytest.raises(UnsuitableError, match="more than 10"):
        infimum.fit(wide, "emulated")
    values_only = infimum.from_numpy(lambda z: -0.5 * (z**2).sum(), 2)
    with pytest.raises(UnsuitableError, match="no gradient"):
        infimum.fit(values_only, "emulated")
    with pytest.raises(UnsuitableError, match="solver"):
        infimum.fit(banana()[0], "emulated", solver="fixed_draws")


def test_it_begins_at_the_users_fit():
    target, _ = banana()
    gaussian = infimum.fit(target, "fullrank")
    fit = infimum.fit(target, "emulated", start=gaussian)
    assert fit.verdict == "good"
    assert fit.starts[0].kind == "start"


def test_a_stop_leaves_the_gaussian(tmp_path):
    target, _ = banana()
    fit = infimum.fit(target, "emulated", callback=lambda p: p.family == "emulated")
    assert fit.reason.name == "INTERRUPTED"
    assert np.isfinite(fit.elbo.value)
    assert fit.family.name == "fullrank"
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    np.testing.assert_array_equal(again.sample(5)["z"], fit.sample(5)["z"])
