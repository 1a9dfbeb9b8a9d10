"""What a page is made with: imported before the other modules, so that the extra is named."""

from infimum.base.extras import required

for library in ("jinja2", "matplotlib"):
    required(library, "report")
