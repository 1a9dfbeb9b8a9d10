"""The picture of a climb has a point for each rung, with its name."""

import numpy as np
from plots.pictures import undefined_at_one_draw, words

import infimum
from infimum import plots


def test_climb_is_drawn_as_measured(plane):
    panel = plane.plot()
    points = [container.lines[0].get_xydata()[0] for container in panel.containers]
    work = [fit.work.compile_seconds + fit.work.run_seconds for fit in plane]
    np.testing.assert_allclose(np.transpose(points)[0], np.cumsum(work))
    np.testing.assert_allclose(np.transpose(points)[1], [fit.kl.value for fit in plane])
    assert "meanfield" in words(panel)
    assert "< 0.001 nats" in words(panel)
    panel.figure.canvas.draw()


def test_the_route_of_a_fit_is_drawn_as_its_climb(plane):
    assert words(plots.plot_climb(plane.route)) == words(plane.plot())


def test_rungs_of_unknown_kl_and_skipped_ones_are_named(plane):
    fit = undefined_at_one_draw(plane.fits[0], target=None)
    climb = infimum.Climb((fit, plane.fits[1]), (("sparse", "it is too large"),))
    text = words(climb.plot())
    assert "meanfield: unknown" in text
    assert "sparse skipped: it is too large" in text
