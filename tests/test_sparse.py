"""Sparse Gaussians: the pattern, the factor, and the same optimum as full-rank."""

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum.base import memory
from infimum.structure import pattern
from infimum import families
from infimum.gaussian.sparse import Analysis
from infimum.base.errors import UnsuitableError
from infimum.families.sparse.fill import fill
from infimum.structure.probe import probed


def logistic(groups, per, seed=0):
    """Random intercepts: three hubs, and a coordinate a group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), per)
    x = rng.standard_normal(groups * per)
    chance = 1 / (1 + np.exp(-(0.5 + 0.8 * rng.standard_normal(groups)[group] + 0.7 * x)))
    y = jnp.asarray((rng.random(groups * per) < chance).astype(float))

    def log_density(p):
        eta = p["theta"][group] + p["beta"] * x
        prior = -0.5 * jnp.sum(((p["theta"] - p["mu"]) / p["tau"]) ** 2)
        prior -= groups * jnp.log(p["tau"]) + 0.5 * (p["mu"] ** 2 + p["beta"] ** 2) + p["tau"]
        return prior + jnp.sum(y * eta - jnp.logaddexp(0.0, eta))

    example = {"beta": 0.0, "mu": 0.0, "tau": 1.0, "theta": np.zeros(groups)}
    return infimum.Target(log_density, example, {"tau": "positive"})


def chain(steps):
    """A Gaussian random walk seen with noise, of known log Z."""
    precision = np.diag(np.full(steps, 3.0)) - np.eye(steps, k=1) - np.eye(steps, k=-1)
    mean = np.sin(np.arange(steps))
    constant = 2.0 - 0.5 * steps * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(precision)[1]

    def log_density(z):
        z = z - mean
        return constant - 1.5 * jnp.sum(z**2) + jnp.sum(z[1:] * z[:-1])

    return infimum.Target(log_density, np.zeros(steps)), mean, precision


def random_edges(dim, share, rng):
    return np.array(np.nonzero(np.tril(rng.random((dim, dim)) < share, -1)))


def dense(dim, edges, values):
    matrix = np.diag(values[:dim])
    matrix[edges[0], edges[1]] = matrix[edges[1], edges[0]] = values[dim:]
    return matrix


@pytest.mark.parametrize(("dim", "share"), [(1, 0.0), (2, 1.0), (12, 0.2), (40, 0.1), (30, 1.0)])
def test_factor_and_inverse_entries_are_those_of_the_dense_matrix(dim, share):
    rng = np.random.default_rng(dim)
    edges = random_edges(dim, share, rng)
    values = np.concatenate([dim + rng.random(dim), rng.uniform(-1, 1, edges.shape[1])])
    matrix, analysis = dense(dim, edges, values), Analysis.of(dim, edges)
    factor = analysis.factor(values)
    inverse = np.linalg.inv(matrix)
    entries = np.concatenate([np.diag(inverse), inverse[edges[0], edges[1]]])
    np.testing.assert_allclose(analysis.inverse(factor), entries, atol=1e-14)
    assert np.log(factor.pivots).sum() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    x = rng.standard_normal((3, dim))
    np.testing.assert_allclose(analysis.times(values, x), x @ matrix, rtol=1e-12, atol=1e-12)


def test_a_member_has_the_covariance_of_its_precision():
    rng = np.random.default_rng(1)
    edges = random_edges(15, 0.2, rng)
    values = np.concatenate([np.full(15, 6.0), rng.uniform(-1, 1, edges.shape[1])])
    q = families.Sparse(edges).init(np.zeros(15), np.ones(15)).placed(np.arange(15.0), values)
    covariance = np.linalg.inv(dense(15, edges, values))
    root = q.spread(np.eye(15))
    np.testing.assert_allclose(root.T @ root, covariance, atol=1e-14)
    np.testing.assert_allclose(q.variance(), np.diag(covariance), rtol=1e-12)
    np.testing.assert_allclose(q.precision(), values, atol=1e-13)
    assert q.placed(q.mean, -values) is None


@pytest.mark.parametrize("kind", ["chain", "hubs", "blocks"])
def test_probing_finds_every_entry(kind):
    dim, rng = 400, np.random.default_rng(0)
    rows, columns = {
        "chain": (np.arange(1, dim), np.arange(dim - 1)),
        "hubs": (np.repeat([397, 398, 399], 397), np.tile(np.arange(397), 3)),
        "blocks": (np.arange(dim) // 8 * 8, np.arange(dim)),
    }[kind]
    matrix = np.diag(rng.uniform(1, 2, dim))
    matrix[rows, columns] = 10.0 ** rng.uniform(-4, 4, len(rows))
    matrix += np.tril(matrix, -1).T + np.triu(matrix, 1).T
    asked = []

    def times(v):
        asked.append(len(v))
        return v @ matrix

    found = probed(times, dim, rng)
    np.testing.assert_array_equal(np.unique(found[0] * dim + found[1]), np.flatnonzero(matrix))
    assert sum(asked) < dim / 2


def test_reading_and_probing_agree_and_hubs_have_colours_of_their_own():
    target, rng = logistic(300, 4), np.random.default_rng(0)
    read = pattern._read(target)
    z = rng.uniform(-1, 1, target.dim)
    np.testing.assert_array_equal(read, pattern._probe(target, z, rng))
    assert pattern.hessian_on(target, read).n_colours == 4


def test_the_hessian_on_the_pattern_is_that_of_jax():
    import jax

    target = logistic(6, 3)
    edges = pattern.find_edges(target, None, np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((4, target.dim))
    got = pattern.hessian_on(target, edges)(z, 2).values
    with jax.enable_x64(True):
        exact = np.stack([jax.jacfwd(lambda x: target.program.function()(x)[1])(x) for x in z])
    for values, matrix in zip(got, exact.reshape(2, 2, *exact.shape[1:]).sum(axis=1), strict=True):
        np.testing.assert_allclose(dense(target.dim, edges, values), matrix, atol=1e-10)


@pytest.mark.parametrize("steps", [2, 30, 400])
def test_a_gaussian_chain_is_exact(steps):
    target, mean, precision = chain(steps)
    if steps == 2:
        with pytest.raises(UnsuitableError, match="has no zeros"):
            infimum.fit(target, "sparse")
        return
    fit = infimum.fit(target, "sparse")
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-7)
    np.testing.assert_allclose(fit.q.variance(), np.diag(np.linalg.inv(precision)), rtol=1e-8)
    assert fit.log_evidence.value == pytest.approx(2.0, abs=1e-7)
    assert fit.verdict == "good"


def test_nothing_is_left_for_full_rank_to_gain():
    """At the optimum over fixed draws, dense natural gradients predict no decrease."""
    import jax

    from infimum.solvers._solver import Info
    from infimum.solvers import SparseNewton

    target = logistic(12, 5)
    solver = SparseNewton(tolerance=5e-4, draws=512)
    family = families.Sparse().adapted(target, np.random.default_rng(0))
    start = family.init(np.zeros(target.dim), np.full(target.dim, 0.3))
    state = solver.init(start, Info("cold"), np.random.default_rng(0))
    while state.reason is None:
        solver.step([state], target)
    assert state.reason.converged
    z = state.q.push(state.eps)
    with jax.enable_x64(True):
        function = target.program.function()
        hessian = jax.jit(jax.vmap(jax.jacfwd(lambda x: function(x)[1])))
        curvature = -np.asarray(hessian(z)).mean(axis=0)
    root = np.asarray(state.q.spread(np.eye(target.dim)))
    whitened = np.linalg.eigvalsh(root @ curvature @ root.T)
    pull = root @ target.value_and_gradient(z)[1].mean(axis=0)
    left = 0.5 * (pull @ pull) + 0.5 * np.sum(whitened - 1 - np.log(whitened))
    assert left < 1e-6


def test_equals_fullrank_on_common_fresh_draws():
    target = logistic(12, 5)
    sparse = infimum.fit(target, "sparse", tolerance=1e-3)
    full = infimum.fit(target, "fullrank", tolerance=1e-3)
    eps = np.random.default_rng(9).standard_normal((20_000, target.dim))

    def gain(q):
        return target.values(q.push(eps)) - q.log_prob_base(eps)

    apart = gain(sparse.q) - gain(full.q)
    assert abs(apart.mean()) < 4 * apart.std() / np.sqrt(len(eps)) + 3e-3
    np.testing.assert_allclose(sparse.q.variance(), full.q.variance(), rtol=0.03)


def test_a_pattern_that_lacks_entries_is_refused():
    target, _, _ = chain(30)
    with pytest.raises(UnsuitableError, match="lacks entries"):
        infimum.fit(target, families.Sparse(np.array([[1, 2], [0, 1]])))
    with pytest.raises(ValueError, match="outside 0 to 29"):
        infimum.fit(target, families.Sparse(np.array([[40], [0]])))


def test_code_without_a_second_derivative_is_refused():
    target = infimum.from_numpy(lambda z: (-0.5 * float(z @ z), -z), 3)
    with pytest.raises(UnsuitableError, match="no second derivative"):
        infimum.fit(target, "sparse")


def test_survives_a_file(tmp_path):
    target, _, _ = chain(20)
    fit = infimum.fit(target, "sparse", draws=200)
    again = infimum.load(fit.save(tmp_path / "fit.zip"))
    assert str(again) == str(fit)
    np.testing.assert_array_equal(again.sample(5), fit.sample(5))


class TestFill:
    @pytest.mark.parametrize(("dim", "share"), [(1, 0.0), (6, 1.0), (60, 0.05), (200, 0.01)])
    def test_it_is_near_what_the_factor_has(self, dim, share):
        edges = random_edges(dim, share, np.random.default_rng(dim))
        told = fill(dim, edges, 10**6)
        held = len(Analysis.of(dim, edges).layout.rows)
        assert told.complete
        assert abs(told.entries - held) <= 0.1 * held

    def test_rows_that_couple_everything_come_last(self):
        row, column = np.tril_indices(2000, -1)
        edges = np.stack([row, column])[:, column < 2]
        assert fill(2000, edges, 10**6).entries == edges.shape[1]

    def test_counting_ends_at_the_most(self):
        told = fill(300, np.array(np.tril_indices(300, -1)), 1000)
        assert not told.complete
        assert 1000 < told.entries < 1400

    def test_a_factor_larger_than_memory_is_refused_before_it_is_formed(self, monkeypatch):
        target, _, _ = chain(50)
        monkeypatch.setattr(families.sparse, "total", lambda: 4000)
        monkeypatch.setattr(memory, "total", lambda: 4000)
        with pytest.raises(UnsuitableError, match=r"more than 4\d entries at d = 50.*lowrank"):
            families.Sparse().adapted(target, np.random.default_rng(0))

    def test_a_factor_that_takes_minutes_is_refused(self, monkeypatch):
        monkeypatch.setattr(families.sparse, "MOST_FLOPS", 10)
        with pytest.raises(UnsuitableError, match=r"s to form, once and more a step.*lowrank"):
            families.Sparse().adapted(chain(50)[0], np.random.default_rng(0))


def test_a_start_far_out_in_a_tail_does_not_pass_for_the_best():
    """There log p̂ falls like exp(-exp(x)), and few draws say anything of its mean."""

    def log_density(z):
        step = z[1:] - 0.8 * z[:-1]
        return (2.0 * step - jnp.exp(step)).sum() + 2.0 * z[0] - jnp.exp(z[0])

    target = infimum.Target(log_density, np.zeros(100))
    sparse = infimum.fit(target, "sparse", starts=1, progress=False)
    dense = infimum.fit(target, "fullrank", starts=1, progress=False)
    assert sparse.reason.converged
    assert sparse.elbo.value == pytest.approx(dense.elbo.value, abs=0.3)
