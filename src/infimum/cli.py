"""The command line: a command for each thing that is done with a posterior, or with its fit."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infimum._errors import CATALOGUE, coded
from infimum._processes import PeerError
from infimum._user_file import UserError, draws_itself, read_model, read_target

if TYPE_CHECKING:
    from infimum import Fit

SHOWN = 20
"""Rows of a summary shown unless all are asked for: what fits a screen."""

# Help as typer lays it out: \b keeps the lines of the paragraph below it as they are.

INFIMUM = """
Variational inference: find the distribution q of a simple family that is nearest to your
posterior, and see how near it is.

\b
See it work:            infimum demo
Fit your own model:     infimum fit model.py:posterior
Every family's answer:  infimum climb model.py:posterior
Look at a saved fit:    infimum show fit.zip
Put it into a page:     infimum report fit.zip
Take draws of it:       infimum sample fit.zip --out draws.csv
Compare two models:     infimum compare a.zip b.zip
Try fits on known data: infimum calibrate model.py:model
What an error means:    infimum explain E301
More on one of them:    infimum fit --help
"""

DEMO = """
Climb on a posterior of real data, and show the answer.

NAME is eight_schools, challenger, pumps, seeds, stackloss, dugongs, coal or galaxies. Writes
NAME.zip, the best fit, and NAME.png, its picture. They took 4 to 35 s on two
cores.

\b
Examples:
  infimum demo
  infimum demo challenger --out results
"""

FIT = """
Fit the posterior that a Python file or a Stan program states. Prints how near q is, and saves the
fit.

NAME is an infimum.Target; a PyMC model; a NumPyro model that needs no arguments, its data bound in
the file; or a function without arguments that returns one of these. It may be left out if the file
has only one. A Stan program is fitted with its data: infimum fit model.stan --data data.json

Under --distributed the same command runs on every host, and the file gives infimum.Rows with the
rows of that process (jax.process_index() says which it is); process 0 prints and saves the fit.

\b
Example: with this in model.py
  import infimum, jax.numpy as jnp
  def log_density(p):
      return -0.5 * jnp.sum(p["x"] ** 2) - 0.5 * jnp.sum(p["x"]) ** 2
  posterior = infimum.Target(log_density, {"x": jnp.zeros(3)})

\b
run
  infimum fit model.py:posterior --plot q.png
"""

SHOW = """
Print a saved fit: how near it is, and a row for each quantity.

mean_error is q's error of the mean in posterior sds, sd_error its relative error of the sd. Where
there are many quantities, those of the largest errors come first.

\b
Example:
  infimum show fit.zip --plot q.png
"""

REPORT = """
Write the report of a saved fit: one HTML file with its verdict, numbers, pictures and quantities.

It opens from disk, without a network, and prints.

\b
Example:
  infimum report fit.zip --out report.html
"""

CLIMB = """
Fit larger and larger families, each from where the last one ended. Prints a line for each, and
saves the best.

The model is stated as for infimum fit. Without --ladder the next family is the one that promises
most for its time, until the KL is below --tol nats and the verdict is good.

\b
Example:
  infimum climb model.py:posterior --budget 60 --plot ladder.png
"""

SAMPLE = """
Write draws of a saved fit: a column for each quantity and a row for each draw in CSV and Parquet,
ArviZ's InferenceData in NetCDF.

Draws are q's own, which is what a good verdict is about. With --weighted they are corrected by
importance weights, as a verdict of reweight asks for.

\b
Example:
  infimum sample fit.zip --n 4000 --out draws.csv
"""

COMPARE = """
Bayes factors of saved fits of the same data, the most probable model first.

It is refused where an evidence is not to be believed.

\b
Example:
  infimum compare pooled.zip hierarchical.zip
"""

CALIBRATE = """
Simulate data sets from a model, fit each, and see whether the fits know what they were made from.

NAME is a NumPyro model whose arguments, observations included, have defaults: they say which sites
to simulate, and in which shapes. Or a function of a numpy.random.Generator that returns the
parameters and the infimum.Target given the data drawn from them.

Exit code 4 says that the calibration failed.

\b
Example:
  infimum calibrate model.py:model --n 200 --plot ranks.png
"""

EXPLAIN = """
Say what an error or a warning means, and what to do.

CODE stands at the end of its message, in brackets.

\b
Example:
  infimum explain E301
"""

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Stated = Annotated[
    str,
    typer.Argument(
        metavar="FILE.py:NAME", help="The file, and the name in it to fit; or FILE.stan."
    ),
]

Tol = Annotated[
    float | None,
    typer.Option(metavar="NATS", help="KL at which a climb ends.", show_default="as infimum.climb"),
]
Budget = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="What it may take: the best so far then.")
]
StanData = Annotated[Path | None, typer.Option(metavar="DATA.json", help="Data of a Stan program.")]

Seed = Annotated[
    int, typer.Option(min=0, metavar="INT", help="The same seed gives the same answer.")
]

Saved = Annotated[Path, typer.Argument(metavar="FIT.zip", help="A fit saved by infimum.")]

Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="PICTURE", help="Draw q over reweighted draws: q.png, .pdf, …"),
]

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object and nothing else; null is not known."),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0 done; 2 wrong use; 3 another process of a distributed run has ended; 4 a calibration that
    failed; 1, with a traceback, anything else.
    """
    status = 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "‖" shows "?"
    try:
        app(arguments, prog_name="infimum")
    except UserError as error:
        told = str(error)
    except PeerError as error:
        told, status = str(error), 3
    except (TypeError, ValueError, ImportError) as error:
        if not _raised_by_infimum(error):
            raise
        told = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}"
    print(f"infimum: {told}", file=sys.stderr)
    sys.exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        import infimum

        print(f"infimum {infimum.__version__}")
        raise typer.Exit


@app.callback(help=INFIMUM)
def _infimum(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(help=DEMO)
def demo(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which one.", show_default=True)
    ] = "eight_schools",
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the fit and the picture.")
    ] = Path("out"),
) -> None:
    """Climb on a demonstration; write the best fit and its picture."""
    import infimum
    from infimum import _demos

    chosen = _demos.named(name)
    out.mkdir(parents=True, exist_ok=True)
    target = chosen.target()
    print(
        f"{textwrap.fill(chosen.question, _width())}\n{target.dim} parameters. Each family of "
        "distributions Q holds one q that is nearest to the posterior p*:\n"
    )
    climb = infimum.climb(target)
    best = climb.best
    print(climb.table(), _printed(best), sep="\n\n")
    saved = best.save(out / f"{name}.zip")
    picture = out / f"{name}.png"
    _draw(lambda: best.plot(list(chosen.drawn)), picture, told=False)
    command = "infimum" if shutil.which("infimum") else sys.argv[0]
    print(
        f"\nWrote {saved} and {picture}.\n\n"
        "The ELBO is below log Z by KL[q ‖ p*], the distance from q to the posterior, in nats;\n"
        "the verdict says what q's draws may be used for. To go on:\n\n"
        f"  {command} show {saved}\n"
        "      every parameter: its mean and sd, and how far q is off\n"
        f"  {command} fit --help\n"
        "      your own model"
    )


@app.command(help=FIT)
def fit(
    model: Stated,
    family: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="meanfield, fullrank, sparse, flow and so on; or auto: climb until near enough.",
        ),
    ] = "auto",
    tol: Tol = None,
    budget: Budget = None,
    seed: Seed = 0,
    draws: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            help="Fresh draws that ELBO, log Z, KL and verdict rest on.",
            show_default="as infimum.fit",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FIT.zip", help="Where to save the fit; replaces what is there.")
    ] = Path("fit.zip"),
    data: StanData = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep what was computed here; the same command goes on from it if it was ended.",
        ),
    ] = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="One of several processes, each with rows of its own, that make one fit.",
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Process 0, where no scheduler says it."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="INT", help="How many, where none says it.")
    ] = None,
    process: Annotated[
        int | None, typer.Option(min=0, metavar="INT", help="Which one this is, from 0.")
    ] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Fit what the file states, save it, print it."""
    import infimum
    from infimum import _processes

    if family != "auto":
        infimum.families.named(family)
    _check_folder(out)
    _check_picture(plot)
    places = (coordinator, processes, process)
    if any(place is not None for place in places) and not distributed:
        raise UserError(
            coded(
                "E724",
                "--coordinator, --processes and --process are for --distributed: add it, or leave "
                "them out",
            )
        )
    if distributed:
        _processes.begin(*places)
    target = read_target(model, data)
    if distributed and not isinstance(target, infimum.Rows):
        raise UserError(
            coded("E724", f"{target!r} has no rows to share out: --distributed is for infimum.Rows")
        )
    options = _limits(draws=draws, tol=tol, budget=budget)
    found = infimum.fit(target, family, seed=seed, checkpoint=checkpoint, **options)
    if _processes.rank() > 0:  # all have the same fit: one of them tells it
        return
    saved = found.save(out)
    _show(found, plot, everything=False, as_json=as_json)
    if not as_json:
        print(f"Wrote {saved}.")


@app.command(help=CLIMB)
def climb(
    model: Stated,
    ladder: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Families, smallest first: meanfield,fullrank,flow; or auto."
        ),
    ] = "auto",
    tol: Tol = None,
    budget: Budget = None,
    seed: Seed = 0,
    out: Annotated[
        Path,
        typer.Option(metavar="FIT.zip", help="Where to save the best; replaces what is there."),
    ] = Path("fit.zip"),
    data: StanData = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PICTURE", help="Draw the KL left against the seconds."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Climb on what the file states, save the best fit, print every rung."""
    import infimum
    from infimum import _facts

    _check_folder(out)
    _check_picture(plot)
    limits = _limits(tol=tol)
    rungs = ladder if ladder == "auto" else [name.strip() for name in ladder.split(",")]
    found = infimum.climb(read_target(model, data), rungs, budget=budget, seed=seed, **limits)
    saved = found.best.save(out)
    if as_json:
        print(_facts.text(_facts.of_climb(found)))
    else:
        print(found.table(), _printed(found.best), _summary(found.best, False), sep="\n\n")
        print(f"\nWrote {saved}.")
    if plot is not None:
        _draw(found.plot, plot, told=not as_json)


@app.command(help=SHOW)
def show(
    file: Saved,
    plot: Plot = None,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Every quantity, not only the {SHOWN} worst.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a saved fit."""
    import infimum

    _check_picture(plot)
    _show(infimum.load(file), plot, everything, as_json)


@app.command(help=SAMPLE)
def sample(
    file: Saved,
    n: Annotated[int, typer.Option("--n", min=1, metavar="INT", help="How many draws.")] = 1000,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DRAWS", help="draws.csv, draws.parquet or draws.nc; replaces what is there."
        ),
    ] = Path("draws.csv"),
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Corrected by importance weights.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, metavar="INT", help="The same seed gives the same draws.")
    ] = 0,
) -> None:
    """Write draws of a saved fit."""
    import infimum
    from infimum import _draws_file

    _check_folder(out)
    _draws_file.writer(out)
    found = infimum.load(file)
    _draws_file.write(found, found.sample(n, seed=seed, weighted=weighted), out)
    print(f"Wrote {n:,} draws of {len(found.space.names):,} quantities to {out}.")
    if found.verdict == "unreliable" or (found.verdict == "reweight" and not weighted):
        print(f"The fit's verdict is {found.verdict}. {found.advice}", file=sys.stderr)


@app.command(help=COMPARE)
def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="FIT.zip...", help="Two or more fits saved by infimum.")
    ],
    as_json: Json = False,
) -> None:
    """Print Bayes factors of saved fits."""
    import infimum
    from infimum import _facts

    names = [str(file) for file in files]
    table = infimum.compare([infimum.load(file) for file in files], names)
    if as_json:
        print(_facts.text(_facts.of_table(table, "model")))
    else:
        print(table.to_string(float_format="{:.4g}".format))


@app.command(help=REPORT)
def report(
    file: Saved,
    out: Annotated[
        Path, typer.Option(metavar="PAGE.html", help="Where to write it; replaces what is there.")
    ] = Path("report.html"),
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Title of the page.", show_default="the target's name"),
    ] = None,
) -> None:
    """Write the report of a saved fit."""
    import infimum

    _check_folder(out)
    print(f"Wrote {infimum.load(file).report(out, title=title)}.")


@app.command(help=CALIBRATE)
def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="The file, and the model in it.")
    ],
    n: Annotated[int, typer.Option("--n", min=20, metavar="INT", help="How many data sets.")] = 200,
    family: Annotated[
        str, typer.Option(metavar="NAME", help="What is fitted, as for infimum fit.")
    ] = "fullrank",
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Rank among q's own draws, not corrected ones.")
    ] = False,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PICTURE", help="Draw the ranks.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a calibration found."""
    import infimum
    from infimum import _facts

    _check_picture(plot)
    stated = read_model(model)
    source: dict[str, Any] = {"simulate" if draws_itself(stated) else "model": stated}
    options: dict[str, Any] = {"n": n, "family": family, "weighted": not unweighted, "seed": seed}
    found = infimum.calibrate(**source, **options)
    if as_json:
        print(_facts.text(_facts.of_calibration(found)))
    else:
        print(found)
    if plot is not None:
        _draw(found.plot, plot, told=not as_json)
    if not found.passed:
        raise typer.Exit(4)


@app.command(help=EXPLAIN)
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="E or W and three digits.")],
) -> None:
    """Print an entry of the catalogue of errors."""
    entry = CATALOGUE.get(code.strip("[]").upper())
    if entry is None:
        message = (
            f"there is no code {code!r}: give one that stands at the end of a message, as E301"
        )
        raise UserError(coded("E920", message))
    for paragraph in (f"{entry.title}.", entry.means, f"What to do: {entry.cure}"):
        print(textwrap.fill(paragraph, _width()))


def _limits(**given: Any) -> dict[str, Any]:
    """Those options that were given; the others have their defaults in the library."""
    return {name: value for name, value in given.items() if value is not None}


# ---- what is printed and drawn ------------------------------------------------------------------


def _show(found: Fit, plot: Path | None, everything: bool, as_json: bool) -> None:
    from infimum import _facts

    if as_json:
        print(_facts.text(_facts.of_fit(found)))
    else:
        print(_printed(found), _summary(found, everything), sep="\n\n", end="\n\n")
    if plot is not None:
        _draw(found.plot, plot, told=not as_json)


def _summary(found: Fit, everything: bool) -> str:
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


def _printed(found: Fit) -> str:
    """The fit as `print` shows it, on narrower terminals in fewer columns."""
    return found.text(_width())


def _width() -> int:
    """Columns of what is printed."""
    from infimum._words import WIDTH

    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def _draw(plot: Callable[[], Any], picture: Path, *, told: bool) -> None:
    """Draw to a file, whatever screen there is, and say so."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    figure = np.ravel(plot())[0].get_figure()
    figure.savefig(picture, dpi=150, bbox_inches="tight")
    if told:
        print(f"Wrote {picture}.")


# ---- what is asked for, checked before any work -------------------------------------------------


def _check_folder(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise UserError(coded("E912", f"{path}: there is no folder {path.parent}: make it first"))
    if path.is_dir():
        raise UserError(coded("E912", f"{path} is a folder: give the name of a file in it"))


def _check_picture(path: Path | None) -> None:
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    _check_folder(path)
    kinds = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise UserError(
            coded("E911", f"can't draw {path}: its name must end in one of .{', .'.join(kinds)}")
        )


def _raised_by_infimum(error: Exception) -> bool:
    """Whether infimum itself raised it, not a library below it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
