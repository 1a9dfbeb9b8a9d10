"""Pictures as SVG inside a page: the page's own colours, the same bytes each time, no names."""

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
"""What text and axes are drawn in; the page puts its own colour of text in its place."""

COLOURS = {
    INK: "currentColor",
    "#ffffff": "var(--page)",
    GREY.lower(): "var(--soft)",
    BLUE.lower(): "var(--blue)",
    VERMILION.lower(): "var(--vermilion)",
    to_hex(tints(2)[0]): "var(--pale)",
    to_hex(tints(2)[1]): "var(--paler)",
}
"""The page's variables in the place of the pictures' colours, so that both are light or dark."""

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
"""Text stays text, in the reader's own font; matplotlib's own is wider than most of them."""

UNDRAWABLE = (ValueError, ArithmeticError, LinAlgError)
"""What pictures of draws that are infinite, or all the same, end with."""

NUMBERS = re.compile(r'(?<= )(?:d|x|y|x1|x2|y1|y2|transform|width|height|points)="[^"]*"')
LONG = re.compile(r"(\d+\.\d\d)\d+")
BETWEEN = re.compile(r">\s+<")
NAMED = re.compile(r'<g id="[^"]*"')
FONT = re.compile(r"font: ([^;\"']*?px) [^;\"]*")


@contextmanager
def _styled(salt: str, mathematical: bool) -> Iterator[None]:
    """Matplotlib's defaults and this style, whatever the caller has set; the caller's after it."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"svg.hashsalt": salt, "text.parse_math": mathematical})
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the reader's font may have it
        yield


def drawn(
    draw: Callable[[Any], Any],
    salt: str,
    size: tuple[float, float],
    shape: tuple[int, int] = (1, 1),
    mathematical: bool = False,
) -> str:
    """One picture as an SVG element.

    Parameters
    ----------
    draw
        Takes the axes: an array of this shape, or one if that is (1, 1).
    salt
        A name of its own in the page, which its inner names are made from.
    size
        In inches.
    mathematical
        Whether text between dollars is a formula. Names of quantities are none.
    """
    with _styled(salt, mathematical):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(*shape))
        return _as_svg(figure, salt)


def small(draw: Callable[[list[Any]], Any], salts: list[str], size: tuple[float, float]) -> Any:
    """Small pictures that are drawn together, each an SVG element of its own.

    Their margins are fixed: room for numbers below, and none for words.
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
    """The element alone: no prologue, no metadata, no inner names but those referred to."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = NAMED.sub("<g", text)
    text = NUMBERS.sub(lambda match: LONG.sub(r"\1", match[0]), text)
    text = FONT.sub(r"font: \1 sans-serif", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    return f"<svg {box[0] if box else ''} role='img'>{BETWEEN.sub('><', rest)}"


def attempted(make: Callable[[], Any]) -> tuple[Any, str]:
    """What is made, or nothing and why it can't be."""
    try:
        with np.errstate(all="ignore"):
            return make(), ""
    except UNDRAWABLE as error:
        return None, str(error)
