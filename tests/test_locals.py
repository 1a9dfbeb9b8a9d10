"""Local variables of rows: integrals, gradients and fits against closed forms; their draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import infimum
from infimum.rows import local_variables
from infimum.rows.blocks import DataError
from infimum.base.program import double_precision

HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def normal(x, scale=1.0):
    return -0.5 * (x / scale) ** 2 - jnp.log(scale) - HALF_LOG_2PI


def log_prior(p):
    return normal(p["mu"], 2.0) + normal(p["s"])


EXAMPLE = {"mu": 0.0, "s": 0.0}


# ---- groups with an intercept of their own, and a closed form ------------------------------------

NOISE = 0.7


def groups(n, size=4, seed=0):
    """Groups of one to `size` members, padded; what is padded is nonsense."""
    rng = np.random.default_rng(seed)
    y = 0.5 + 1.2 * rng.standard_normal((n, 1)) + NOISE * rng.standard_normal((n, size))
    inside = np.arange(size) < rng.integers(1, size + 1, n)[:, None]
    return {"y": np.where(inside, y, 99.0), "inside": inside}


def intercepts(p, local, rows):
    error = rows["y"] - p["mu"] - local["u"][:, None]
    members = jnp.where(rows["inside"], normal(error, NOISE), 0.0).sum(axis=1)
    return normal(local["u"], jnp.exp(p["s"])) + members


def closed(p, rows):
    """The same, integrated: the members of a group are jointly normal."""
    count = rows["inside"].sum(axis=1)
    error = jnp.where(rows["inside"], rows["y"] - p["mu"], 0.0)
    ratio = jnp.exp(2 * p["s"]) / NOISE**2
    square = (error**2).sum(axis=1) - ratio / (1 + ratio * count) * error.sum(axis=1) ** 2
    log_det = jnp.log1p(ratio * count) + 2 * count * np.log(NOISE)
    return (-0.5 * square / NOISE**2 - 0.5 * log_det - count * HALF_LOG_2PI).sum()


def grouped(rows, **options):
    return infimum.Rows(log_prior, intercepts, rows, EXAMPLE, local={"u": 0.0}, **options)


@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_density_and_gradient_are_those_of_the_closed_form(way):
    rows = groups(211)
    target, known = grouped(rows, way=way), infimum.Rows(log_prior, closed, rows, EXAMPLE)
    if way == "blocks":
        target.large.sums.passes.size = 50
    z = np.random.default_rng(1).standard_normal((9, 2))
    for a, b in zip(target.value_and_gradient(z), known.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(target.values(z), known.values(z), rtol=1e-9)


def test_curvature_is_that_of_the_closed_form():
    """By the Hessian of the compiled gradient, as solvers take it."""
    rows = groups(50)
    z = np.array([0.3, -0.2])
    with double_precision():
        found, known = (
            jax.jit(jax.jacfwd(lambda z, t=target: t.program.function()(z)[1]))(z)
            for target in (grouped(rows), infimum.Rows(log_prior, closed, rows, EXAMPLE))
        )
    np.testing.assert_allclose(found, known, rtol=1e-8)


@pytest.mark.parametrize("way", ["blocks", "minibatch"])
def test_the_fit_is_that_of_the_closed_form(way, monkeypatch):
    from infimum.rows import rows as module

    monkeypatch.setattr(module, "FEWEST_ROWS", 120)
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


def poisson(p, local, rows):
    eta = p["mu"] + local["u"]
    return normal(local["u"], jnp.exp(p["s"])) + rows * eta - jnp.exp(eta)


def bernoulli(p, local, rows):
    eta = p["mu"] + local["u"]
    return normal(local["u"], jnp.exp(p["s"])) + rows * eta - 8 * jnp.logaddexp(0.0, eta)


def student(p, local, rows):
    u = local["u"]
    return normal(u, jnp.exp(p["s"])) - 2 * jnp.log1p((rows - p["mu"] - u) ** 2 / 3)


def reference(joint, p, rows, nodes=20_001):
    """log ∫ of each row on a dense grid, its gradient, and mean and sd of u."""
    u = np.linspace(-25, 25, nodes)

    def integrals(p):
        values = jax.vmap(lambda u: joint(p, {"u": jnp.full(len(rows), u)}, rows))(u)
        return jax.nn.logsumexp(values, axis=0) + np.log(u[1] - u[0]), values

    def only(p):
        return integrals(p)[0].sum()

    (total, values), slope = jax.jit(lambda p: (integrals(p), jax.jacrev(only)(p)))(p)
    w = np.exp(values - np.max(values, axis=0))
    mean = u @ w / w.sum(axis=0)
    return total, slope, mean, np.sqrt(u**2 @ w / w.sum(axis=0) - mean**2)


ERRORS = {"poisson": 3e-6, "bernoulli": 1e-6, "student": 3e-4}
"""Of log ∫ in a row: the conditionals of Student-t rows far out have two modes."""

LIKELIHOODS = {
    "poisson": (poisson, np.array([0.0, 1.0, 3.0, 40.0, 2000.0])),
    "bernoulli": (bernoulli, np.arange(9.0)),
    "student": (student, np.array([-9.0, -3.0, 0.0, 0.5, 2.0, 6.0])),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_quadrature_of_one_variable(name):
    joint, rows = LIKELIHOODS[name]
    local = local_variables.Locals({"u": 0.0}, joint)
    with double_precision():
        value, slope = jax.jit(local.each), jax.jit(jax.grad(local.summed))
        for s in (-1.0, 0.0, 0.7):
            p = {"mu": jnp.asarray(0.4), "s": jnp.asarray(s)}
            total, known, _, _ = reference(joint, p, rows)
            np.testing.assert_allclose(value(p, rows), total, atol=ERRORS[name])
            found = slope(p, rows)
            for key, derivative in known.items():
                assert float(found[key]) == pytest.approx(float(derivative), abs=10 * ERRORS[name])


def test_searches_survive_counts_and_starts_far_away():
    """A million from zero, and a start at which the density is convex."""
    with double_precision():
        p = {"mu": jnp.asarray(0.0), "s": jnp.asarray(1.0)}
        for joint, rows, start in (
            (poisson, np.array([1e6, 0.0]), 0.0),
            (poisson, np.array([5.0]), 30.0),
            (student, np.array([0.3, 25.0]), 40.0),
        ):
            local = local_variables.Locals({"u": start}, joint)
            total = reference(joint, p, rows, 1_000_001)[0]
            np.testing.assert_allclose(jax.jit(local.each)(p, rows), total, atol=1e-4)


def test_gradients_survive_nodes_that_weigh_nothing():
    """Of counts with a vague prior exp(u) overflows at the last nodes."""
    with double_precision():
        p = {"mu": jnp.asarray(0.0), "s": jnp.asarray(7.0)}
        local = local_variables.Locals({"u": 0.0}, poisson)
        assert np.isfinite(
            jax.tree_util.tree_leaves(jax.jit(jax.grad(local.summed))(p, np.zeros(2)))
        ).all()


# ---- several variables ---------------------------------------------------------------------------


def slopes(p, local, rows):
    """Counts with an intercept and slopes of their own: rows {"x": (n, m, k), "y": (n, m)}."""
    eta = p["mu"] + jnp.einsum("nmk,nk->nm", rows["x"], local["u"])
    return normal(local["u"], jnp.exp(p["s"])).sum(axis=1) + (rows["y"] * eta - jnp.exp(eta)).sum(
        axis=1
    )


def linear_slopes(p, local, rows):
    """The same with normal errors, for which every rule is exact."""
    eta = p["mu"] + jnp.einsum("nmk,nk->nm", rows["x"], local["u"])
    prior = normal(local["u"], jnp.exp(p["s"])).sum(axis=1)
    return prior + normal(rows["y"] - eta, NOISE).sum(axis=1)


def sloped(n, k, m=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, m, k)) / np.sqrt(k)
    return {"x": x, "y": rng.poisson(np.exp(x.sum(axis=2))).astype(float)}


@pytest.mark.parametrize("k", [2, 4])
def test_every_rule_is_exact_where_the_integrand_is_gaussian(k):
    rows = sloped(7, k)
    local = local_variables.Locals({"u": np.zeros(k)}, linear_slopes)

    def known(p):
        covariance = jnp.exp(2 * p["s"]) * rows["x"] @ rows["x"].swapaxes(1, 2)
        covariance += NOISE**2 * np.eye(rows["y"].shape[1])
        return jax.scipy.stats.multivariate_normal.logpdf(
            rows["y"] - p["mu"], jnp.zeros(rows["y"].shape[1]), covariance
        ).sum()

    with double_precision():
        p = {"mu": jnp.asarray(0.4), "s": jnp.asarray(0.3)}

        def summed(p):
            return local.summed(p, rows)

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
        local = local_variables.Locals({"u": np.zeros(k)}, slopes)
        np.testing.assert_allclose(jax.jit(local.each)(p, rows), total, atol=error)


def test_laplace_has_the_derivatives_of_its_own_value():
    """First and second, by finite differences; and it says what it is."""
    rows = sloped(4, 5)
    target = infimum.Rows(log_prior, slopes, rows, EXAMPLE, local={"u": np.zeros(5)}, way="blocks")
    assert target.laplace
    assert "integrated by Laplace's approximation, not exact" in target.large.told()
    local = target._locals
    with double_precision():

        def summed(x):
            return local.summed({"mu": x[0], "s": x[1]}, rows)

        x, h = np.array([0.4, -0.3]), 1e-4
        slope = jax.jit(jax.grad(summed))
        value = jax.jit(summed)
        steps = h * np.eye(2)
        first = [(value(x + e) - value(x - e)) / (2 * h) for e in steps]
        second = [(slope(x + e) - slope(x - e)) / (2 * h) for e in steps]
        np.testing.assert_allclose(slope(x), first, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.hessian(summed))(x), second, rtol=1e-5)


# ---- draws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poisson", "student"])
def test_draws_of_one_variable_have_the_moments_of_the_conditional(name):
    joint, rows = LIKELIHOODS[name]
    target = infimum.Rows(log_prior, joint, rows, EXAMPLE, local={"u": 0.0})
    n = 5000
    [(start, found)] = target.locals({"mu": np.full(n, 0.4), "s": np.zeros(n)})
    assert start == 0
    assert found["u"].shape == (n, len(rows))
    with double_precision():
        _, _, mean, sd = reference(joint, {"mu": 0.4, "s": 0.0}, rows)
    z = (found["u"] - mean) / sd
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(n)
    spread = (z**2).std(axis=0) / np.sqrt(n)
    assert (np.abs((z**2).mean(axis=0) - 1) / spread).max() < 4.5
    assert np.abs(np.corrcoef(z.T) - np.eye(len(rows))).max() < 4.5 / np.sqrt(n)


def test_draws_of_one_variable_have_its_distribution():
    target = infimum.Rows(
        lambda p: normal(p["a"]),
        lambda p, local, rows: rows * local["u"] - p["a"] * 0 - jnp.exp(local["u"]),
        np.array([3.0, 1.0]),
        {"a": 0.0},
        local={"u": 0.0},
    )
    [(_, found)] = target.locals({"a": np.zeros(4000)})
    for row, shape in enumerate((3, 1)):
        known = scipy.stats.gamma(shape)
        assert scipy.stats.kstest(np.exp(found["u"][:, row]), known.cdf).pvalue > 1e-3


@pytest.mark.parametrize("k", [2, 5])
def test_draws_of_several_variables_have_the_moments_of_the_conditional(k):
    rows = sloped(3, k)
    target = infimum.Rows(log_prior, linear_slopes, rows, EXAMPLE, local={"u": np.zeros(k)})
    n = 2000
    [(_, found)] = target.locals({"mu": np.full(n, 0.4), "s": np.full(n, 0.3)})
    assert found["u"].shape == (n, 3, k)
    for row, x in enumerate(rows["x"]):
        covariance = np.linalg.inv(x.T @ x / NOISE**2 + np.eye(k) * np.exp(-0.6))
        mean = covariance @ x.T @ (rows["y"][row] - 0.4) / NOISE**2
        z = np.linalg.solve(np.linalg.cholesky(covariance), (found["u"][:, row] - mean).T)
        assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(n)
        assert np.abs(z @ z.T / n - np.eye(k)).max() < 4.5 * np.sqrt(2 / n)


def test_draws_follow_the_parameters_and_the_seed_not_the_blocks(monkeypatch):
    rows = groups(100)
    target = grouped(rows)
    rng = np.random.default_rng(0)
    draws = {"mu": rng.normal(0.5, 0.1, 40), "s": rng.normal(0.2, 0.1, 40)}
    [(_, whole)] = target.locals(draws)
    monkeypatch.setattr(local_variables, "DRAW_SET", 2**20)
    blocks = list(target.locals(draws))
    assert len(blocks) > 1
    assert [start for start, _ in blocks] == list(range(0, 100, target._locals.block))
    np.testing.assert_allclose(
        np.concatenate([b["u"] for _, b in blocks], axis=1), whole["u"], rtol=1e-9, atol=1e-12
    )
    [(start, some)] = target.locals(draws, rows=[3, 70])
    assert start == 0
    np.testing.assert_allclose(some["u"], whole["u"][:, [3, 70]], rtol=1e-9)
    [(_, other)] = target.locals(draws, rows=[3, 70], seed=1)
    assert not np.any(other["u"] == some["u"])


# ---- memory --------------------------------------------------------------------------------------


def test_only_blocks_are_ever_held():
    """Of 200,000 rows, on which local variables and nodes would take 1.3 GB a batch of points."""
    seen = []

    def joint(p, local, rows):
        seen.append(local["u"].shape[0])
        return poisson(p, local, rows)

    n = 200_000
    y = np.random.default_rng(0).poisson(2.0, n).astype(np.float32)
    target = infimum.Rows(log_prior, joint, y, EXAMPLE, local={"u": 0.0}, way="blocks")
    total, _ = target.value_and_gradient(np.zeros((1, 2)))
    assert np.isfinite(total).all()
    size = target.large.sums.passes.size
    assert max(seen) <= max(1000, size)
    assert size * local_variables.NODES * 8 * 32 <= 2**22
    draws = {"mu": np.zeros(3), "s": np.zeros(3)}
    blocks = itertools.islice(target.locals(draws), 3)
    places = [(start, block["u"].shape) for start, block in blocks]
    width = target._locals.block
    assert places == [(i * width, (3, width)) for i in range(3)]
    assert width * local_variables.GRID * 8 * 32 <= local_variables.DRAW_SET


# ---- bad input -----------------------------------------------------------------------------------


def test_a_likelihood_that_is_not_one_number_a_row():
    rows = groups(20)
    for wrong, told in (
        (lambda p, local, rows: intercepts(p, local, rows).sum(), r"shape \(\), expected \(20,\)"),
        (lambda p, local, rows: rows["y"] * local["u"][:, None], r"shape \(20, 4\)"),
        (lambda p, local, rows: intercepts(p, local, rows)[:1], r"shape \(1,\)"),
        (lambda p, local, rows: intercepts(p, local, rows).mean() + local["u"], "mixes rows"),
        (lambda p, local, rows: local["v"], "KeyError: 'v'"),
    ):
        with pytest.raises(ValueError, match=told):
            infimum.Rows(log_prior, wrong, rows, EXAMPLE, local={"u": 0.0})


def test_local_that_is_no_example_of_local_variables():
    rows = groups(5)
    for wrong, error, told in (
        ({}, ValueError, "local: .*no parameters"),
        ({"u": "none"}, TypeError, "local: "),
        ({"u": 0}, TypeError, "0.0, not 0"),
        ({"u": np.nan}, ValueError, "not finite"),
        ({"u": np.zeros(21)}, ValueError, "21 variables a row, at most 20"),
    ):
        with pytest.raises(error, match=told):
            infimum.Rows(log_prior, intercepts, rows, EXAMPLE, local=wrong)


def test_a_row_that_is_nan_is_named():
    rows = groups(3000)
    rows["y"][2217, 0] = np.nan
    with pytest.raises(DataError, match=r"row 2,217 .*NaN"):
        grouped(rows, way="blocks")


def test_draws_and_rows_that_do_not_fit():
    rows = groups(10)
    draws = {"mu": np.zeros(4), "s": np.zeros(4)}
    with pytest.raises(ValueError, match=r"Rows\(local=\.\.\.\)"):
        infimum.Rows(log_prior, closed, rows, EXAMPLE).locals(draws)
    target = grouped(rows)
    for wrong in (
        {"mu": np.zeros(4)},
        {"mu": 0.0, "s": 0.0},
        {"mu": np.zeros(4), "s": np.zeros(3)},
    ):
        with pytest.raises(ValueError, match=r"give fit\.sample"):
            target.locals(wrong)
    for wrong in ([3, 1], [10], [-1], [0.5], []):
        with pytest.raises(ValueError, match="rows"):
            target.locals(draws, rows=wrong)
