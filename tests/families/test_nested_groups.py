"""Groups of two and three coordinates given the scales: their integrals, draws and densities."""

import itertools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special

import infimum
from infimum.families.nested.groups import Groups
from infimum.families.nested.shaped import ShapedField
from infimum.search.nested.cells import cells_at
from infimum.search.nested.conditional import NEAR, known_at, shaped_field
from infimum.search.nested.field import Field
from infimum.search.nested.lattice import lattice_around
from infimum.search.nested.marginal import Marginal
from infimum.search.nested.shaped import Shaped


def test_groups_are_sorted_by_size_and_by_elimination():
    edges = np.array([[3, 5, 5], [1, 0, 3]])  # 0 - 5 - 3 - 1 is a group of four
    assert Groups.of(6, edges, np.arange(6)) is None
    groups = Groups.of(6, np.array([[5, 5, 4], [0, 3, 1]]), np.array([2, 5, 4, 1, 0, 3]))
    assert [level.tolist() for level in groups.levels] == [[3, 1, 2], [0, 4], [5]]
    again = Groups.read(groups.members, groups.sizes, sum(groups.n_slopes))
    assert [level.tolist() for level in again.levels] == [[3, 1, 2], [0, 4], [5]]


def logistic_groups(sizes, rows=4):
    """Groups of coordinates u ~ N(0, e^2θ) with logistic rows on each group; θ ~ N(0, 1/4)."""
    rng = np.random.default_rng(0)
    ends = np.cumsum([1, *sizes])
    members = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    designs = [0.6 * rng.normal(size=(rows, size)) for size in sizes]
    signs = [rng.choice([-1.0, 1.0], rows) for _ in sizes]

    def value_and_gradient(z):
        theta, u = z[:, 0], z[:, 1:]
        precision = np.exp(-2 * theta)
        value = -0.5 * precision * (u**2).sum(axis=1) - u.shape[1] * theta - 2 * theta**2
        gradient = np.empty(z.shape)
        gradient[:, 0] = precision * (u**2).sum(axis=1) - u.shape[1] - 4 * theta
        gradient[:, 1:] = -precision[:, None] * u
        for group, design, sign in zip(members, designs, signs, strict=True):
            margin = sign * (z[:, group] @ design.T)
            value = value - np.logaddexp(0, -margin).sum(axis=1)
            gradient[:, group] += (scipy.special.expit(-margin) * sign) @ design
        return value, gradient

    return infimum.from_numpy(value_and_gradient, int(ends[-1]), batched=True), members


def field_of_groups(sizes):
    target, members = logistic_groups(sizes)
    pairs = [(b - 1, a - 1) for group in members for b in group for a in group if b > a]
    edges = np.array(pairs, np.int64).reshape(-1, 2).T
    k = target.dim - 1
    field = Field(target, np.array([0]), np.arange(1, k + 1), edges, np.ones(k))
    return field, Marginal(field, np.zeros(1), np.zeros(k), np.zeros((k, 1)))


@pytest.mark.parametrize(("sizes", "tolerance"), [((2, 1, 2), 2e-3), ((3, 1), 2e-2)])
def test_integrals_of_groups_are_those_of_a_fine_grid(sizes, tolerance):
    field, marginal = field_of_groups(sizes)
    modes = marginal.modes(np.array([[-0.3], [0.4]]), np.eye(1))
    cells = cells_at(field, modes)
    for z, log_integral in zip(modes.z, cells.log_integral, strict=True):
        total, axis = 0.0, np.linspace(-9, 9, 73)
        log_p = field.target.value_and_gradient(np.array([[z[0], *np.zeros(len(z) - 1)]]))[0][0]
        start = 1
        for size in sizes:
            grid = np.stack(np.meshgrid(*[axis] * size, indexing="ij"), -1).reshape(-1, size)
            points = np.zeros((len(grid), len(z)))
            points[:, 0], points[:, start : start + size] = z[0], grid
            rise = field.target.value_and_gradient(points)[0] - log_p
            total += scipy.special.logsumexp(rise) + size * np.log(axis[1] - axis[0])
            start += size
        assert abs(log_integral - log_p - total) < tolerance


@pytest.mark.parametrize("sizes", [(2, 1, 2), (3, 2)])
def test_draws_of_groups_have_the_density_that_they_are_said_to_have(sizes):
    field, marginal = field_of_groups(sizes)
    lattice = lattice_around(marginal, *marginal.summit(0.5 * np.eye(1)))
    shaped = Shaped(marginal, lattice.warp.root)
    conditional = shaped_field(shaped, lattice)
    assert isinstance(conditional, ShapedField)
    rng = np.random.default_rng(1)
    theta = np.tile(lattice.best.z[:, field.theta], (2000, 1))
    x, log_q = conditional.draw(theta, rng)
    again = conditional.log_density(theta, x.copy()[::-1])
    np.testing.assert_allclose(again, log_q[::-1], rtol=1e-9)
    # At one θ, log p̂ - log q is the log integral, whatever x is.
    log_p = field.target.value_and_gradient(field.place(theta, x))[0]
    integral = shaped.values(lattice.best)[0]
    assert (log_p - log_q).std() < 0.05
    assert abs(np.log(np.mean(np.exp(log_p - log_q - integral)))) < 0.01
    outside = x[:1] + 1e3
    assert conditional.log_density(theta[:1], outside)[0] == -np.inf
    near = lattice.values > lattice.values.max() - NEAR
    assert known_at(lattice, near).u.shape == (near.sum(), 1)


def random_slopes(n_groups, rows=6):
    """Binary outcomes with a random intercept and slope a group, and the target of it."""
    rng = np.random.default_rng(0)
    group, x = np.repeat(np.arange(n_groups), rows), rng.normal(size=n_groups * rows)
    a, b = rng.normal(0, 0.9, n_groups), rng.normal(0, 0.6, n_groups)
    y = rng.random(len(x)) < scipy.special.expit(a[group] + (0.4 + b[group]) * x)

    def model():
        mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]).to_event(1))
        tau = numpyro.sample("tau", dist.HalfNormal(1).expand([2]).to_event(1))
        corr = numpyro.sample("corr", dist.LKJCholesky(2, 2.0))
        with numpyro.plate("groups", n_groups):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        effects = mu + z @ (tau[:, None] * corr).T
        eta = effects[group, 0] + effects[group, 1] * x
        numpyro.sample("y", dist.Bernoulli(logits=eta), obs=jnp.asarray(y, int))

    return infimum.from_numpyro(model)


def test_random_slopes_of_binary_rows_are_met(tmp_path):
    """Laplace's marginal is 0.6 nats off here, and the Gaussian given it 0.7."""
    fit = infimum.fit(random_slopes(100), "nested")
    assert isinstance(fit.q.conditional, ShapedField)
    inner = fit.q.conditional
    assert inner.sizes.tolist() == [100, 100]
    assert fit.verdict in ("good", "reweight")
    assert fit.ess > 0.8 * fit.n_draws
    loaded = infimum.load(fit.save(tmp_path / "fit.zip"))
    z = fit.q.draw(np.random.default_rng(0), 5)
    np.testing.assert_allclose(loaded.q.log_density(z), fit.q.log_density(z), rtol=1e-12)
