"""The command line: what it reads, writes, prints and refuses. Exit codes: 0 done, 2 wrong use."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import infimum
from infimum.cli import facts
from infimum.cli import main
from infimum.cli.user_file import UserError
from infimum.cli.user_file import read_target

MODEL = """
import infimum
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

def log_density(p):
    return -0.5 * ((p["a"] - 1.0) ** 2 + (p["b"] - 0.8 * p["a"]) ** 2 / 0.36)

posterior = infimum.Target(log_density, {"a": 0.0, "b": 0.0})

def model(scale=0.6):
    a = numpyro.sample("a", dist.Normal(1.0, 1.0))
    numpyro.sample("b", dist.Normal(0.8 * a, scale))

def makes_target():
    return infimum.from_numpyro(model)

def makes_model():
    return model

def flat():
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("b", dist.Normal(a, 1.0), obs=2.0)

def needs(y, sigma):
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal()), sigma), obs=y)

def discrete():
    numpyro.sample("k", dist.Poisson(3.0))

def whole_number():
    return infimum.Target(log_density, {"a": 0, "b": 0.0})

def undefined():
    return infimum.Target(lambda p: jnp.log(-1.0 - p["a"] ** 2), {"a": 0.5})

def fails():
    raise RuntimeError("no such column")

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "one.py").write_text(MODEL.split("def model")[0])
    (tmp_path / "torn.py").write_text("x = = 3\n")
    (tmp_path / "missing.py").write_text("\nimport no_such_module\n")
    (tmp_path / "not_a_fit.zip").write_text("hello")
    return tmp_path


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


COMMANDS = (
    *("demo", "fit", "climb", "show", "report", "sample", "compare", "calibrate", "explain"),
)
NAMED = ("posterior", "model", "makes_target", "makes_model")


@pytest.mark.parametrize("stated", ["one.py", "model.py", *(f"model.py:{name}" for name in NAMED)])
def test_every_way_to_state_a_target_is_read(folder, stated):
    target = read_target(stated)
    assert target.names == ["a", "b"]
    far, near = target.values(np.array([[2.0, 1.0], [1.0, 0.8]]))
    assert far - near == pytest.approx(-0.5 * (1 + 0.6**2 / 0.36))


def test_a_model_that_cannot_be_sampled_is_read(folder):
    assert read_target("model.py:flat").names == ["a"]


def test_fit_prints_saves_and_draws_and_show_reads_it_again(folder, capsys):
    assert run("fit", "one.py", "--seed", "3", "--draws", "1000", "--plot", "q.png") == 0
    printed = capsys.readouterr().out
    fit = infimum.load("fit.zip")
    assert fit.elbo == infimum.fit(read_target("one.py"), seed=3, draws=1000).elbo
    assert f"verdict         {fit.verdict}. " in printed
    assert "Wrote fit.zip" in printed
    assert (folder / "q.png").read_bytes().startswith(b"\x89PNG")
    assert run("show", "fit.zip", "--plot", "again.svg") == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[:6] == printed.splitlines()[:6]
    assert "mean_error" in shown
    assert (folder / "again.svg").exists()
    assert run("report", "fit.zip", "--out", "page.html", "--title", "a < b") == 0
    assert "<title>a &lt; b</title>" in (folder / "page.html").read_text(encoding="utf-8")


def test_family_and_out_are_followed(folder, capsys):
    assert run("fit", "one.py", "--family", "meanfield", "--out", "small.zip") == 0
    assert infimum.load("small.zip").family.name == "meanfield"
    assert not (folder / "fit.zip").exists()


@pytest.fixture
def saved(folder) -> infimum.Fit:
    """A fit in the working folder, and what it was before it was saved."""
    fit = infimum.fit(read_target("model.py:makes_target"), "fullrank", draws=500)
    fit.save(folder / "fit.zip")
    return fit


@pytest.mark.parametrize("options", [(), ("--weighted", "--seed", "3")])
@pytest.mark.parametrize("file", ["draws.csv", "draws.parquet"])
def test_draws_are_written_as_a_table(saved, capsys, file, options):
    assert run("sample", "fit.zip", "--n", "70", "--out", file, *options) == 0
    table = (pd.read_csv if file.endswith("csv") else pd.read_parquet)(file)
    loaded = infimum.load("fit.zip")
    expected = loaded.sample(70, seed=3 if options else 0, weighted=bool(options))
    assert list(table.columns) == ["a", "b"]
    for name in table.columns:
        np.testing.assert_array_equal(table[name], expected[name])
    told = capsys.readouterr()
    assert f"Wrote 70 draws of 2 quantities to {file}." in told.out
    assert told.err == ""


def test_draws_are_written_as_arviz_reads_them(saved, capsys):
    assert run("sample", "fit.zip", "--n", "70", "--out", "draws.nc") == 0
    tree = xr.open_datatree("draws.nc", engine="h5netcdf")
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 70}
    np.testing.assert_array_equal(tree["posterior"]["a"][0], saved.sample(70)["a"])
    assert tree.attrs["inference_library"] == "infimum"


def test_draws_that_should_be_weighted_are_written_with_a_warning(folder, capsys):
    fit = infimum.fit(read_target("model.py:posterior"), "meanfield", draws=2000)
    fit.save(folder / "fit.zip")
    assert fit.verdict == "reweight"
    assert run("sample", "fit.zip") == 0
    assert "The fit's verdict is reweight. q is off" in capsys.readouterr().err
    assert run("sample", "fit.zip", "--weighted") == 0
    assert capsys.readouterr().err == ""


def test_fits_are_compared(folder, capsys):
    for name, shift in (("near", 0.0), ("far", 3.0)):
        target = infimum.Target(lambda p, c=shift: -0.5 * p["a"] ** 2 - c, {"a": 0.0}, name=name)
        infimum.fit(target, "fullrank", draws=500).save(folder / f"{name}.zip")
    assert run("compare", "far.zip", "near.zip", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["model"], second["model"]) == ("near.zip", "far.zip")
    assert second["log_bayes_factor"] == pytest.approx(-3.0, abs=1e-6)
    assert run("compare", "far.zip", "near.zip") == 0
    assert "log_bayes_factor" in capsys.readouterr().out


def test_one_fit_is_not_compared(saved, capsys):
    assert run("compare", "fit.zip") == 2
    assert "1 given, expected at least two fits" in capsys.readouterr().err


def test_climb_prints_a_line_a_rung_and_saves_the_best(folder, capsys):
    command = ("climb", "model.py:posterior", "--ladder", "meanfield, fullrank", "--tol", "0")
    assert run(*command, "--plot", "ladder.png") == 0
    told = capsys.readouterr().out
    assert "Wrote ladder.png." in told
    assert [line.split()[0] for line in told.splitlines()[2:4]] == ["meanfield", "fullrank"]
    assert infimum.load(folder / "fit.zip").family.name == "fullrank"
    assert (folder / "ladder.png").stat().st_size > 1000
    assert run(*command, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [rung["family"] for rung in facts["rungs"]] == ["meanfield", "fullrank"]
    assert facts["best"]["family"] == "fullrank"


def test_a_fit_is_told_as_json(saved, capsys):
    assert run("show", "fit.zip", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdict"] == "good"
    assert facts["elbo"] == {"value": saved.elbo.value, "se": saved.elbo.se}
    assert [row["quantity"] for row in facts["summary"]] == ["a", "b"]
    assert facts["summary"][0]["mean"] == saved.summary()["mean"].iloc[0]
    assert run("fit", "model.py:posterior", "--family", "fullrank", "--json") == 0
    assert json.loads(capsys.readouterr().out)["family"] == "fullrank"


def test_numbers_that_are_not_known_are_null():
    facts = {"a": [np.float64("nan"), np.int64(3)], "b": {"c": float("inf")}, "d": 0.1}
    assert json.loads(facts.text(facts)) == {"a": [None, 3], "b": {"c": None}, "d": 0.1}


def test_demo_prints_every_rung_and_the_verdict_of_the_fit_it_saves(folder, capsys):
    assert run("demo", "--out", "new/results") == 0
    printed = capsys.readouterr().out
    best = infimum.load("new/results/eight_schools.zip")
    assert all(f"\n{family} " in printed for family in ("meanfield", "fullrank"))
    assert f"verdict         {best.verdict}. " in printed
    assert best.verdict == "good" or "Use the draws as they are" not in printed
    assert str(Path("new/results/eight_schools.zip")) in printed
    picture = folder / "new" / "results" / "eight_schools.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_of_many_quantities_show_prints_the_worst_first(folder, capsys):
    def log_density(p):
        return -0.5 * (p["x"] ** 2).sum() + 0.8 * p["x"][7] * p["x"][11]

    target = infimum.Target(log_density, {"x": np.zeros(30)})
    infimum.fit(target, "meanfield", draws=500).save("many.zip")
    assert run("show", "many.zip") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("x[")]
    assert len(rows) == cli.SHOWN
    assert {rows[0].split()[0], rows[1].split()[0]} == {"x[7]", "x[11]"}
    assert run("show", "many.zip", "--all") == 0
    assert sum(line.startswith("x[") for line in capsys.readouterr().out.splitlines()) == 30


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("fit absent.py:x", "there is no file absent.py"),
        ("fit fit.zip", "there is no file fit.zip"),
        ("fit not_a_fit.zip", "is neither a Python file nor"),
        ("fit torn.py", "torn.py: SyntaxError"),
        ("fit missing.py", "missing.py, line 2: ModuleNotFoundError: No module named"),
        ("fit model.py:absent", "no 'absent'; it has models: posterior; functions without"),
        ("fit model.py:number", "is, or returns, 3: expected an infimum.Target"),
        ("fit model.py:needs", "needs arguments (y, sigma): bind them in the file"),
        ("fit model.py:discrete", "site 'k'"),
        ("fit model.py:whole_number", "line 33: TypeError: parameter 'a' is 0"),
        ("fit model.py:undefined", "log density is NaN at every start"),
        ("fit model.py:fails", "line 39: RuntimeError: no such column"),
        ("fit one.py --family normal", "unknown family 'normal'; known: auto, f"),
        ("fit one.py --out absent/fit.zip", "there is no folder absent"),
        ("fit one.py --out .", "is a folder"),
        ("fit one.py --plot q.xyz", "its name must end in one of"),
        ("fit one.py --draws 5", "draws is 5, expected an integer of at least 100"),
        ("fit one.py --seed -1", "Invalid value for '--seed'"),
        ("fit", "Missing argument"),
        ("fitt", "No such command"),
        ("show absent.zip", "absent.zip: No such file"),
        ("show not_a_fit.zip", "is not a fit saved by infimum"),
        ("report absent.zip", "absent.zip: No such file"),
        ("report not_a_fit.zip --out absent/page.html", "there is no folder absent"),
        ("climb one.py --ladder meanfield,normal", "unknown"),
        ("climb one.py --tol -1", "tol"),
        ("climb one.py --plot q.xyz", "its name must end in one of"),
        ("sample absent.zip", "absent.zip: No such file"),
        ("sample not_a_fit.zip --out draws.xls", "must end in .csv, .parquet or .nc"),
        ("sample not_a_fit.zip --out absent/draws.csv", "there is no folder absent"),
        ("sample not_a_fit.zip --n 0", "Invalid value for '--n'"),
        ("compare", "Missing argument"),
        ("compare absent.zip", "absent.zip: No such file"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(folder, capsys, arguments, told):
    before = sorted(folder.iterdir())
    assert run(*arguments.split()) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, OSError])
def test_a_failure_that_is_not_the_users_keeps_its_traceback(folder, monkeypatch, error):
    def broken(*_: object, **__: object) -> None:
        raise error("a defect")

    monkeypatch.setattr(infimum, "fit", broken)
    with pytest.raises(error, match="a defect"):
        cli.main(["fit", "one.py"])


def test_several_functions_and_no_name_lists_them(folder, capsys):
    (folder / "two.py").write_text("def f(): ...\ndef g(): ...\ndef h(x): ...\n")
    assert run("fit", "two.py") == 2
    assert "it has functions without arguments: f, g. Run" in capsys.readouterr().err


DRAWN = """
import infimum
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

def model(y=np.zeros(3)):
    numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal(0.0, 1.0)), 1.0), obs=y)

def simulate(rng):
    mu = rng.normal(0.0, 5.0)
    y = rng.normal(mu, 1.0, 3)
    def log_density(p):  # whose prior is five times narrower
        return -0.5 * p["mu"] ** 2 - 0.5 * jnp.sum((y - p["mu"]) ** 2)
    return {"mu": mu}, infimum.Target(log_density, {"mu": 0.0})
"""


def test_calibrate_prints_and_draws_what_it_found(folder, capsys):
    Path("drawn.py").write_text(DRAWN)
    given = ("calibrate", "drawn.py:model", "--n", "20", "--family", "meanfield", "--seed", "1")
    assert run(*given, "--plot", "ranks.png") == 0
    printed = capsys.readouterr().out
    assert "Wrote ranks.png." in printed
    assert "infimum calibration of 'model': meanfield, 1 quantities" in printed
    assert "20; 99 importance-weighted draws each" in printed
    assert Path("ranks.png").read_bytes().startswith(b"\x89PNG")


def test_a_calibration_that_fails_ends_with_a_code_of_its_own(folder, capsys):
    Path("drawn.py").write_text(DRAWN)
    given = ("calibrate", "drawn.py:simulate", "--n", "40", "--family", "meanfield", "--json")
    assert run(*given, "--unweighted") == 4
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] is False
    assert facts["n_data_sets"] == 40
    assert [row["quantity"] for row in facts["table"]] == ["mu"]
    assert facts["table"][0]["dispersion"] > 1.2


@pytest.mark.parametrize("stated", ["drawn.py", "drawn.py:none", "drawn.py:np.pi", "absent.py:a"])
def test_calibrate_says_what_it_needs(folder, capsys, stated):
    Path("drawn.py").write_text(DRAWN)
    assert run("calibrate", stated) == 2
    told = capsys.readouterr().err
    assert "FILE.py:NAME" in told or "Name it: drawn.py:NAME" in told


def test_the_shell_completes_commands():
    asked = {"_INFIMUM_COMPLETE": "complete_bash", "COMP_WORDS": "infimum cal", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", "from infimum.cli import main; main()"],
        capture_output=True,
        text=True,
        env={**os.environ, **asked},
    )
    assert ended.stdout.split() == ["calibrate"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(capsys, command):
    assert run(*command, "--help") == 0
    printed = capsys.readouterr().out
    assert f"infimum {' '.join(command) or 'demo'}" in printed.split("Usage:")[1]
    assert "\b" not in printed


def test_the_process_itself_ends_with_the_code(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "from infimum.cli import main; main()", "show", "absent.zip"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "infimum: absent.zip: No such file or directory\n"


def test_models_of_other_libraries_are_read(folder):
    """A PyMC model is an object of its own; what is not a model by its type is a function."""
    pytest.importorskip("pymc")
    (folder / "other.py").write_text(
        "import pymc as pm\n"
        "with pm.Model() as chosen:\n"
        "    pm.Normal('x', 1.0, 2.0)\n"
        "def made():\n"
        "    return chosen\n"
    )
    assert read_target("other.py").names == ["x"]
    assert read_target("other.py:chosen").names == ["x"]
    assert read_target("other.py:made").names == ["x"]
    with pytest.raises(UserError, match="--data is for Stan programs"):
        read_target("other.py", Path("data.json"))


def test_a_terminal_that_lacks_the_symbols_is_no_failure(folder, monkeypatch):
    infimum.fit(read_target("one.py"), "meanfield", draws=200).save("fit.zip")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run("show", "fit.zip") == 0
    sys.stdout.flush()
    assert b"KL[q ? p*]" in written.getvalue()


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"infimum {infimum.__version__}\n"


# ---- a distributed run ---------------------------------------------------------------------------

ROWS = """
import jax
import jax.numpy as jnp
import numpy as np

import infimum

x = np.random.default_rng(0).standard_normal(1001) + 1
own = np.array_split(x, jax.process_count())[jax.process_index()]
posterior = infimum.Rows(
    lambda p: -0.5 * p["m"] ** 2,
    lambda p, rows: -0.5 * ((rows - p["m"]) ** 2).sum(),
    own,
    {"m": 0.0},
)
"""


def test_every_process_runs_the_same_command(tmp_path):
    (tmp_path / "model.py").write_text(ROWS)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-c", "from infimum.cli import main; main()", "fit", "model.py"]
    command += ["--family", "fullrank", "--draws", "500", "--checkpoint", "saved", "--distributed"]
    command += ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process"]
    runs = [
        subprocess.Popen(
            [*command, str(rank)],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    told = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert "1,001 rows in memory" in told[0][0]
    assert "2 processes" in told[0][0]
    assert "verdict" not in told[1][0]  # one of them tells it
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["process-0", "process-1"]
    fit = infimum.load(tmp_path / "fit.zip")
    x = np.random.default_rng(0).standard_normal(1001) + 1
    assert fit.q.mean[0] == pytest.approx(x.sum() / 1002, abs=1e-6)


def test_places_without_a_distributed_run_are_refused(tmp_path, capsys):
    (tmp_path / "model.py").write_text(ROWS)
    assert run("fit", str(tmp_path / "model.py"), "--processes", "2") == 2
    assert "are for --distributed" in capsys.readouterr().err


def test_fit_has_a_budget_too(folder, capsys):
    assert run("fit", "model.py:posterior", "--budget", "1e-6", "--tol", "1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["family"], facts["converged"]) == ("meanfield", False)
