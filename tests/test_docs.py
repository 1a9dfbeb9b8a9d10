"""The pages in docs/ keep their word: code, what it prints, and links."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest
from stan.library import HAS_COMPILER, compiled

from infimum.base.catalogue import catalogue

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
MADE = {"errors"}  # by conf.py, when the pages are built
NEEDS = {"coming-from-pymc": "pymc", "coming-from-stan": "bridgestan"}
BLOCK = re.compile(
    r"^```(python|diff|\{code-cell\} python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL
)
SHOWN = re.compile(r"^print\(.*\)  # (.*)$", flags=re.MULTILINE)


def afterwards(diff: str) -> str:
    """What a diff leaves."""
    return "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] != "-")


@pytest.fixture
def library(tmp_path, tmp_path_factory):
    """The program's library under the name that BridgeStan gives it, where the page runs."""
    if not HAS_COMPILER:
        pytest.skip("there is no C compiler")
    made = compiled("eight_schools", tmp_path_factory.mktemp("stan"))
    return shutil.copy(made, tmp_path / "eight_schools_model.so")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, request, tmp_path, monkeypatch, capsys):
    """Block after block, with names kept; a diff runs as it leaves the code."""
    if module := NEEDS.get(page.stem):
        pytest.importorskip(module, reason=f"{module} is not installed")
    if page.stem == "coming-from-stan":
        request.getfixturevalue("library")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for match in BLOCK.finditer(text):
        code = afterwards(match[2]) if match[1] == "diff" else match[2]
        above = "\n" * text.count("\n", 0, match.start(2))  # so that errors tell the page's line
        exec(compile(above + code, str(page), "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        for shown in SHOWN.findall(code):
            assert shown in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).is_file(), link


def test_every_page_is_in_the_contents():
    listed = re.findall(
        r"```\{toctree\}\n.*?\n\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL
    )
    there = {page.stem for page in PAGES} - {"index"} | MADE
    assert sorted(" ".join(listed).split()) == sorted(there)


def test_the_page_of_errors_has_an_address_for_each_code(tmp_path):
    """The configuration makes it beside itself."""
    runpy.run_path(str(shutil.copy(DOCS / "conf.py", tmp_path)))
    page = (tmp_path / "errors.md").read_text(encoding="utf-8")
    for code, entry in catalogue().items():
        assert f"\n({code.lower()})=\n### {code}: {entry.title}\n\n{entry.means}\n" in page
