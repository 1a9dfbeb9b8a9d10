"""How Sphinx builds the documentation, `make docs`: cells are run, and nothing is fetched."""

import importlib.metadata
import shutil
from pathlib import Path

HERE = Path(__file__).parent
for result in (HERE.parent / "benchmarks" / "results").glob("*.md"):  # benchmarks.md links to them
    (HERE / "results").mkdir(exist_ok=True)
    shutil.copy(result, HERE / "results")

project = "infimum"
release = importlib.metadata.version("infimum")
html_title = f"infimum {release}"
html_theme = "furo"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # results begin with a heading of the second order

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
