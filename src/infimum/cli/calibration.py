"""The command that calibrates a model."""

from __future__ import annotations

from typing import Any

import typer

import infimum
from infimum.cli import facts
from infimum.cli.options import (
    Datasets,
    FamilyName,
    Json,
    RankPlot,
    Seed,
    SimulatorFile,
    Unweighted,
)
from infimum.cli.output import write_plot
from infimum.cli.paths import check_plot
from infimum.cli.user_file import is_simulator, read_function

FAILED = 4
"""Exit code of a calibration that failed."""


def calibrate(
    model: SimulatorFile,
    n: Datasets = 200,
    family: FamilyName = "fullrank",
    unweighted: Unweighted = False,
    seed: Seed = 0,
    plot: RankPlot = None,
    as_json: Json = False,
) -> None:
    r"""Simulate datasets from a model, fit each, and check whether the fits are calibrated.

    If they are, the true parameters rank uniformly among draws from the fits.

    NAME is a NumPyro model whose arguments, including the observations, have default values;
    these specify which sites to simulate and their shapes. Alternatively, NAME is a function of a
    numpy.random.Generator that returns simulated parameters and the infimum.Target given data
    simulated from them.

    The exit code is 4 if the calibration fails.

    \b
    Example:
      infimum calibrate model.py:model --n 200 --plot ranks.png
    """
    check_plot(plot)
    function = read_function(model)
    source: dict[str, Any] = {"simulate" if is_simulator(function) else "model": function}
    options: dict[str, Any] = {"n": n, "family": family, "weighted": not unweighted, "seed": seed}
    calibration = infimum.calibrate(**source, **options)
    print(facts.as_json(facts.of_calibration(calibration)) if as_json else calibration)
    if plot is not None:
        write_plot(calibration.plot, plot, announce=not as_json)
    if not calibration.passed:
        raise typer.Exit(FAILED)
