"""The house: imports run one way, siblings stay apart, and each file says what it is for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import infimum

ROOT = Path(infimum.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ORDER = (
    *("_errors", "_program", "supports", "_space", "_bijection", "_extras", "_processes"),
    *("_foreign", "_journal", "_blocks", "_passes", "_locals", "_remembered", "_hierarchy"),
    *("_location_scale", "_model", "_target", "_stack", "_family", "_sketch", "_warp", "_dense"),
    *("_cholesky", "_fill", "_memory", "_probe", "_pattern", "_directions", "_couplings"),
    *("families", "_objective", "checks", "_quasi_newton", "_expected_hessian", "_missing"),
    *(
        "_solver",
        "_standin",
        "_curvature",
        "_ascent",
        "solvers",
        "_starts",
        "_scouts",
        "_loop",
        "_improper",
    ),
    *(
        "_proposal",
        "_beyond",
        "_arviz",
        "_rows",
        "sources",
        "_record",
        "_expectation",
        "_initial",
        "_words",
    ),
    *("_fit", "_save", "_predict", "_progress", "_ladder", "_forecast", "_rung", "_climb"),
    *(
        "_coordinates",
        "_polar",
        "_corrected",
        "corrections",
        "_correct",
        "_evidence",
        "_uniformity",
    ),
    *("_prior", "_ranked", "_calibrate"),
    *(
        "_scene",
        "plots",
        "_inline",
        "report",
        "_demos",
        "_draws_file",
        "_facts",
        "_user_file",
        "cli",
    ),
)


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, dotted, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "infimum":
            base = (node.module or "").partition(".")[2]
            names = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
            found |= set(names)
    return found


def test_every_file_has_a_place():
    assert {layer(path) for path in FILES} <= {*ORDER, "__init__", "data"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = layer(path)
    if own == "__init__":
        return
    drawn = {"_climb": {"plots"}, "_calibrate": {"plots"}}
    lazy = {"_fit": {"_save", "plots", "report"}, "_words": {"_fit"}, **drawn}.get(own, set())
    for module in imports(path):
        other = module.split(".")[0]
        if other in ORDER and other != own and other not in lazy:
            assert ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"


@pytest.mark.parametrize("folder", ["families", "solvers", "sources", "corrections"])
def test_siblings_never_import_each_other(folder):
    for path in (ROOT / folder).glob("[a-z]*.py"):
        assert not any(module.startswith(f"{folder}.") for module in imports(path)), path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_says_what_a_file_is_for(path):
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring.split("\n")[0].endswith((".", ":"))
    assert len(docstring.split("\n")[0]) > 20


def test_public_names_have_docstrings():
    for name in infimum.__all__:
        assert getattr(infimum, name).__doc__, name


def test_import_is_light():
    """Nothing that only plots, tables or the command line need is loaded."""
    code = "import infimum, sys; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    heavy = {
        "jinja2",
        "matplotlib",
        "pandas",
        "xarray",
        "arviz_stats",
        "arviz_base",
        "optax",
        "rich",
        "typer",
        "torch",
        "pymc",
        "pytensor",
        "bridgestan",
        "stanio",
        "funsor",
    }
    assert not heavy & loaded
