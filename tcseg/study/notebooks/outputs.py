"""What the notebooks of a study leave in its folder, and show: tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from tcseg import atomic_files
from tcseg.atomic_files import write_json
from tcseg.errors import NotCommittedError, NotFoundError, require_writable
from tcseg.labels import LabelSet
from tcseg.study import reference_rows
from tcseg.study.figures.captions import NUMBERS, beneath
from tcseg.study.paths import PASS_OUT, measured_table
from tcseg.study.recipes import Profile

AS_COMMITTED = "*Figure from the reference run: it needs weights or logs that are not in the repository.*"


@dataclass
class Outputs:
    """The folder of a study, with what its notebooks leave there.

    `dataset` is a name; `source` is what `open_study` takes: this name, or the folder of a data set of one's own.
    """

    dataset: str
    scale: Profile
    runs: str
    label_set: LabelSet
    folder: Path
    notebook: str | None
    source: str = ""

    def __post_init__(self) -> None:
        self.source = self.source or self.dataset
        if self.notebook:
            NUMBERS.begin(self.notebook)
        for folder in (self.tables, self.figures, self.runs_folder):
            require_writable(folder, f"{PASS_OUT}; a notebook reads $TCSEG_STUDY_FOLDER")

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.scale.name

    @property
    def name(self) -> str:
        """Data set and profile, the name of the study in committed results."""
        return f"{self.dataset}-{self.profile}"

    @property
    def tables(self) -> Path:
        """Folder of CSV tables."""
        return self.folder / "tables"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.folder / "figures"

    @property
    def runs_folder(self) -> Path:
        """The run store."""
        return self.folder / "runs"

    @property
    def size(self) -> tuple[int, int]:
        """(W,H) of frames."""
        return self.scale.camvid_size if self.dataset == "camvid" else self.scale.size

    def write_table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write `tables/<name>.csv`; returns the table."""
        atomic_files.write_table(self.tables / f"{name}.csv", table)
        return table

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table of this study, or with runs="reference" the committed one.

        Raises:
            FileNotFoundError: no notebook has written it yet.
        """
        path, committed = self.tables / f"{name}.csv", None
        if self.runs == "reference" and not path.exists():
            committed = reference_rows.committed_file(self.name, f"tables/{name}.csv")
        if not path.exists() and committed is None:
            raise NotFoundError(f"table {name}.csv is not in {self.tables}; run the notebook that writes it first")
        table = atomic_files.read_table(committed or path)
        for column, value in (("dataset", self.dataset), ("profile", self.profile)):
            if committed and column in table:  # others' rows stand there, too
                table = table[table[column] == value].reset_index(drop=True)
        return table

    def measured(self, name: str) -> pd.DataFrame:
        """The table of a long measurement (`tcseg measure NAME`): your own if you made it, else the committed one.

        Raises:
            FileNotFoundError: there is neither.
        """
        return atomic_files.read_table(measured_table(name, self.runs))

    def figure(self, name: str, draw: Callable[[], Figure], alt: str) -> None:
        """Draw a figure, save it as `figures/<name>.png` (and .svg where it is all lines) with its alt text, show it.

        Below it stands its caption: a number and the alt text.

        With runs="reference", a figure that needs weights or logs that are not in the repository is shown as it was committed, and
        says so; where this study left none there, a sentence stands in its place.
        """
        path = self.figures / f"{name}.png"
        try:
            figure = draw()
        except NotCommittedError as error:
            committed = reference_rows.committed_file(self.name, f"{name}.png")
            if self.runs != "reference":
                raise
            if committed is None:
                display(Markdown(f"*Not shown: {error}.*"))
                return
            display(Markdown(AS_COMMITTED))
            for suffix in (".png", ".svg"):
                if committed.with_suffix(suffix).exists():
                    path.with_suffix(suffix).write_bytes(committed.with_suffix(suffix).read_bytes())
            write_json(path.with_suffix(".json"), {"alt": alt})
        else:
            lines = not any(axes.images for axes in figure.axes)  # a picture as SVG is a PNG in a larger envelope
            atomic_files.write_figure(path, figure, alt, lines)
        display(Image(path.read_bytes(), format="png", alt=alt, metadata={"alt": alt, "figure": name}))
        display(HTML(beneath(alt, NUMBERS.of(name))))
