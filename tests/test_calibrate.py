"""Calibration: right pipelines pass, and each kind of wrong one is told by its own sign."""

import functools
import os

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import infimum
from infimum.trust import ranked
from infimum.checks import uniformity
from infimum import supports as S
from infimum.trust.prior import Prior
from infimum.base.program import CLOCK
from infimum.trust.ranked import DRAWS
from infimum.trust.ranked import Pipeline
from infimum.trust.ranked import truth

mpl.use("agg")

LEVELS = DRAWS + 1


def normal_mean(rng, power=1.0, offset=0.0):
    """One observation of a normal mean; a density raised to a power, or of data that are off."""
    mean = rng.normal()
    data = mean + rng.normal() + offset

    def log_density(p):
        return -0.5 * power * (p["mean"] ** 2 + (data - p["mean"]) ** 2)

    return {"mean": mean}, infimum.Target(log_density, {"mean": 0.0})


def calibrate(n=20, seed=0, **wrong):
    simulate = functools.partial(normal_mean, **wrong)
    return infimum.calibrate(simulate=simulate, n=n, family="meanfield", draws=500, seed=seed)


def made_of(ranks, **changes):
    """A calibration with these ranks."""
    names = tuple(f"x[{i}]" for i in range(ranks.shape[1]))
    facts = {"verdicts": ("good",) * len(ranks), "failures": (), "seconds": 1.0}
    facts |= {"asked": len(ranks), "name": "made", "family": "fullrank", "weighted": True}
    return infimum.Calibration(ranks, DRAWS, names, **{**facts, **changes})


# ---- pipelines that are right, and wrong ones ----------------------------------------------------


@pytest.fixture(scope="module")
def right():
    return calibrate(n=30)


def test_an_exact_posterior_passes(right):
    assert right.passed
    assert right.p_value > 0.1
    assert right.ranks.shape == (30, 1)
    assert 0 <= right.ranks.min() < 15 < 85 < right.ranks.max() <= DRAWS
    assert abs(right.table().z_score_mean["mean"]) < 3
    assert right.table().dispersion["mean"] == pytest.approx(1, abs=0.35)
    assert "unreliable" not in right.verdicts


def test_other_processes_and_another_number_of_data_sets_change_nothing(right):
    options = {"n": 20, "family": "meanfield", "draws": 500, "workers": 2}
    found = infimum.calibrate(simulate=normal_mean, **options)
    np.testing.assert_array_equal(found.ranks, right.ranks[:20])


def test_draws_too_narrow_are_told():
    found = calibrate(n=20, power=16.0)
    assert not found.passed
    assert found.table().dispersion["mean"] > 1.5
    assert "draws of mean are too narrow" in str(found)


def test_draws_too_wide_are_told():
    found = calibrate(n=30, power=1 / 16)
    assert not found.passed
    assert found.table().dispersion["mean"] < 0.5
    assert "draws of mean are too wide" in str(found)


@pytest.mark.parametrize(("offset", "sign", "told"), [(2.0, -1, "high"), (-2.0, 1, "low")])
def test_a_bias_is_told_by_its_sign(offset, sign, told):
    found = calibrate(n=20, offset=offset)
    assert not found.passed
    assert sign * found.table().z_score_mean["mean"] > 3
    assert f"draws of mean are too {told}" in str(found)


# ---- NumPyro models ------------------------------------------------------------------------------


def repeated(y, more=None):
    """Three data of one site without a plate; a constant; and a count of no shape."""
    rate = numpyro.sample("rate", dist.Gamma(4.0, 2.0))
    numpyro.deterministic("one", jnp.ones(()) + 0 * rate)
    numpyro.sample("y", dist.Exponential(rate), obs=y)
    numpyro.sample("more", dist.Poisson(3 * rate), obs=more)


def test_a_model_is_simulated_in_the_shapes_of_its_data():
    run = functools.partial(infimum.calibrate, repeated, np.ones(3), more=2, draws=500)
    found = run(n=20, family="meanfield", quantities=["rate", "one"])
    assert found.names == ("one", "rate")
    assert found.passed
    assert len(set(found.ranks[:, 0])) > 10  # of ties, which are broken at random


def test_one_compilation_serves_all_data_sets():
    simulate = Prior(repeated, (np.ones(3),), {"more": 2})
    pipeline = Pipeline(simulate, "meanfield", 500, True, 0)
    first = pipeline.run(0)
    compiled = CLOCK.compilations
    second = pipeline.run(1)
    assert CLOCK.compilations == compiled
    assert not np.array_equal(first.ranks, second.ranks)
    params, target = simulate(np.random.default_rng(0))
    assert set(params) == {"one", "rate"}
    assert {k: np.shape(x) for k, x in target.model.observed().items()} == {"y": (3,), "more": ()}


class Looking(dist.Normal):
    """A normal whose density looks at the data by NumPy."""

    def log_prob(self, value, intermediates=None):
        return super().log_prob(np.asarray(value))


def looking(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    numpyro.sample("y", Looking(mean * np.ones(3), 1.0), obs=y)


def residual(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    seen = numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)
    numpyro.deterministic("off", seen - mean)


def bounded(y):
    seen = numpyro.sample("y", dist.Uniform(0.0, 1.0), obs=y)
    top = numpyro.sample("top", dist.Uniform(seen.max(), 2.0))
    numpyro.sample("z", dist.Uniform(0.0, top), obs=0.5 * y)


def counted(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    which = numpyro.sample("which", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(mean + 4 * which, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "args", "once"),
    [
        (repeated, (np.ones(3), 2), True),
        (counted, (np.array(0.5),), True),
        (looking, (np.ones(3),), False),
        (residual, (np.ones(3),), False),
        (bounded, (np.full(3, 0.4),), False),
    ],
)
def test_a_model_read_once_is_that_read_for_each_data_set(model, args, once):
    simulate = Prior(model, args, {})
    assert (simulate._posteriors is not None) == once
    for seed in (1, 2):
        truth, target = simulate(np.random.default_rng(seed))
        with jax.enable_x64(True):
            data = {name: jnp.asarray(x) for name, x in target.model.observed().items()}
            anew = infimum.from_numpyro(simulate._given(data), *args)
        z = np.random.default_rng(0).normal(size=(5, target.dim))
        np.testing.assert_array_equal(target.values(z), anew.values(z))
        for name, x in anew.constrain(z).items():
            np.testing.assert_array_equal(target.constrain(z)[name], x)
        assert set(truth) == set(anew.constrain(z))


def with_factor(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    numpyro.factor("more", -(mean**2))
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def without_prior(y):
    mean = numpyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def subsampled(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", 100, subsample_size=3):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def autoregressive(y):
    first = numpyro.sample("first", dist.Normal(0.0, 1.0))

    def step(before, now):
        now = numpyro.sample("y", dist.Normal(before, 1.0), obs=now)
        return now, now

    scan(step, first, y)


def without_data(y):
    numpyro.sample("mean", dist.Normal(y.sum(), 1.0))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (with_factor, "'more' is a numpyro.factor"),
        (without_prior, "a prior that can't be drawn from"),
        (subsampled, "'y' is scaled, as that of a subsample"),
        (autoregressive, "'y' is in a scan"),
        (without_data, "no observed site"),
    ],
)
def test_models_that_draw_no_data_are_refused(model, told):
    with pytest.raises(ValueError, match=told):
        infimum.calibrate(model, np.zeros(3))


# ---- what is asked for, and what goes wrong ------------------------------------------------------


def test_wrong_use_is_named():
    target = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(2))
    with pytest.raises(TypeError, match="neither was given"):
        infimum.calibrate()
    with pytest.raises(TypeError, match="both were given"):
        infimum.calibrate(repeated, simulate=normal_mean)
    with pytest.raises(TypeError, match="has its data for good"):
        infimum.calibrate(target)
    with pytest.raises(TypeError, match="belong to a model"):
        infimum.calibrate(simulate=normal_mean, y=3)
    with pytest.raises(TypeError, match="expected a function"):
        infimum.calibrate(simulate=3)
    with pytest.raises(TypeError, match=r"expected \(params, infimum.Target\)"):
        infimum.calibrate(simulate=lambda rng: target)
    with pytest.raises(ValueError, match="n is 5, expected an integer of at least 20"):
        infimum.calibrate(simulate=normal_mean, n=5)
    with pytest.raises(ValueError, match="workers is 0"):
        infimum.calibrate(simulate=normal_mean, workers=0)
    with pytest.raises(ValueError, match="no quantity 'spread'; there are mean"):
        infimum.calibrate(simulate=normal_mean, quantities=["spread"])
    with pytest.raises(TypeError, match="other processes can't have the model"):
        infimum.calibrate(simulate=lambda rng: normal_mean(rng), workers=2)


def test_the_truth_has_the_target_s_shapes_and_supports():
    target = infimum.Target(
        lambda p: -p["s"] - jnp.sum(p["z"] ** 2), {"s": 1.0, "z": np.zeros(2)}, {"s": S.positive}
    )
    params = {"s": np.float32(2.0), "z": [1, 2]}
    with pytest.raises(ValueError, match="structure"):
        truth(target, params)
    params["z"] = np.arange(2)
    np.testing.assert_array_equal(truth(target, params), [2, 0, 1])
    with pytest.raises(ValueError, match=r"'z' has shape \(3,\), not the target's \(2,\)"):
        truth(target, {"s": 2.0, "z": np.arange(3)})
    with pytest.raises(ValueError, match="'s' is NaN"):
        truth(target, {"s": np.nan, "z": np.arange(2)})


def test_failures_are_told_and_ctrl_c_leaves_what_is_done(capsys, monkeypatch):
    monkeypatch.setattr("infimum._progress.SILENT_SECONDS", 0.0)
    calls = []

    def simulate(rng, until=24):
        calls.append(rng)
        if len(calls) in (3, 5):
            raise OverflowError("too far out")
        if len(calls) > until:
            raise KeyboardInterrupt
        return normal_mean(rng)

    run = functools.partial(infimum.calibrate, family="meanfield", draws=500, n=200)
    found = run(simulate=simulate, progress=True)
    assert "s to go, 1 of 200 data sets done" in capsys.readouterr().err
    assert found.ranks.shape == (21, 1)
    assert found.failures[0] == "data set 1: OverflowError: too far out"
    assert "2 data sets, which are not among the ranks; the first: data set 1" in str(found)
    assert "21, of 200 asked for" in str(found)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(simulate=functools.partial(simulate, until=7))

    def failing(rng):
        calls.append(rng)
        return normal_mean(rng) if len(calls) == 1 else 1 / 0

    calls.clear()
    with pytest.raises(RuntimeError, match=r"none of 200 .*; data set 0: ZeroDivisionError"):
        run(simulate=failing)


# ---- what is shown -------------------------------------------------------------------------------


def test_the_summary_counts_unreliable_fits():
    ranks = np.random.default_rng(0).integers(0, LEVELS, (100, 3))
    told = str(made_of(ranks, verdicts=("good",) * 93 + ("unreliable",) * 7))
    assert "7 of 100 fits, which are among the ranks" in told
    assert "passed: the ranks may be uniform" in told
    assert "failed" not in told


def test_lines_leave_the_band_of_the_picture_where_ranks_are_not_uniform():
    ranks = np.random.default_rng(0).integers(0, LEVELS, (100, 3))
    ranks[:, 1] //= 2
    panel = made_of(ranks).plot()
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["uniform ranks", "x[1]"]
    assert "failed" in panel.get_title(loc="left")
    given = plt.figure().add_subplot()
    assert made_of(ranks).plot(names=["x[0]", "x[2]"], axes=given) is given
    assert [text.get_text() for text in given.get_legend().get_texts()] == ["uniform ranks"]
    with pytest.raises(ValueError, match="no quantity 'y'"):
        made_of(ranks).plot(names=["y"])


def test_workers_begin_with_one_thread_each_unless_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with ranked._single_threaded():
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("3", "1")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
