"""What commands print of a fit, or plot of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infimum.cli import facts
from infimum.cli.options import SUMMARY_ROWS

if TYPE_CHECKING:
    from infimum.fitting.fit import Fit


def show_fit(fit: Fit, plot: Path | None, *, all_rows: bool = False, as_json: bool = False) -> None:
    """Print the fit with its summary, in words or as JSON; plot it if there is a path for it."""
    if as_json:
        print(facts.as_json(facts.of_fit(fit)))
    else:
        print(fit_text(fit), summary_text(fit, all_rows), sep="\n\n", end="\n\n")
    if plot is not None:
        write_plot(fit.plot, plot, announce=not as_json)


def fit_text(fit: Fit) -> str:
    """What `print` shows of the fit, wrapped to the terminal."""
    return fit.text(width())


def summary_text(fit: Fit, all_rows: bool = False) -> str:
    """A row for each quantity; if there are many, only those with unknown or the largest errors."""
    table = fit.summary()
    note = ""
    if len(table) > SUMMARY_ROWS and not all_rows:
        error = table[["mean_error", "sd_error"]].abs().max(axis=1, skipna=False)
        worst = error.sort_values(ascending=False, na_position="first", kind="stable").index
        note = (
            f"\n… the {SUMMARY_ROWS} of {len(table)} quantities with the largest errors; "
            "`infimum show --all` prints all"
        )
        table = table.loc[worst[:SUMMARY_ROWS]]
    formats = dict.fromkeys(["mean_error", "sd_error"], "{:.3f}".format)
    return table.to_string(float_format="{:.3g}".format, formatters=formats) + note


def width() -> int:
    """Columns to print: those of the terminal, up to the width of a printed fit."""
    from infimum.answer.printed import WIDTH

    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def write_plot(plot: Callable[[], Any], path: Path, *, announce: bool) -> None:
    """Write the figure of these axes to a file, on a machine with or without a display.

    Parameters
    ----------
    plot
        Draws a figure and returns its axes.
    announce
        Whether to print the path.
    """
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    figure = np.ravel(plot())[0].get_figure()
    figure.savefig(path, dpi=150, bbox_inches="tight")
    if announce:
        print(f"Wrote {path}.")
