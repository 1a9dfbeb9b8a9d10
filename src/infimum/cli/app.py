"""The command line: a command for each thing that is done with a posterior, or with its fit."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infimum.base.catalogue import catalogue
from infimum.base.errors import coded
from infimum.base.processes import PeerError
from infimum.cli.user_file import UserError, draws_itself, read_model, read_target

if TYPE_CHECKING:
    pass
from infimum.cli.output import (
    SHOWN,
    check_folder,
    check_picture,
    draw,
    printed,
    show_fit,
    summary,
    width,
)
from infimum.cli.texts import (
    CALIBRATE,
    CLIMB,
    COMPARE,
    DEMO,
    EXPLAIN,
    FIT,
    INFIMUM,
    REPORT,
    SAMPLE,
    SHOW,
    Budget,
    Json,
    Plot,
    Saved,
    Seed,
    StanData,
    Stated,
    Tol,
)

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    from infimum.cli import demos

    chosen = demos.named(name)
    out.mkdir(parents=True, exist_ok=True)
    target = chosen.target()
    print(
        f"{textwrap.fill(chosen.question, width())}\n{target.dim} parameters. Each family of "
        "distributions Q holds one q that is nearest to the posterior p*:\n"
    )
    climb = infimum.climb(target)
    best = climb.best
    print(climb.table(), printed(best), sep="\n\n")
    saved = best.save(out / f"{name}.zip")
    picture = out / f"{name}.png"
    draw(lambda: best.plot(list(chosen.drawn)), picture, told=False)
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
    from infimum.base.processes import begin, rank

    if family != "auto":
        infimum.families.named(family)
    check_folder(out)
    check_picture(plot)
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
        begin(*places)
    target = read_target(model, data)
    if distributed and not isinstance(target, infimum.Rows):
        raise UserError(
            coded("E724", f"{target!r} has no rows to share out: --distributed is for infimum.Rows")
        )
    options = _limits(draws=draws, tol=tol, budget=budget)
    found = infimum.fit(target, family, seed=seed, checkpoint=checkpoint, **options)
    if rank() > 0:  # all have the same fit: one of them tells it
        return
    saved = found.save(out)
    show_fit(found, plot, everything=False, as_json=as_json)
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
    from infimum.cli import facts

    check_folder(out)
    check_picture(plot)
    limits = _limits(tol=tol)
    rungs = ladder if ladder == "auto" else [name.strip() for name in ladder.split(",")]
    found = infimum.climb(read_target(model, data), rungs, budget=budget, seed=seed, **limits)
    saved = found.best.save(out)
    if as_json:
        print(facts.text(facts.of_climb(found)))
    else:
        print(found.table(), printed(found.best), summary(found.best, False), sep="\n\n")
        print(f"\nWrote {saved}.")
    if plot is not None:
        draw(found.plot, plot, told=not as_json)


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

    check_picture(plot)
    show_fit(infimum.load(file), plot, everything, as_json)


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
    from infimum.cli import draws_file

    check_folder(out)
    draws_file.writer(out)
    found = infimum.load(file)
    draws_file.write(found, found.sample(n, seed=seed, weighted=weighted), out)
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
    from infimum.cli import facts

    names = [str(file) for file in files]
    table = infimum.compare([infimum.load(file) for file in files], names)
    if as_json:
        print(facts.text(facts.of_table(table, "model")))
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

    check_folder(out)
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
    from infimum.cli import facts

    check_picture(plot)
    stated = read_model(model)
    source: dict[str, Any] = {"simulate" if draws_itself(stated) else "model": stated}
    options: dict[str, Any] = {"n": n, "family": family, "weighted": not unweighted, "seed": seed}
    found = infimum.calibrate(**source, **options)
    if as_json:
        print(facts.text(facts.of_calibration(found)))
    else:
        print(found)
    if plot is not None:
        draw(found.plot, plot, told=not as_json)
    if not found.passed:
        raise typer.Exit(4)


@app.command(help=EXPLAIN)
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="E or W and three digits.")],
) -> None:
    """Print an entry of the catalogue of errors."""
    entry = catalogue().get(code.strip("[]").upper())
    if entry is None:
        message = (
            f"there is no code {code!r}: give one that stands at the end of a message, as E301"
        )
        raise UserError(coded("E920", message))
    for paragraph in (f"{entry.title}.", entry.means, f"What to do: {entry.cure}"):
        print(textwrap.fill(paragraph, width()))


def _limits(**given: Any) -> dict[str, Any]:
    """Those options that were given; the others have their defaults in the library."""
    return {name: value for name, value in given.items() if value is not None}


def _raised_by_infimum(error: Exception) -> bool:
    """Whether infimum itself raised it, not a library below it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
