"""How `make docs` builds the site; it asks for nothing from elsewhere."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("sw", "hw", "sim")]

from pleach import __version__  # noqa: E402

project = "Pleach"
copyright = "the Pleach maintainers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["status.md", "riscv/*"]
html_theme = "furo"
html_title = f"Pleach {release}"
html_copy_source = False
html_show_sphinx = False
# A heading has the anchor that it has where the pages are read as they are.
myst_heading_anchors = 4
# Names that several packages give, what docstrings of torch refer to, and fences without a lexer.
suppress_warnings = ["myst.header", "ref.python", "ref.ref", "misc.highlighting_failure"]
highlight_language = "none"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": False}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
