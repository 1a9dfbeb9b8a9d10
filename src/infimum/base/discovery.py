"""Members of a folder, found by the file system: a new family or solver is a new file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TypeVar

Contract = TypeVar("Contract")


def classes_in(package: str, contract: type[Contract]) -> list[type[Contract]]:
    """Every subclass of a contract that the modules of a package define, in the order of files.

    A module whose name begins with an underscore holds no member: it is a contract of the folder,
    or what only its members share.

    Parameters
    ----------
    package
        Full name of the package, such as "infimum.families".
    contract
        The class that each member extends.
    """
    folder = importlib.import_module(package).__path__
    files = [file.name for file in pkgutil.iter_modules(folder) if not file.name.startswith("_")]
    return [
        value
        for name in (f"{package}.{file}" for file in files)
        for value in vars(importlib.import_module(name)).values()
        if inspect.isclass(value)
        and issubclass(value, contract)
        and f"{value.__module__}.".startswith(f"{name}.")  # defined there, not imported from afar
    ]
