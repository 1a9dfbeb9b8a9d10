"""What `pip install infimum` alone can do: run in an environment without any extra.

Everything that an extra brings must be refused by an error that names the extra, and a climb must
skip the rung that needs it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import infimum
from infimum.cli import main
from infimum.fitting import display

OPTIONAL = {
    "arviz": ("arviz_base", "xarray"),
    "cli": ("rich", "typer"),
    "enumeration": ("funsor",),
    "flows": ("flowjax",),
    "mcmc": ("blackjax",),
    "netcdf": ("h5netcdf",),
    "parquet": ("pyarrow",),
    "plots": ("matplotlib",),
    "report": ("jinja2",),
    "sparse": ("asdex", "numba", "qdldl"),
}
"""The libraries of each extra that `infimum[all]` has."""


def ring(z: Any) -> Any:
    """A log density whose contours are bent: flows are what it needs."""
    x, y = z
    return -0.5 * (x**2 + (2.0 * (y - x**2)) ** 2)


def check_that_nothing_optional_is_here() -> None:
    """Otherwise this would prove nothing."""
    for libraries in OPTIONAL.values():
        for library in libraries:
            assert importlib.util.find_spec(library) is None, f"{library} is installed"


def check_a_fit() -> infimum.Fit:
    """Fit, print, summarise, sample, save and load; log Z is known."""
    covariance = np.array([[2.0, 0.9], [0.9, 1.0]])
    precision = jnp.asarray(np.linalg.inv(covariance))
    target = infimum.Target(lambda z: -0.5 * z @ precision @ z, np.zeros(2), name="normal")
    fit = infimum.fit(target, "fullrank")
    print(fit, fit.summary(), sep="\n\n")
    assert fit.verdict == "good"
    log_z = np.log(2 * np.pi) + 0.5 * np.log(np.linalg.det(covariance))
    assert abs(fit.log_evidence.value - log_z) < 0.01
    assert np.allclose(fit.summary()["sd"], np.sqrt(np.diag(covariance)), rtol=0.05)
    with tempfile.TemporaryDirectory() as folder:
        loaded = infimum.load(fit.save(Path(folder) / "fit.zip"))
    assert str(loaded) == str(fit)
    assert np.array_equal(loaded.sample(10, seed=1), fit.sample(10, seed=1))
    return fit


def check_a_refusal(extra: str, work: Callable[[], Any]) -> None:
    """The work ends with an error that has the line to install this extra."""
    message = "nothing was raised"
    try:
        work()
    except ImportError as error:
        message = str(error)
    print(f"{extra}: {message}")
    assert f'pip install "infimum[{extra}]"' in message


def check_refusals(fit: infimum.Fit) -> None:
    """Each extra is named where it is needed."""
    check_a_refusal("plots", fit.plot)
    check_a_refusal("report", lambda: fit.report("report.html"))
    check_a_refusal("arviz", fit.to_arviz)
    check_a_refusal("sparse", lambda: infimum.fit(fit.target, "sparse"))
    check_a_refusal("flows", lambda: infimum.fit(fit.target, "flow"))
    check_a_refusal("mcmc", lambda: infimum.corrections.mcmc(fit))
    check_a_refusal("mcmc", lambda: infimum.corrections.annealing(fit))


def check_a_climb() -> None:
    """The rungs that lack a library are skipped, and the answer says how to get them."""
    target = infimum.Target(ring, np.zeros(2))
    climb = infimum.climb(target, ["sparse", "meanfield", "fullrank", "flow"])
    print(climb)
    assert [fit.family.name for fit in climb.fits] == ["meanfield", "fullrank"]
    skipped = dict(climb.skipped)
    assert 'pip install "infimum[sparse]"' in skipped["sparse"]
    assert 'pip install "infimum[flows]"' in skipped["flow"]
    fit = infimum.fit(target, tol=0)  # to the last rung
    print(fit)
    assert 'pip install "infimum[flows]"' in " ".join(str(fit).split())


def check_progress_on_a_terminal() -> None:
    """Without rich there is a plain line now and then."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    display.SILENT_SECONDS = 0.0
    with contextlib.redirect_stderr(terminal):
        infimum.fit(infimum.Target(ring, np.zeros(2)), "meanfield")
    print(terminal.getvalue().strip())
    assert "infimum: meanfield" in terminal.getvalue()


def check_the_command_line() -> None:
    """The program says how to install what it needs, without a traceback."""
    said, status = io.StringIO(), None
    try:
        with contextlib.redirect_stderr(said):
            main(["--version"])
    except SystemExit as end:
        status = end.code
    print(said.getvalue().strip())
    assert status == 2
    assert 'pip install "infimum[cli]"' in said.getvalue()


if __name__ == "__main__":
    check_that_nothing_optional_is_here()
    check_refusals(check_a_fit())
    check_a_climb()
    check_progress_on_a_terminal()
    check_the_command_line()
