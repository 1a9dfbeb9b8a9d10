"""Sphinx configuration for `make docs`: every cell is run, and nothing is fetched."""

import importlib.metadata
import re
import shutil
from pathlib import Path

from infimum.base.catalogue import areas, catalogue

HERE = Path(__file__).parent
for result in (HERE.parent / "benchmarks" / "results").glob("*.md"):  # benchmarks.md links to them
    (HERE / "results").mkdir(exist_ok=True)
    shutil.copy(result, HERE / "results")


def errors() -> str:
    """Write the page of errors. The label before each code makes errors.html#e301 an address."""
    page = [
        "# Errors and warnings",
        "The message of each error and warning ends in a code. This page says what each code means "
        "and what to do. In a terminal, `infimum explain E301` prints the same text.",
    ]
    for area, title in areas().items():
        page.append(f"## {title}")
        for code, entry in catalogue().items():
            if code.startswith(area):
                heading = f"({code.lower()})=\n### {code}: {entry.title}"
                page += [heading, entry.means, f"**What to do:** {entry.cure}"]
    return "\n\n".join(page) + "\n"


(HERE / "errors.md").write_text(errors(), encoding="utf-8")

project = "infimum"
release = importlib.metadata.version("infimum")
html_title = f"infimum {release}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["frames.css"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # the result files begin with a second-level heading

nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": False}


def escape_determinants(app, what, name, obj, options, lines):
    """Keep |det L| in a docstring from being read as a substitution of reStructuredText."""
    lines[:] = [re.sub(r"\|(det [^|]+)\|", r"\\|\1\\|", line) for line in lines]


def setup(app):
    """Register what changes docstrings before they are parsed."""
    app.connect("autodoc-process-docstring", escape_determinants)
