"""The demonstrations: their data, their posteriors, and the command that runs them."""

from __future__ import annotations

import importlib.resources
import json

import numpy as np
import pytest

import infimum
from infimum.cli import demos
from infimum.cli.fitting import demo

BY_NAME = pytest.mark.parametrize("demo", demos.DEMOS.values(), ids=list(demos.DEMOS))

SUMS = {
    "eight_schools": ("effect", 70),
    "challenger": ("distress", 7),
    "pumps": ("failures", 75),
    "seeds": ("germinated", 424),
    "stackloss": ("loss", 368),
    "dugongs": ("length", 63.02),
    "coal": ("disasters", 191),
    "galaxies": ("velocity", 1_708_180),
}
"""A column of each dataset and its sum, which a typing error would change."""


def contents(name):
    file = importlib.resources.files("infimum") / "data" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


@BY_NAME
def test_data_have_a_source_and_are_what_was_published(demo):
    assert len(contents(demo.name)["source"]) > 40
    columns = demo.data()
    assert len({len(column) for column in columns.values()}) == 1
    column, total = SUMS[demo.name]
    assert np.sum(columns[column]) == pytest.approx(total, rel=1e-12)


@BY_NAME
def test_a_demonstration_is_a_posterior_with_the_quantities_that_it_plots(demo):
    target = demo.target()
    assert np.isfinite(target.value_and_gradient(np.zeros((1, target.dim)))[0]).all()
    assert set(demo.plotted) <= {*target.space.names, *(leaf.label for leaf in target.space.leaves)}
    assert 2 <= target.dim <= 40


def test_the_command_line_names_them_all():
    assert all(name in " ".join((demo.__doc__ or "").split()) for name in demos.DEMOS)


def test_one_of_them_runs_from_the_command_line(run, tmp_path, capsys):
    assert run("demo", "coal", "--out", str(tmp_path)) == 0
    fit = infimum.load(tmp_path / "coal.zip")
    assert 1885 < fit.summary().loc["change", "mean"] < 1895
    assert "British mines" in capsys.readouterr().out
    assert (tmp_path / "coal.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_one_is_refused_before_any_work(run, tmp_path, capsys):
    assert run("demo", "schools", "--out", str(tmp_path / "new")) == 2
    assert "eight_schools, challenger" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
