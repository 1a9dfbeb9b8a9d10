"""Pictures of q over p*: regions hold the mass they claim, and what is not known is not drawn."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from plots.pictures import COVARIANCE, area, gaussian, regions, undefined_at_one_draw, words

import infimum
from infimum import plots
from infimum import supports as S
from infimum.plots import posterior


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
    fit = undefined_at_one_draw(plane.fits[0], target=None)
    panels = fit.plot()
    assert not regions(panels[1, 0])[0]
    assert regions(panels[1, 0])[1]
    assert "q alone is drawn" in words(panels)


def test_two_coordinates_that_are_no_quantities_are_drawn_unconstrained():
    target = infimum.Target(lambda p: jnp.sum(3 * jnp.log(p)), np.ones(3) / 3, S.simplex)
    fit = infimum.fit(target, "meanfield", starts=1)
    panels = fit.plot()
    assert panels.shape == (2, 2)
    assert panels[1, 0].get_xlabel() == "z~0 (unconstrained)"
    assert fit.plot(["z[0]", "z[1]", "z[2]"]).shape == (3, 3)


def test_marginals_are_those_of_the_worst_with_their_verdicts(plane, many):
    panels = plots.plot_marginals(many)
    assert len(panels) == posterior.MOST_MARGINALS
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
    monkeypatch.setattr("infimum.plots.scene.MOST_QUANTITIES", 3)
    with pytest.raises(ValueError, match="4 quantities were asked for, at most 3 fit"):
        bounded.plot(["s", "p"])
