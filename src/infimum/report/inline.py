"""SVG elements that take the colours of the page around them.

The same plot gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.linalg import LinAlgError

from infimum.plots.axes import BLUE, GREY, VERMILION, tints

INK = "#161718"
"""Colour of text and axes in the plots; the page replaces it by its own text colour."""

COLOURS = {
    INK: "currentColor",
    "#ffffff": "var(--page)",
    GREY.lower(): "var(--soft)",
    BLUE.lower(): "var(--blue)",
    VERMILION.lower(): "var(--vermilion)",
    to_hex(tints(2)[0]): "var(--pale)",
    to_hex(tints(2)[1]): "var(--paler)",
}
"""Colours of the plots and the page variables that replace them, in light and dark mode alike."""

STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
}
"""Settings of matplotlib. Text stays text, and is shown in a font of the reader's browser."""

DRAWING_ERRORS = (ValueError, ArithmeticError, LinAlgError)
"""Errors that plots raise if draws are infinite or all equal."""

NUMERIC_ATTRIBUTE = re.compile(r'(?<= )(?:d|x|y|x1|x2|y1|y2|transform|width|height|points)="[^"]*"')
LONG_DECIMAL = re.compile(r"(\d+\.\d\d)\d+")
"""Numbers in attributes are cut to two decimals, a hundredth of a point, to keep the page small."""

SPACE_BETWEEN_TAGS = re.compile(r">\s+<")
GROUP_NAME = re.compile(r'<g id="[^"]*"')
"""Both are removed: names of groups would occur in several plots of one page."""

FONT = re.compile(r"font: ([^;\"']*?px) [^;\"]*")
"""The font families are replaced by sans-serif, because the reader may not have matplotlib's."""


@contextmanager
def _styled(salt: str, mathematical: bool) -> Iterator[None]:
    """Matplotlib's defaults with `STYLE`; the settings of the caller are restored afterwards."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"svg.hashsalt": salt, "text.parse_math": mathematical})
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from"
        )  # the browser's font may have the glyph
        yield


def svg(
    draw: Callable[[Any], Any],
    salt: str,
    size: tuple[float, float],
    shape: tuple[int, int] = (1, 1),
    mathematical: bool = False,
) -> str:
    """A plot as an SVG element.

    Parameters
    ----------
    draw
        Draws on the axes: an array of this shape, or single axes if the shape is (1, 1).
    salt
        A different name for each plot on the page; the names inside the SVG are made from it.
    size
        Width and height in inches.
    mathematical
        Whether text between dollar signs is a formula. It is not in names of quantities.
    """
    with _styled(salt, mathematical):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(*shape))
        return _as_svg(figure, salt)


def small_svgs(
    draw: Callable[[list[Any]], Any], salts: list[str], size: tuple[float, float]
) -> list[str]:
    """Small plots drawn by one function, each an SVG element of its own.

    Their margins are fixed, with room for tick labels below but not for axis labels.
    """
    with _styled(salts[0], False):
        figures = [Figure(figsize=size) for _ in salts]
        axes = [figure.add_axes((0.03, 0.2, 0.94, 0.77)) for figure in figures]
        draw(axes)
        return [_as_svg(figure, salt) for figure, salt in zip(figures, salts, strict=True)]


def _as_svg(figure: Figure, salt: str) -> str:
    for panel in figure.axes:
        panel.patch.set_visible(False)
    mpl.rcParams["svg.hashsalt"] = salt
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _trimmed(buffer.getvalue())


def _trimmed(text: str) -> str:
    """The SVG element with short numbers, without prologue, metadata and names of groups."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = GROUP_NAME.sub("<g", text)
    text = NUMERIC_ATTRIBUTE.sub(lambda match: LONG_DECIMAL.sub(r"\1", match[0]), text)
    text = FONT.sub(r"font: \1 sans-serif", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    return f"<svg {box[0] if box else ''} role='img'>{SPACE_BETWEEN_TAGS.sub('><', rest)}"


def attempt(make: Callable[[], Any]) -> tuple[Any, str]:
    """The result and an empty text; or None and the reason, if the plot cannot be drawn."""
    try:
        with np.errstate(all="ignore"):
            return make(), ""
    except DRAWING_ERRORS as error:
        return None, str(error)
