"""Sphinx settings of the report: sphinx_build.py assembles the folder that this file is copied to."""

from __future__ import annotations

import html
import re
import warnings
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from tcseg import __version__
from tcseg.study.notebooks import address
from tcseg.study.report.documents import HERO

project = "tcseg"
author = "The tcseg authors"
project_copyright = "the tcseg authors. Text and figures CC BY 4.0, code MIT"
version = release = __version__
language = "en"
html_title = "tcseg"
html_favicon = "_static/favicon.svg"

ABOUT = "A course and a study: train a small network that labels driving video in real time, and teach it not to flicker."

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path: list[str] = []

# Notebooks: already executed by tcseg.study.run_study, only rendered here.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = nb_code_prompt_hide = "Code"  # cells are folded: sphinx_build.py tags them
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
html_js_files = ["tcseg.js"]
html_show_sphinx = False
html_show_search_summary = False  # a page that was opened from the disk may not read its neighbours
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


def _describe(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Title and description for search engines and for links that somebody shares."""
    if name == "index":
        context["title"] = "A course on video segmentation without flicker"  # else it would be "tcseg — tcseg"
    if tree is None:
        return
    texts = (one.astext().replace("\n", " ") for one in tree.findall(nodes.paragraph))
    first = next((text for text in texts if len(text) > 60 and "Colab" not in text), ABOUT)
    words = first if len(first) <= 160 else first[:159].rpartition(" ")[0] + "…"
    title = context.get("title", project)
    tags = [("name", "description", words), ("property", "og:title", title), ("property", "og:description", words)]
    tags.append(("property", "og:image", address.page() + "_static/" + HERO))
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {kind}="{key}" content="{html.escape(re.sub("<[^>]+>", "", value))}">\n' for kind, key, value in tags
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Formulas as MathML, which browsers draw themselves: no script, no font, nothing fetched."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of Sphinx to its extensions; not ours to mend
    app.connect("html-page-context", _describe)
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
