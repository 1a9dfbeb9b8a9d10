"""TODO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


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
