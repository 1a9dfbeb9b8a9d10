"""No verb claims more than the fit's own assessment allows."""

import contextlib
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from heavy_tails import student
from scipy import stats

import infimum
from infimum import supports as S
from infimum.checks import events, quantities

LN = 0.5 * np.log(2 * np.pi)


def two_modes(dim, distance):
    """Values of two standard normals of weights 0.6 and 0.4, so far apart; Z is 1."""

    def values(z):
        centres = np.zeros((2, dim))
        centres[1, 0] = distance
        logs = np.log([0.6, 0.4]) - dim * LN - 0.5 * ((z[:, None] - centres) ** 2).sum(-1)
        return np.logaddexp(logs[:, 0], logs[:, 1])

    return infimum.from_numpy(values, dim, batched=True)


def cauchy(dim):
    return infimum.Target(lambda z: -jnp.sum(jnp.log1p(z**2)), np.zeros(dim))


@pytest.mark.parametrize("target", [student(70, 6.0), student(10, 1.5), student(3, 1.0)])
def test_importance_is_never_better_trusted_than_the_fit(target):
    fit = infimum.fit(target, "fullrank")
    assert fit.verdict == "unreliable"
    corrected = infimum.corrections.importance(fit, 2000)
    assert corrected.verdict == "unreliable"
    assert (corrected.verdicts == "unreliable").all()


def test_a_large_weight_once_seen_is_not_forgotten():
    """One of the fit's own weights is e^9 times as large as it was: fresh draws don't know it."""
    fit = infimum.fit(infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(3)), "fullrank")
    assert infimum.corrections.importance(fit, 2000).numbers["ess"] > 10_000
    log_p = fit.weighed.log_p.copy()
    log_p[7] += 9.0
    draws = dataclasses.replace(fit.weighed, log_p=log_p)
    worse = dataclasses.replace(
        fit, assessment=dataclasses.replace(fit.assessment, draws=draws, unseen=None)
    )
    corrected = infimum.corrections.importance(worse, 2000)
    assert corrected.numbers["ess"] < 100
    assert corrected.verdict == "unreliable"


@pytest.mark.parametrize("dim", [1, 2])
def test_a_correction_of_rows_that_the_fit_does_not_know_does_not_know_them(dim):
    fit = infimum.fit(cauchy(dim), "fullrank")
    corrected = infimum.corrections.importance(fit, 4000)
    doubted = fit.summary()["verdict"].to_numpy() == "unreliable"
    assert doubted.all()
    assert (corrected.summary()["verdict"] == "unreliable").all()


def test_a_good_fit_stays_good_by_importance():
    normal = infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(3))
    log_normal = infimum.Target(
        lambda p: -0.5 * jnp.log(p["x"]) ** 2 - jnp.log(p["x"]), {"x": 1.0}, {"x": S.positive}
    )
    for target in (normal, log_normal, student(2, 5.0)):
        fit = infimum.fit(target)
        assert fit.verdict == "good"
        assert infimum.corrections.importance(fit, 2000).verdict == "good"


def hierarchy(scale):
    """log p̂ is flat towards a scale of 0, whose prior is flat in its log."""
    y = np.linspace(-4, 4, 6)

    def log_density(p):
        v = 1 + scale(p["s"])
        return jnp.sum(-0.5 * (y - p["mu"]) ** 2 / v - 0.5 * jnp.log(v)) - 0.02 * p["mu"] ** 2

    return infimum.Target(log_density, {"mu": 0.0, "s": 0.0})


IMPROPER = {
    "heavy": (infimum.Target(lambda z: -0.5 * jnp.sum(jnp.log1p(z**2)), np.zeros(1)), "z[0]"),
    "scale": (hierarchy(lambda s: jnp.exp(2 * s)), "-s"),
    "other scale": (hierarchy(lambda s: jnp.exp(-s)), "+s"),
    "sum": (infimum.Target(lambda z: -0.5 * (z[0] + z[1]) ** 2, np.zeros(2)), "+1·z[0] -1·z[1]"),
    "half a line": (
        infimum.Target(lambda z: -jnp.logaddexp(0, -z[0]) - 0.5 * z[1] ** 2, np.zeros(2)),
        "+z[0]",
    ),
}


@pytest.mark.parametrize("name", IMPROPER)
def test_no_verb_makes_an_improper_posterior_proper(name):
    target, direction = IMPROPER[name]
    fit = infimum.fit(target, "fullrank")
    assert fit.verdict == "unreliable"
    assert direction in fit.work.improper
    assert np.isnan(fit.log_evidence.value)
    assert np.isnan(fit.kl.value)
    assert "none: the posterior is improper" in str(fit)
    evidence = infimum.evidence(fit)
    assert not evidence.reliable
    assert np.isnan(evidence.log_z.value)
    assert "improper" in evidence.why
    corrected = infimum.correct(fit, 400)
    assert corrected.verdict == "unreliable"
    assert corrected.log_evidence is None
    with contextlib.suppress(ValueError):  # of a q that is infinitely wide
        annealed = infimum.corrections.annealing(fit, 400)
        assert annealed.verdict == "unreliable"
        assert annealed.log_evidence is None
    with pytest.raises(ValueError, match="improper"):
        infimum.compare([fit, infimum.fit(cauchy(1), "fullrank")])


def saturating():
    """An effect that saturates, under a very wide prior."""
    return infimum.Target(
        lambda z: -5 * jnp.logaddexp(0, -z[0]) - 0.5 * (z[0] / 1e6) ** 2 - 0.5 * z[1] ** 2,
        np.zeros(2),
    )


@pytest.mark.parametrize(
    "target", [cauchy(3), student(10, 1.5), saturating()], ids=["cauchy", "student", "saturating"]
)
def test_heavy_tails_and_wide_priors_are_proper(target):
    assert infimum.fit(target, "fullrank").work.improper is None


def test_rows_that_are_alike_are_judged_alike():
    """All twenty coordinates have an sd of 1.342; a tenth of the mass is three times as wide."""
    parts, scales = jnp.log(jnp.array([0.9, 0.1])), jnp.array([1.0, 3.0])

    def log_density(z):
        logs = parts - 20 * jnp.log(scales) - 0.5 * jnp.sum(z**2) / scales**2
        return jnp.logaddexp(logs[0], logs[1])

    fit = infimum.fit(infimum.Target(log_density, np.zeros(20)), "fullrank")
    assert fit.unseen_mass > 0
    assert (fit.summary()["verdict"] == "unreliable").all()


def test_an_event_that_no_draw_sees_is_not_zero():
    fit = infimum.fit(infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(2)), "fullrank")
    unseen = fit.expect(lambda z: z[:, 0] > 9)
    assert unseen.verdict == "unreliable"
    assert 0 < unseen.mcse < 1e-3
    assert "is below" in unseen.reason
    certain = fit.expect(lambda z: z[:, 0] < 9)
    assert (certain.verdict, certain.weighted_mean) == ("unreliable", 1.0)
    heavy = infimum.fit(student(10, 1.5), "fullrank")
    far = stats.t(1.5).ppf(0.95)
    rare = heavy.expect(lambda z: (z[:, 0] > far) & (z[:, 1] > far))
    assert rare.verdict == "unreliable"
    assert rare.mcse > 0.001


def test_probabilities_are_known_to_a_part_of_themselves():
    fit = infimum.fit(infimum.Target(lambda z: -0.5 * jnp.sum(z**2), np.zeros(2)), "fullrank")
    for level in (0.0, 1.0, 2.0):
        event = fit.expect(lambda z, level=level: z[:, 0] > level)
        assert event.verdict == "good"
        assert abs(event.weighted_mean - stats.norm.sf(level)) < 4 * event.mcse
    assert fit.expect(lambda z: z[:, 0] > 3.3).verdict == "unreliable"
    both = fit.expect(lambda z: z > np.array([2.0, 9.0]))
    assert both.verdict.tolist() == ["good", "unreliable"]


def test_event_verdicts_need_relative_precision():
    rng = np.random.default_rng(0)
    values = (rng.random((4096, 3)) < [0.3, 0.02, 0.0005]).astype(float)
    compared = quantities.compare([values], 4096, np.zeros(4096))
    assert events.event_verdicts(compared, True).tolist() == ["good", "good", "unreliable"]
    assert (events.event_verdicts(compared, False) == "unreliable").all()
    assert events.event_verdicts(compared, True, np.array([0.0, 0.06, 0.0]))[1] == "unreliable"
    assert np.isnan(events.bounds(compared, 4096.0)[:2]).all()


@pytest.mark.parametrize("dim", [1, 3, 5, 12, 20])
def test_values_alone_are_enough_to_look_for_other_modes(dim):
    fit = infimum.fit(two_modes(dim, 9.0), "fullrank")
    assert fit.verdict == "reweight"
    assert fit.work.n_modes == 2
    assert abs(fit.log_evidence.value) < 4 * fit.log_evidence.se
    assert abs(fit.summary()["weighted_mean"].iloc[0] - 3.6) < 0.3


def test_values_alone_are_enough_to_look_for_unseen_mass():
    """A tenth of the mass is five times as wide in d = 2; an exact q has none unseen."""

    def values(z):
        wide = np.log(0.1) - 2 * np.log(5) - 0.5 * (z**2).sum(-1) / 25
        return np.logaddexp(np.log(0.9) - 0.5 * (z**2).sum(-1), wide)

    before = infimum.fit(infimum.from_numpy(values, 2, batched=True), "fullrank")
    exact = infimum.from_numpy(lambda z: -0.5 * (z**2).sum(-1), 2, batched=True)
    fit = infimum.fit(exact, "fullrank")
    assert fit.verdict == "good"
    assert fit.assessment.unseen is not None
    assert before.verdict != "good"
