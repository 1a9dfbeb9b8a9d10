"""The climb: which rung comes next, where it starts, why it ends, and what is refused."""

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import pytest

import infimum
from infimum import families
from infimum.base.errors import UnsuitableError
from infimum.families._family import Left
from infimum.fitting import display
from infimum.fitting.ladder import rank_by_promise, remaining_kl


@pytest.fixture(scope="module")
def banana():
    """x ~ N(0, 1), y ~ N(x², 1), log Z = log 2π + 3."""
    return infimum.Target(
        lambda z: 3.0 - 0.5 * z[0] ** 2 - 0.5 * (z[1] - z[0] ** 2) ** 2, np.zeros(2)
    )


@pytest.fixture(scope="module")
def climbed(banana):
    return infimum.climb(banana, ["meanfield", "fullrank", "flow"], tol=0)


def test_few_dimensions_begin_with_the_smallest_and_end_when_the_verdict_is_good(make_gaussian):
    climb = infimum.climb(make_gaussian(5).target)
    assert [fit.family.name for fit in climb] == ["meanfield", "fullrank"]
    assert climb.fits[0].verdict != "good"
    assert not climb.skipped
    assert climb.ended == "the verdict is good"
    assert climb.best.family.name == "fullrank"
    assert climb.table().endswith("ended: the verdict is good")


def test_it_goes_on_from_a_good_verdict_until_the_kl_is_what_was_asked_for():
    """A correlation of 0.2 makes the sds 2 % too small: good, and a KL of 0.02 nats."""
    known = 0.5 * np.log(1 / (1 - 0.2**2))
    target = infimum.Target(
        lambda z: -0.5 * (z[0] ** 2 - 0.4 * z[0] * z[1] + z[1] ** 2) / 0.96, np.zeros(2)
    )
    short = infimum.climb(target)
    assert [fit.family.name for fit in short] == ["meanfield"]
    assert short.best.kl.value == pytest.approx(known, abs=4 * short.best.kl.se)
    assert short.ended == "the verdict is good"
    further = infimum.climb(target, tol=0.01)
    assert [(fit.family.name, fit.verdict) for fit in further] == [
        ("meanfield", "good"),
        ("fullrank", "good"),
    ]
    assert further.ended == "the KL is below 0.01 nats"
    assert further.fits[0].elbo == short.best.elbo


@pytest.fixture(scope="module")
def hierarchy():
    """Ten groups of four rows each: their mean and their log sd are unknown."""
    rng = np.random.default_rng(1)
    mean = 2.0 + 0.8 * rng.standard_normal(10) + 0.5 * rng.standard_normal(10)

    def log_density(p):
        likelihood = -0.5 * jnp.sum((mean - p["effect"]) ** 2) / 0.25
        prior = -0.5 * jnp.sum(((p["effect"] - p["level"]) / p["sd"]) ** 2)
        return likelihood + prior - 10 * jnp.log(p["sd"]) - p["sd"] - 0.5 * (p["level"] / 5) ** 2

    example = {"level": 0.0, "sd": 1.0, "effect": np.zeros(10)}
    return infimum.Target(log_density, example, {"sd": infimum.supports.positive})


def test_a_hierarchy_begins_with_nested_and_ends_there(hierarchy):
    climb = infimum.climb(hierarchy)
    assert [(fit.family.name, fit.verdict) for fit in climb] == [("nested", "good")]
    assert [hierarchy.space.free_names[i] for i in climb.best.q.theta] == ["sd"]
    assert climb.ended == "the verdict is good"


def test_no_rung_starts_from_nested(hierarchy):
    """Its member can't be taken over: the next one begins as if it were the first."""
    climb = infimum.climb(hierarchy, ["nested", "fullrank"], tol=0, starts=1)
    alone = infimum.fit(hierarchy, "fullrank", starts=1)
    assert [fit.family.name for fit in climb] == ["nested", "fullrank"]
    assert climb.fits[1].elbo == alone.elbo
    assert climb.best.family.name == "nested"


def test_nested_steps_aside_where_nothing_is_a_scale(make_gaussian):
    climb = infimum.climb(make_gaussian(12).target, starts=1)
    ((name, why),) = climb.skipped
    assert name == "nested"
    assert why.endswith("[E226]")
    assert climb.fits[0].family.name == "meanfield"


def test_a_ladder_given_is_climbed_to_its_end_with_tol_0(climbed):
    assert [fit.family.name for fit in climbed] == ["meanfield", "fullrank", "flow"]
    assert climbed.ended == "the last rung was tried"


def test_the_elbo_never_falls(climbed):
    """Every rung is judged by the same base draws: the differences are paired."""
    for low, high in zip(climbed.fits, climbed.fits[1:], strict=False):
        gain = high.log_w - low.log_w
        assert gain.mean() > -2 * gain.std() / np.sqrt(len(gain))


def test_auto_gives_the_best_rung_and_the_way_there(banana, tmp_path):
    fit = infimum.fit(banana, seed=1)
    assert fit.verdict == "good"
    assert fit.kl.value + 2 * fit.kl.se <= 0.05
    assert fit.route.rungs[0].family == "meanfield"
    assert fit.route.rungs[-1].kl == fit.kl
    assert "climb" in str(fit)
    assert fit.route.ended in str(fit).replace("\n                  ", " ")
    assert infimum.load(fit.save(tmp_path / "fit.zip")).route == fit.route


def test_what_is_left_is_told_apart(climbed, make_gaussian):
    known = make_gaussian(3)
    low = infimum.fit(known.target, "meanfield")
    precisions = np.diag(known.precision)
    lost = 0.5 * (np.log(precisions).sum() - np.linalg.slogdet(known.precision)[1])
    remaining = remaining_kl(low)
    assert remaining.correlation == pytest.approx(lost, rel=1e-3)
    assert remaining.modes == 0.0
    assert remaining.shape < 3 * low.kl.se
    bent = remaining_kl(climbed.fits[1])
    assert bent.correlation == 0.0
    assert bent.shape == climbed.fits[1].kl.value


def test_rungs_are_ranked_by_nats_a_second(climbed):
    """A Gaussian lacks shape: a flow is promised to help, a dense covariance is not."""
    rungs = [families.named(name) for name in ("fullrank", "flow")]
    assert [rung.name for rung, _ in rank_by_promise(rungs, climbed.fits[1])] == ["flow"]
    nothing = Left(0.0, 0.0, 0.0)
    for name in families.members():
        assert families.named(name).promise(nothing, 10).gain == 0.0


def test_what_a_rung_too_large_would_take_is_told_before_the_work(
    make_gaussian, monkeypatch, capsys
):
    monkeypatch.setattr("infimum.fitting.way.LARGEST_DENSE", 2)
    target = make_gaussian(5).target
    seen = []
    climb = infimum.climb(
        target, ["meanfield", "fullrank"], tol=0, progress=True, callback=seen.append
    )
    (skipped,) = climb.skipped
    assert skipped[0] == "fullrank"
    assert "its 20 parameters would take about" in skipped[1]
    assert f"infimum: fullrank skipped: {skipped[1]}" in capsys.readouterr().err
    assert [p.stage for p in seen].index("skipped") == 0
    assert {p.family for p in seen[1:]} == {"meanfield"}


def test_a_notebook_shows_every_rung_and_the_best_fit(climbed):
    shown = climbed._repr_html_()
    assert all(f"{fit.family.name} " in shown for fit in climbed)
    assert climbed.best._repr_html_() in shown


def test_a_callback_is_told_the_rung_what_was_left_before_it_and_the_time(make_gaussian, capsys):
    seen = []
    climb = infimum.climb(
        make_gaussian(3).target,
        ["meanfield", "fullrank"],
        tol=0,
        budget=600.0,
        progress=False,
        callback=lambda progress: seen.append(dataclasses.replace(progress)),
    )
    first, second = ([p for p in seen if p.rung == rung] for rung in (1, 2))
    assert {p.family for p in first} == {"meanfield"}
    assert {p.family for p in second} == {"fullrank"}
    assert all(np.isnan(p.kl) for p in first)
    assert {p.kl for p in second} == {climb.fits[0].kl.value}
    fitting = [p for p in second if p.stage == "fitting"]
    assert all(0 <= p.noise < 1 and p.to_go >= 0 for p in fitting)
    assert fitting[0].to_go >= fitting[-1].to_go
    assert all(p.left + p.seconds == pytest.approx(600, abs=1) for p in seen)
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)
    assert capsys.readouterr().err == ""
    told = display.describe(second[-1])
    assert told.startswith("rung 2, fullrank, ")
    last = display.describe(dataclasses.replace(fitting[-1], noise=0.25, to_go=3.4))
    assert f"ELBO {-fitting[-1].loss:.3f} ± 0.25, " in last
    assert ", about 3 s to go, " in last
    assert f"KL {climb.fits[0].kl.value:.2g} before it" in told
    assert "s of the budget left" in told


def test_many_dimensions_begin_with_sparse_if_the_hessian_is():
    n = 120
    chain = infimum.Target(lambda z: -jnp.sum(z**2) + 0.5 * jnp.sum(z[1:] * z[:-1]), np.zeros(n))
    climb = infimum.climb(chain, starts=1)
    assert [name for name, _ in climb.skipped] == ["nested"]
    assert "no coordinate is a scale" in climb.skipped[0][1]
    assert [fit.family.name for fit in climb] == ["sparse"]
    assert climb.best.verdict == "good"
    dense = infimum.Target(lambda z: -jnp.sum(z**2) - 0.01 * jnp.sum(z) ** 2, np.zeros(n))
    climb = infimum.climb(dense, starts=1)
    assert [name for name, _ in climb.skipped[:2]] == ["nested", "sparse"]
    assert climb.fits[0].family.name == "meanfield"


def test_a_rung_that_does_not_fit_the_target_is_skipped_with_the_reason(make_gaussian):
    target = make_gaussian(2).target
    climb = infimum.climb(target, ["meanfield", "noncentred", "fullrank"], tol=0)
    ((name, why),) = climb.skipped
    assert name == "noncentred"
    assert "no location-scale hierarchy" in why
    assert "noncentred: skipped" in climb.table()
    with pytest.raises(UnsuitableError, match="no location-scale hierarchy"):
        infimum.climb(target, ["noncentred"])


def test_a_budget_ends_the_climb_where_it_is(banana):
    def slow(progress):
        time.sleep(0.2)

    climb = infimum.climb(
        banana, ["meanfield", "fullrank", "flow"], tol=0, budget=0.5, callback=slow
    )
    assert "budget of 0.5 s is spent" in climb.ended
    assert 1 <= len(climb) < 3
    assert np.isfinite(climb.best.elbo.value)


def test_the_answer_is_the_rung_that_can_be_believed(climbed):
    verdicts = [fit.verdict for fit in climbed]
    assert climbed.best.verdict == "good"
    assert climbed.best is climbed.fits[verdicts.index("good")] or verdicts.count("good") > 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ladder": []}, "the ladder is empty"),
        ({"ladder": ["meanfield", "meanfield"]}, "has a rung twice"),
        ({"ladder": ["meanfield", "normal"]}, "unknown family 'normal'; known: auto, "),
        ({"ladder": "fullrank"}, "ladder is 'fullrank', expected 'auto' or a list"),
        ({"budget": 0}, "budget is 0, expected a positive number of seconds"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"tol": -0.1}, "tol is -0.1, expected"),
        ({"tol": "small"}, "tol is 'small', expected"),
    ],
)
def test_wrong_use_is_refused_before_any_work(options, told):
    def never(z):
        raise AssertionError("no work was asked for")

    target = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(2))
    target.value_and_gradient = target.values = never
    with pytest.raises(ValueError, match=told):
        infimum.climb(target, **options)


def interrupted_climb(stage):
    """A climb in which Ctrl-C comes at the first value after a stage has begun."""
    stages = []

    def density(z):
        if stages and stages[-1] == stage:
            stages.append("interrupted")
            raise KeyboardInterrupt
        return -0.5 * (z**2).sum(), -z

    target = infimum.from_numpy(density, 2)

    def callback(progress):
        if "interrupted" not in stages:
            stages.append(progress.stage)

    return infimum.climb(target, callback=callback)


def test_ctrl_c_in_the_check_of_a_rung_ends_the_climb():
    """The rung keeps its q, judged by few draws; no further rung begins."""
    climb = interrupted_climb("checking")
    assert climb.ended == "interrupted"
    assert [fit.reason.name for fit in climb] == ["INTERRUPTED"]
    assert climb.best.verdict == "unreliable"


def test_ctrl_c_while_other_modes_are_looked_for_leaves_the_fit_and_its_check():
    climb = interrupted_climb("scouting")
    assert climb.ended == "interrupted"
    assert [fit.reason.name for fit in climb] == ["CONVERGED"]
    assert climb.best.ess > 4000
    assert climb.best.verdict == "reweight"
    assert climb.best.work.sought == "not looked for: the fit was cut short"
