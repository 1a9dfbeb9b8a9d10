"""The commands that use saved fits."""

from __future__ import annotations

import sys
from pathlib import Path

import infimum
from infimum.cli import draws_file, facts
from infimum.cli.options import (
    AllQuantities,
    DrawsFile,
    Json,
    Plot,
    ReportFile,
    SampleSize,
    SavedFit,
    SavedFits,
    Seed,
    Title,
    Weighted,
)
from infimum.cli.output import show_fit
from infimum.cli.paths import check_file, check_plot


def show(
    file: SavedFit, plot: Plot = None, all_rows: AllQuantities = False, as_json: Json = False
) -> None:
    r"""Print a saved fit: how close q is, and one row for each quantity.

    mean_error is the error of q's mean in posterior sds, and sd_error is the relative error of
    q's sd. If there are many quantities, those with the largest errors come first.

    \b
    Example:
      infimum show fit.zip --plot q.png
    """
    check_plot(plot)
    show_fit(infimum.load(file), plot, all_rows=all_rows, as_json=as_json)


def sample(
    file: SavedFit,
    n: SampleSize = 1000,
    out: DrawsFile = Path("draws.csv"),
    weighted: Weighted = False,
    seed: Seed = 0,
) -> None:
    r"""Write draws from a saved fit.

    CSV and Parquet files have a column for each quantity and a row for each draw; a NetCDF file
    has the layout of ArviZ.

    The draws come from q itself, which is appropriate if the verdict is good. With --weighted
    they are corrected by importance weights, as the verdict reweight requires.

    \b
    Example:
      infimum sample fit.zip --n 4000 --out draws.csv
    """
    check_file(out)
    draws_file.writer(out)
    fit = infimum.load(file)
    draws_file.write(fit, fit.sample(n, seed=seed, weighted=weighted), out)
    print(f"Wrote {n:,} draws of {len(fit.space.names):,} quantities to {out}.")
    if fit.verdict == "unreliable" or (fit.verdict == "reweight" and not weighted):
        print(f"The verdict of this fit is {fit.verdict}. {fit.advice}", file=sys.stderr)


def compare(files: SavedFits, as_json: Json = False) -> None:
    r"""Print Bayes factors of saved fits to the same data, with the most probable model first.

    The command refuses if the evidence of a fit is unreliable.

    \b
    Example:
      infimum compare pooled.zip hierarchical.zip
    """
    names = [str(file) for file in files]
    table = infimum.compare([infimum.load(file) for file in files], names)
    if as_json:
        print(facts.as_json(facts.of_table(table, "model")))
    else:
        print(table.to_string(float_format="{:.4g}".format))


def report(file: SavedFit, out: ReportFile = Path("report.html"), title: Title = None) -> None:
    r"""Write a report of a saved fit.

    The report is one HTML file with the verdict, key numbers, plots and a table of all
    quantities. The file needs no network connection, and it can be printed.

    \b
    Example:
      infimum report fit.zip --out report.html
    """
    check_file(out)
    print(f"Wrote {infimum.load(file).report(out, title=title)}.")
