"""The way into the command line, for an installation that may not have its libraries."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from infimum.base.extras import MissingLibraryError, required


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; if its libraries are missing, say how to install them."""
    try:
        for library in ("typer", "rich"):
            required(library, "cli")
    except MissingLibraryError as error:
        print(f"infimum: {error}", file=sys.stderr)
        sys.exit(2)
    from infimum.cli import app

    app.main(arguments)
