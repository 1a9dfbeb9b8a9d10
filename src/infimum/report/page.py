"""The report of a fit: one HTML page."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infimum import plots
from infimum.answer import printed
from infimum.answer.answer import Answer
from infimum.answer.fields import options, plain_seed
from infimum.checks.quantities import VERDICTS
from infimum.plots.posterior import MOST_MARGINALS
from infimum.plots.predictions import replicated_data
from infimum.plots.scene import which_vary
from infimum.report.inline import attempt, small_svgs, svg
from infimum.solvers._solver import Reason

if TYPE_CHECKING:
    import pandas as pd


TABLE_ROWS = 200
"""Rows of the table of quantities before a search: a page of thousands would open slowly."""

PAIR_QUANTITIES = 3
"""Quantities in the plot of pairs: more would be illegible on a phone."""

MOST_SITES = 6
"""Observed sites whose predictions are plotted, to keep the page short."""

MOST_OBSERVATIONS = 50_000
"""A site with more observations is not predicted: 400 datasets of this size take 160 MB."""

DIGITS = 3
"""Significant digits of a standard deviation. A mean has as many decimals as its sd."""

MEANINGS = {
    "good": "The approximation q can replace the posterior: as far as its draws can tell, its "
    "means and standard deviations are right to a tenth of a posterior standard deviation.",
    "reweight": "The approximation q has errors, but they are known: draws from q that are "
    "corrected by importance weights represent the posterior.",
    "unreliable": "Neither the approximation q nor its corrected draws are known to represent the "
    "posterior. Do not rely on any number on this page until this is fixed.",
}
"""What each verdict means, for readers who do not know these words."""

COLUMNS = {
    "mean": "mean",
    "sd": "sd",
    "5%": "5 %",
    "50%": "50 %",
    "95%": "95 %",
    "weighted_mean": "weighted mean",
    "weighted_sd": "weighted sd",
    "mean_error": "error of mean, in sds",
    "sd_error": "relative error of sd",
}
"""Columns of `Answer.summary` in the table, with their headings."""

ERRORS = ("mean_error", "sd_error")

LIBRARIES = ("jax", "numpy", "numpyro")
"""Libraries whose versions the report lists, besides Python and infimum."""


@dataclass(frozen=True)
class Picture:
    """A plot on the page, or the reason that it is missing.

    Attributes
    ----------
    svg
        The SVG element; None if the plot is missing.
    caption
        Text that belongs to this plot only.
    label
        The quantity or site in the plot, if it is one of several plots.
    verdict
        Verdict of that quantity.
    missing
        Why there is no plot; empty if there is one.
    """

    svg: str | None
    caption: str = ""
    label: str = ""
    verdict: str = ""
    missing: str = ""


def write(fit: Answer, path: Path, title: str | None = None) -> Path:
    """Write the report. An existing file is replaced only after the new one is complete."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(page(fit, title), encoding="utf-8", newline="\n")
    partial.replace(path)
    return path


def page(fit: Answer, title: str | None = None) -> str:
    """The text of the page, which depends on the fit and the installed versions only."""
    from markupsafe import Markup

    table = fit.summary()
    order = worst_first(table)
    rows = table_rows(table.iloc[order])
    return _template().render(
        title=title or f"{fit.name}: how close q is to the posterior",
        fit=fit,
        dim=fit.q.dim,
        parameters=fit.family.n_parameters(fit.q.dim),
        meaning=meaning(fit),
        key_numbers=[row for row in printed.rows(fit) if row[0] not in ("verdict", "climb")],
        counts=[(v, int(np.sum(table["verdict"] == v))) for v in reversed(VERDICTS)],
        ladder=ladder(fit),
        pairs=pairs(fit, table, order),
        marginals=marginals(fit, table, order),
        trace=single_plot(fit, "trace", plots.plot_trace),
        weights=single_plot(fit, "weights", plots.plot_weights),
        predictions=predictions(fit),
        why_no_predictions=why_no_predictions(fit),
        columns=list(COLUMNS.values()),
        worst=[_as_text(row) for row in rows[:TABLE_ROWS]],
        n_quantities=len(table),
        table_rows=TABLE_ROWS,
        data=Markup(_as_json(rows)),
        versions=versions(),
        seed=json.dumps(plain_seed(fit.seed)),
        options=options(fit.family),
        code=code(fit),
    )


def _template() -> Any:
    """The template of the page; its filter `svg` marks text as safe to insert."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = importlib.resources.files("infimum") / "data" / "report.html.j2"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup
    return environment.from_string(source.read_text(encoding="utf-8"))


def meaning(fit: Answer) -> str:
    """What the verdict means, in one or two sentences."""
    if fit.reason is Reason.INTERRUPTED:
        return "The fit was interrupted before it was finished. " + MEANINGS[fit.verdict]
    return MEANINGS[fit.verdict]


def why_no_predictions(fit: Answer) -> str:
    """Why the page has no predictions; empty if it has them."""
    if fit.target is None:
        return (
            "A saved fit contains neither data nor code. To compare the data with predictions of "
            "the model, write the report before you save the fit."
        )
    if not fit.model.observed():
        return (
            "The target is a plain log density, which has no observations. To compare data with "
            "predictions, write the model in a language that has them, for instance NumPyro "
            "(infimum.from_numpyro)."
        )
    return ""


def versions() -> list[tuple[str, str]]:
    """The libraries that the report was made with, and their versions."""
    import infimum

    libraries = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    return [("infimum", infimum.__version__), *libraries, ("Python", platform.python_version())]


def code(fit: Answer) -> str:
    """Python code that loads the fit and draws from it."""
    weighted = ", weighted=True" if fit.verdict == "reweight" else ""
    lines = ["import infimum", "", 'fit = infimum.load("fit.zip")  # after fit.save("fit.zip")']
    lines += ["print(fit)", f"draws = fit.sample(1000{weighted})"]
    if fit.verdict == "unreliable":
        lines[-1] += "  # from q, not from the posterior"
    return "\n".join(lines)


def ladder(fit: Answer) -> Picture | None:
    """Remaining KL of each family in the climb; None for a fit of one family."""
    route = fit.route
    if route is None:
        return None
    without_notes = replace(route, skipped=())  # the page lists the skipped families itself

    def draw(axes: np.ndarray) -> None:
        plots.plot_climb(without_notes, axes=axes)

    element, why = attempt(lambda: svg(draw, "climb", (4.8, 3.0), mathematical=True))
    return Picture(element, missing=why)


def pairs(fit: Answer, table: pd.DataFrame, order: np.ndarray) -> Picture:
    """q and p* for pairs of the worst quantities."""
    names = varying_names(table, order)[:PAIR_QUANTITIES]
    k = len(names)

    def draw(axes: np.ndarray) -> None:
        plots.plot_fit(fit, names, axes=axes)[0, 0].set_title("", loc="left")

    size = (4.8, 4.6) if k > 1 else (4.8, 3.0)
    element, why = attempt(lambda: svg(draw, "pairs", size, (k, k)))
    known = np.isfinite(fit.kl.value)
    return Picture(
        element, "" if known else "The posterior is unknown, so only q is plotted.", missing=why
    )


def marginals(fit: Answer, table: pd.DataFrame, order: np.ndarray) -> list[Picture]:
    """q and p* for each of the worst quantities."""
    names = varying_names(table, order)[:MOST_MARGINALS]

    def draw(axes: list[Any]) -> None:
        for panel in plots.plot_marginals(fit, names, axes=axes):
            panel.set_title("", loc="left")

    salts = [f"marginal{i}" for i in range(len(names))]
    svgs, why = attempt(lambda: small_svgs(draw, salts, (2.3, 1.3)))
    if svgs is None:
        return [Picture(None, missing=why)]
    rows = table_rows(table.loc[names])
    return [
        Picture(element, _errors(row), name, row[1])
        for element, name, row in zip(svgs, names, rows, strict=True)
    ]


def single_plot(fit: Answer, salt: str, plot: Any) -> Picture:
    """A plot with one panel."""
    element, why = attempt(
        lambda: svg(lambda axes: plot(fit, axes=axes), salt, (4.8, 2.8), mathematical=True)
    )
    return Picture(element, missing=why)


def predictions(fit: Answer) -> list[Picture]:
    """For each observed site, its data and replicated data."""
    if why_no_predictions(fit):
        return []
    observed = fit.model.observed()
    large = [name for name, data in observed.items() if np.size(data) > MOST_OBSERVATIONS]
    if large:
        why = (
            f"site {large[0]} has more than {MOST_OBSERVATIONS:,} observations, too many to predict"
        )
        return [Picture(None, missing=why)]
    try:
        predicted = replicated_data(fit)
    except Exception as error:  # the user's model can raise anything
        return [Picture(None, missing=f"the model raised an error when it predicted: {error}")]
    return [_prediction(fit, name, predicted) for name in list(observed)[:MOST_SITES]]


def _prediction(fit: Answer, name: str, predicted: dict[str, np.ndarray]) -> Picture:
    def draw(axes: np.ndarray) -> None:
        plots.plot_predictions(fit, name, predicted=predicted, axes=axes)

    element, why = attempt(lambda: svg(draw, f"predicted {name}", (4.8, 2.8)))
    return Picture(element, label=name, missing=why)


def worst_first(table: pd.DataFrame) -> np.ndarray:
    """Order of the rows of a summary: by verdict, then by error, with unknown errors first."""
    place = np.array([VERDICTS.index(verdict) for verdict in table["verdict"]])
    error = table[list(ERRORS)].abs().max(axis=1, skipna=False).fillna(np.inf).to_numpy()
    return np.lexsort([-error, place])


def varying_names(table: pd.DataFrame, order: np.ndarray) -> list[str]:
    """Names of the quantities that vary, in this order: a constant cannot be plotted."""
    vary = which_vary(table)
    return [str(table.index[i]) for i in order if vary[i]]


def table_rows(table: pd.DataFrame) -> list[list[Any]]:
    """For each quantity its name, its verdict, and its numbers rounded to significant digits."""
    values = table[list(COLUMNS)].to_numpy(float)
    decimals = [_decimals(sd) for sd in table["sd"]]
    rows = []
    for name, row, places, verdict in zip(
        table.index, values, decimals, table["verdict"], strict=True
    ):
        cells = [
            _rounded(x, 3 if key in ERRORS else places) for key, x in zip(COLUMNS, row, strict=True)
        ]
        rows.append([str(name), str(verdict), *cells])
    return rows


def _decimals(sd: float) -> int:
    """Decimals that show `DIGITS` significant digits of an sd."""
    if not (np.isfinite(sd) and sd > 0):
        return DIGITS
    return DIGITS - 1 - int(np.floor(np.log10(sd)))


def _rounded(x: float, decimals: int) -> float | int | None:
    """The number to these decimals, which may be negative; None if it is not finite."""
    if not np.isfinite(x):
        return None
    value = round(float(x), decimals) + 0.0
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _as_text(row: list[Any]) -> list[str]:
    """The cells of a table row, with a dash for an unknown number."""
    name, verdict, *cells = row
    return [name, verdict, *("–" if x is None else str(x).replace("-", "−") for x in cells)]


def _errors(row: list[Any]) -> str:
    """The errors of q for one quantity, in words."""
    mean, sd = row[-2:]
    if mean is None or sd is None:
        return "errors of q unknown"
    mean, percent = round(mean, 2) + 0.0, round(100 * sd) + 0.0  # no -0
    return f"error of mean {mean:+.2f} sd, of sd {percent:+.0f} %".replace("-", "−")


def _as_json(rows: list[list[Any]]) -> str:
    """The rows as JSON, escaped so that no browser reads markup in it."""
    text = json.dumps(rows, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
