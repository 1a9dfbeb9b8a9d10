"""Posteriors of many rows: whole, in blocks and by parts they are one posterior."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from row_models import (
    EXAMPLE,
    SIGMA,
    data,
    exact,
    linear,
    log_likelihood,
    log_prior,
    logistic,
)

import infimum


@pytest.mark.parametrize("way", ["whole", "blocks", "minibatch", "auto"])
def test_every_way_finds_the_known_posterior(way):
    rows = data(700)
    mean, covariance, log_z = exact(rows)
    target = linear(rows, way=way)
    fit = infimum.fit(target, "fullrank", draws=500)
    assert fit.verdict == "good"
    assert fit.elbo.value == pytest.approx(log_z, abs=1e-6)
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-6)
    np.testing.assert_allclose(fit.q.covariance(), covariance, rtol=1e-5, atol=1e-9)


def test_density_and_gradient_are_those_of_the_whole_with_ragged_blocks():
    rows = data(1001)
    whole, blocks = linear(rows, way="whole"), linear(rows, way="blocks")
    blocks.large.posterior.passes.size = 128
    z = np.random.default_rng(1).standard_normal((37, 2))
    for a, b in zip(whole.value_and_gradient(z), blocks.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(whole.values(z), blocks.values(z), rtol=1e-12)


def test_a_support_has_its_jacobian_in_every_way():
    rows = np.random.default_rng(0).standard_normal(300) * 3
    targets = [
        infimum.Rows(
            lambda p: -p["s"],
            lambda p, rows: (-jnp.log(p["s"]) - 0.5 * (rows / p["s"]) ** 2).sum(),
            rows,
            {"s": 1.0},
            {"s": infimum.supports.positive},
            way=way,
        )
        for way in ("whole", "blocks")
    ]
    z = np.linspace(-1, 2, 5)[:, None]
    np.testing.assert_allclose(*[t.values(z) for t in targets], rtol=1e-12)
    np.testing.assert_allclose(*[t.value_and_gradient(z)[1] for t in targets], rtol=1e-12)


def test_a_part_is_corrected_until_it_says_what_all_rows_say(monkeypatch):
    """2,000 rows stand for 60,000; q is that of all of them, in a climb as in a fit."""
    from infimum.rows import posterior

    monkeypatch.setattr(posterior, "FEWEST_ROWS", 2000)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60_000, 2))
    y = (rng.random(60_000) < 1 / (1 + np.exp(-x @ [1.0, -2.0]))).astype(np.float32)
    target = infimum.Rows(log_prior, logistic, {"x": x, "y": y}, EXAMPLE)
    assert target.way == "minibatch"
    whole = infimum.Rows(log_prior, logistic, {"x": x, "y": y}, EXAMPLE, way="whole")
    fit = infimum.fit(target, "fullrank", draws=500)
    best = infimum.fit(whole, "fullrank", draws=500)
    assert fit.verdict == "good"
    assert fit.elbo.value == pytest.approx(best.elbo.value, abs=1e-4)
    np.testing.assert_allclose(
        fit.q.mean, best.q.mean, atol=1e-3 * np.sqrt(best.q.variance()).min()
    )
    assert "corrected by" in str(fit)
    climbed = infimum.climb(target, ["meanfield", "fullrank"], draws=500, tol=0.0)
    assert climbed.best.elbo.value == pytest.approx(best.elbo.value, abs=1e-3)
    again = infimum.fit(target, "fullrank", draws=500)
    assert np.array_equal(again.q.mean, fit.q.mean)


def test_sorted_data_are_no_harder(monkeypatch):
    from infimum.rows import posterior

    monkeypatch.setattr(posterior, "FEWEST_ROWS", 1000)
    rows = data(20_000)
    order = np.argsort(rows["y"])
    rows = {k: x[order] for k, x in rows.items()}
    fit = infimum.fit(linear(rows, way="minibatch"), "fullrank", draws=500)
    precision = np.eye(2) + rows["x"].T @ rows["x"] / SIGMA**2
    mean = np.linalg.solve(precision, rows["x"].T @ rows["y"] / SIGMA**2)
    np.testing.assert_allclose(fit.q.mean, mean, atol=1e-5)
    assert fit.verdict == "good"


def test_the_image_of_a_mode_is_seen_through_a_part(monkeypatch):
    """Two modes by symmetry: the correction at the one does not hide the other."""
    from infimum.rows import posterior

    monkeypatch.setattr(posterior, "FEWEST_ROWS", 1000)
    rows = np.abs(np.random.default_rng(1).normal(1.0, 1.0, 20_000))

    def folded(p, rows):
        return jnp.logaddexp(-0.5 * (rows - p["m"]) ** 2, -0.5 * (rows + p["m"]) ** 2).sum()

    def prior(p):
        return -0.5 * (p["m"] / 3) ** 2

    example = {"m": 0.0}
    target = infimum.Rows(prior, folded, rows, example, way="minibatch")
    fit = infimum.fit(target, "fullrank", draws=500)
    m = np.linspace(0.8, 1.3, 4001)
    log_p = np.array([-0.5 * (x / 3) ** 2 + float(folded({"m": x}, rows)) for x in m[::10]])
    log_z = scipy.special.logsumexp(log_p) + np.log(m[10] - m[0]) + np.log(2)
    assert fit.log_evidence.value == pytest.approx(log_z, abs=0.05)
    assert fit.verdict != "good"


def test_ctrl_c_before_a_correction_is_told(monkeypatch):
    from infimum.rows import posterior

    monkeypatch.setattr(posterior, "FEWEST_ROWS", 300)

    def leave(progress):
        if progress.stage == "reading":
            raise KeyboardInterrupt

    fit = infimum.fit(linear(data(3000), way="minibatch"), "fullrank", draws=500, callback=leave)
    assert fit.reason.name == "INTERRUPTED"
    assert fit.verdict == "unreliable"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows(n):
    rows = data(n)
    fit = infimum.fit(linear(rows, way="blocks"), "fullrank", draws=500)
    assert fit.elbo.value == pytest.approx(exact(rows)[2], abs=1e-6)


# ---- precision -----------------------------------------------------------------------------------


def test_float32_gives_the_answer_of_float64():
    rows = data(50_000)
    exact = linear(rows, way="blocks")
    rounded = linear(rows, way="blocks", precision="float32")
    z = np.random.default_rng(0).standard_normal((4, 2))
    assert rounded.value_and_gradient(z)[1].dtype == np.float64
    a, b = infimum.fit(exact, "fullrank", draws=500), infimum.fit(rounded, "fullrank", draws=500)
    sds = np.sqrt(a.q.variance())
    np.testing.assert_allclose(a.q.mean / sds, b.q.mean / sds, atol=0.02)
    np.testing.assert_allclose(np.sqrt(b.q.variance()) / sds, 1, atol=0.02)
    assert b.verdict == "good"


def test_wrong_use_says_what_to_do(tmp_path):
    with pytest.raises(TypeError, match="log_prior is 3"):
        infimum.Rows(3, log_likelihood, data(3), EXAMPLE)
    with pytest.raises(ValueError, match="way is 'fast'"):
        linear(data(3), way="fast")
    with pytest.raises(ValueError, match="there is no file"):
        linear(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="no rows"):
        linear(data(0))
    with pytest.raises(TypeError, match="expected arrays"):
        linear(3)
    with pytest.raises(ValueError, match="log_likelihood raised KeyError"):
        infimum.Rows(log_prior, lambda p, rows: rows["z"].sum(), data(5), EXAMPLE)
