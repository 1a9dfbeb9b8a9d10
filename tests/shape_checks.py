"""Shapes in annotations, enforced while the tests run: `pytest -p shape_checks`.

As infimum is imported, every function and data class with an annotation of jaxtyping is decorated
so that beartype checks these annotations at each call: library, kind of numbers and shape. Other
annotations are left to mypy, since tests of wrong use pass wrong types on purpose. jaxtyping's own
hook decorates every function, which took 1.3 times the seconds of the tests.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

PACKAGE = "infimum"
SHAPED = re.compile(r"\b(Float|Int|Bool|Shaped|Num|Real|UInt|Integer|Inexact)\[")
"""Annotations of jaxtyping."""

DECORATOR = "__import__('jaxtyping').jaxtyped(typechecker=__import__('shape_checks').check)"

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Any:
    """Check the arrays among the arguments and the result of a function at every call."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {
        name: hint for name, hint in hints.items() if SHAPED.search(str(hint))
    }
    return _beartype(function)


class _Decorate(ast.NodeTransformer):
    """Decorates what has an annotation of jaxtyping."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        hints = [node.returns, *(argument.annotation for argument in arguments)]
        if _any_shaped(hints):
            node.decorator_list.append(_decorator(node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        fields = [item.annotation for item in node.body if isinstance(item, ast.AnnAssign)]
        if _any_shaped(fields) and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            node.decorator_list.insert(0, _decorator(node))
        return node


def _any_shaped(hints: list[ast.expr | None]) -> bool:
    return any(hint is not None and SHAPED.search(ast.unparse(hint)) for hint in hints)


def _decorator(node: ast.stmt) -> ast.expr:
    expression = ast.parse(DECORATOR, mode="eval").body
    for part in ast.walk(expression):
        ast.copy_location(part, node)
    return expression


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module with its functions decorated; never from the cache."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        return compile(_Decorate().visit(tree), path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Loads the modules of the package through `_Loader`."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != PACKAGE and not fullname.startswith(f"{PACKAGE}."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
