"""Newton in a subspace: factor models are met, what is not Gaussian is averaged."""

import numpy as np
import pytest
from solver_runs import run

import infimum
from infimum import families
from infimum.objective.draws import structured_draws
from infimum.solvers import Info, Reason, SubspaceNewton
from infimum.solvers.subspace_newton.curvature import evaluated, sketched, subspace


def factor_model(dim, rank, seed=0):
    """N(m, (I + B Bᵀ)⁻¹) with log Z left open, and its mean and precision."""
    rng = np.random.default_rng(seed)
    loadings, mean = rng.standard_normal((dim, rank)), rng.standard_normal(dim)

    def log_density(z):
        x = z - mean
        return -0.5 * x @ x - 0.5 * ((x @ loadings) ** 2).sum()

    return infimum.Target(log_density, np.zeros(dim)), mean, np.eye(dim) + loadings @ loadings.T


def test_a_factor_model_is_met():
    target, mean, precision = factor_model(40, 2)
    q = families.LowRank().init(np.zeros(40), np.ones(40))
    state = run(SubspaceNewton(), q, target)
    assert state.reason is Reason.CONVERGED
    np.testing.assert_allclose(state.q.mean, mean, atol=1e-2)
    root = state.q.spread(np.eye(40))
    ratio = precision @ root.T @ root
    assert 0.5 * (np.trace(ratio) - 40 - np.linalg.slogdet(ratio)[1]) < 0.05


def test_the_sketch_is_the_curvature_on_its_directions():
    """For a Gaussian, H - I on the basis is what the sketch says, whatever the draws are."""
    target, _, precision = factor_model(30, 2)
    q = families.LowRank().init(np.zeros(30), np.ones(30))
    eps = structured_draws(np.random.default_rng(0), 16, 30)[:8]
    batch = evaluated(q, eps, target, Info("cold")).estimate(eps)
    basis = subspace(q, batch, eps, None, None)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    np.testing.assert_allclose(batch.bent, eps @ (precision - np.eye(30)), atol=1e-9)
    columns = (precision - np.eye(30)) @ basis
    sketch, _ = sketched(q, batch, eps, basis, columns)
    core = sketch.basis.T @ (precision - np.diag(sketch.diagonal)) @ sketch.basis
    np.testing.assert_allclose(sketch.core, core, atol=1e-6)


def test_what_is_not_gaussian_is_averaged(skewed):
    q = families.LowRank(1).init(np.full(2, 0.5), np.full(2, 0.5))
    state = run(SubspaceNewton(tolerance=0.001), q, skewed)
    assert state.reason is Reason.CONVERGED
    assert state.n_batches > 5
    assert state.n_draws >= 5 * SubspaceNewton().draws
    assert state.error <= 0.001


def test_large_states_share_memory(monkeypatch):
    """Of several starts only the one at work holds its draws."""
    monkeypatch.setattr("infimum.solvers.subspace_newton.subspace_newton.CHUNK_NUMBERS", 100)
    target, *_ = factor_model(20, 1)
    solver = SubspaceNewton()
    q = families.LowRank().init(np.zeros(20), np.ones(20))
    states = [solver.init(q, Info("cold"), np.random.default_rng(seed)) for seed in (0, 1)]
    solver.step(states, target)
    assert states[0].eps is not None
    assert states[1].steps == 0
    solver.step(states[1:], target)
    assert states[0].eps is None
    assert states[1].eps is not None


@pytest.mark.parametrize(("dim", "moved"), [(2000, False), (2001, True)])
def test_a_mean_field_q_moves_so_only_if_it_is_large(dim, moved):
    q = families.MeanField().init(np.zeros(dim), np.ones(dim))
    assert SubspaceNewton().accepts(q) is moved
