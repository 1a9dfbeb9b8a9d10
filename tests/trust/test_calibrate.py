"""Calibration: right pipelines pass, and each kind of wrong one is told by its own sign."""

import functools

import numpy as np
import pytest
from trust.simulators import normal_mean

import infimum
from infimum.trust.ranked import RANKED_DRAWS

LEVELS = RANKED_DRAWS + 1


def calibrate(n=20, seed=0, **wrong):
    simulate = functools.partial(normal_mean, **wrong)
    return infimum.calibrate(simulate=simulate, n=n, family="meanfield", draws=500, seed=seed)


def made_of(ranks, **changes):
    """A calibration with these ranks."""
    names = tuple(f"x[{i}]" for i in range(ranks.shape[1]))
    facts = {"verdicts": ("good",) * len(ranks), "failures": (), "seconds": 1.0}
    facts |= {"n_data_sets": len(ranks), "name": "made", "family": "fullrank", "weighted": True}
    return infimum.Calibration(ranks, RANKED_DRAWS, names, **{**facts, **changes})


# ---- pipelines that are right, and wrong ones ----------------------------------------------------


@pytest.fixture(scope="module")
def right():
    return calibrate(n=30)


def test_an_exact_posterior_passes(right):
    assert right.passed
    assert right.p_value > 0.1
    assert right.ranks.shape == (30, 1)
    assert 0 <= right.ranks.min() < 15 < 85 < right.ranks.max() <= RANKED_DRAWS
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


def test_failures_are_told_and_ctrl_c_leaves_what_is_done(capsys, monkeypatch):
    monkeypatch.setattr("infimum.fitting.display.SILENT_SECONDS", 0.0)
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


def any_model(y):
    """Stands for a model where only its presence counts."""


def test_wrong_use_is_named():
    target = infimum.Target(lambda z: -0.5 * z @ z, np.zeros(2))
    with pytest.raises(TypeError, match="neither was given"):
        infimum.calibrate()
    with pytest.raises(TypeError, match="both were given"):
        infimum.calibrate(any_model, simulate=normal_mean)
    with pytest.raises(TypeError, match="has fixed data"):
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


def test_the_old_name_of_the_number_of_data_sets_warns(right):
    with pytest.warns(DeprecationWarning, match="Calibration.n_data_sets"):
        assert right.asked == right.n_data_sets == 30
