"""The entry point of the command line, which may lack its optional libraries."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from infimum.base.extras import MissingLibraryError, required


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. If a library is missing, print how to install it."""
    try:
        for library in ("typer", "rich"):
            required(library, "cli")
    except MissingLibraryError as error:
        print(f"infimum: {error}", file=sys.stderr)
        sys.exit(2)
    from infimum.cli import app

    app.main(arguments)
