"""The model in a user's file: a Python file or a Stan program."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import infimum
from infimum.base.errors import coded_error

if TYPE_CHECKING:
    from infimum.target.target import Target


STAN = (".stan", ".so", ".dll", ".dylib")
"""Endings of Stan programs, and of the libraries that BridgeStan compiles them to."""


class UserError(Exception):
    """An error that the user of the command line can fix; its message is printed alone."""


def read_target(model: str, data: Path | None = None) -> Target:
    """The target that FILE.py:NAME defines, or FILE.stan with its data.

    Raises
    ------
    UserError
        If there is no such file, or it defines nothing that can be fitted.
    """
    file, path, name = _split(model, "model.py:posterior, or FILE.stan")
    if file.suffix in STAN:
        return _read_stan(file, data)
    if file.suffix != ".py":
        raise coded_error(
            UserError,
            "E913",
            f"{path} is neither a Python file nor a Stan program: give FILE.py:NAME or FILE.stan",
        )
    if data is not None:
        raise coded_error(
            UserError,
            "E913",
            f"--data is for Stan programs, and {path} is a Python file: load the data in it",
        )
    return _read_python(file, path, name)


def read_function(model: str) -> Callable[..., Any]:
    """The function that FILE.py:NAME defines: a NumPyro model or a simulator of datasets.

    Raises
    ------
    UserError
        If there is no such file, or no such function in it.
    """
    file, path, name = _split(model, "model.py:model")
    if file.suffix != ".py":
        raise coded_error(
            UserError,
            "E913",
            f"{path} is not a Python file, and a calibration needs a NumPyro model or a "
            "simulator: give FILE.py:NAME",
        )
    module = _call_user_code(file, _run, file)
    function = getattr(module, name, None)
    if not name or not callable(function) or _converter(function) is not None:
        raise coded_error(
            UserError,
            "E915",
            f"{path} has no function {name!r} to simulate data from: give {path}:NAME"
            if name
            else f"the function in {path} to simulate data from is not named: give {path}:NAME",
        )
    simulator: Callable[..., Any] = function
    return simulator


def is_simulator(function: Callable[..., Any]) -> bool:
    """Whether this is a simulator: its only required argument is the random generator."""
    return len(_required_arguments(function)) == 1


def _split(model: str, example: str) -> tuple[Path, str, str]:
    """Split FILE.py:NAME into the absolute path, the path as it was typed, and the name or ""."""
    path, colon, name = model.rpartition(":")
    if not colon or name.endswith((".py", *STAN)):
        path, name = model, ""
    file = Path(path).absolute()
    if not file.is_file():
        raise coded_error(
            UserError, "E901", f"there is no file {path}: give FILE.py:NAME, for instance {example}"
        )
    return file, path, name


def _read_stan(file: Path, data: Path | None) -> Target:
    if data is not None and not data.is_file():
        raise coded_error(
            UserError,
            "E901",
            f"there is no file {data}: give the program's data as --data DATA.json",
        )
    try:
        return infimum.from_stan(file, data)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise coded_error(UserError, "E918", f"{file.name}: {error}") from error


def _read_python(file: Path, path: str, name: str) -> Target:
    module = _call_user_code(file, _run, file)
    name = name or _only_candidate(module, path)
    if not hasattr(module, name):
        raise coded_error(UserError, "E915", f"{path} has no {name!r}; {_contents(module)}")
    value = getattr(module, name)
    if _converter(value) is None and callable(value):
        _check_no_arguments(value, name, path)
        answer = _call_user_code(file, _returned, value)
        value = value if answer is _SAMPLES else answer
    if (converter := _converter(value)) is not None:
        return _call_user_code(file, converter, value)
    if callable(value):
        _check_no_arguments(value, name, path)
        return _call_user_code(file, infimum.from_numpyro, value)
    raise coded_error(
        UserError,
        "E915",
        f"{name!r} in {path} is, or returns, {value!r}: expected an infimum.Target, a NumPyro "
        f"or PyMC model, a bridgestan.StanModel or stanli.Model, or a function returning one; "
        f"{_contents(module)}",
    )


def _converter(value: Any) -> Callable[[Any], Target] | None:
    """The function that makes a target of this value; None if its type does not tell."""
    if isinstance(value, infimum.Target):
        return lambda target: target
    for library, class_name, converter in (
        ("pymc", "Model", infimum.from_pymc),
        ("bridgestan", "StanModel", infimum.from_stan),
        ("stanli", "Model", infimum.from_stan),
    ):
        model_type = getattr(sys.modules.get(library), class_name, None)
        if model_type is not None and isinstance(value, model_type):
            return converter
    return None


def _run(file: Path) -> ModuleType:
    """Run the file as a module, which can import the modules beside it."""
    spec = importlib.util.spec_from_file_location("__model__", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["__model__"] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    spec.loader.exec_module(module)
    return module


def _call_user_code(file: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that runs the user's file; an error from a line of it names the line."""
    try:
        return function(*arguments)
    except Exception as error:  # user code can raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
        if not lines and not isinstance(error, SyntaxError):
            raise
        where = f", line {lines[-1]}" if lines else ""
        raise coded_error(
            UserError, "E918", f"{file.name}{where}: {type(error).__name__}: {error}"
        ) from error


_SAMPLES = object()
"""Stands for the result of a function that draws samples: it is a NumPyro model itself."""


def _returned(function: Callable[[], Any]) -> Any:
    """What the function returns, or `_SAMPLES` if it draws a NumPyro sample first."""
    from numpyro import handlers

    class SamplesError(Exception):
        pass

    def stop(site: dict[str, Any]) -> None:
        # A function that builds a target runs its model inside infimum: there, every site has a
        # key or a value already. Only a function that is itself a model has sites with neither.
        if site["type"] == "sample" and site["value"] is None and site["kwargs"]["rng_key"] is None:
            raise SamplesError

    try:
        return handlers.seed(handlers.substitute(function, substitute_fn=stop), 0)()
    except SamplesError:
        return _SAMPLES


def _check_no_arguments(function: Callable[..., Any], name: str, path: str) -> None:
    if arguments := ", ".join(_required_arguments(function)):
        raise coded_error(
            UserError,
            "E917",
            f"{name!r} in {path} needs arguments ({arguments}): bind them in the file, for "
            f"instance\n\n    def posterior():\n        return infimum.from_numpyro({name}, "
            f"{arguments})\n\nand run `infimum fit {path}:posterior`",
        )


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments without a default."""
    return [
        argument.name
        for argument in inspect.signature(function).parameters.values()
        if argument.default is argument.empty
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]


def _candidates(module: ModuleType) -> tuple[list[str], list[str]]:
    """Public names of the file's models, and of its functions without required arguments."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    models = [name for name, value in public.items() if _converter(value) is not None]
    functions = [
        name
        for name, value in public.items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not _required_arguments(value)
    ]
    return models, functions


def _only_candidate(module: ModuleType, path: str) -> str:
    """The name of the only model or, in a file without models, of the only function."""
    models, functions = _candidates(module)
    names = models or functions
    if not names:
        raise coded_error(
            UserError,
            "E915",
            f"{path} defines nothing to fit: define an infimum.Target, a NumPyro or PyMC "
            "model, or a function without arguments that returns one",
        )
    if len(names) > 1:
        raise coded_error(
            UserError,
            "E915",
            f"{path} defines more than one model: {_contents(module)}. Name one, "
            f"`infimum fit {path}:NAME`",
        )
    return names[0]


def _contents(module: ModuleType) -> str:
    """The candidates of the file, in words."""
    kinds = zip(("models", "functions without arguments"), _candidates(module), strict=True)
    lists = [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]
    return f"the file has {'; '.join(lists)}" if lists else "the file has no model or function"
