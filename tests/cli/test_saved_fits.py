"""The commands that use saved fits: what they print and write."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import infimum
from infimum.cli.options import SUMMARY_ROWS
from infimum.cli.user_file import read_target


@pytest.fixture
def saved(folder) -> infimum.Fit:
    """A fit in the working folder, and what it was before it was saved."""
    fit = infimum.fit(read_target("model.py:makes_target"), "fullrank", draws=500)
    fit.save(folder / "fit.zip")
    return fit


@pytest.mark.parametrize("options", [(), ("--weighted", "--seed", "3")])
@pytest.mark.parametrize("file", ["draws.csv", "draws.parquet"])
def test_draws_are_written_as_a_table(run, saved, capsys, file, options):
    assert run("sample", "fit.zip", "--n", "70", "--out", file, *options) == 0
    table = (pd.read_csv if file.endswith("csv") else pd.read_parquet)(file)
    loaded = infimum.load("fit.zip")
    expected = loaded.sample(70, seed=3 if options else 0, weighted=bool(options))
    assert list(table.columns) == ["a", "b"]
    for name in table.columns:
        np.testing.assert_array_equal(table[name], expected[name])
    printed = capsys.readouterr()
    assert f"Wrote 70 draws of 2 quantities to {file}." in printed.out
    assert printed.err == ""


def test_draws_are_written_as_arviz_reads_them(run, saved, capsys):
    assert run("sample", "fit.zip", "--n", "70", "--out", "draws.nc") == 0
    tree = xr.open_datatree("draws.nc", engine="h5netcdf")
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 70}
    np.testing.assert_array_equal(tree["posterior"]["a"][0], saved.sample(70)["a"])
    assert tree.attrs["inference_library"] == "infimum"


def test_draws_that_should_be_weighted_are_written_with_a_warning(run, folder, capsys):
    fit = infimum.fit(read_target("model.py:posterior"), "meanfield", draws=2000)
    fit.save(folder / "fit.zip")
    assert fit.verdict == "reweight"
    assert run("sample", "fit.zip") == 0
    assert "The verdict of this fit is reweight. q is off" in capsys.readouterr().err
    assert run("sample", "fit.zip", "--weighted") == 0
    assert capsys.readouterr().err == ""


def test_fits_are_compared(run, folder, capsys):
    for name, shift in (("near", 0.0), ("far", 3.0)):
        target = infimum.Target(lambda p, c=shift: -0.5 * p["a"] ** 2 - c, {"a": 0.0}, name=name)
        infimum.fit(target, "fullrank", draws=500).save(folder / f"{name}.zip")
    assert run("compare", "far.zip", "near.zip", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["model"], second["model"]) == ("near.zip", "far.zip")
    assert second["log_bayes_factor"] == pytest.approx(-3.0, abs=1e-6)
    assert run("compare", "far.zip", "near.zip") == 0
    assert "log_bayes_factor" in capsys.readouterr().out


def test_one_fit_is_not_compared(run, saved, capsys):
    assert run("compare", "fit.zip") == 2
    assert "1 given, expected at least two fits" in capsys.readouterr().err


def test_a_fit_is_printed_as_json(run, saved, capsys):
    assert run("show", "fit.zip", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdict"] == "good"
    assert facts["elbo"] == {"value": saved.elbo.value, "se": saved.elbo.se}
    assert [row["quantity"] for row in facts["summary"]] == ["a", "b"]
    assert facts["summary"][0]["mean"] == saved.summary()["mean"].iloc[0]
    assert run("fit", "model.py:posterior", "--family", "fullrank", "--json") == 0
    assert json.loads(capsys.readouterr().out)["family"] == "fullrank"


def test_of_many_quantities_show_prints_the_worst_first(run, folder, capsys):
    def log_density(p):
        return -0.5 * (p["x"] ** 2).sum() + 0.8 * p["x"][7] * p["x"][11]

    target = infimum.Target(log_density, {"x": np.zeros(30)})
    infimum.fit(target, "meanfield", draws=500).save("many.zip")
    assert run("show", "many.zip") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("x[")]
    assert len(rows) == SUMMARY_ROWS
    assert {rows[0].split()[0], rows[1].split()[0]} == {"x[7]", "x[11]"}
    assert run("show", "many.zip", "--all") == 0
    assert sum(line.startswith("x[") for line in capsys.readouterr().out.splitlines()) == 30
