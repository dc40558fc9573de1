"""Captions under figures, with the number that a figure has in its chapter."""

from __future__ import annotations

import html
import re

from IPython.display import HTML

NUMBER = '<b class="tcseg-number">Figure</b>'
"""Where a caption has its number: filled when the figure is shown."""
BENEATH = "tcseg-beneath"
"""Class of a caption that is no part of its picture's output."""
_PLACE = re.compile(r'<b class="tcseg-number">[^<]*</b>')


class Numbers:
    """Numbers in the order in which figures are first shown; a figure that is shown again keeps its number."""

    def __init__(self) -> None:
        self.chapter = ""
        self._given: dict[str, int] = {}

    def begin(self, notebook: str) -> None:
        """Another notebook begins: "04_temporal_consistency" has the figures 4.1, 4.2 and so on; one without a number 1, 2."""
        found = re.match(r"\d+", notebook)
        chapter = f"{int(found[0])}." if found else ""
        if chapter != self.chapter:
            self.chapter, self._given = chapter, {}

    def of(self, name: str) -> str:
        """The number of a figure, "Figure 4.1", for the name of a figure or any other text that tells it from others."""
        return f"Figure {self.chapter}{self._given.setdefault(name, len(self._given) + 1)}"


NUMBERS = Numbers()
"""Those of this process: a notebook has a kernel of its own."""


def caption(sentence: str) -> str:
    """The HTML of a caption whose number is not known yet."""
    return f"<figcaption>{NUMBER} {html.escape(sentence)}</figcaption>"


def beneath(sentence: str, number: str) -> str:
    """The HTML of a caption that a notebook shows as an output of its own, below the picture."""
    return f'<p class="{BENEATH}"><b>{html.escape(number)}.</b> {html.escape(sentence)}</p>'


def numbered(page: str, number: str) -> str:
    """HTML with this number in all of its captions."""
    return _PLACE.sub(f'<b class="tcseg-number">{html.escape(number)}.</b>', page)


def without_number(page: str) -> str:
    """HTML whose captions have no number: of a page with one figure."""
    return _PLACE.sub("", page)


def framed(picture: str, sentence: str, number: str = "") -> str:
    """The HTML of a picture with its caption below."""
    page = f'<figure class="tcseg-figure">{picture}{caption(sentence)}</figure>'
    return numbered(page, number) if number else page


class Numbered(HTML):
    """HTML with a caption, which gets its number when a notebook shows it; `data` is the same for the same content."""

    def _repr_html_(self) -> str:
        return numbered(self.data, NUMBERS.of(self.data))
