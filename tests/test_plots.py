"""The pictures: regions hold the mass they claim, and what is not known is not drawn."""

import dataclasses

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from matplotlib.contour import QuadContourSet

import infimum
from infimum.plots import posterior
from infimum import supports as S

mpl.use("agg")

COVARIANCE = np.array([[1.0, 1.2, 0.0], [1.2, 2.0, 0.3], [0.0, 0.3, 0.5]])


def gaussian(d):
    precision = jnp.asarray(np.linalg.inv(COVARIANCE[:d, :d]))
    return infimum.Target(lambda z: 2.0 - 0.5 * z @ precision @ z, np.zeros(d))


@pytest.fixture(scope="module")
def plane():
    """Mean-field and full-rank fits of a correlated Gaussian in two dimensions."""
    return infimum.climb(gaussian(2), starts=1)


@pytest.fixture(scope="module")
def bounded():
    """A positive quantity, and a simplex whose entries are no coordinates."""

    def log_density(p):
        return 3 * jnp.log(p["s"]) - p["s"] + jnp.sum(jnp.array([3.0, 5.0, 9.0]) * jnp.log(p["p"]))

    supports = {"s": S.positive, "p": S.simplex}
    target = infimum.Target(log_density, {"s": 1.0, "p": np.ones(3) / 3}, supports)
    return infimum.fit(target, "fullrank", starts=1)


def regions(panel):
    """(p*'s filled, q's line) contours of a panel; either may be missing."""
    sets = [c for c in panel.collections if isinstance(c, QuadContourSet)]
    return [c for c in sets if c.filled], [c for c in sets if not c.filled]


def area(contour):
    """Area inside the first path of a contour set."""
    x, y = contour.get_paths()[0].to_polygons()[0].T
    return 0.5 * abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))


def words(axes):
    """Everything that is written on the figure of these axes."""
    return "\n".join(text.get_text() for text in np.ravel(axes)[0].figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("rung", [0, 1])
def test_regions_of_a_gaussian_are_the_ellipses_of_its_covariance(plane, rung):
    fit = plane.fits[rung]
    panel = plots.plot_fit(fit, masses=[0.5, 0.9])[1, 0]
    ((lines,), precision) = regions(panel)[1], np.linalg.inv(fit.q.covariance())
    for mass, path in zip([0.9, 0.5], lines.get_paths(), strict=True):
        apart = path.vertices - fit.q.mean
        radius = np.sqrt(np.sum(apart @ precision * apart, axis=1))
        np.testing.assert_allclose(radius, np.sqrt(-2 * np.log(1 - mass)), rtol=0.01)


def test_exact_posterior_is_the_target_whatever_q_covers(plane):
    for fit in plane:
        panels = fit.plot(["z[1]", "z[0]"])
        for mass, filled in zip([0.9, 0.5], regions(panels[1, 0])[0], strict=True):
            ellipse = -2 * np.log(1 - mass) * np.pi * np.sqrt(np.linalg.det(COVARIANCE[:2, :2]))
            np.testing.assert_allclose(area(filled), ellipse, rtol=0.01)
        assert panels[1, 0].get_xlabel() == "z[1]"
        assert "p*, exact" in words(panels)
        assert f"{fit.family.name}: KL[q ‖ p*]" in words(panels)
        assert f"verdict: {fit.verdict}" in words(panels)


@pytest.mark.parametrize("names", [["s", "p[0]"], ["p[0]", "p[2]"]])
def test_regions_hold_their_mass_where_quantities_are_bounded(bounded, names):
    (lines,) = regions(bounded.plot(names)[1, 0])[1]
    draws = bounded.sample(4000, seed=1)
    columns = {"s": draws["s"], "p[0]": draws["p"][:, 0], "p[2]": draws["p"][:, 2]}
    points = np.stack([columns[name] for name in names], axis=1)
    for mass, path in zip([0.9, 0.5], lines.get_paths(), strict=True):
        error = np.sqrt(2 * mass * (1 - mass) / 4000)  # of these draws, and of those smoothed
        assert abs(path.contains_points(points).mean() - mass) < 4 * error


def test_marginal_of_a_positive_quantity_is_log_normal(bounded):
    (panel,) = bounded.plot("s").flat
    x, height = panel.lines[-1].get_data()
    coordinate = bounded.space.free_names.index("s")
    mean, sd = bounded.q.mean[coordinate], np.sqrt(bounded.q.covariance()[coordinate, coordinate])
    expected = np.exp(-0.5 * ((np.log(x) - mean) / sd) ** 2) / (x * sd)
    np.testing.assert_allclose(height / height.max(), expected / expected.max(), atol=0.01)


def test_reweighted_draws_show_what_meanfield_does_not_cover():
    panels = infimum.fit(gaussian(3), "meanfield", starts=1).plot()
    for i in range(3):
        x, height = panels[i, i].lines[0].get_data()
        sd = np.sqrt(np.average(x**2, weights=height * np.gradient(x)))
        assert sd == pytest.approx(np.sqrt(COVARIANCE[i, i]), rel=0.08)
    assert "p*, by reweighting" in words(panels)
    assert not panels[0, 1].axison


def test_families_say_whether_the_posterior_is_a_member(plane):
    panels = plots.plot_families(plane.fits)
    assert "p* ∉ Q" in panels[0].texts[0].get_text()
    assert f"KL[q ‖ p*] = {plane.fits[0].kl} nats" in panels[0].texts[0].get_text()
    assert "p* ∈ Q" in panels[1].texts[0].get_text()
    assert panels[0].get_xlim() == panels[1].get_xlim()
    assert panels[0].get_ylim() == panels[1].get_ylim()
    fills, lines = regions(panels[1])
    assert area(fills[0]) == pytest.approx(area(lines[0]), rel=0.01)
    assert "20, 50, 80 and 95 %" in words(panels)
    panels[0].figure.canvas.draw()


def test_climb_is_drawn_as_measured(plane):
    panel = plane.plot()
    points = [container.lines[0].get_xydata()[0] for container in panel.containers]
    work = [fit.work.compile_seconds + fit.work.run_seconds for fit in plane]
    np.testing.assert_allclose(np.transpose(points)[0], np.cumsum(work))
    np.testing.assert_allclose(np.transpose(points)[1], [fit.kl.value for fit in plane])
    assert "meanfield" in words(panel)
    assert "< 0.001 nats" in words(panel)
    panel.figure.canvas.draw()


def test_loaded_fits_are_drawn_without_their_target(plane, bounded, tmp_path):
    loaded = infimum.load(plane.fits[0].save(tmp_path / "plane.zip"))
    assert "p*, by reweighting" in words(loaded.plot())
    assert "p*, by reweighting" in words(plots.plot_families([loaded]))
    assert infimum.load(bounded.save(tmp_path / "bounded.zip")).plot("p").shape == (3, 3)

    def log_density(p):
        return -jnp.sum(p["high"]) - 0.5 * p["low"] ** 2

    supports = {"high": lambda p: S.greater_than(p["low"])}
    target = infimum.Target(log_density, {"low": 0.0, "high": np.zeros(2)}, supports)
    stored = infimum.fit(target, "meanfield", starts=1, draws=500)
    assert infimum.load(stored.save(tmp_path / "stored.zip")).plot().shape == (3, 3)


def test_what_is_not_known_is_not_drawn(plane):
    undefined = np.where(np.arange(len(plane.fits[0].log_p)) == 3, np.nan, plane.fits[0].log_p)
    fit = dataclasses.replace(plane.fits[0], log_p=undefined, target=None)
    panels = fit.plot()
    assert not regions(panels[1, 0])[0]
    assert regions(panels[1, 0])[1]
    assert "q alone is drawn" in words(panels)
    climb = infimum.Climb((fit, plane.fits[1]), (("sparse", "it is too large"),))
    told = words(climb.plot())
    assert "meanfield: unknown" in told
    assert "sparse skipped: it is too large" in told


def test_two_coordinates_that_are_no_quantities_are_drawn_unconstrained():
    target = infimum.Target(lambda p: jnp.sum(3 * jnp.log(p)), np.ones(3) / 3, S.simplex)
    fit = infimum.fit(target, "meanfield", starts=1)
    panels = fit.plot()
    assert panels.shape == (2, 2)
    assert panels[1, 0].get_xlabel() == "z~0 (unconstrained)"
    assert fit.plot(["z[0]", "z[1]", "z[2]"]).shape == (3, 3)


@pytest.fixture(scope="module")
def many():
    """300 normals: of some of them q is off."""
    scale = jnp.linspace(1.0, 2.0, 300)
    target = infimum.Target(
        lambda z: -0.5 * jnp.sum((z / scale) ** 2) + 0.8 * z[7] * z[11], np.zeros(300)
    )
    return infimum.fit(target, "meanfield", starts=1, draws=1000)


def test_marginals_are_those_of_the_worst_with_their_verdicts(plane, many):
    panels = plots.plot_marginals(many)
    assert len(panels) == plots.MARGINALS
    names = {text.split(":")[0] for text in (panel.get_title("left") for panel in panels)}
    assert {"z[7]", "z[11]"} <= names
    panels[0].figure.canvas.draw()
    fit = plane.fits[0]
    (panel,) = plots.plot_marginals(fit, ["z[1]"])
    assert panel.get_title("left") == f"z[1]: {fit.verdicts[1]}"
    x, height = panel.lines[-1].get_data()
    mean = np.average(x, weights=height * np.gradient(x))
    sd = np.sqrt(np.average((x - mean) ** 2, weights=height * np.gradient(x)))
    assert sd == pytest.approx(np.sqrt(fit.q.covariance()[1, 1]), rel=0.01)
    with pytest.raises(ValueError, match="no quantity 'nope'"):
        plots.plot_marginals(fit, "nope")


def test_trace_ends_where_the_fit_did(plane, many, tmp_path):
    for fit in (plane.fits[0], many, infimum.load(many.save(tmp_path / "many.zip"))):
        panel = plots.plot_trace(fit)
        np.testing.assert_array_equal(panel.lines[0].get_xydata(), fit.trace)
        low, high = panel.get_ylim()
        assert low < fit.elbo.value < high
        assert low < fit.trace[-1][1] < high
        assert fit.reason.value in panel.get_title("left")
        panel.figure.canvas.draw()
    empty = plots.plot_trace(dataclasses.replace(many, trace=()))
    assert "no trace of the ELBO is known" in words(empty)


def test_weights_are_sorted_and_of_mean_one(plane, many):
    for fit in (plane.fits[0], many):
        panel = plots.plot_weights(fit)
        q = panel.lines[1].get_ydata()
        assert np.all(np.diff(q) <= 0)
        assert np.sum(q) == pytest.approx(fit.n_draws, rel=1e-3)
        assert np.sum(q) ** 2 / np.sum(q**2) == pytest.approx(fit.ess, rel=1e-2)
        assert f"ESS {fit.ess:.0f} of {fit.n_draws}" in panel.get_title("left")
        panel.figure.canvas.draw()
    undefined = np.where(np.arange(len(many.log_p)) == 3, np.nan, many.log_p)
    panel = plots.plot_weights(dataclasses.replace(many, log_p=undefined))
    assert "the weights are not known" in words(panel)


def test_predictions_count_the_observations_in_their_intervals():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        numpyro.sample("y", dist.Poisson(jnp.exp(mu)).expand(y.shape), obs=y)

    y = np.random.default_rng(0).poisson(3.0, 60).astype(float)
    fit = infimum.fit(infimum.from_numpyro(model, y), "meanfield", starts=1, draws=500)
    drawn = np.zeros((100, 60))
    drawn[:, :45] = y[:45]
    drawn[:, 45:] = y[45:] + 1
    panel = plots.plot_predictions(fit, predicted={"y": drawn})
    assert panel.get_title("left") == "75% of 60 observations within their 90% interval"
    panel = plots.plot_predictions(fit)
    assert float(panel.get_title("left").split("%")[0]) > 80
    edges = panel.patches[-1].get_data().edges
    np.testing.assert_allclose(np.diff(edges), 1.0)
    assert edges[0] <= y.min() - 0.5
    assert y.max() + 0.5 <= edges[-1]
    panel.figure.canvas.draw()
    with pytest.raises(ValueError, match="no observed site 'x'; observed: y"):
        plots.plot_predictions(fit, "x")
    with pytest.raises(ValueError, match="does not predict its observed site 'y'"):
        plots.plot_predictions(fit, predicted={})


def test_the_route_of_a_fit_is_drawn_as_its_climb(plane):
    assert words(plots.plot_climb(plane.route)) == words(plane.plot())


def test_axes_may_be_given(plane):
    figure, axes = plt.subplots(2, 3)
    assert plane.fits[0].plot(axes=axes[:, :2])[0, 0] is axes[0, 0]
    assert plane.plot(axes=axes[0, 2]) is axes[0, 2]
    assert plots.plot_families(plane.fits[:1], "z[0]", axes=axes[1, 2])[0] is axes[1, 2]
    assert len(plt.get_fignums()) == 1
    figure.canvas.draw()


def test_wrong_use_is_named(plane, bounded, monkeypatch):
    with pytest.raises(ValueError, match="no quantity 'nope'"):
        bounded.plot("nope")
    with pytest.raises(ValueError, match="4 quantities: families are compared on one or two"):
        plots.plot_families([bounded], ["s", "p"])
    with pytest.raises(ValueError, match="same quantities"):
        plots.plot_families([bounded, *plane])
    with pytest.raises(ValueError, match="expected 2 × 2"):
        plane.fits[0].plot(axes=plt.figure().add_subplot())
    with pytest.raises(ValueError, match="between 0 and 1"):
        plane.fits[0].plot(masses=[0.5, 90])
    monkeypatch.setattr("infimum._scene.MOST", 3)
    with pytest.raises(ValueError, match="4 quantities were asked for, at most 3 fit"):
        bounded.plot(["s", "p"])


def pairs_of(dim):
    """A chain's worth of numbers, and two that hang on all of them."""

    def log_density(p):
        step = p["x"][1:] - 0.5 * p["x"][:-1]
        inside = jnp.sum(step**2) + jnp.sum((p["x"] - p["a"]) ** 2) * 0.1
        return -0.5 * (inside + p["a"] ** 2 + p["b"] ** 2 - p["a"] * p["b"])

    target = infimum.Target(log_density, {"a": 0.0, "b": 0.0, "x": np.zeros(dim)})
    return infimum.fit(target, "sparse", starts=1)


@pytest.mark.parametrize("dim", [3, 300])
def test_a_sparse_fit_is_drawn_as_the_pattern_that_it_has(dim, tmp_path):
    fit = pairs_of(dim)
    panels = plots.plot_sparsity(infimum.load(fit.save(tmp_path / "fit.zip")))
    row, column = fit.q.edges
    size = fit.q.dim
    dense = np.diag(fit.q.precision()[:size])
    dense[row, column] = dense[column, row] = fit.q.precision()[size:]
    diagonal, marks = panels[0].collections[:2]
    assert len(diagonal.get_offsets()) == size
    drawn = {tuple(int(x) for x in place) for place in marks.get_offsets()}
    assert drawn == {*zip(row, column, strict=True), *zip(column, row, strict=True)}
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    places = marks.get_offsets().astype(int)
    partial = -(dense / scale)[places[:, 1], places[:, 0]]
    np.testing.assert_allclose(marks.get_array(), partial, atol=1e-12)
    covariance = np.linalg.inv(dense)
    sd = np.sqrt(np.diag(covariance))
    correlation = (covariance / np.outer(sd, sd))[places[:, 1], places[:, 0]]
    np.testing.assert_allclose(panels[1].collections[1].get_array(), correlation, atol=1e-8)
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == (["a", "b", "x"] if dim == 3 else ["a, b", "x"])


def test_a_pattern_goes_into_given_axes_and_needs_one(make_gaussian):
    _, axes = plt.subplots(1, 2)
    assert plots.plot_sparsity(pairs_of(3), axes=axes)[0] is axes[0]
    with pytest.raises(ValueError, match="family is 'fullrank', which has no pattern"):
        plots.plot_sparsity(infimum.fit(make_gaussian(2).target, "fullrank", starts=1))
