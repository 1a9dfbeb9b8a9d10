"""TODO."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infimum.base.errors import coded
from infimum.cli.user_file import UserError

if TYPE_CHECKING:
    from infimum import Fit


SHOWN = 20
"""Rows of a summary shown unless all are asked for: what fits a screen."""


def show_fit(found: Fit, plot: Path | None, everything: bool, as_json: bool) -> None:
    from infimum.cli import facts

    if as_json:
        print(facts.text(facts.of_fit(found)))
    else:
        print(printed(found), summary(found, everything), sep="\n\n", end="\n\n")
    if plot is not None:
        draw(found.plot, plot, told=not as_json)


def summary(found: Fit, everything: bool) -> str:
    """A row a quantity; where they are many, those whose errors are largest, or unknown, first."""
    table = found.summary()
    note = ""
    if len(table) > SHOWN and not everything:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1, skipna=False)
        worst = error.sort_values(ascending=False, na_position="first", kind="stable").index
        note = f"\n… the worst {SHOWN} of {len(table)} quantities; --all of `infimum show` has all"
        table = table.loc[worst[:SHOWN]]
    errors = dict.fromkeys(["mean_error", "sd_error"], "{:.3f}".format)
    return table.to_string(float_format="{:.3g}".format, formatters=errors) + note


def printed(found: Fit) -> str:
    """The fit as `print` shows it, on narrower terminals in fewer columns."""
    return found.text(width())


def width() -> int:
    """Columns of what is printed."""
    from infimum.answer.advice import WIDTH

    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def draw(plot: Callable[[], Any], picture: Path, *, told: bool) -> None:
    """Draw to a file, whatever screen there is, and say so."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    figure = np.ravel(plot())[0].get_figure()
    figure.savefig(picture, dpi=150, bbox_inches="tight")
    if told:
        print(f"Wrote {picture}.")


def check_folder(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise UserError(coded("E912", f"{path}: there is no folder {path.parent}: make it first"))
    if path.is_dir():
        raise UserError(coded("E912", f"{path} is a folder: give the name of a file in it"))


def check_picture(path: Path | None) -> None:
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    check_folder(path)
    kinds = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise UserError(
            coded("E911", f"can't draw {path}: its name must end in one of .{', .'.join(kinds)}")
        )
