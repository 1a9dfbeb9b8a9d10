"""Stan programs that BridgeStan compiles to libraries, with a C++ toolchain."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from types import ModuleType

import numpy as np

from infimum.base.errors import coded_error
from infimum.base.extras import required
from infimum.sources.stan.bridge import CompiledModel, Engine
from infimum.sources.stan.data import Data, data_text
from infimum.sources.stan.program import Program

OLDEST_BRIDGESTAN = (2, 5)
"""First version of BridgeStan that has the interface used here."""

LIBRARIES = (".so", ".dll", ".dylib")
"""Endings of the libraries that BridgeStan compiles programs to."""

MOST_SHOWN = 2000
"""Characters of the compiler's output that a message shows, from its end."""


class Compiled(Engine):
    """A program that BridgeStan has compiled, with all of its constants."""

    def __init__(self, model: CompiledModel) -> None:
        version = tuple(model.model_version())
        if version[:2] < OLDEST_BRIDGESTAN:
            raise coded_error(
                ValueError,
                "E630",
                f"the Stan model was compiled with BridgeStan {'.'.join(map(str, version))}, "
                f"this needs {'.'.join(map(str, OLDEST_BRIDGESTAN))} or later: compile it again",
            )
        self.model = model
        threaded = "stan_threads=true" in model.model_info().lower()
        self.threads = (os.cpu_count() or 1) if threaded else 1

    def gradient(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """log p̂ and its gradient, constants included."""
        return self.model.log_density_gradient(z, propto=False, jacobian=True)

    def value(self, z: np.ndarray) -> float:
        """log p̂, constants included."""
        return float(self.model.log_density(z, propto=False, jacobian=True))

    def log_jacobian(self, z: np.ndarray) -> float:
        """log p̂ with it, less log p̂ without it."""
        return self.value(z) - float(self.model.log_density(z, propto=False, jacobian=False))

    def parameters(self, z: np.ndarray) -> np.ndarray:
        """The constrained entries of the parameters alone."""
        return self.model.param_constrain(z)


def compiled_program(program: Program, data: Data) -> Compiled:
    """The program of a file, compiled by BridgeStan.

    Raises
    ------
    FileNotFoundError
        If BridgeStan's toolchain is not installed, or not where BRIDGESTAN says.
    ValueError
        If the program is no file, its path has spaces, or it does not compile.
    """
    bridgestan = required("bridgestan", "bridgestan")
    path = program.path
    if path is None or " " in str(path.resolve()):
        what = "text" if path is None else f"at {path}, a path with spaces"
        raise coded_error(
            ValueError,
            "E630",
            f"the Stan program is {what}: BridgeStan compiles files whose path has no spaces. "
            "Save it in such a file, or leave engine out",
        )
    _check_toolchain(bridgestan, path)
    text = data_text(data, program.data_names)
    folders = ",".join(program.folders)
    try:
        library = bridgestan.compile_model(str(path), stanc_args=[f"--include-paths={folders}"])
    except RuntimeError as error:
        raise coded_error(
            ValueError,
            "E631",
            f"the Stan program {path.name} does not compile: {str(error)[-MOST_SHOWN:].strip()}",
        ) from error
    return Compiled(_with_data(bridgestan, library, text))


def compiled_library(path: Path, data: Data) -> Compiled:
    """The program in a library that BridgeStan compiled.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such library, or the data do not suit it.
    """
    bridgestan = required("bridgestan", "bridgestan")
    if not path.is_file():
        raise coded_error(
            FileNotFoundError,
            "E901",
            f"there is no file {path}: give a Stan program, or a compiled one",
        )
    return Compiled(_with_data(bridgestan, path, data_text(data)))


def _check_toolchain(bridgestan: ModuleType, path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what the error says better
        folder = bridgestan.compile.get_bridgestan_path(download=False)
    cure = (
        "see https://roualdes.github.io/bridgestan for how to install it, and set BRIDGESTAN to "
        "its folder; or leave engine out, to run the program without a compiler"
    )
    if not folder:
        raise coded_error(
            FileNotFoundError,
            "E630",
            f"{path} must be compiled, and BridgeStan's toolchain is not installed: {cure}",
        )
    try:
        bridgestan.compile.verify_bridgestan_path(folder)
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip("!")
        raise coded_error(
            FileNotFoundError, "E630", f"{path} must be compiled, and {reason}: {cure}"
        ) from error


def _with_data(bridgestan: ModuleType, library: Path, text: str) -> CompiledModel:
    """The library with its data."""
    try:
        model: CompiledModel = bridgestan.StanModel(str(library), text, warn=False)
    except (RuntimeError, OSError, AttributeError) as error:
        code_of_library = isinstance(error, RuntimeError)
        reason = str(error).rpartition("exception: ")[2].strip()
        if code_of_library:
            raise coded_error(
                ValueError,
                "E632",
                f"the data do not suit the Stan program {library.name}: {reason}",
            ) from error
        raise coded_error(
            ValueError,
            "E630",
            f"{library.name} is not a library that BridgeStan compiled ({reason}): compile the "
            "program again, or give the program itself",
        ) from error
    return model
