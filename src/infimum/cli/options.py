"""The arguments and options of the commands, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SUMMARY_ROWS = 20
"""Rows of a summary that `infimum show` prints without --all: they fit on a screen."""

# ---- what to fit ---------------------------------------------------------------------------------

ModelFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:NAME",
        help="A Python file and the name of the model in it; or FILE.stan.",
    ),
]
StanData = Annotated[
    Path | None, typer.Option(metavar="DATA.json", help="Data for a Stan program.")
]
SimulatorFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:NAME", help="A Python file and the name of the model or simulator in it."
    ),
]
Demonstration = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the demonstration.", show_default=True)
]

# ---- how to fit it -------------------------------------------------------------------------------

FamilyName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Family of q: meanfield, fullrank, sparse, flow and others; auto tries larger and "
        "larger ones.",
    ),
]
Ladder = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Families to fit, smallest first, as in meanfield,fullrank,flow; auto chooses them.",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="NATS",
        help="A climb goes on until the KL is below this as well.",
        show_default="a verdict of good ends it",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Time limit in seconds; the best fit so far is returned."),
]
Seed = Annotated[
    int, typer.Option(min=0, metavar="INT", help="The same seed gives the same result.")
]
StartFile = Annotated[
    Path | None,
    typer.Option(
        metavar="START",
        help="Where the search begins: a saved FIT.zip, or a JSON file with values of parameters, "
        "of which some may be missing.",
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Draws from q for the ELBO, log Z, the KL and the verdict.",
        show_default="as in infimum.fit",
    ),
]
Scouts = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Ascents from far points that look for modes which q does not cover; 0 for none.",
        show_default="as in infimum.fit",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Save progress in this folder; after an interruption the same command resumes.",
    ),
]
Datasets = Annotated[
    int, typer.Option("--n", min=20, metavar="INT", help="Number of datasets to simulate.")
]
Unweighted = Annotated[
    bool,
    typer.Option("--unweighted", help="Rank among draws from q without importance weights."),
]

# ---- several processes ---------------------------------------------------------------------------

Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Run as one of several processes that make one fit, each with its own rows.",
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Address of process 0, if no scheduler provides it."),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, metavar="INT", help="Number of processes, if no scheduler provides it."),
]
Process = Annotated[
    int | None,
    typer.Option(min=0, metavar="INT", help="Number of this process, counted from 0."),
]

# ---- saved fits ----------------------------------------------------------------------------------

SavedFit = Annotated[Path, typer.Argument(metavar="FIT.zip", help="A fit saved by infimum.")]
SavedFits = Annotated[
    list[Path], typer.Argument(metavar="FIT.zip...", help="Two or more fits saved by infimum.")
]
SampleSize = Annotated[int, typer.Option("--n", min=1, metavar="INT", help="Number of draws.")]
Weighted = Annotated[
    bool, typer.Option("--weighted", help="Correct the draws by importance weights.")
]
AllQuantities = Annotated[
    bool,
    typer.Option(
        "--all", help=f"Print all quantities, not only the {SUMMARY_ROWS} with the largest errors."
    ),
]
Title = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Title of the report.", show_default="the name of the target"
    ),
]

# ---- output --------------------------------------------------------------------------------------

FitFile = Annotated[
    Path,
    typer.Option(metavar="FIT.zip", help="File for the fit; an existing file is replaced."),
]
DrawsFile = Annotated[
    Path,
    typer.Option(
        metavar="DRAWS",
        help="draws.csv, draws.parquet or draws.nc; an existing file is replaced.",
    ),
]
ReportFile = Annotated[
    Path,
    typer.Option(metavar="PAGE.html", help="File for the report; an existing file is replaced."),
]
Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the fit and its plot.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="PLOT", help="Plot q and the reweighted draws: q.png, .pdf, …"),
]
LadderPlot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="PLOT", help="Plot the remaining KL of each family against time."
    ),
]
RankPlot = Annotated[Path | None, typer.Option("--plot", metavar="PLOT", help="Plot the ranks.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print only one JSON object; null is an unknown number."),
]
