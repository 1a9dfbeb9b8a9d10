"""The house: packages in the order of the theory, no circles, and each file says its purpose."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infimum

ROOT = Path(infimum.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = (
    *("base", "checks", "supports", "target", "rows", "sources", "structure", "gaussian"),
    *("families", "objective", "solvers", "search", "answer", "plots", "report", "fitting"),
    *("corrections", "trust", "cli"),
)
"""The order of reading, which is the order of imports: a package imports from those before it."""

MEMBERS = ("families", "solvers", "sources", "corrections")
"""Packages of members, each of which is a file or a folder."""

LONGEST_FILE, LONGEST_FUNCTION, LONG_FUNCTIONS = 400, 40, 0.01
"""Lines of a file, lines of code of a function, and the share of functions that may exceed it."""

UNTYPED = 199
"""Lines with the annotation Any. The number may only fall."""


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("infimum", *parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(path: Path) -> set[Path]:
    """Files of this package that a file imports, lazily or for types only too."""
    files = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name not in ("", "infimum") and MODULES[name] != path:
                files.add(MODULES[name])
    return files


def docstring_lines(node: ast.AST) -> set[int]:
    lines: set[int] = set()
    for inner in ast.walk(node):
        documented = isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(inner) is not None:
            lines |= set(range(inner.body[0].lineno, (inner.body[0].end_lineno or 0) + 1))
    return lines


def test_every_file_has_a_package():
    assert {package(path) for path in FILES} <= {*PACKAGES, "__init__", "data"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path):
    own = package(path)
    if own == "__init__":
        return
    for other in map(package, imported(path)):
        assert PACKAGES.index(other) <= PACKAGES.index(own), f"{own} imports {other}"


def test_no_file_is_in_a_circle():
    graph = {path: imported(path) for path in FILES if path != ROOT / "__init__.py"}
    while leaves := [path for path, needs in graph.items() if not needs & graph.keys()]:
        for path in leaves:
            del graph[path]
    assert not graph, f"these import each other, or need ones that do: {sorted(map(str, graph))}"


def member(path: Path) -> str:
    """The name of the member that a file of a package of members belongs to."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


@pytest.mark.parametrize("folder", MEMBERS)
def test_members_never_import_each_other(folder):
    for path in (ROOT / folder).rglob("*.py"):
        own = member(path)
        others = {member(other) for other in imported(path) if package(other) == folder}
        others = {name for name in others - {own} if not name.startswith("_")}
        if own != "__init__":
            assert not others, f"{own} imports {others}"


@pytest.mark.parametrize("folder", MEMBERS)
def test_every_member_has_a_test_of_its_name(folder):
    tests = {path.stem for path in (Path(__file__).parent / folder).glob("test_*.py")}
    members = {member(path) for path in (ROOT / folder).rglob("*.py")}
    members = {name for name in members if not name.startswith("_")}
    assert not {f"test_{name}" for name in members} - tests


def test_an_underscore_marks_what_only_members_share():
    for path in FILES:
        if path.stem.startswith("_") and path.stem != "__init__":
            assert package(path) in MEMBERS, path


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_the_first_line_says_one_purpose(path):
    first = (ast.get_docstring(TREES[path]) or "").split("\n")[0]
    assert first.endswith((".", ":"))
    assert len(first) > 20
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "__init__.py"], ids=module_name
)
def test_a_package_file_holds_imports_and_names_only(path):
    for node in TREES[path].body:
        named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert named or text or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_functions_are_short():
    long, count = [], 0
    for path, tree in TREES.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        code = {i for i, line in enumerate(lines, 1) if line.strip()} - docstring_lines(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                count += 1
                size = len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                if size > LONGEST_FUNCTION:
                    long.append(f"{module_name(path)}.{node.name}: {size}")
    assert len(long) <= LONG_FUNCTIONS * count, long


def test_untyped_annotations_do_not_rise():
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    count = sum(": Any" in line for line in lines)
    assert count <= UNTYPED, f"{count} lines have ': Any'; give the new ones a type"


def test_no_name_says_nothing():
    """Names that style forbids because they were bound dozens of times, to as many things."""
    empty = re.compile(r"^(told|found|given|seen|lacking|wanted|held|asked|stuff|data2)$")
    for path, tree in TREES.items():
        deprecated = {
            node.targets[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "RenamedAttribute"
        }
        for node in ast.walk(tree):
            bound = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            if bound and node not in deprecated:
                assert not empty.match(node.id), f"{module_name(path)}:{node.lineno}: {node.id}"


def test_import_is_light():
    """Nothing that only plots, tables or the command line need is loaded."""
    code = "import infimum, sys; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    heavy = {
        *("jinja2", "matplotlib", "pandas", "xarray", "arviz_stats", "arviz_base", "optax"),
        *("rich", "typer", "torch", "pymc", "pytensor", "bridgestan", "stanio", "funsor"),
        *("numba", "qdldl", "flowjax", "blackjax"),
    }
    assert not heavy & loaded
