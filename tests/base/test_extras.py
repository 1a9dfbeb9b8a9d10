"""Optional libraries: which extra brings each, and what happens without them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import infimum
import infimum.cli
from infimum.base.errors import UnsuitableError
from infimum.base.extras import MissingLibraryError, installed, required

SOURCE = Path(infimum.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))[
    "project"
]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
BROUGHT_BY = {"stanio": "bridgestan"}
"""Libraries that come with another one."""


class Blind:
    """A finder of modules that does not see some libraries."""

    def __init__(self, finder: Any, libraries: tuple[str, ...]) -> None:
        self.finder, self.libraries = finder, libraries

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        unseen = name.split(".")[0] in self.libraries
        return None if unseen else self.finder.find_spec(name, path, target)


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Make imports of these libraries fail, loaded or not."""
    finders = [Blind(finder, libraries) for finder in sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    for module in list(sys.modules):
        if module.split(".")[0] in libraries:
            monkeypatch.delitem(sys.modules, module)


def uses() -> list[tuple[str, str, str]]:
    """Each `required(module, extra)` of the package, with its file."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) == "required"
            if named and all(isinstance(argument, ast.Constant) for argument in node.args):
                module, extra = (argument.value for argument in node.args)
                found.append((path.relative_to(SOURCE).as_posix(), module, extra))
    return found


def requirements(extra: str) -> list[str]:
    """All that an extra installs, those of the extras inside it too."""
    listed = []
    for line in EXTRAS[extra]:
        if line.startswith("infimum["):
            inner = line.removeprefix("infimum[").removesuffix("]").split(",")
            listed += [each for name in inner for each in requirements(name)]
        else:
            listed.append(line)
    return listed


@pytest.mark.parametrize(("file", "module", "extra"), uses())
def test_the_extra_that_a_message_names_brings_the_library(file, module, extra):
    library = module.split(".")[0]
    distribution = BROUGHT_BY.get(library, library).replace("_", "-")
    assert any(line.startswith(distribution) for line in requirements(extra))


def test_all_extras_come_with_all_but_two_large_languages():
    assert set(EXTRAS) - {"all", "pymc", "torch"} == set(
        EXTRAS["all"][0].removeprefix("infimum[").removesuffix("]").split(",")
    )


def test_at_most_nine_libraries_are_mandatory():
    assert len(PROJECT["dependencies"]) <= 9


def test_the_package_is_imported_without_any_extra():
    libraries = {module.split(".")[0] for _, module, _ in uses()} | {"matplotlib", "typer", "rich"}
    hidden = "".join(f"sys.modules[{library!r}] = None; " for library in sorted(libraries))
    code = f"import sys; {hidden}import infimum; infimum.families.Flow, infimum.families.Sparse"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestRequired:
    def test_it_gives_the_module(self):
        assert required("json.decoder", "plots") is sys.modules["json.decoder"]

    def test_a_missing_library_is_named_with_the_line_that_installs_it(self):
        with pytest.raises(MissingLibraryError) as told:
            required("no_such_library.part", "plots")
        assert told.value.name == "no_such_library"
        assert str(told.value) == (
            'no_such_library is not installed: pip install "infimum[plots]" [E602]'
        )

    def test_so_is_one_that_the_library_needs(self, tmp_path, monkeypatch):
        (tmp_path / "half.py").write_text("import no_such_library")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MissingLibraryError, match="no_such_library is not installed"):
            required("half", "plots")

    @pytest.mark.parametrize("code", ["from json import absent", "import json.absent"])
    def test_one_that_fails_to_import_says_why(self, code, tmp_path, monkeypatch):
        (tmp_path / "broken.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(MissingLibraryError, match=r"broken fails to import \(.*absent") as told:
            required("broken", "plots")
        assert told.value.name == "broken"

    def test_other_errors_of_a_library_are_its_own(self, tmp_path, monkeypatch):
        (tmp_path / "broken.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ZeroDivisionError):
            required("broken", "plots")

    def test_whether_a_library_is_there(self, monkeypatch):
        assert installed("json")
        assert not installed("no_such_library")
        monkeypatch.setitem(sys.modules, "json", None)
        assert not installed("json")


def bent() -> infimum.Target:
    """A posterior that a mean-field fit leaves much of."""
    return infimum.Target(lambda z: -0.5 * (z[0] ** 2 + 4 * (z[1] - z[0] ** 2) ** 2), jnp.zeros(2))


class TestWithoutThem:
    @pytest.mark.parametrize(
        ("library", "family", "extra"),
        [
            ("asdex", "sparse", "sparse"),
            ("numba", "sparse", "sparse"),
            ("qdldl", "sparse", "sparse"),
            ("flowjax", infimum.families.Flow(layers=3, width=5), "flows"),
        ],
    )
    def test_a_family_is_refused_before_any_work(self, library, family, extra, monkeypatch):
        hide(monkeypatch, library)
        steps = []
        with pytest.raises(UnsuitableError, match=rf'{library}.*"infimum\[{extra}\]".*E602'):
            infimum.fit(bent(), family, callback=steps.append)
        assert {step.stage for step in steps} <= {"starting"}

    def test_a_climb_skips_the_rung_and_names_the_cure(self, monkeypatch):
        hide(monkeypatch, "flowjax", "numba")
        flow = infimum.families.Flow(layers=3, width=5)
        climb = infimum.climb(bent(), ["sparse", "meanfield", flow])
        assert [fit.family.name for fit in climb] == ["meanfield"]
        skipped = dict(climb.skipped)
        assert 'numba is not installed: pip install "infimum[sparse]"' in skipped["sparse"]
        assert 'flowjax is not installed: pip install "infimum[flows]"' in skipped["flow"]

    @pytest.mark.parametrize(
        "correction", [infimum.corrections.mcmc, infimum.corrections.annealing]
    )
    def test_a_correction_is_refused_before_any_work(self, correction, monkeypatch):
        fit = infimum.fit(bent(), "meanfield")
        hide(monkeypatch, "blackjax")
        with pytest.raises(MissingLibraryError, match=r'blackjax.*"infimum\[mcmc\]"'):
            correction(fit)

    def test_a_saved_fit_of_a_missing_family_is_not_called_damaged(self, monkeypatch, tmp_path):
        flow = infimum.families.Flow(layers=3, width=5)
        path = infimum.fit(bent(), flow, max_steps=2).save(tmp_path / "fit.zip")
        infimum.families.flow.couplings.skeleton_of.cache_clear()
        hide(monkeypatch, "flowjax")
        with pytest.raises(MissingLibraryError, match=r'flowjax.*"infimum\[flows\]"'):
            infimum.load(path)

    def test_the_command_line_says_how_to_install_it(self, monkeypatch, capsys):
        hide(monkeypatch, "typer")
        with pytest.raises(SystemExit) as end:
            infimum.cli.main(["--version"])
        assert end.value.code == 2
        assert (
            'infimum: typer is not installed: pip install "infimum[cli]"' in capsys.readouterr().err
        )

    def test_arviz(self, monkeypatch):
        fit = infimum.fit(bent(), "meanfield")
        hide(monkeypatch, "arviz_base")
        with pytest.raises(MissingLibraryError, match=r'arviz_base.*"infimum\[arviz\]"'):
            fit.to_arviz()
        with pytest.raises(MissingLibraryError, match=r'arviz_base.*"infimum\[arviz\]"'):
            fit.loo()


@pytest.mark.parametrize(("package", "library"), [("plots", "matplotlib"), ("report", "jinja2")])
def test_pictures_and_reports_name_their_extra(package, library):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "try:\n"
        f"    import infimum.{package}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f'{library} is not installed: pip install "infimum[{package}]"' in done.stdout
