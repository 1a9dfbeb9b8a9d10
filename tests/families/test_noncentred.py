"""Partial non-centring: exact where a hierarchy is normal, learned where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.reparam import LocScaleReparam

import infimum
from infimum import families
from infimum.base.errors import UnsuitableError
from infimum.families.noncentred.warp import bend_of, conditional
from infimum.target.hierarchy import Parents

EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(effect, error, centred):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(effect)):
        if centred:
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
        else:
            theta = mu + tau * numpyro.sample("t", dist.Normal(0, 1))
        numpyro.sample("effect", dist.Normal(theta, error), obs=effect)


def funnel():
    v = numpyro.sample("v", dist.Normal(0, 3))
    with numpyro.plate("arms", 9):
        numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)))


def counted(n, k, centred=True):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    tau = numpyro.sample("tau", dist.HalfNormal(1))
    with numpyro.plate("groups", len(n)):
        if centred:
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
        else:
            theta = mu + tau * numpyro.sample("t", dist.Normal(0, 1))
        numpyro.sample("k", dist.Binomial(n, logits=theta), obs=k)


def slopes(group, x, y):
    factor = numpyro.sample("factor", dist.LKJCholesky(2, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0).expand([2]).to_event(1))
    mean = numpyro.sample("mean", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("groups", 4):
        line = dist.MultivariateNormal(mean, scale_tril=scale[:, None] * factor)
        b = numpyro.sample("b", line)
    numpyro.sample("y", dist.Normal(b[group, 0] + b[group, 1] * x, 0.5), obs=y)


def nested():
    m = numpyro.sample("m", dist.Normal(0, 1))
    t = numpyro.sample("t", dist.LogNormal(0, 1))
    with numpyro.plate("few", 2):
        c = numpyro.sample("c", dist.StudentT(4, m, t))
    u = numpyro.sample("u", dist.LogNormal(m, t))
    with numpyro.plate("many", 4):
        numpyro.sample("d", dist.Normal(jnp.repeat(c, 2), u).mask(True))


def found(model, *args):
    target = infimum.from_numpyro(model, *args)
    return target, target.model.hierarchy(target.space, np.random.default_rng(0))


def lines():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 6)
    x = np.tile(np.linspace(-1, 1, 6), 4)
    a, b = rng.normal(1, 0.7, 4), rng.normal(-0.5, 0.5, 4)
    return group, x, a[group] + b[group] * x + 0.5 * rng.standard_normal(24)


CASES = [
    (schools, (EFFECT, ERROR, True)),
    (schools, (EFFECT, ERROR, False)),
    (slopes, lines()),
    (nested, ()),
]


class TestHierarchy:
    def test_centred_and_standardised_sites_are_told_apart(self):
        _, one = found(schools, EFFECT, ERROR, True)
        _, other = found(schools, EFFECT, ERROR, False)
        assert one.names[:2] == ("theta[0]", "theta[1]")
        assert other.names[:2] == ("t[0]", "t[1]")
        assert one.centred.all()
        assert not other.centred.any()
        for hierarchy, at in ((one, [2.0, np.log(3.0), *range(8)]), (other, None)):
            z = np.array(at or [2.0, *range(8), np.log(3.0)])
            with jax.enable_x64(True):
                location, scale, offset, slope = jax.jit(hierarchy.parents)(jnp.asarray(z))
            natural = (location, scale) if hierarchy is one else (offset, slope)
            np.testing.assert_allclose(natural, [np.full(8, 2.0), np.full(8, 3.0)], rtol=1e-12)

    def test_levels_follow_what_depends_on_what(self):
        _, hierarchy = found(nested)
        level = dict(zip(hierarchy.names, hierarchy.level, strict=True))
        assert level == {"c[0]": 0, "c[1]": 0, "u": 0} | {f"d[{i}]": 1 for i in range(4)}

    def test_a_multivariate_normal_is_taken_entry_by_entry(self):
        """The product of the conditional normals is the joint one."""
        target, hierarchy = found(slopes, *lines())
        z = np.random.default_rng(1).standard_normal(target.dim)
        with jax.enable_x64(True):
            location, scale, *_ = map(np.asarray, jax.jit(hierarchy.parents)(jnp.asarray(z)))
        p = target.constrain(z)
        factor = p["scale"][:, None] * p["factor"]
        x = z[hierarchy.index]
        apart = -0.5 * ((x - location) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        joint = dist.MultivariateNormal(p["mean"], scale_tril=factor).log_prob(p["b"]).sum()
        np.testing.assert_allclose(apart.sum(), joint, rtol=1e-5)
        assert hierarchy.level.tolist() == [0, 1] * 4

    def test_grouped_observations_lead_back_to_their_group(self):
        def model(group, x, y):
            mu = numpyro.sample("mu", dist.Normal(0, 1))
            tau = numpyro.sample("tau", dist.HalfNormal(1).expand([2]))
            with numpyro.plate("groups", 4):
                a = numpyro.sample("a", dist.Normal(0, 1))
                b = numpyro.sample("b", dist.Normal(0, 1))
            line = mu + tau[0] * a[group] + tau[1] * b[group] * x
            numpyro.sample("y", dist.Normal(line, 0.5), obs=y)

        _, hierarchy = found(model, *lines())
        assert hierarchy.names == tuple(f"{k}[{i}]" for k in "ab" for i in range(4))
        z = np.array([*range(8), 0.5, 0.0, np.log(2.0)])
        with jax.enable_x64(True):
            *_, offset, slope = map(np.asarray, jax.jit(hierarchy.parents)(jnp.asarray(z)))
        np.testing.assert_allclose(offset, 0.5)
        np.testing.assert_allclose(np.abs(slope), [1.0] * 4 + [2.0] * 4)

    def test_models_without_one_are_refused_with_the_reason(self):
        def flat():
            numpyro.sample("x", dist.Normal(0, 1).expand([3]))

        def circle():
            """Each scaled by the other: neither comes first."""
            a, b = (numpyro.sample(name, dist.Normal(0, 1)) for name in "ab")
            numpyro.sample("y", dist.Normal(a * b, 1), obs=1.0)

        for model in (flat, circle):
            with pytest.raises(UnsuitableError, match="there is nothing to non-centre"):
                infimum.fit(infimum.from_numpyro(model), "noncentred")
        bare = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(2))
        with pytest.raises(UnsuitableError, match="tells no location-scale hierarchy"):
            infimum.fit(bare, "noncentred")


def member(model, *args, seed=0):
    """A member with leaves of its own everywhere, away from the extremes."""
    target = infimum.from_numpyro(model, *args)
    rng = np.random.default_rng(seed)
    family = families.named("noncentred").adapted(target, rng)
    start = family.init(0.3 * rng.standard_normal(target.dim), np.full(target.dim, 0.5))
    q = jax.tree_util.tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), start)
    angle = rng.uniform(0.5, 2.5, q.angle.shape)
    return target, type(q)(q.mean, q.raw, q.value, angle, start.reference, q.warp)


@pytest.mark.parametrize(("model", "args"), CASES)
class TestMap:
    def test_it_is_a_bijection_with_its_log_determinant(self, model, args):
        _, q = member(model, *args)
        eps = np.random.default_rng(1).standard_normal((3, q.dim))
        np.testing.assert_allclose(q.pull_back(q.push(eps)), eps, atol=1e-9)
        with jax.enable_x64(True):
            jacobian = jax.jit(jax.jacobian(q.push))(jnp.asarray(eps[0]))
        normal = -0.5 * (eps[0] ** 2).sum() - 0.5 * q.dim * np.log(2 * np.pi)
        expected = normal - np.linalg.slogdet(jacobian)[1]
        np.testing.assert_allclose(q.log_prob_base(eps)[0], expected, rtol=1e-9)

    def test_chart_gradient_is_that_of_the_loss(self, model, args):
        target, q = member(model, *args)
        rng = np.random.default_rng(2)
        eps = 0.5 * rng.standard_normal((8, q.dim))
        chart = q.chart(None)
        theta = 0.05 * rng.standard_normal(chart.size)

        def loss(theta):
            moved = chart.move(theta)
            return np.mean(moved.log_prob_base(eps) - target.values(moved.push(eps)))

        score = target.value_and_gradient(chart.move(theta).push(eps))[1]
        gradient = chart.pull(theta, eps, score)
        for _ in range(4):
            step = 1e-5 * rng.standard_normal(chart.size)
            numeric = loss(theta + step) - loss(theta - step)
            np.testing.assert_allclose(2 * step @ gradient, numeric, rtol=1e-4, atol=1e-9)

    def test_both_extremes_are_members(self, model, args):
        """At one the map is the identity; at the other θ is standardised by its parents."""
        _, q = member(model, *args)
        zeta = np.random.default_rng(3).standard_normal((4, q.dim))
        hierarchy = q.warp.hierarchy
        as_stated = np.where(hierarchy.centred, np.pi, 0.0)
        z, log_det = q.warp.forward(zeta, (q.value, as_stated, q.reference))
        np.testing.assert_allclose(z, zeta, atol=1e-9)
        np.testing.assert_allclose(log_det, 0, atol=1e-9)
        if hierarchy.centred.all():
            z, _ = q.warp.forward(zeta, (q.value, 0 * as_stated, q.reference))
            with jax.enable_x64(True):
                parents = jax.jit(jax.vmap(hierarchy.parents))(jnp.asarray(z))
            location, scale, *_ = map(np.asarray, parents)
            own = hierarchy.index
            expected = (zeta[:, own] - q.reference[0]) / np.exp(q.reference[1])
            np.testing.assert_allclose((z[:, own] - location) / scale, expected, rtol=1e-7)


def test_the_bend_is_the_derivative_of_the_conditional():
    rng = np.random.default_rng(0)
    parents = Parents(*np.exp(0.5 * rng.standard_normal((4, 1, 5))))
    reference = 0.5 * rng.standard_normal((4, 5))
    value, angle, z = rng.standard_normal(5), rng.uniform(0.3, 2.8, 5), rng.standard_normal((1, 5))

    def backward(value, angle):
        mean, grown, mean_ref = map(np.asarray, conditional(parents, value, angle, reference))
        return np.stack([mean_ref + (z - mean) * np.exp(-grown), grown])

    with jax.enable_x64(True):
        zeta = backward(value, angle)[0]
        h = 1e-6
        numeric = np.concatenate(
            [
                (backward(value + h, angle) - backward(value - h, angle)) / (2 * h),
                (backward(value, angle + h) - backward(value, angle - h)) / (2 * h),
            ],
            axis=2,
        )
    np.testing.assert_allclose(
        bend_of(parents, value, angle, reference, zeta, z), numeric, rtol=1e-6, atol=1e-8
    )


def test_the_funnel_is_met_exactly():
    """Data say nothing of x: every centring ends at zero, and q is p*; log Z = 0."""
    fit = infimum.fit(infimum.from_numpyro(funnel), "noncentred")
    assert np.all(fit.q.centring == 0)
    assert abs(fit.kl.value) < 1e-6
    assert abs(fit.elbo.value) < 1e-6
    assert fit.verdict == "good"


@pytest.fixture(scope="module")
def eight():
    return {
        centred: infimum.fit(
            infimum.from_numpyro(schools, EFFECT, ERROR, centred), "noncentred", seed=1
        )
        for centred in (True, False)
    }


def log_evidence_of_schools():
    """Quadrature over log tau; mu and theta are integrated in closed form."""
    s = np.linspace(-12, 9, 4001)
    tau = np.exp(s)
    covariance = np.eye(8) * (ERROR**2 + tau[:, None, None] ** 2) + 25.0
    inverse = np.linalg.solve(covariance, np.broadcast_to(EFFECT, (len(s), 8))[..., None])[..., 0]
    log_p = -0.5 * (inverse @ EFFECT) - 0.5 * np.linalg.slogdet(covariance)[1]
    log_p += -4 * np.log(2 * np.pi) + np.log(2 / (5 * np.pi)) - np.log1p((tau / 5) ** 2) + s
    weight = np.exp(log_p)
    total = np.trapezoid(weight, s)
    return np.log(total), np.trapezoid(weight * s, s) / total


def test_both_statements_of_eight_schools_end_together(eight):
    """Exact log Z by quadrature; what is left is the skew of log tau, which no Gaussian has."""
    log_z, log_tau = log_evidence_of_schools()
    for fit in eight.values():
        assert 0 < log_z - fit.elbo.value < 0.12
        draws = np.log(fit.sample(20_000, seed=3)["tau"])
        assert abs(draws.mean() - log_tau) < 0.1
    assert abs(eight[True].elbo.value - eight[False].elbo.value) < 0.05


def test_large_groups_are_centred_and_small_ones_are_not():
    n = np.array([1, 2, 5, 10, 20, 50, 100, 200, 400, 800])
    rng = np.random.default_rng(0)
    k = rng.binomial(n, 1 / (1 + np.exp(-rng.normal(-0.5, 0.7, len(n)))))
    target = infimum.from_numpyro(counted, n, k)
    below, fit = infimum.climb(target, ["fullrank", "noncentred"])
    assert fit.elbo.value > below.elbo.value - 2 * fit.elbo.se
    order = np.argsort(np.argsort(fit.q.centring))
    assert np.corrcoef(order, np.arange(len(n)))[0, 1] > 0.9
    assert fit.q.centring[0] < 0.3
    assert fit.q.centring[-1] > 0.9


def test_a_file_holds_draws_and_refuses_what_needs_the_model(eight, tmp_path):
    fit = eight[True]
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert again.verdict == fit.verdict
    assert again.elbo == fit.elbo
    assert again.family.n_parameters(again.q.dim) == fit.family.n_parameters(fit.q.dim)
    np.testing.assert_array_equal(again.q.centring, fit.q.centring)
    assert again.sample(200)["theta"].shape == (200, 8)
    assert again.sample(200, weighted=True)["tau"].shape == (200,)
    assert again.summary().equals(fit.summary())
    assert "stored draws" in str(again)
    with pytest.raises(ValueError, match="stores 4096 draws"):
        again.sample(5000)
    with pytest.raises(ValueError, match="needs the model's own code"):
        again.log_prob(fit.sample(3))
    with pytest.raises(ValueError, match="made with the model's own code"):
        again.q.push(np.zeros((1, 10)))
    second = infimum.load(again.save(tmp_path / "again.zip"))
    np.testing.assert_array_equal(second.sample(50)["tau"], again.sample(50)["tau"])


def test_a_reparametrised_site_is_found_as_well():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        tau = numpyro.sample("tau", dist.HalfNormal(1))
        with numpyro.plate("groups", len(y)):
            with numpyro.handlers.reparam(config={"t": LocScaleReparam(0)}):
                t = numpyro.sample("t", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(t, 1.0), obs=y)

    _, hierarchy = found(model, EFFECT[:3])
    assert hierarchy.names == tuple(f"t_decentered[{i}]" for i in range(3))
    assert not hierarchy.centred.any()


def test_wrong_starts_are_named():
    target = infimum.from_numpyro(funnel)
    family = families.named("noncentred").adapted(target, np.random.default_rng(0))
    with pytest.raises(TypeError, match="can start from a Gaussian, not from str"):
        family.start_from("text")
