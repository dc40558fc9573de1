"""Sphinx settings of the report: sphinx_build.py assembles the folder that this file is copied to."""

from __future__ import annotations

import warnings
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from tcseg import __version__

project = "tcseg"
author = "The tcseg authors"
project_copyright = "the tcseg authors. Text and figures CC BY 4.0, code MIT"
version = release = __version__
language = "en"
html_title = "Real-time, temporally consistent segmentation"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path: list[str] = []

# Notebooks: already executed by tcseg.study.run_study, only rendered here.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, Any] = {}  # no require.js from a CDN; sliders need a kernel anyway
nb_render_markdown_format = "myst"  # notebooks print Markdown with formulas, and the banner
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline", "substitution"]
myst_substitutions: dict[str, str] = {}  # so a placeholder that nobody filled fails the build (-W)
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # a widget's view beside its static picture

# The API page is made from docstrings: `names` in backticks are code; a long signature has a line for each parameter.
default_role = "code"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # several names may share a line
python_maximum_signature_line_length = 70
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the side bar has the search field; a second one in a bar above it would be empty else
}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it, until the switch is used
html_static_path = ["_static"]
html_css_files = ["tcseg.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"


def _mathml(latex: str, display: str) -> str:
    try:
        return latex2mathml.converter.convert(latex, display=display)
    except Exception as error:  # latex2mathml raises many kinds; all mean a formula that a reader would not see
        raise SphinxError(f"formula {latex!r} cannot be converted to MathML: {error}") from error


def _visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _visit_math_block(translator: Any, node: nodes.math_block) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    anchor = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    translator.body.append(f'<div class="formula"{anchor}>{number}{_mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Formulas as MathML, which browsers draw themselves: no script, no font, nothing fetched."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of Sphinx to its extensions; not ours to mend
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
