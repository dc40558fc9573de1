"""The API page: every public name stands there, every function of the four public modules a line."""

import re

import pytest

import tcseg
from tcseg.study.report import documents
from tcseg.study.report.public_names import directive, first_paragraph, public


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return documents.pages(tmp_path_factory.mktemp("study"), {}, "")["api"]


def test_each_public_name_stands_on_the_page_once(page):
    shown = re.findall(r"^\.\. auto\w+:: tcseg\.(\w+)$", page, re.MULTILINE) + re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(set(tcseg.__all__) - {"__version__"})


@pytest.mark.parametrize(
    ("name", "function", "text"),
    [
        ("flow", "warp", "Warp b onto a, bilinearly"),
        ("losses", "kl_distillation", "Hinton et al. 2015"),
        ("temporal_losses", "soft_tc", "TC itself as a loss"),
        ("metrics.temporal", "count_pair", "Compare the predictions"),
        ("metrics.intervals", "Interval", "An estimate with its"),
    ],
)
def test_each_function_of_a_public_module_has_a_line(page, name, function, text):
    assert function in public(name)
    assert f"`tcseg.{name}.{function}`\n: {text}" in page


def test_only_what_a_module_defines_itself_is_its_own():
    assert "Tensor" not in public("losses") and "_check" not in public("losses") and "InputError" not in public("flow")
    assert [name for name in public("flow") if name in ("estimate", "pixel_grid")] == ["pixel_grid", "estimate"], "in order"


@pytest.mark.parametrize(("name", "kind"), [("Recipe", "class"), ("train", "function"), ("CAMVID", "data")])
def test_the_directive_is_that_of_its_kind(name, kind):
    assert directive(name) == f"auto{kind}"


def test_a_docstring_is_plain_text_but_for_its_code(monkeypatch):
    def example():
        """The |a - b| of `p_a`, a *mean* over
        [K]; nan where none.

        More.
        """

    monkeypatch.setattr(tcseg, "predict", example)
    assert first_paragraph("tcseg.predict") == r"The \|a - b\| of `p_a`, a \*mean\* over \[K\]; NaN where none."
