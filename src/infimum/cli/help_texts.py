r"""The help text of every command; a line with \b alone keeps the lines below it unwrapped."""

INFIMUM = """
Variational inference: find the distribution q in a simple family that is closest to your posterior,
and measure how close it is.

\b
See it work:             infimum demo
Fit your own model:      infimum fit model.py:posterior
Try several families:    infimum climb model.py:posterior
Look at a saved fit:     infimum show fit.zip
Write an HTML report:    infimum report fit.zip
Write draws to a file:   infimum sample fit.zip --out draws.csv
Compare models:          infimum compare a.zip b.zip
Test on simulated data:  infimum calibrate model.py:model
Explain an error code:   infimum explain E301
Help on one command:     infimum fit --help
"""

DEMO = """
Fit the posterior of a real dataset with several families, and show the best fit.

NAME is eight_schools, challenger, pumps, seeds, stackloss, dugongs, coal or galaxies. The command
writes the best fit to NAME.zip and a plot of it to NAME.png. A demonstration took 4 to 35 s on two
cores.

\b
Examples:
  infimum demo
  infimum demo challenger --out results
"""

FIT = """
Fit the posterior defined in a Python file or a Stan program. Prints how close q is, and saves the
fit.

NAME is an infimum.Target, a PyMC model, a NumPyro model whose data are already bound, or a function
without arguments that returns one of these. NAME can be left out if the file has only one. For a
Stan program, give the data as well: infimum fit model.stan --data data.json

With --distributed, run the same command on every host. The file then defines an infimum.Rows with
the rows of its own process, whose number is jax.process_index(). Process 0 prints and saves the
fit.

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

SHOW = """
Print a saved fit: how close q is, and one row for each quantity.

mean_error is the error of q's mean in posterior sds, and sd_error is the relative error of q's sd.
If there are many quantities, those with the largest errors come first.

\b
Example:
  infimum show fit.zip --plot q.png
"""

REPORT = """
Write a report of a saved fit: one HTML file with the verdict, key numbers, plots and a table of
all quantities.

The file needs no network connection, and it can be printed.

\b
Example:
  infimum report fit.zip --out report.html
"""

CLIMB = """
Fit larger and larger families, each starting from the previous fit. Prints one line for each
family, and saves the best fit.

Give the model as for infimum fit. Without --ladder, infimum chooses the next family by its
predicted gain and cost. The climb ends when the KL is below --tol nats and the verdict is good.

\b
Example:
  infimum climb model.py:posterior --budget 60 --plot ladder.png
"""

SAMPLE = """
Write draws from a saved fit. CSV and Parquet files have a column for each quantity and a row for
each draw; a NetCDF file has the layout of ArviZ.

The draws come from q itself, which is appropriate if the verdict is good. With --weighted they are
corrected by importance weights, as the verdict reweight requires.

\b
Example:
  infimum sample fit.zip --n 4000 --out draws.csv
"""

COMPARE = """
Print Bayes factors of saved fits to the same data, with the most probable model first.

The command refuses if the evidence of a fit is unreliable.

\b
Example:
  infimum compare pooled.zip hierarchical.zip
"""

CALIBRATE = """
Simulate datasets from a model, fit each, and check whether the fits are calibrated: the true
parameters should rank uniformly among draws from the fits.

NAME is a NumPyro model whose arguments, including the observations, have default values; these
specify which sites to simulate and their shapes. Alternatively, NAME is a function of a
numpy.random.Generator that returns simulated parameters and the infimum.Target given data simulated
from them.

The exit code is 4 if the calibration fails.

\b
Example:
  infimum calibrate model.py:model --n 200 --plot ranks.png
"""

EXPLAIN = """
Explain what an error or warning means, and what to do.

CODE stands in brackets at the end of the message.

\b
Example:
  infimum explain E301
"""
