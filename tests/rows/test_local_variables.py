"""Local variables of rows: integrals, gradients and fits against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_models import (
    ERRORS,
    EXAMPLE,
    LIKELIHOODS,
    NOISE,
    closed,
    grouped,
    groups,
    intercepts,
    linear_slopes,
    log_prior,
    poisson,
    reference,
    sloped,
    slopes,
    student,
)

import infimum
from infimum.base.program import double_precision
from infimum.rows.blocks import DataError
from infimum.rows.local_variables import LocalVariables


@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_density_and_gradient_are_those_of_the_closed_form(way):
    rows = groups(211)
    target, known = grouped(rows, way=way), infimum.Rows(log_prior, closed, rows, EXAMPLE)
    if way == "blocks":
        target.large.posterior.passes.size = 50
    z = np.random.default_rng(1).standard_normal((9, 2))
    for a, b in zip(target.value_and_gradient(z), known.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(target.values(z), known.values(z), rtol=1e-9)


def test_curvature_is_that_of_the_closed_form():
    """By the Hessian of the compiled gradient, as solvers take it."""
    rows = groups(50)
    z = np.array([0.3, -0.2])
    with double_precision():
        curvature, known = (
            jax.jit(jax.jacfwd(lambda z, t=target: t.program.function()(z)[1]))(z)
            for target in (grouped(rows), infimum.Rows(log_prior, closed, rows, EXAMPLE))
        )
    np.testing.assert_allclose(curvature, known, rtol=1e-8)


@pytest.mark.parametrize("way", ["blocks", "minibatch"])
def test_the_fit_is_that_of_the_closed_form(way, monkeypatch):
    from infimum.rows import posterior

    monkeypatch.setattr(posterior, "FEWEST_ROWS", 120)
    rows = groups(240)
    fit = infimum.fit(grouped(rows, way=way), "fullrank", draws=500)
    best = infimum.fit(infimum.Rows(log_prior, closed, rows, EXAMPLE), "fullrank", draws=500)
    assert fit.verdict == "good"
    assert "1 local variable a row integrated by a trapezoidal rule of 25 nodes" in " ".join(
        str(fit).split()
    )
    tolerance = {"blocks": 1e-8, "minibatch": 1e-4}[way]
    assert fit.elbo.value == pytest.approx(best.elbo.value, abs=tolerance * 10)
    sd = np.sqrt(best.q.variance())
    np.testing.assert_allclose((fit.q.mean - best.q.mean) / sd, 0, atol=tolerance * 10)


# ---- other likelihoods, against dense quadrature -------------------------------------------------


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_quadrature_of_one_variable(name):
    joint, rows = LIKELIHOODS[name]
    local = LocalVariables({"u": 0.0}, joint)
    with double_precision():
        value, slope = jax.jit(local.row_likelihoods), jax.jit(jax.grad(local.log_likelihood))
        for s in (-1.0, 0.0, 0.7):
            p = {"mu": jnp.asarray(0.4), "s": jnp.asarray(s)}
            total, known, _, _ = reference(joint, p, rows)
            np.testing.assert_allclose(value(p, rows), total, atol=ERRORS[name])
            gradient = slope(p, rows)
            for key, derivative in known.items():
                assert float(gradient[key]) == pytest.approx(
                    float(derivative), abs=10 * ERRORS[name]
                )


def test_searches_survive_counts_and_starts_far_away():
    """A million from zero, and a start at which the density is convex."""
    with double_precision():
        p = {"mu": jnp.asarray(0.0), "s": jnp.asarray(1.0)}
        for joint, rows, start in (
            (poisson, np.array([1e6, 0.0]), 0.0),
            (poisson, np.array([5.0]), 30.0),
            (student, np.array([0.3, 25.0]), 40.0),
        ):
            local = LocalVariables({"u": start}, joint)
            total = reference(joint, p, rows, 1_000_001)[0]
            np.testing.assert_allclose(jax.jit(local.row_likelihoods)(p, rows), total, atol=1e-4)


def test_gradients_survive_nodes_that_weigh_nothing():
    """Of counts with a vague prior exp(u) overflows at the last nodes."""
    with double_precision():
        p = {"mu": jnp.asarray(0.0), "s": jnp.asarray(7.0)}
        local = LocalVariables({"u": 0.0}, poisson)
        assert np.isfinite(
            jax.tree_util.tree_leaves(jax.jit(jax.grad(local.log_likelihood))(p, np.zeros(2)))
        ).all()


# ---- several variables ---------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4])
def test_every_rule_is_exact_where_the_integrand_is_gaussian(k):
    rows = sloped(7, k)
    local = LocalVariables({"u": np.zeros(k)}, linear_slopes)

    def known(p):
        covariance = jnp.exp(2 * p["s"]) * rows["x"] @ rows["x"].swapaxes(1, 2)
        covariance += NOISE**2 * np.eye(rows["y"].shape[1])
        return jax.scipy.stats.multivariate_normal.logpdf(
            rows["y"] - p["mu"], jnp.zeros(rows["y"].shape[1]), covariance
        ).sum()

    with double_precision():
        p = {"mu": jnp.asarray(0.4), "s": jnp.asarray(0.3)}

        def summed(p):
            return local.log_likelihood(p, rows)

        assert float(jax.jit(summed)(p)) == pytest.approx(float(known(p)), abs=1e-9)
        for derivative in (jax.grad, jax.hessian):
            a, b = (jax.tree_util.tree_leaves(jax.jit(derivative(f))(p)) for f in (summed, known))
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("k", "nodes", "error"), [(2, 161, 2e-5), (3, 61, 2e-3)])
def test_two_and_three_variables_against_a_dense_grid(k, nodes, error):
    rows = sloped(3, k)
    with double_precision():
        p = {"mu": jnp.asarray(0.4), "s": jnp.asarray(-0.3)}
        axis = np.linspace(-6, 6, nodes)
        u = np.stack(np.meshgrid(*[axis] * k), axis=-1).reshape(-1, k)
        grid = jax.vmap(lambda u: slopes(p, {"u": jnp.tile(u, (3, 1))}, rows))(u)
        total = jax.nn.logsumexp(grid, axis=0) + k * np.log(axis[1] - axis[0])
        local = LocalVariables({"u": np.zeros(k)}, slopes)
        np.testing.assert_allclose(jax.jit(local.row_likelihoods)(p, rows), total, atol=error)


def test_laplace_has_the_derivatives_of_its_own_value():
    """First and second, by finite differences; and it says what it is."""
    rows = sloped(4, 5)
    target = infimum.Rows(log_prior, slopes, rows, EXAMPLE, local={"u": np.zeros(5)}, way="blocks")
    assert target.laplace
    assert "integrated by Laplace's approximation, not exact" in target.large.description()
    local = target._local_draws.local
    with double_precision():

        def summed(x):
            return local.log_likelihood({"mu": x[0], "s": x[1]}, rows)

        x, h = np.array([0.4, -0.3]), 1e-4
        slope = jax.jit(jax.grad(summed))
        value = jax.jit(summed)
        steps = h * np.eye(2)
        first = [(value(x + e) - value(x - e)) / (2 * h) for e in steps]
        second = [(slope(x + e) - slope(x - e)) / (2 * h) for e in steps]
        np.testing.assert_allclose(slope(x), first, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.hessian(summed))(x), second, rtol=1e-5)


# ---- bad input -----------------------------------------------------------------------------------


def test_a_likelihood_that_is_not_one_number_a_row():
    rows = groups(20)
    for wrong, message in (
        (lambda p, local, rows: intercepts(p, local, rows).sum(), r"shape \(\), expected \(20,\)"),
        (lambda p, local, rows: rows["y"] * local["u"][:, None], r"shape \(20, 4\)"),
        (lambda p, local, rows: intercepts(p, local, rows)[:1], r"shape \(1,\)"),
        (lambda p, local, rows: intercepts(p, local, rows).mean() + local["u"], "mixes rows"),
        (lambda p, local, rows: local["v"], "KeyError: 'v'"),
    ):
        with pytest.raises(ValueError, match=message):
            infimum.Rows(log_prior, wrong, rows, EXAMPLE, local={"u": 0.0})


def test_local_that_is_no_example_of_local_variables():
    rows = groups(5)
    for wrong, error, message in (
        ({}, ValueError, "local: .*no parameters"),
        ({"u": "none"}, TypeError, "local: "),
        ({"u": 0}, TypeError, "0.0, not 0"),
        ({"u": np.nan}, ValueError, "not finite"),
        ({"u": np.zeros(21)}, ValueError, "21 variables a row, at most 20"),
    ):
        with pytest.raises(error, match=message):
            infimum.Rows(log_prior, intercepts, rows, EXAMPLE, local=wrong)


def test_a_row_that_is_nan_is_named():
    rows = groups(3000)
    rows["y"][2217, 0] = np.nan
    with pytest.raises(DataError, match=r"row 2,217 .*NaN"):
        grouped(rows, way="blocks")
