"""Flow: it begins as its base, bends towards what the base lacks, and says where it can't."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import families
from infimum.base.errors import UnsuitableError
from infimum.families import Left
from infimum.families.flow import directions
from infimum.solvers import Reason

MEAN, SCALE = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 2.0, 1.0, 0.1])
LOG_Z = np.log(2 * np.pi) + 3.0


def banana(z):
    """A bent normal: x ~ N(0, 1), y ~ N(x², 1), with log Z = log 2π + 3."""
    return 3.0 - 0.5 * z[0] ** 2 - 0.5 * (z[1] - z[0] ** 2) ** 2


@pytest.fixture(scope="module")
def bent():
    return infimum.climb(infimum.Target(banana, np.zeros(2)), ["fullrank", "flow"], tol=0)


def test_begins_as_its_base_whatever_that_is():
    eps = np.random.default_rng(0).standard_normal((6, 4))
    for name in ("meanfield", "fullrank", "sinharcsinh"):
        base = families.named(name).init(MEAN, SCALE)
        q = families.Flow(name).start_from(base)
        np.testing.assert_allclose(q.push(eps), base.push(eps), atol=1e-12)
        np.testing.assert_allclose(q.log_prob_base(eps), base.log_prob_base(eps), atol=1e-12)


def test_host_and_compiled_code_agree_and_the_inverse_inverts():
    q = families.Flow(layers=3, width=5).init(MEAN, SCALE)
    rng = np.random.default_rng(1)
    q = q.moved({k: x + 0.3 * rng.standard_normal(x.shape) for k, x in q.moving().items()})
    eps = rng.standard_normal((700, 4))
    z = q.push(eps)
    np.testing.assert_allclose(q.pull_back(z), eps, atol=1e-9)
    with jax.enable_x64(True):
        np.testing.assert_allclose(q.push(jnp.asarray(eps)), z, atol=1e-10)
        jacobian = jax.vmap(jax.jacfwd(q.push))(jnp.asarray(eps[:5]))
        landed, log_q = q.land(q.flow(jnp.asarray(eps)))
    log_det = np.linalg.slogdet(np.asarray(jacobian))[1]
    expected = -0.5 * (eps[:5] ** 2).sum(1) - 2 * np.log(2 * np.pi) - log_det
    np.testing.assert_allclose(q.log_prob_base(eps)[:5], expected, atol=1e-9)
    np.testing.assert_allclose(landed, z, atol=1e-9)
    np.testing.assert_allclose(log_q, q.log_prob_base(eps), atol=1e-8)


def test_a_bent_posterior_is_met(bent):
    """Coupling layers can bend a normal so: what is left is how long they were trained."""
    gaussian, flow = bent
    assert gaussian.kl.value > 0.25
    assert flow.reason is Reason.CONVERGED
    assert flow.verdict == "good"
    assert LOG_Z - flow.elbo.value < 0.02 + 3 * flow.elbo.se
    assert abs(flow.log_evidence.value - LOG_Z) < 3 * flow.log_evidence.se + 1e-3
    draws = flow.sample(10_000)
    assert abs(np.mean(draws[:, 1]) - 1) < 0.1 * np.sqrt(3)
    assert flow.q.base is gaussian.q


def test_a_fit_comes_back_from_disk(bent, tmp_path):
    flow = bent.fits[-1]
    again = infimum.load(flow.save(tmp_path / "flow.zip"))
    np.testing.assert_array_equal(again.sample(50), flow.sample(50))
    np.testing.assert_allclose(again.log_prob(flow.sample(5)), flow.log_prob(flow.sample(5)))
    assert again.family.layers == flow.family.layers


def test_one_dimension_has_a_spline():
    """A skewed density: log p̂ = 3z - exp(z) + 1, log Z = log Γ(3) + 1."""
    target = infimum.Target(lambda z: 1.0 + 3 * z[0] - jnp.exp(z[0]), np.zeros(1))
    gaussian, flow = infimum.climb(target, ["fullrank", "flow"], tol=0)
    log_z = np.log(2) + 1
    assert log_z - gaussian.elbo.value > 0.02
    assert log_z - flow.elbo.value < 0.01
    assert flow.verdict == "good"


@pytest.mark.parametrize("options", [{"layers": 0}, {"width": 2.5}])
def test_wrong_sizes_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is .*, expected a positive integer"):
        families.Flow(**options)


def test_a_base_that_is_no_pushforward_is_refused():
    with pytest.raises(TypeError, match="a flow needs a pushforward to start from, not a Thing"):
        families.Flow().start_from(type("Thing", (), {})())


def bent_hub(n):
    """Two bent coordinates, and n others around one of them; log Z is known."""

    def log_density(p):
        bend = -0.5 * p["a"] ** 2 - 0.5 * (p["b"] - p["a"] ** 2 + 1) ** 2
        return bend - 0.5 * jnp.sum((p["t"] - 0.3 * p["b"]) ** 2)

    target = infimum.Target(log_density, {"a": 0.0, "b": 0.0, "t": np.zeros(n)})
    return target, 0.5 * (n + 2) * np.log(2 * np.pi)


class TestFewDirections:
    """Above 1,000 dimensions, here above 20, a flow moves a few of them."""

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        monkeypatch.setattr("infimum.families.flow.flow.LARGEST_FULL_DIM", 20)
        monkeypatch.setattr(directions, "HUB_NEIGHBOURS", 10)

    @pytest.mark.parametrize("base", ["sparse", "lowrank"])
    def test_they_hold_what_is_bent(self, base, tmp_path):
        target, log_z = bent_hub(30)
        fit = infimum.fit(target, families.Flow(base, directions=4), starts=1, seed=1)
        assert fit.q.directions.shape == (32, 4)
        assert log_z - fit.elbo.value < 0.03 + 3 * fit.elbo.se
        assert fit.verdict == "good"
        again = infimum.load(fit.save(tmp_path / "few.zip"))
        np.testing.assert_array_equal(again.sample(5)["t"], fit.sample(5)["t"])

    def test_push_and_its_inverse_agree_on_the_density(self):
        target, _ = bent_hub(30)
        base = families.Sparse().adapted(target, np.random.default_rng(0))
        q = families.Flow("sparse", directions=3).start_at(
            base.init(np.zeros(32), np.ones(32)), target, np.random.default_rng(1)
        )
        rng = np.random.default_rng(2)
        q = q.moved({k: v + 0.1 * rng.standard_normal(v.shape) for k, v in q.f.items()})
        eps = rng.standard_normal((6, 32))
        np.testing.assert_allclose(q.pull_back(q.push(eps)), eps, atol=1e-10)
        with jax.enable_x64(True):
            jacobian = jax.jacrev(q.push)(jnp.asarray(eps[0]))
        expected = -0.5 * (eps[0] ** 2).sum() - 16 * np.log(2 * np.pi)
        expected -= np.linalg.slogdet(np.asarray(jacobian))[1]
        assert q.log_prob_base(eps)[0] == pytest.approx(expected, abs=1e-9)

    def test_it_needs_a_gaussian_base(self):
        target, _ = bent_hub(30)
        with pytest.raises(
            UnsuitableError, match=r"goes on a Gaussian only, and not on a Skewed: give a base"
        ):
            infimum.fit(target, families.Flow("sinharcsinh"), starts=1, max_steps=3)

    def test_a_climb_does_not_expect_it_to_pay(self):
        assert families.Flow().promise(Left(0.0, 0.0, 5.0), 32).gain == 0


def test_the_least_gaussian_coordinates_are_found_in_the_scores():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((2000, 6))
    eps = np.concatenate([half, -half])
    residual = 0.1 * rng.standard_normal(eps.shape)
    residual[:, 2] += 0.3 * (eps[:, 2] ** 2 - 1)
    residual[:, 4] += 0.2 * (eps[:, 4] ** 3 - 3 * eps[:, 4])
    nats = directions.departure(eps, residual)
    assert nats[2] == pytest.approx((2 * 0.3) ** 2 / 12, rel=0.2)
    assert nats[4] == pytest.approx((6 * 0.2) ** 2 / 48, rel=0.2)
    assert nats[[0, 1, 3, 5]].max() < 1e-3
