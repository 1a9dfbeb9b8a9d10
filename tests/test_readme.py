"""The README is right: its code, output, commands and links."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
LABEL = re.compile(r"^  (\S.*?)  +(.*)$")
LARGEST = 200
"""Lines that the README may have."""


def execute(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def rows(output: str) -> dict[str, str]:
    """Label and text of each line of a printed fit, except its seconds, which always differ."""
    texts = dict(match.groups() for line in output.splitlines() if (match := LABEL.match(line)))
    texts.pop("seconds", None)
    return texts


def estimate(text: str) -> tuple[float, float]:
    match = re.match(r"(\S+) ± (\S+)", text)
    assert match is not None, text
    return float(match[1]), float(match[2])


def test_the_example_prints_what_the_readme_shows(capsys, tmp_path, monkeypatch):
    """Numbers agree within their standard errors: the last digits depend on the machine."""
    monkeypatch.chdir(tmp_path)
    execute(BLOCKS[0])
    actual = rows(capsys.readouterr().out)
    expected = rows(README.split("```text\n")[1].split("```")[0])
    assert expected.keys() == actual.keys()
    assert expected["verdict"] == actual["verdict"]
    for label in ("ELBO", "log Z", "KL[q ‖ p*]"):
        (old, old_se), (new, new_se) = estimate(expected[label]), estimate(actual[label])
        assert abs(old - new) <= 5 * math.hypot(old_se, new_se), label


@pytest.mark.parametrize("code", BLOCKS[1:])
def test_the_other_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(code)


def test_the_first_example_is_short():
    assert sum(bool(line.strip()) for line in BLOCKS[0].splitlines()) <= 15


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LARGEST


def test_the_commands_are_in_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    commands = set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets


def test_its_links_lead_to_files():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
