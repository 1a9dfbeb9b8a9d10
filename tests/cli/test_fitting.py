"""The commands that fit: what they print, save and plot."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import infimum
from infimum.cli.user_file import read_target


def test_fit_prints_saves_and_draws_and_show_reads_it_again(run, folder, capsys):
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


def test_family_and_out_are_followed(run, folder, capsys):
    assert run("fit", "one.py", "--family", "meanfield", "--out", "small.zip") == 0
    assert infimum.load("small.zip").family.name == "meanfield"
    assert not (folder / "fit.zip").exists()


def test_scouts_are_sent_as_asked(run, folder, capsys):
    assert run("fit", "one.py", "--family", "meanfield", "--scouts", "0") == 0
    assert "not looked for: scouts=0" in capsys.readouterr().out
    assert infimum.load("fit.zip").work.sought == "not looked for: scouts=0"
    assert run("climb", "one.py", "--ladder", "meanfield", "--scouts", "16") == 0
    assert "16 scouts" in capsys.readouterr().out


def test_a_start_is_read_from_json_or_a_saved_fit(run, folder, capsys):
    (folder / "start.json").write_text('{"b": 0.5}')
    command = ("fit", "one.py", "--family", "meanfield", "--start")
    assert run(*command, "start.json") == 0
    assert "start" in [start.kind for start in infimum.load("fit.zip").starts]
    assert run(*command, "fit.zip", "--out", "again.zip") == 0
    assert "start" in [start.kind for start in infimum.load("again.zip").starts]
    assert run("climb", "one.py", "--ladder", "meanfield", "--start", "start.json") == 0
    assert "start" in [start.kind for start in infimum.load("fit.zip").starts]
    (folder / "start.json").write_text("tau: 1")
    capsys.readouterr()
    assert run(*command, "start.json") == 2
    assert "start.json is not JSON" in capsys.readouterr().err
    assert run(*command, "none.json") == 2
    assert "there is no file none.json" in capsys.readouterr().err


def test_climb_prints_a_line_a_rung_and_saves_the_best(run, folder, capsys):
    command = ("climb", "model.py:posterior", "--ladder", "meanfield, fullrank", "--tol", "0")
    assert run(*command, "--plot", "ladder.png") == 0
    printed = capsys.readouterr().out
    assert "Wrote ladder.png." in printed
    assert [line.split()[0] for line in printed.splitlines()[2:4]] == ["meanfield", "fullrank"]
    assert infimum.load(folder / "fit.zip").family.name == "fullrank"
    assert (folder / "ladder.png").stat().st_size > 1000
    assert run(*command, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [rung["family"] for rung in facts["rungs"]] == ["meanfield", "fullrank"]
    assert facts["best"]["family"] == "fullrank"


def test_demo_prints_every_rung_and_the_verdict_of_the_fit_it_saves(run, folder, capsys):
    assert run("demo", "--out", "new/results") == 0
    printed = capsys.readouterr().out
    best = infimum.load("new/results/eight_schools.zip")
    table = printed.split("─\n", 1)[1].split("\nended: ")[0]
    assert [line.split()[0] for line in table.splitlines()] == ["nested"]
    assert best.family.name == "nested"
    assert f"verdict         {best.verdict}. " in printed
    assert best.verdict == "good" or "Use the draws as they are" not in printed
    assert str(Path("new/results/eight_schools.zip")) in printed
    picture = folder / "new" / "results" / "eight_schools.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_fit_has_a_budget_too(run, folder, capsys):
    assert run("fit", "model.py:posterior", "--budget", "1e-6", "--tol", "1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["family"], facts["converged"]) == ("meanfield", False)


# ---- several processes ---------------------------------------------------------------------------

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
    outputs = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert "1,001 rows in memory" in outputs[0][0]
    assert "2 processes" in outputs[0][0]
    assert "verdict" not in outputs[1][0]  # process 0 alone prints the fit
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["process-0", "process-1"]
    fit = infimum.load(tmp_path / "fit.zip")
    x = np.random.default_rng(0).standard_normal(1001) + 1
    assert fit.q.mean[0] == pytest.approx(x.sum() / 1002, abs=1e-6)


def test_places_without_a_distributed_run_are_refused(run, tmp_path, capsys):
    (tmp_path / "model.py").write_text(ROWS)
    assert run("fit", str(tmp_path / "model.py"), "--processes", "2") == 2
    assert "have no effect without --distributed" in capsys.readouterr().err
