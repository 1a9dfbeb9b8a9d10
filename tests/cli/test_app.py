"""The entry point of the command line: wrong use, help and exit codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

import infimum
from infimum.cli import main
from infimum.cli.user_file import read_target

COMMANDS = ("demo", "fit", "climb", "show", "report", "sample", "compare", "calibrate", "explain")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("fit absent.py:x", "there is no file absent.py"),
        ("fit fit.zip", "there is no file fit.zip"),
        ("fit not_a_fit.zip", "is neither a Python file nor"),
        ("fit torn.py", "torn.py: SyntaxError"),
        ("fit missing.py", "missing.py, line 2: ModuleNotFoundError: No module named"),
        ("fit model.py:absent", "no 'absent'; the file has models: posterior; functions without"),
        ("fit empty.py", "empty.py defines nothing to fit"),
        ("fit model.py:number", "is, or returns, 3: expected an infimum.Target"),
        ("fit model.py:needs", "needs arguments (y, sigma): bind them in the file"),
        ("fit model.py:discrete", "site 'k'"),
        ("fit model.py:whole_number", "line 33: TypeError: parameter 'a' is 0"),
        ("fit model.py:undefined", "log density is NaN at every start"),
        ("fit model.py:fails", "line 39: RuntimeError: no such column"),
        ("fit one.py --family normal", "unknown family 'normal'; known: auto, e"),
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
def test_wrong_use_is_one_message_and_exit_code_2(run, folder, capsys, arguments, words):
    before = sorted(folder.iterdir())
    assert run(*arguments.split()) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, OSError])
def test_a_failure_that_is_not_the_users_keeps_its_traceback(folder, monkeypatch, error):
    def broken(*_: object, **__: object) -> None:
        raise error("a defect")

    monkeypatch.setattr(infimum, "fit", broken)
    with pytest.raises(error, match="a defect"):
        main(["fit", "one.py"])


def test_the_shell_completes_commands():
    request = {"_INFIMUM_COMPLETE": "complete_bash", "COMP_WORDS": "infimum cal", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", "from infimum.cli import main; main()"],
        capture_output=True,
        text=True,
        env={**os.environ, **request},
    )
    assert ended.stdout.split() == ["calibrate"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(run, capsys, command):
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


def test_a_terminal_that_lacks_the_symbols_is_no_failure(run, folder, monkeypatch):
    infimum.fit(read_target("one.py"), "meanfield", draws=200).save("fit.zip")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run("show", "fit.zip") == 0
    sys.stdout.flush()
    assert b"KL[q ? p*]" in written.getvalue()


def test_version(run, capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"infimum {infimum.__version__}\n"
