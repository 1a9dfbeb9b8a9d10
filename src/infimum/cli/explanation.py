"""The command that explains an error code."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from infimum.base.catalogue import catalogue
from infimum.base.errors import coded_error
from infimum.cli.output import width
from infimum.cli.user_file import UserError

Code = Annotated[str, typer.Argument(metavar="CODE", help="The letter E or W and three digits.")]


def explain(code: Code) -> None:
    r"""Explain what an error or warning means, and what to do.

    CODE stands in brackets at the end of the message.

    \b
    Example:
      infimum explain E301
    """
    entry = catalogue().get(code.strip("[]").upper())
    if entry is None:
        raise coded_error(
            UserError,
            "E920",
            f"there is no error code {code!r}. Give the code at the end of a message, such as E301",
        )
    for paragraph in (f"{entry.title}.", entry.means, f"What to do: {entry.cure}"):
        print(textwrap.fill(paragraph, width()))
