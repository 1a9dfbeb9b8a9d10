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
    """Print a saved fit."""
    check_plot(plot)
    show_fit(infimum.load(file), plot, all_rows=all_rows, as_json=as_json)


def sample(
    file: SavedFit,
    n: SampleSize = 1000,
    out: DrawsFile = Path("draws.csv"),
    weighted: Weighted = False,
    seed: Seed = 0,
) -> None:
    """Write draws from a saved fit; warn if its verdict does not allow them."""
    check_file(out)
    draws_file.writer(out)
    fit = infimum.load(file)
    draws_file.write(fit, fit.sample(n, seed=seed, weighted=weighted), out)
    print(f"Wrote {n:,} draws of {len(fit.space.names):,} quantities to {out}.")
    if fit.verdict == "unreliable" or (fit.verdict == "reweight" and not weighted):
        print(f"The verdict of this fit is {fit.verdict}. {fit.advice}", file=sys.stderr)


def compare(files: SavedFits, as_json: Json = False) -> None:
    """Print Bayes factors of saved fits."""
    names = [str(file) for file in files]
    table = infimum.compare([infimum.load(file) for file in files], names)
    if as_json:
        print(facts.as_json(facts.of_table(table, "model")))
    else:
        print(table.to_string(float_format="{:.4g}".format))


def report(file: SavedFit, out: ReportFile = Path("report.html"), title: Title = None) -> None:
    """Write the report of a saved fit."""
    check_file(out)
    print(f"Wrote {infimum.load(file).report(out, title=title)}.")
