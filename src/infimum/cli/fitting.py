"""The commands that fit a model."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import infimum
from infimum.base.errors import coded_error
from infimum.base.processes import begin, rank
from infimum.cli import facts
from infimum.cli.options import (
    Budget,
    Checkpoint,
    Coordinator,
    Demonstration,
    Distributed,
    Draws,
    FamilyName,
    FitFile,
    Folder,
    Json,
    Ladder,
    LadderPlot,
    ModelFile,
    Plot,
    Process,
    Processes,
    Scouts,
    Seed,
    StanData,
    StartFile,
    Tolerance,
)
from infimum.cli.output import fit_text, show_fit, summary_text, width, write_plot
from infimum.cli.paths import check_file, check_plot
from infimum.cli.start_file import read_start
from infimum.cli.user_file import UserError, read_target

if TYPE_CHECKING:
    from infimum.target.target import Target


def demo(name: Demonstration = "eight_schools", out: Folder = Path("out")) -> None:
    r"""Fit the posterior of a real dataset by a climb, and show the best fit.

    NAME is eight_schools, challenger, pumps, seeds, stackloss, dugongs, coal or galaxies. The
    command writes the best fit to NAME.zip and a plot of it to NAME.png. A demonstration took 14
    to 38 s on two cores that were busy with other work.

    \b
    Examples:
      infimum demo
      infimum demo challenger --out results
    """
    from infimum.cli import demos

    chosen_demo = demos.named(name)
    out.mkdir(parents=True, exist_ok=True)
    target = chosen_demo.target()
    _print_filled(chosen_demo.question)
    _print_filled(
        f"{target.dim} parameters. For each family of distributions, the member q that is closest "
        "to the posterior p*:"
    )
    print()
    climb = infimum.climb(target)
    print(climb.table(), fit_text(climb.best), sep="\n\n")
    fit_file = climb.best.save(out / f"{name}.zip")
    plot = out / f"{name}.png"
    write_plot(lambda: climb.best.plot(list(chosen_demo.plotted)), plot, announce=False)
    program = "infimum" if shutil.which("infimum") else sys.argv[0]
    print(f"\nWrote {fit_file} and {plot}.\n")
    _print_filled(
        "KL[q ‖ p*] = log Z − ELBO is the distance from q to the posterior, in nats. The verdict "
        "says what draws from q can safely be used for. Next:"
    )
    print(
        f"\n  {program} show {fit_file}\n"
        "      prints the mean and sd of every parameter, and the errors of q\n"
        f"  {program} fit --help\n"
        "      explains how to fit your own model"
    )


def fit(
    model: ModelFile,
    family: FamilyName = "auto",
    tol: Tolerance = None,
    budget: Budget = None,
    seed: Seed = 0,
    start: StartFile = None,
    scouts: Scouts = None,
    draws: Draws = None,
    out: FitFile = Path("fit.zip"),
    data: StanData = None,
    checkpoint: Checkpoint = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process: Process = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    r"""Fit the posterior defined in a Python file or a Stan program.

    Prints how close q is, and saves the fit.

    NAME is an infimum.Target, a PyMC model, a NumPyro model whose data are already bound, or a
    function without arguments that returns one of these. NAME can be left out if the file has
    only one. For a Stan program, give the data as well: infimum fit model.stan --data data.json

    With --distributed, run the same command on every host. The file then defines an infimum.Rows
    with the rows of its own process, whose number is jax.process_index(). Process 0 prints and
    saves the fit.

    \b
    Example: if model.py contains
      import infimum, jax.numpy as jnp
      def log_density(p):
          return -0.5 * jnp.sum(p["x"] ** 2) - 0.5 * jnp.sum(p["x"]) ** 2
      posterior = infimum.Target(log_density, {"x": jnp.zeros(3)})

    \b
    run
      infimum fit model.py:posterior --plot q.png
    """
    if family != "auto":
        infimum.families.named(family)
    check_file(out)
    check_plot(plot)
    _join(distributed, coordinator, processes, process)
    target = read_target(model, data)
    if distributed:
        _check_rows(target)
    options = _without_none(
        start=read_start(start), scouts=scouts, draws=draws, tol=tol, budget=budget
    )
    result = infimum.fit(target, family, seed=seed, checkpoint=checkpoint, **options)
    if rank() > 0:  # every process has the same fit, and process 0 writes it
        return
    fit_file = result.save(out)
    show_fit(result, plot, as_json=as_json)
    if not as_json:
        print(f"Wrote {fit_file}.")


def climb(
    model: ModelFile,
    ladder: Ladder = "auto",
    tol: Tolerance = None,
    budget: Budget = None,
    seed: Seed = 0,
    start: StartFile = None,
    scouts: Scouts = None,
    out: FitFile = Path("fit.zip"),
    data: StanData = None,
    plot: LadderPlot = None,
    as_json: Json = False,
) -> None:
    r"""Fit larger and larger families, each starting from the previous fit.

    Prints one line for each family, and saves the best fit.

    Give the model as for infimum fit. Without --ladder, infimum chooses the next family by its
    predicted gain and cost. The climb ends when the verdict is good; with --tol, when the KL is
    below so many nats as well.

    \b
    Example:
      infimum climb model.py:posterior --budget 60 --plot ladder.png
    """
    check_file(out)
    check_plot(plot)
    options = _without_none(start=read_start(start), scouts=scouts, tol=tol)
    rungs = ladder if ladder == "auto" else [name.strip() for name in ladder.split(",")]
    result = infimum.climb(read_target(model, data), rungs, budget=budget, seed=seed, **options)
    fit_file = result.best.save(out)
    if as_json:
        print(facts.as_json(facts.of_climb(result)))
    else:
        print(result.table(), fit_text(result.best), summary_text(result.best), sep="\n\n")
        print(f"\nWrote {fit_file}.")
    if plot is not None:
        write_plot(result.plot, plot, announce=not as_json)


def _print_filled(text: str) -> None:
    """Print a paragraph, wrapped to the terminal."""
    print(textwrap.fill(text, width()))


def _join(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> None:
    """Join the distributed run, if this process belongs to one."""
    places = (coordinator, processes, process)
    if distributed:
        begin(*places)
    elif any(place is not None for place in places):
        raise coded_error(
            UserError,
            "E724",
            "--coordinator, --processes and --process have no effect without --distributed: "
            "add it, or leave them out",
        )


def _check_rows(target: Target) -> None:
    """Raise UserError unless the target has rows to divide among processes."""
    if not isinstance(target, infimum.Rows):
        raise coded_error(
            UserError,
            "E724",
            f"--distributed divides the rows of a target among processes, and {target!r} has "
            "no rows: define it with infimum.Rows, or leave --distributed out",
        )


def _without_none(**options: Any) -> dict[str, Any]:
    """The options with a value; the library has defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}
