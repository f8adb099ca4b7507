"""Settings of the documentation site, which `make docs` builds with Sphinx; nothing is fetched from the network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import segexplorer

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Segmentation Explorer"
copyright = "the segexplorer developers"
version = release = segexplorer.__version__
language = "en"

extensions = [
    "myst_nb",  # with myst_parser, for pages and notebooks alike
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "formulas",
]

# ---- text: Markdown that reads well on its own, e.g. in the browser of a code host
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
exclude_patterns = ["_extensions"]
# Notebooks are pages of text and code. They keep no outputs, which would be another machine's and in every diff;
# nor are they run here: that takes minutes, and the tests do it.
nb_execution_mode = "off"
html_math_renderer = "svg"

# ---- docstrings: numpy style; what is between single backticks is code
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

# ---- looks
html_theme = "furo"
html_title = f"Segmentation Explorer {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {
    "sidebar_hide_name": False,
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#0b6aa2", "color-brand-content": "#0b6aa2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}
highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = "$ "


def _settings_signature(
    app: object, what: str, name: str, thing: object, options: object, signature: str, returned: str
) -> tuple[str, str] | None:
    """Print a spec's signature short: its settings are on the page of the experiment file."""
    if what == "class" and isinstance(thing, type) and issubclass(thing, BaseModel):
        return "(**settings)", returned
    return None


def _shapes_as_text(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Keep the asterisk of a shape such as (B, C, *S) from opening an emphasis."""
    lines[:] = [re.sub(r"\*(?=(?:S|spatial)\b)", r"\\*", line) for line in lines]


def setup(app: Any) -> None:
    """Connect what this site adds to autodoc."""
    app.connect("autodoc-process-signature", _settings_signature)
    app.connect("autodoc-process-docstring", _shapes_as_text)
