"""Draws that are much work are kept: nothing that a nested fit says evaluates its target again."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import corrections, plots
from infimum.answer.assessment import GIVEN_DRAWS, GIVEN_SCALES, assess
from infimum.base.stopping import Stop, Stopped
from infimum.target.target import Target

Y = np.random.default_rng(0).standard_normal((12, 3)) + np.linspace(-1, 1, 12)[:, None]


def groups():
    """Three values of each of 12 groups, whose means have a common mean and scale."""

    def log_density(p):
        inside = -0.5 * jnp.sum((Y - p["u"][:, None]) ** 2)
        spread = (p["u"] - p["mu"]) * jnp.exp(-p["log_tau"])
        prior = -0.5 * jnp.sum(spread**2) - 12 * p["log_tau"]
        return inside + prior - 0.5 * (p["mu"] ** 2 + (p["log_tau"] + 1) ** 2)

    return infimum.Target(log_density, {"log_tau": 0.0, "mu": 0.0, "u": np.zeros(12)})


@pytest.fixture(scope="module")
def nested():
    return infimum.fit(groups(), "nested")


@pytest.fixture
def evaluations(monkeypatch):
    """Numbers of points at which targets are evaluated."""
    counts = []
    for name in ("value_and_gradient", "values"):
        method = getattr(Target, name)

        def counting(self, z, *rest, method=method):
            counts.append(len(z))
            return method(self, z, *rest)

        monkeypatch.setattr(Target, name, counting)
    return counts


def test_what_a_fit_says_evaluates_nothing(nested, evaluations, tmp_path):
    fresh = dataclasses.replace(
        nested,
        assessment=dataclasses.replace(
            nested.assessment, draws=dataclasses.replace(nested.weighed)
        ),
    )
    assert fresh.verdict in {"good", "reweight"}
    fresh.summary()
    str(fresh)
    fresh.expect(lambda p: p["mu"] > 0)
    fresh.to_arviz()
    fresh.save(tmp_path / "fit.zip")
    fresh.plot(["mu", "log_tau"])
    fresh.report(tmp_path / "page.html")
    assert fresh.inverse_mass_matrix().shape == (14, 14)
    assert fresh.inverse_mass_matrix(False).shape == (14,)
    plots.plot_sparsity(fresh)
    assert evaluations == []
    assert len(fresh.inits(4)) == 4
    assert sum(evaluations) == 32  # the starts themselves


def test_the_kept_draws_are_those_of_the_seed(nested):
    weighed = nested.weighed
    again = dataclasses.replace(weighed, kept=None)
    np.testing.assert_allclose(again.points(), weighed.kept, atol=1e-8)


def test_a_stop_while_the_rest_is_looked_at_leaves_the_assessment(nested, monkeypatch):
    def stopped(self, z):
        raise Stopped

    monkeypatch.setattr(Target, "values", stopped)
    stop = Stop()
    assessment, spent = assess(nested.target, nested.weighed, nested.reason, stop)
    assert (assessment.kl_conditional, spent, stop.requested) == (None, 0, True)
    assert assessment.verdict == nested.verdict


def test_work_counts_the_checks(nested, skewed_fit, tmp_path):
    m, given = len(nested.log_p), GIVEN_SCALES * GIVEN_DRAWS
    assert nested.work.n_checks == m + given
    assert f"{nested.work.n_checks:,} evaluations to check q" in str(nested)
    assert "batched calls" not in str(nested)
    assert skewed_fit.work.n_checks > len(skewed_fit.log_p)
    again = infimum.load(skewed_fit.save(tmp_path / "fit.zip"))
    assert again.work == skewed_fit.work
    old = infimum.load(Path(__file__).parents[1] / "data" / "small-flow.zip")
    assert old.work.n_checks == 0
    assert "evaluations to check" not in str(old)


def test_a_file_keeps_the_number_of_colours(nested, tmp_path, monkeypatch):
    again = infimum.load(nested.save(tmp_path / "fit.zip"))
    monkeypatch.setattr("infimum.structure.structure.colouring", None)
    assert again.structure.n_colours == nested.structure.n_colours
    assert f", {again.structure.n_colours} colours; 1 scale" in str(again)
    without = dataclasses.replace(again, _n_colours=None)
    assert "colours" not in str(without)


def test_plot_sparsity_draws_a_nested_fit(nested, tmp_path):
    panels = plots.plot_sparsity(nested)
    row, column = np.asarray(nested.q.edges)
    z = nested.weighed.kept[: nested.n_draws]
    correlation = np.corrcoef(z.T)
    marks = panels[1].collections[1]
    n = len(row)
    np.testing.assert_allclose(marks.get_array()[:n], correlation[row, column], atol=1e-8)
    precision = np.linalg.inv(correlation)
    sd = np.sqrt(np.diag(precision))
    partial = -precision[row, column] / (sd[row] * sd[column])
    np.testing.assert_allclose(panels[0].collections[1].get_array()[:n], partial, atol=1e-8)
    loaded = plots.plot_sparsity(infimum.load(nested.save(tmp_path / "fit.zip")))
    np.testing.assert_allclose(loaded[1].collections[1].get_array(), marks.get_array(), atol=1e-8)


def test_blocks_begins_at_a_nested_fit(nested):
    of_sparse = corrections.blocks(infimum.fit(nested.target, "sparse"))
    made = corrections.blocks(nested)
    assert made.verdict == "good"
    apart = made.log_evidence.value - of_sparse.log_evidence.value
    assert abs(apart) < 4 * np.hypot(made.log_evidence.se, of_sparse.log_evidence.se)


def test_a_loaded_nested_fit_is_a_start(nested, tmp_path):
    loaded = infimum.load(nested.save(tmp_path / "fit.zip"))
    for start in (nested, loaded):
        fit = infimum.fit(nested.target, "meanfield", start=start, starts=1)
        assert "start" in [report.kind for report in fit.starts]
