"""The start of a fit: points, draws and fits, where they lead, and what is refused."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import refused

import infimum
from infimum import corrections
from infimum.fitting.start import read_start


def two_modes(distance=6.0):
    """N(±distance, 1) in the ratio 3 to 1, far apart; log Z = 0.5."""
    log_weights = jnp.log(jnp.array([0.75, 0.25])) + 0.5 - 0.5 * jnp.log(2 * jnp.pi)

    def log_density(params):
        x = params["x"]
        modes = jnp.array([distance, -distance])
        return jnp.logaddexp(*(log_weights - 0.5 * (x - modes) ** 2)) - 0.5 * params["y"] ** 2

    return infimum.Target(log_density, {"x": 0.0, "y": 0.0}, name="two modes")


def kinds(fit):
    return [start.kind for start in fit.starts]


def the_start(fit):
    """The report of the one start that the user gave."""
    (start,) = (start for start in fit.starts if start.kind == "start")
    return start


@pytest.mark.parametrize(("x", "share"), [(12.0, 0.75), (-12.0, 0.25)])
def test_a_point_decides_the_mode(x, share):
    fit = infimum.fit(two_modes(12.0), "meanfield", start={"x": x + 0.5, "y": 1.0}, starts=1)
    mass = np.log(share) + 0.5 + 0.5 * np.log(2 * np.pi)
    assert the_start(fit).elbo == pytest.approx(mass, abs=0.05)


def test_a_point_is_carried_to_the_unconstrained_scale(skewed, skewed_fit):
    values = read_start(skewed, {"a": 2.0, "b": 0.5}, 0)
    np.testing.assert_allclose(values.points, [[2.0, np.log(0.5)]])
    assert values.scale is None
    fit = infimum.fit(skewed, "fullrank", start={"a": 2.0, "b": 0.5})
    assert the_start(fit).n_gradients > 1
    assert fit.elbo.value == pytest.approx(skewed_fit.elbo.value, abs=0.01)


def test_a_part_of_a_point_leaves_the_rest_where_it_begins(skewed):
    values = read_start(skewed, {"b": 3.0}, 0)
    np.testing.assert_allclose(values.points[:, 1], np.log(3.0))
    unnamed = infimum.Target(lambda p: -0.5 * p["a"] ** 2 - p["b"], {"a": 0.0, "b": 0.0})
    assert len(read_start(unnamed, {"b": 3.0}, 0).points) > 1
    hard = infimum.Target(
        lambda p: jnp.where(p["a"] > 0.5, -0.5 * p["a"] ** 2 - 0.5 * p["b"] ** 2, -jnp.inf),
        {"a": 0.0, "b": 0.0},
    )
    begun = read_start(hard, {"b": 3.0}, 0).beginning(hard)
    assert begun.point[0] > 0.5
    assert begun.point[1] == 3.0


def test_supports_that_depend_on_others_take_a_part_of_a_point():
    target = infimum.Target(
        lambda p: -p["top"] - jnp.log(p["top"]),
        {"top": 0.0, "x": 0.0},
        {"top": "positive", "x": lambda p: infimum.supports.interval(0.0, p["top"])},
    )
    points = read_start(target, {"x": 0.5}, 0).points
    assert len(points) > 1
    np.testing.assert_allclose([target.constrain(z)["x"] for z in points], 0.5)
    with pytest.raises(ValueError, match=r"'x', 1.e\+09, is outside its support"):
        infimum.fit(target, "meanfield", start={"x": 1e9})


def test_a_vector_and_lists_are_points():
    vector = infimum.Target(lambda z: -0.5 * (z**2).sum(), np.zeros(3))
    np.testing.assert_array_equal(read_start(vector, [1, 2, 3], 0).points, [[1, 2, 3]])
    nested = infimum.Target(
        lambda p: -0.5 * (p["g"]["x"] ** 2).sum() - p["l"][0] ** 2,
        {"g": {"x": np.zeros(2)}, "l": [0.0]},
    )
    points = read_start(nested, {"g": {"x": [1.0, 2.0]}, "l": [3.0]}, 0).points
    np.testing.assert_array_equal(points, [[1.0, 2.0, 3.0]])
    points = read_start(nested, {"l": [3.0]}, 0).points
    np.testing.assert_array_equal(points[:, 2], 3.0)


def test_draws_give_mean_and_spread(skewed, skewed_fit):
    draws = skewed_fit.sample(2000, seed=4)
    values = read_start(skewed, draws, 0)
    z = np.column_stack([draws["a"], np.log(draws["b"])])
    np.testing.assert_allclose(values.points[0], z.mean(axis=0))
    np.testing.assert_allclose(values.scale, z.std(axis=0, ddof=1))
    np.testing.assert_allclose(values.gaussian.covariance(), np.cov(z.T))
    few = read_start(skewed, {name: x[:12] for name, x in draws.items()}, 0)
    assert few.gaussian is None
    part = read_start(skewed, {"b": draws["b"]}, 0)
    np.testing.assert_allclose(part.scale, [0.3, z[:, 1].std(ddof=1)])
    fit = infimum.fit(skewed, "fullrank", start=draws, starts=1)
    assert the_start(fit).n_gradients < skewed_fit.starts[0].n_gradients
    assert fit.elbo.value == pytest.approx(skewed_fit.elbo.value, abs=0.01)


def test_posteriors_of_arviz_are_draws(skewed, skewed_fit):
    tree = skewed_fit.to_arviz(500)
    values = read_start(skewed, tree, 0)
    draws = skewed_fit.weighed.constrained(500)
    np.testing.assert_allclose(values.points[0, 0], draws["a"].mean())
    with pytest.raises(ValueError, match="none of the parameters x, y"):
        infimum.fit(two_modes(), "meanfield", start=tree)
    other = types.SimpleNamespace(posterior=tree["posterior"].dataset)
    np.testing.assert_array_equal(read_start(skewed, other, 0).points, values.points)


def test_a_fit_is_where_its_own_family_begins(skewed, skewed_fit):
    fit = infimum.fit(skewed, "fullrank", start=skewed_fit, starts=1)
    assert fit.elbo.value >= skewed_fit.elbo.value - 0.01
    assert the_start(fit).n_gradients < skewed_fit.starts[0].n_gradients


@pytest.mark.parametrize("family", infimum.families.members())
def test_every_family_takes_a_fit_as_start(family, skewed, skewed_fit):
    if family in ("nested", "sparse", "noncentred"):
        pytest.skip("does not suit this target")
    fit = infimum.fit(skewed, family, start=skewed_fit, starts=1)
    assert "start" in kinds(fit)
    assert fit.elbo.value > skewed_fit.elbo.value - 0.2


@pytest.mark.parametrize("family", ["sinharcsinh", "mixture", "flow"])
def test_a_fit_of_a_larger_family_goes_on(family, skewed):
    first = infimum.fit(skewed, family)
    again = infimum.fit(skewed, family, start=first)
    assert kinds(again) == ["start"]
    assert again.elbo.value >= first.elbo.value - 4 * first.elbo.se
    smaller = infimum.fit(skewed, "meanfield", start=first, starts=1)
    assert "start" in kinds(smaller)


def test_a_flow_on_another_base_says_so(skewed, tmp_path):
    base = infimum.fit(skewed, "meanfield")
    fit = infimum.fit(skewed, "flow", start=base)
    assert fit.family.base == "meanfield"
    assert infimum.load(fit.save(tmp_path / "fit.zip")).elbo == fit.elbo
    other = infimum.fit(skewed, infimum.families.Flow(layers=2), start=fit)
    assert other.family.layers == 2
    assert "start" not in kinds(other)


def test_a_fit_of_another_target_is_matched_by_name(skewed, skewed_fit):
    def log_density(params):
        return -0.5 * (params["c"] - params["a"]) ** 2 + 3 * params["a"] - jnp.exp(params["a"])

    larger = infimum.Target(log_density, {"a": 0.0, "c": 5.0}, name="larger")
    values = read_start(larger, skewed_fit, 0)
    assert values.q is None
    np.testing.assert_allclose(values.points[0, 0], skewed_fit.q.mean[0], atol=0.05)
    np.testing.assert_allclose(values.scale[0], np.sqrt(skewed_fit.q.variance()[0]), rtol=0.05)
    assert values.scale[1] == 0.3
    fit = infimum.fit(larger, "fullrank", start=skewed_fit, starts=1)
    assert "start" in kinds(fit)
    assert fit.verdict == "good"
    with pytest.raises(ValueError, match="coordinates a, b, and none of the target's x, y"):
        infimum.fit(two_modes(), "meanfield", start=skewed_fit)


def test_corrected_draws_are_a_start(skewed, skewed_fit):
    corrected = corrections.importance(skewed_fit, 500)
    values = read_start(skewed, corrected, 0)
    np.testing.assert_allclose(values.points[0], corrected.z.mean(axis=0))
    assert "start" in kinds(infimum.fit(skewed, "meanfield", start=corrected, starts=1))


def test_a_loaded_fit_is_a_start(skewed, skewed_fit, tmp_path):
    loaded = infimum.load(skewed_fit.save(tmp_path / "fit.zip"))
    fit = infimum.fit(skewed, "fullrank", start=loaded, starts=1)
    direct = infimum.fit(skewed, "fullrank", start=skewed_fit, starts=1)
    assert fit.elbo == direct.elbo


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"a": 0.0, "beta": 1.0}, "'beta', which is not a parameter.*of a, b"),
        ({"a": np.zeros(3), "b": np.ones((3, 2))}, r"'b' has shape \(3, 2\), expected \(\)"),
        ({"a": np.zeros(3), "b": np.ones(4)}, "different numbers of draws: 'a' 3 draws, 'b' 4"),
        ({"a": 0.0, "b": np.ones(4)}, "'a' a point, 'b' 4 draws"),
        ({"a": 0.0, "b": -1.0}, "'b', -1., is outside its support"),
        ({"a": 0.0, "b": 0.0}, "'b', 0., is outside its support or on the boundary"),
        ({"a": np.zeros(2), "b": np.array([1.0, -2.0])}, "'b', -2. in draw 1, is outside"),
        ({"a": np.nan, "b": 1.0}, "'a' has the value nan"),
        ({"a": "zero"}, "'a' is 'zero', expected numbers"),
        ({}, "the start is empty"),
        (3.0, "the start has 3.0: give a point or draws of a, b, or a fit"),
        ("mean", "the start has 'mean'"),
    ],
)
def test_a_start_of_another_form_is_refused(start, words, skewed):
    with pytest.raises((TypeError, ValueError), match=f"{words}.*E307"):
        infimum.fit(skewed, "meanfield", start=start)


@pytest.mark.parametrize(("x", "what"), [(-1.0, "-inf"), (7.0, "NaN")])
def test_a_start_without_density_is_refused(x, what):
    def log_density(params):
        value = jnp.where(params["x"] > 0, -0.5 * params["x"] ** 2, -jnp.inf)
        return jnp.where(params["x"] > 6, jnp.nan, value)

    target = infimum.Target(log_density, {"x": 1.0})
    with pytest.raises(ValueError, match=f"{what} at the start: at x = {x:.0f}.*E308"):
        infimum.fit(target, "meanfield", start={"x": x})
    with pytest.raises(ValueError, match=f"{what} at the start's draws, and not usable at 3 more"):
        infimum.climb(target, start={"x": x + np.array([0.0, 0.1, -0.1])})


def test_it_needs_no_gradient():
    target = infimum.from_numpy(lambda z: -0.5 * float(z @ z), 2)
    fit = infimum.fit(target, "meanfield", start=np.ones(2), starts=1)
    assert "start" in kinds(fit)


def test_a_checkpoint_of_another_start_is_refused(skewed, tmp_path):
    place = tmp_path / "job"
    first = infimum.fit(skewed, "meanfield", start={"a": 1.0, "b": 2.0}, checkpoint=place)
    again = infimum.fit(skewed, "meanfield", start={"a": 1.0, "b": 2.0}, checkpoint=place)
    assert again.elbo == first.elbo
    refused("start", place, skewed, "meanfield", start={"a": 1.0, "b": 2.5})
    refused("start", place, skewed, "meanfield")
    refused("start", place, skewed, "meanfield", start=first)


def test_a_climb_begins_at_the_start(skewed, skewed_fit):
    climb = infimum.climb(skewed, ["meanfield", "fullrank"], start={"a": 1.0, "b": 1.0})
    assert "start" in kinds(climb.fits[0])
    assert set(kinds(climb.fits[1])) == {"climb"}
    climb = infimum.climb(skewed, ["meanfield", "fullrank"], start=skewed_fit)
    assert "start" in kinds(climb.fits[1])
    assert climb.fits[1].elbo.value >= skewed_fit.elbo.value - 0.01


@pytest.mark.parametrize("family", ["meanfield", "fullrank", "lowrank"])
def test_no_fit_ends_below_its_start(family):
    """Other starts end in the other mode, which has a third of the mass."""
    target = two_modes(20.0)
    good = infimum.fit(target, family, start={"x": 20.0, "y": 0.0}, starts=1)
    again = infimum.fit(target, family, start=good, starts=5)
    assert again.elbo.value >= good.elbo.value - 0.05
    stopped = infimum.fit(target, family, start=good, callback=lambda progress: True)
    assert stopped.elbo.value >= good.elbo.value - 0.05
