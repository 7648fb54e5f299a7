"""How the documentation is built."""

import re
from importlib.metadata import version as version_of
from typing import Any

project = "chainrule"
author = "The chainrule authors"
copyright = "The chainrule authors"
release = version = version_of("chainrule")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "myst_parser"]
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "chainrule"
exclude_patterns = ["_build"]
nitpicky = True

default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"


def escape_formulas(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings write mathematics as plain text: there a star multiplies, and does not begin emphasis."""
    in_session = False
    for number, line in enumerate(lines):
        in_session = bool(line.strip()) and (in_session or line.lstrip().startswith(">>>"))
        if not in_session:
            parts = re.split(r"(`[^`]*`)", line)
            lines[number] = "".join(p if p.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", p) for p in parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", escape_formulas)
