"""Checks of the files that a command will write, made before any work."""

from __future__ import annotations

from pathlib import Path

from infimum.base.errors import coded_error
from infimum.cli.user_file import UserError


def check_file(path: Path) -> None:
    """Raise UserError unless a file can be created at this path."""
    if not path.absolute().parent.is_dir():
        raise coded_error(
            UserError,
            "E912",
            f"cannot write {path}: there is no folder {path.parent}. Create the folder first",
        )
    if path.is_dir():
        raise coded_error(
            UserError, "E912", f"cannot write {path}: it is a folder. Give the path of a file in it"
        )


def check_plot(path: Path | None) -> None:
    """Raise UserError if a plot is to be written, and this path does not allow it."""
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    check_file(path)
    endings = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in endings:
        raise coded_error(
            UserError,
            "E911",
            f"cannot write the plot {path}: its name must end in one of .{', .'.join(endings)}",
        )
