"""What a command is asked to fit: a Python file with a model in it, or a Stan program."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infimum.base.errors import coded

if TYPE_CHECKING:
    from infimum import Target


STAN = (".stan", ".so", ".dll", ".dylib")
"""Stan programs, and the libraries that BridgeStan makes of them."""


class UserError(Exception):
    """Something that the person at the keyboard can mend, told in one message."""


def read_target(model: str, data: Path | None = None) -> Target:
    """The target that FILE.py:NAME, or FILE.stan with its data, states.

    Raises
    ------
    UserError
        If there is no such file, or nothing in it that can be fitted.
    """
    file, path, name = _asked(model, "model.py:posterior, or FILE.stan")
    if file.suffix in STAN:
        return _read_stan(file, data)
    if file.suffix != ".py":
        raise UserError(
            coded(
                "E913",
                f"{path} is neither a Python file nor a Stan program: give FILE.py:NAME or "
                "FILE.stan",
            )
        )
    if data is not None:
        raise UserError(
            coded("E913", "--data is for Stan programs: bind the data in the Python file")
        )
    return _read_python(file, path, name)


def read_model(model: str) -> Callable[..., Any]:
    """The function that FILE.py:NAME states: a NumPyro model, or what simulates data sets.

    Raises
    ------
    UserError
        If there is no such file, or no such function in it.
    """
    file, path, name = _asked(model, "model.py:model")
    if file.suffix != ".py":
        raise UserError(
            coded(
                "E913",
                f"{path} is not a Python file: data are drawn from NumPyro models, give "
                "FILE.py:NAME",
            )
        )
    module = _calling(file, _run, file)
    stated = getattr(module, name, None)
    if not name or not callable(stated) or _source(stated) is not None:
        raise UserError(
            coded("E915", f"which function in {path} draws the data? Name it: {path}:NAME")
        )
    function: Callable[..., Any] = stated
    return function


def draws_itself(function: Callable[..., Any]) -> bool:
    """Whether it is a function of a random generator, not a model with its arguments bound."""
    return len(_needed(function)) == 1


def _asked(model: str, example: str) -> tuple[Path, str, str]:
    """The file of FILE.py:NAME, as it is and as it was called; and the name, if there is one."""
    path, colon, name = model.rpartition(":")
    if not colon or name.endswith((".py", *STAN)):
        path, name = model, ""
    file = Path(path).absolute()
    if not file.is_file():
        raise UserError(
            coded("E901", f"there is no file {path}: give FILE.py:NAME, for instance {example}")
        )
    return file, path, name


def _read_stan(file: Path, data: Path | None) -> Target:
    from infimum import from_stan

    if data is not None and not data.is_file():
        raise UserError(
            coded("E901", f"there is no file {data}: give the program's data as --data DATA.json")
        )
    try:
        return from_stan(file, None if data is None else data.read_text(encoding="utf-8"))
    except (
        RuntimeError,
        FileNotFoundError,
    ) as error:  # the first is BridgeStan's word for data that do not fit
        raise UserError(
            coded("E918", f"{file.name}: {str(error).rpartition('exception: ')[2].strip()}")
        ) from error


def _read_python(file: Path, path: str, name: str) -> Target:
    module = _calling(file, _run, file)
    name = name or _only_candidate(module, path)
    if not hasattr(module, name):
        raise UserError(coded("E915", f"{path} has no {name!r}; {_listed(module)}"))
    stated = getattr(module, name)
    if _source(stated) is None and callable(stated):
        _check_no_arguments(stated, name, path)
        answer = _calling(file, _answer, stated)
        stated = stated if answer is _SAMPLES else answer
    if (source := _source(stated)) is not None:
        return _calling(file, source, stated)
    if callable(stated):
        from infimum import from_numpyro

        _check_no_arguments(stated, name, path)
        return _calling(file, from_numpyro, stated)
    raise UserError(
        coded(
            "E915",
            f"{name!r} in {path} is, or returns, {stated!r}: expected an infimum.Target, a NumPyro "
            f"or PyMC model, a bridgestan.StanModel, or a function returning one; "
            f"{_listed(module)}",
        )
    )


def _source(stated: Any) -> Callable[[Any], Target] | None:
    """What makes a target of this; None where it is not a model that says so by its type."""
    import infimum

    if isinstance(stated, infimum.Target):
        return lambda target: target
    for library, kind, source in (
        ("pymc", "Model", infimum.from_pymc),
        ("bridgestan", "StanModel", infimum.from_stan),
    ):
        known = getattr(sys.modules.get(library), kind, None)
        if known is not None and isinstance(stated, known):
            return source
    return None


def _run(file: Path) -> ModuleType:
    """The file as a module; modules beside it can be imported from it."""
    spec = importlib.util.spec_from_file_location("__model__", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["__model__"] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    spec.loader.exec_module(module)
    return module


def _calling(file: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what runs the user's code, and say which of their lines failed."""
    try:
        return function(*arguments)
    except Exception as error:  # whatever the user's own code raises
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
        if not lines and not isinstance(error, SyntaxError):
            raise
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(
            coded("E918", f"{file.name}{where}: {type(error).__name__}: {error}")
        ) from error


_SAMPLES = object()
"""In the place of an answer: the function samples, so it is itself a NumPyro model."""


def _answer(function: Callable[[], Any]) -> Any:
    """What a function returns, or `_SAMPLES` if it draws a NumPyro sample on the way."""
    from numpyro import handlers

    class SamplesError(Exception):
        pass

    def stop(site: dict[str, Any]) -> None:
        # A model that the function itself hands to infimum has been given keys or values already.
        if site["type"] == "sample" and site["value"] is None and site["kwargs"]["rng_key"] is None:
            raise SamplesError

    try:
        return handlers.seed(handlers.substitute(function, substitute_fn=stop), 0)()
    except SamplesError:
        return _SAMPLES


def _check_no_arguments(function: Callable[..., Any], name: str, path: str) -> None:
    if needed := ", ".join(_needed(function)):
        raise UserError(
            coded(
                "E917",
                f"{name!r} in {path} needs arguments ({needed}): bind them in the file, for "
                f"instance\n\n    def posterior():\n        return infimum.from_numpyro({name}, "
                f"{needed})\n\nand run `infimum fit {path}:posterior`",
            )
        )


def _needed(function: Callable[..., Any]) -> list[str]:
    """Arguments without a default."""
    return [
        argument.name
        for argument in inspect.signature(function).parameters.values()
        if argument.default is argument.empty
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]


def _candidates(module: ModuleType) -> tuple[list[str], list[str]]:
    """Public names in the file: its models, and its functions that need no arguments."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    targets = [name for name, value in public.items() if _source(value) is not None]
    functions = [
        name
        for name, value in public.items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not _needed(value)
    ]
    return targets, functions


def _only_candidate(module: ModuleType, path: str) -> str:
    """The one target; in a file without targets, the one function."""
    targets, functions = _candidates(module)
    names = targets or functions
    if len(names) != 1:
        raise UserError(
            coded(
                "E915",
                f"which name in {path} to fit? {_listed(module)}. Run `infimum fit {path}:NAME`",
            )
        )
    return names[0]


def _listed(module: ModuleType) -> str:
    kinds = zip(("models", "functions without arguments"), _candidates(module), strict=True)
    told = [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]
    return f"it has {'; '.join(told)}" if told else "it has no model and no function to call"
