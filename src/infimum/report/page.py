"""The report of a fit: one HTML file, in words first, then numbers, pictures and tables."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infimum import plots
from infimum.answer.file import options, plain_seed
from infimum.checks.quantities import VERDICTS
from infimum.fitting.fit import Fit
from infimum.plots.posterior import MARGINALS
from infimum.plots.predictions import replicated
from infimum.plots.scene import varying
from infimum.report.inline import attempted, drawn, small
from infimum.solvers._solver import Reason

if TYPE_CHECKING:
    import pandas as pd


SHOWN = 200
"""Quantities in the page's table before anything is searched for: the worst."""

PAIRED = 3
"""Quantities in the picture of pairs; more would not be read on a telephone."""

SITES = 6
"""Observed sites whose predictions are drawn."""

MOST_PREDICTED = 50_000
"""Observations of one site up to which it is predicted: 400 data sets of them take 160 MB."""

DIGITS = 3
"""Significant digits of a standard deviation; means have its decimals."""

MEANINGS = {
    "good": "The approximation q stands for the posterior: its means and standard deviations are "
    "right to a tenth of a posterior standard deviation, as far as its draws can tell.",
    "reweight": "The approximation q is off somewhere, but what it is off by is known: its draws, "
    "corrected by importance weights, stand for the posterior.",
    "unreliable": "Neither the approximation q nor its corrected draws are known to stand for the "
    "posterior: no number on this page should be relied on before this is mended.",
}
"""A sentence for those who do not know the words."""

COLUMNS = {
    "mean": "mean",
    "sd": "sd",
    "5%": "5 %",
    "50%": "50 %",
    "95%": "95 %",
    "weighted_mean": "weighted mean",
    "weighted_sd": "weighted sd",
    "mean_error": "error of the mean, in sds",
    "sd_error": "relative error of the sd",
}
"""Columns of `Fit.summary` in the table, and their headings."""

ERRORS = ("mean_error", "sd_error")

LIBRARIES = ("jax", "numpy", "numpyro")
"""Whose versions the report has, besides Python's and infimum's."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page, or why there is none.

    Attributes
    ----------
    svg, missing
        One of the two is empty.
    caption
        What is seen.
    label
        The quantity or site that it is of, where it is one of several.
    verdict
        Of that quantity.
    """

    svg: Any
    caption: str = ""
    label: str = ""
    verdict: str = ""
    missing: str = ""


def write(fit: Fit, path: Path, title: str | None = None) -> Path:
    """Write the report; an existing file is replaced only when the new one is whole."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(page(fit, title), encoding="utf-8", newline="\n")
    partial.replace(path)
    return path


def page(fit: Fit, title: str | None = None) -> str:
    """The report as text. The same fit gives the same text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = importlib.resources.files("infimum") / "data" / "report.html.j2"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup
    template = environment.from_string(source.read_text(encoding="utf-8"))
    table = fit.summary()
    order = ranked(table)
    shown = numbers(table.iloc[order])
    return template.render(
        title=title or f"{fit.name}: how near the posterior is",
        fit=fit,
        dim=fit.q.dim,
        parameters=fit.family.n_parameters(fit.q.dim),
        meaning=meaning(fit),
        rows=[(label, told) for label, told in fit.rows() if label not in ("verdict", "climb")],
        counts=[(v, int(np.sum(table["verdict"] == v))) for v in reversed(VERDICTS)],
        ladder=ladder(fit),
        pairs=pairs(fit, table, order),
        marginals=marginals(fit, table, order),
        trace=one(fit, "trace", plots.plot_trace),
        weights=one(fit, "weights", plots.plot_weights),
        predictions=predictions(fit),
        why_no_predictions=why_no_predictions(fit),
        columns=list(COLUMNS.values()),
        worst=[_told(row) for row in shown[:SHOWN]],
        n_quantities=len(table),
        shown=min(SHOWN, len(table)),
        most=SHOWN,
        data=Markup(_as_data(shown)),
        versions=versions(),
        seed=json.dumps(plain_seed(fit.seed)),
        options=options(fit.family),
        code=code(fit),
    )


def meaning(fit: Fit) -> str:
    """The verdict in a sentence for everyone."""
    if fit.reason is Reason.INTERRUPTED:
        return "The fit was interrupted before its end. " + MEANINGS[fit.verdict]
    return MEANINGS[fit.verdict]


def why_no_predictions(fit: Fit) -> str:
    """Why there is no check of predictions; nothing if there is one."""
    if fit.target is None:
        return (
            "A file holds no data and no code: for a comparison of the data with what the model "
            "predicts, write the report from the fit before it is saved."
        )
    if not fit.model.observed():
        return (
            "The target is a bare log density, which has no observations to compare: state the "
            "model in a language, as with infimum.from_numpyro, for a comparison here."
        )
    return ""


def versions() -> list[tuple[str, str]]:
    """Of what the report was made with."""
    import infimum

    found = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    return [("infimum", infimum.__version__), *found, ("Python", platform.python_version())]


def code(fit: Fit) -> str:
    """The lines that load the fit and draw from it."""
    weighted = ", weighted=True" if fit.verdict == "reweight" else ""
    lines = ["import infimum", "", 'fit = infimum.load("fit.zip")  # once fit.save("fit.zip") has']
    lines += ["print(fit)", f"draws = fit.sample(1000{weighted})"]
    if fit.verdict == "unreliable":
        lines[-1] += "  # of q: not of the posterior"
    return "\n".join(lines)


def ladder(fit: Fit) -> Picture | None:
    """The way of the climb; None for a fit of one family."""
    route = fit.route
    if route is None:
        return None
    bare = type(route)(route.rungs, (), route.ended)

    def draw(axes: Any) -> None:
        plots.plot_climb(bare, axes=axes)

    svg, why = attempted(lambda: drawn(draw, "climb", (4.8, 3.0), mathematical=True))
    return Picture(svg, missing=why)


def pairs(fit: Fit, table: pd.DataFrame, order: np.ndarray) -> Picture:
    """q over p* for the worst quantities."""
    names = drawable(table, order)[:PAIRED]
    k = len(names)

    def draw(axes: Any) -> None:
        plots.plot_fit(fit, names, axes=axes)[0, 0].set_title("", loc="left")

    size = (4.8, 4.6) if k > 1 else (4.8, 3.0)
    svg, why = attempted(lambda: drawn(draw, "pairs", size, (k, k)))
    known = np.isfinite(fit.kl.value)
    return Picture(
        svg, "" if known else "The posterior is not known: q alone is drawn.", missing=why
    )


def marginals(fit: Fit, table: pd.DataFrame, order: np.ndarray) -> list[Picture]:
    """Each of the worst quantities by itself."""
    names = drawable(table, order)[:MARGINALS]

    def draw(axes: Any) -> None:
        for panel in plots.plot_marginals(fit, names, axes=axes):
            panel.set_title("", loc="left")

    salts = [f"marginal{i}" for i in range(len(names))]
    made, why = attempted(lambda: small(draw, salts, (2.3, 1.3)))
    if made is None:
        return [Picture(None, missing=why)]
    told = numbers(table.loc[names])
    return [
        Picture(svg, _errors(row), name, row[1])
        for svg, name, row in zip(made, names, told, strict=True)
    ]


def one(fit: Fit, salt: str, plot: Any) -> Picture:
    """A picture on one pair of axes."""
    svg, why = attempted(
        lambda: drawn(lambda axes: plot(fit, axes=axes), salt, (4.8, 2.8), mathematical=True)
    )
    return Picture(svg, missing=why)


def predictions(fit: Fit) -> list[Picture]:
    """Observed data over replicated ones, a picture a site."""
    if why_no_predictions(fit):
        return []
    observed = fit.model.observed()
    large = [name for name, data in observed.items() if np.size(data) > MOST_PREDICTED]
    if large:
        told = f"site {large[0]} has more than {MOST_PREDICTED:,} observations: too many to predict"
        return [Picture(None, missing=told)]
    try:
        predicted = replicated(fit)
    except Exception as error:  # of the user's own model, which may raise anything
        return [Picture(None, missing=f"the model does not predict: {error}")]
    return [_prediction(fit, name, predicted) for name in list(observed)[:SITES]]


def _prediction(fit: Fit, name: str, predicted: dict[str, np.ndarray]) -> Picture:
    def draw(axes: Any) -> None:
        plots.plot_predictions(fit, name, predicted=predicted, axes=axes)

    svg, why = attempted(lambda: drawn(draw, f"predicted {name}", (4.8, 2.8)))
    return Picture(svg, label=name, missing=why)


def ranked(table: pd.DataFrame) -> np.ndarray:
    """The rows of a summary, worst first: by verdict, then by error; unknown errors are worst."""
    place = np.array([VERDICTS.index(verdict) for verdict in table["verdict"]])
    error = table[list(ERRORS)].abs().max(axis=1, skipna=False).fillna(np.inf).to_numpy()
    return np.lexsort([-error, place])


def drawable(table: pd.DataFrame, order: np.ndarray) -> list[str]:
    """Names of quantities that vary, worst first."""
    vary = varying(table)
    return [str(table.index[i]) for i in order if vary[i]]


def numbers(table: pd.DataFrame) -> list[list[Any]]:
    """A row a quantity: name, verdict, and numbers without digits that mean nothing."""
    rough = table[list(COLUMNS)].to_numpy(float)
    decimals = [_decimals(sd) for sd in table["sd"]]
    rows = []
    for name, row, places, verdict in zip(
        table.index, rough, decimals, table["verdict"], strict=True
    ):
        cells = [
            _rounded(x, 3 if key in ERRORS else places) for key, x in zip(COLUMNS, row, strict=True)
        ]
        rows.append([str(name), str(verdict), *cells])
    return rows


def _decimals(sd: float) -> int:
    """Decimals at which an sd has its significant digits."""
    if not (np.isfinite(sd) and sd > 0):
        return DIGITS
    return DIGITS - 1 - int(np.floor(np.log10(sd)))


def _rounded(x: float, decimals: int) -> float | int | None:
    """To so many decimals, which may be negative; None for what is no number."""
    if not np.isfinite(x):
        return None
    value = round(float(x), decimals) + 0.0
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _told(row: list[Any]) -> list[str]:
    """A row as text."""
    name, verdict, *cells = row
    return [name, verdict, *("–" if x is None else str(x).replace("-", "−") for x in cells)]


def _errors(row: list[Any]) -> str:
    """What q is off by, in words."""
    mean, sd = row[-2:]
    if mean is None or sd is None:
        return "what q is off by is unknown"
    mean, percent = round(mean, 2) + 0.0, round(100 * sd) + 0.0  # no -0
    return f"mean off by {mean:+.2f} sd, sd by {percent:+.0f} %".replace("-", "−")


def _as_data(rows: list[list[Any]]) -> str:
    """Rows as JSON that no browser takes for markup."""
    text = json.dumps(rows, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
