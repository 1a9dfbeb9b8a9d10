"""The pages in docs/ are right: their code, what it prints, their links and their references."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

from infimum.base.catalogue import catalogue

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = DOCS.parent / "src" / "infimum"
PAGES = sorted(DOCS.glob("*.md"))
GENERATED_PAGES = {"errors"}
"""Pages that conf.py writes when the documentation is built."""

NEEDS = {"coming-from-pymc": "pymc", "coming-from-stan": "stanli"}
BLOCK = re.compile(
    r"^```(python|diff|\{code-cell\} python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL
)
EXPECTED_OUTPUT = re.compile(r"^print\(.*\)  # (.*)$", flags=re.MULTILINE)
REFERENCE = re.compile(r"^\| (.*\((\d{4})\), .*) \| .* \| (`.*`) \|$", flags=re.MULTILINE)
"""A row of the page of papers: the reference, its year, and the files that implement it."""

CITATION = re.compile(r"(?:\b[A-Z][^\W\d_]+|et al\.) \(?((?:19|20)\d\d)\b")


def after_diff(diff: str) -> str:
    """The code that a diff results in."""
    return "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] != "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """Blocks run one after another and share their names; a diff runs as the code it results in."""
    if module := NEEDS.get(page.stem):
        pytest.importorskip(module, reason=f"{module} is not installed")
    if page.stem == "coming-from-stan":
        shutil.copy(DOCS.parent / "examples" / "eight_schools.stan", tmp_path)
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for match in BLOCK.finditer(text):
        code = after_diff(match[2]) if match[1] == "diff" else match[2]
        padding = "\n" * text.count("\n", 0, match.start(2))  # errors then show the page's line
        exec(compile(padding + code, str(page), "exec"), names)
        lines = capsys.readouterr().out.splitlines()
        for expected in EXPECTED_OUTPUT.findall(code):
            assert expected in lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).is_file(), link


def test_every_page_is_in_the_contents():
    contents = re.findall(
        r"```\{toctree\}\n.*?\n\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL
    )
    pages = {page.stem for page in PAGES} - {"index"} | GENERATED_PAGES
    assert sorted(" ".join(contents).split()) == sorted(pages)


def test_the_page_of_errors_has_an_address_for_each_code(tmp_path):
    """conf.py writes that page into its own folder."""
    runpy.run_path(str(shutil.copy(DOCS / "conf.py", tmp_path)))
    page = (tmp_path / "errors.md").read_text(encoding="utf-8")
    for code, entry in catalogue().items():
        assert f"\n({code.lower()})=\n### {code}: {entry.title}\n\n{entry.means}\n" in page


def references() -> set[tuple[str, str]]:
    """Pairs of a file and a year, from the page of papers."""
    rows = REFERENCE.findall((DOCS / "from-paper-to-code.md").read_text(encoding="utf-8"))
    return {(file, year) for _, year, files in rows for file in re.findall(r"`(.*?)`", files)}


@pytest.mark.parametrize(("file", "year"), sorted(references()))
def test_the_file_of_a_paper_exists_and_cites_it(file, year):
    assert (PACKAGE / file).is_file(), f"docs/from-paper-to-code.md names {file}, which is no file"
    assert re.search(rf"\b{year}\b", (PACKAGE / file).read_text(encoding="utf-8"))


def test_every_citation_in_the_code_is_on_the_page_of_papers():
    citations = {
        (str(path.relative_to(PACKAGE)), year)
        for path in PACKAGE.rglob("*.py")
        for year in CITATION.findall(" ".join(path.read_text(encoding="utf-8").split()))
    }
    assert citations - references() == set()
