"""Pictures of the checks behind a fit."""

import dataclasses

import numpy as np
import pytest
from plots.pictures import undefined_at_one_draw, words

import infimum
from infimum import plots


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
    panel = plots.plot_weights(undefined_at_one_draw(many))
    assert "the weights are not known" in words(panel)
