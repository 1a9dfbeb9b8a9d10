"""The start of a fit from a file: values of parameters as JSON, or a saved fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import infimum
from infimum.base.errors import coded_error
from infimum.cli.user_file import UserError


def read_start(path: Path | None) -> Any:
    """What `infimum.fit` takes as `start`; None without a file.

    Raises
    ------
    UserError
        If there is no such file, or it is neither JSON nor a saved fit.
    """
    if path is None:
        return None
    if not path.is_file():
        raise coded_error(
            UserError,
            "E901",
            f'there is no file {path}: give a saved fit, or JSON such as {{"tau": 1.5}}',
        )
    if path.suffix == ".zip":
        return infimum.load(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise coded_error(
            UserError,
            "E307",
            f"{path} is not JSON ({error}): give an object with values of parameters, such as "
            '{"tau": 1.5}',
        ) from None
