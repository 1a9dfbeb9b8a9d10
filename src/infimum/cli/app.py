"""The program `infimum`, made of its commands."""

from __future__ import annotations

import inspect
import io
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

import infimum
from infimum.base.processes import PeerError
from infimum.cli.calibration import calibrate
from infimum.cli.explanation import explain
from infimum.cli.fitting import climb, demo, fit
from infimum.cli.saved_fits import compare, report, sample, show
from infimum.cli.user_file import UserError

WRONG_USE, PEER_ENDED = 2, 3
"""Exit codes of an error that the user can fix, and of a distributed run that lost a process."""

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The exit code is 0 if the command succeeded, 2 for wrong use, 3 if another process of a
    distributed run has ended, 4 if a calibration failed, and 1, with a traceback, for any other
    error.
    """
    status = WRONG_USE
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "‖" shows "?"
    try:
        app(arguments, prog_name="infimum")
    except UserError as error:
        message = str(error)
    except PeerError as error:
        message, status = str(error), PEER_ENDED
    except (TypeError, ValueError, ImportError) as error:
        if not _raised_by_infimum(error):
            raise
        message = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
    print(f"infimum: {message}", file=sys.stderr)
    sys.exit(status)


def _raised_by_infimum(error: Exception) -> bool:
    """Whether infimum itself raised the error, not a library that it calls."""
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(infimum.__file__).parent
    return bool(frames) and Path(frames[-1].filename).is_relative_to(package)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"infimum {infimum.__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
]


def _help(command: Callable[..., None]) -> str:
    r"""Return the docstring of a command; a line \b keeps the lines below it as they are."""
    return inspect.cleandoc(command.__doc__ or "").replace("\\b", "\b")


def _infimum(version: Version = False) -> None:
    r"""Variational inference: find the q closest to your posterior, and how close it is.

    \b
    See it work:             infimum demo
    Fit your own model:      infimum fit model.py:posterior
    Try several families:    infimum climb model.py:posterior
    Look at a saved fit:     infimum show fit.zip
    Write an HTML report:    infimum report fit.zip
    Write draws to a file:   infimum sample fit.zip --out draws.csv
    Compare models:          infimum compare a.zip b.zip
    Test on simulated data:  infimum calibrate model.py:model
    Explain an error code:   infimum explain E301
    Help on one command:     infimum fit --help
    """


app.callback(help=_help(_infimum))(_infimum)
for _command in (demo, fit, climb, show, sample, compare, report, calibrate, explain):
    app.command(help=_help(_command))(_command)
