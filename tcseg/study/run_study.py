"""The study of this repository: data, eight notebooks, report. `tcseg study` and `make study` call `run_study`."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import pandas as pd

from tcseg.atomic_files import write_table
from tcseg.data.folders import explain_missing
from tcseg.data.own import lookup
from tcseg.data.splits import fingerprint
from tcseg.errors import (
    CannotWriteError,
    InputError,
    NoRowsError,
    NotFoundError,
    as_message,
    debugging,
    require_one_of,
    require_writable,
)
from tcseg.labels import DATASETS
from tcseg.models.registry import FAST, WEIGHTS
from tcseg.models.students import CHOSEN
from tcseg.study.measurements import MEASUREMENTS
from tcseg.study.model_selection import with_weights
from tcseg.study.notebooks import timings
from tcseg.study.notebooks.colab import linked_chapters, write_colab
from tcseg.study.notebooks.dependency_graph import Course, run_course, upto
from tcseg.study.opening import open_study, require_known, size_of
from tcseg.study.paths import FIGURES, NOTEBOOKS, PASS_OUT, REPOSITORY, measured_table, require_checkout, study_folder
from tcseg.study.recipes import ABLATION_SWEEPS
from tcseg.study.reference_rows import STUDIES, Request, committed_rows, compare, has_data, need_of, refusal
from tcseg.study.report.documents import documents, reproduced
from tcseg.study.report.publish import left_out, publish, publish_measurements, publish_parts, publish_rows, stale
from tcseg.study.report.render import TEMPLATES
from tcseg.study.report.shipping import ship, ship_street
from tcseg.study.report.sphinx_build import ReportError, build_report
from tcseg.study.sweeps import tables

P = ParamSpec("P")
ROOT = REPOSITORY
CHAPTER_OF_ROWS = "05_ablations"  # shows every row of the sweeps
# Modules that no notebook imports: an edit there changes no result.
NOT_IN_NOTEBOOKS = {
    "dependency_graph.py", "execution.py", "workbook.py", "workbook_check.py", "colab.py", "address.py", "publish.py",
    "sphinx_build.py", "run_study.py", "cli", "measurements", "integrity",
}  # fmt: skip


OF_VIDEO = ("04_temporal_consistency", "05_ablations", "06_realtime_benchmark")
"""Chapters that need a clip with several frames for validation."""
WIDGETS = ("widget.css", *(f"widget_{kind}.html" for kind in ("flip", "border", "moving", "pick", "progress")))
SHOWN_IN_NOTEBOOKS = ("parts", "MODEL_CARD.md", "transfer", *WIDGETS)
"""Templates whose text a chapter shows."""


def course_of(
    dataset: str,
    profile: str,
    runs: str = "train",
    out: Path | None = None,
    seeds: int | None = None,
    size: str | None = None,
) -> Course:
    """The eight notebooks with their parameters, as `run_study` runs them.

    Raises:
        ValueError: dataset, profile, runs or size is wrong (the known ones are listed), or the data set is not there.
    """
    require_known(dataset, profile, runs)
    dataset = lookup.absolute(dataset)  # notebooks run in other folders
    if dataset != "procity" and runs == "train" and lookup.find_root(dataset) is None:
        raise InputError(explain_missing(dataset))
    if size:
        size_of(dataset, size)
    folder = Path(out).resolve() if out else study_folder(dataset, profile, runs, size)
    environment = {
        "TCSEG_STUDY_FOLDER": str(folder) if out else None,
        "TCSEG_SEEDS": str(seeds or ""),
        "TCSEG_SIZE": size,
    }
    package = sorted(
        p for p in (ROOT / "tcseg").rglob("*.py") if NOT_IN_NOTEBOOKS.isdisjoint(p.relative_to(ROOT).parts)
    )
    package += sorted(WEIGHTS.glob("*.*"))  # the students of the first and the last chapter
    package += [TEMPLATES / f"{name}.j2" for name in SHOWN_IN_NOTEBOOKS]
    more = {"--size": size, "--seeds": seeds, "--out": shlex.quote(str(out)) if out else None}
    again = f"tcseg study --dataset {shlex.quote(dataset)} --profile {profile}"
    again += "".join(f" {name} {value}" for name, value in more.items() if value)
    if runs == "reference":
        again = f"make report DATASET={shlex.quote(dataset)} PROFILE={profile}"
        package += sorted((FIGURES / "tables").glob("*.csv")) + sorted((FIGURES / "runs").glob("*.json"))
    else:
        package += measured_tables()
    return Course(
        artefacts=NOTEBOOKS,
        source=ROOT / "notebooks",
        folder=folder,
        parameters={"dataset": dataset, "profile": profile, "runs": runs},
        inputs=package,
        data=data_fingerprint(dataset),
        environment={name: value for name, value in environment.items() if value},
        expected=expected_seconds(folder, profile),
        again=again,
    )


def measured_tables() -> list[Path]:
    """Tables of the long measurements that the notebooks show, where there are any; a new one makes them stale."""
    tables_made = []
    for name in MEASUREMENTS:
        with contextlib.suppress(FileNotFoundError):
            tables_made.append(measured_table(name))
    return tables_made


def data_fingerprint(dataset: str) -> str:
    """Digest of a real data set's pictures (`splits.fingerprint`); empty for procity, whose generator is part of the package."""
    root = None if dataset == "procity" else lookup.find_root(dataset)
    return "" if root is None else lookup.stamp(root) if lookup.is_folder(dataset) else fingerprint(root)


def expected_seconds(folder: Path, profile: str) -> dict[str, float]:
    """What each notebook took before: here, else in the reference study of the same profile."""
    table = FIGURES / "tables" / "notebooks.csv"
    expected: dict[str, float] = {}
    if table.exists() and not folder.name.endswith("-reference"):
        rows = pd.read_csv(table).query("profile == @profile")
        expected = dict(zip(rows["notebook"], rows["seconds"].astype(float)))
    own_notebooks = {name: folder / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS}
    return expected | {name: timings.seconds(path) for name, path in own_notebooks.items() if path.exists()}


def _in_one_line(who: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Give a command's failure one line on standard error, and an exit code: no exception gets lost on the way.

    The code is what the command returns; 1 where something failed, 2 if an argument is wrong, 130 if somebody interrupted.
    """

    def decorate(work: Callable[P, int]) -> Callable[P, int]:
        @wraps(work)
        def command(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return work(*args, **kwargs)
            except KeyboardInterrupt:
                print(f"{who}: interrupted", file=sys.stderr)
                return 130
            except (Exception, SystemExit) as error:
                if debugging():
                    traceback.print_exception(error)
                print(f"{who}: {as_message(error)}", file=sys.stderr)
                return 2 if isinstance(error, InputError | CannotWriteError) else 1

        return command

    return decorate


@_in_one_line("tcseg study")
def run_study(
    dataset: str = "procity",
    profile: str = "laptop",
    runs: str = "train",
    notebooks: Sequence[str] | None = None,
    out: Path | None = None,
    seeds: int | None = None,
    with_report: bool = True,
    size: str | None = None,
) -> int:
    """Data, notebooks and report: what `make study` does.

    Args:
        dataset: "procity", "camvid", "cityscapes", or a folder of your own.
        profile: "smoke", "laptop" or "full".
        runs: "train", or "reference" to read the committed run records instead of training.
        notebooks: Stop after the last of these (names with or without .ipynb); all by default.
        out: The study's folder; data/study/<dataset>-<profile> by default.
        seeds: Train so many seeds of each recipe instead of the profile's.
        with_report: Build the report when all notebooks are done.
        size: Of the frames, as "512x256", instead of the profile's; such a study has a folder of its own.

    Returns:
        An exit code: 0 done, 1 a notebook or the report failed, 2 an argument is wrong, 130 interrupted. What went
        wrong has been printed.
    """
    names = None if notebooks is None else [known_notebook(name) for name in notebooks]
    course = course_of(dataset, profile, runs, out, seeds, size)
    require_one_of("profile", profile, STUDIES)
    if lookup.measures_stills(dataset) and (videos := [name for name in OF_VIDEO if name in upto(names)]):
        raise InputError(
            f"{dataset} has pictures but no video for validation, and {videos[0]} measures video: pass --notebook 3, or use "
            "tcseg sweep"
        )
    if runs == "reference":
        require_checkout("a report on the committed results", "notebooks", "figures/runs")
        require_reference(dataset, profile, upto(names), size, seeds)
        if problems := stale():
            raise ReportError("committed results are stale:\n" + "\n".join(f"  {problem}" for problem in problems))
    require_writable(course.folder, PASS_OUT)
    code = run_course(course, names)
    if code == 0 and runs == "train" and not names:
        _compare(course.folder)
    if code == 0 and with_report and not names:
        print(f"report: {build_report(course.folder)}")
    return code


def require_reference(
    dataset: str, profile: str, chapters: Iterable[str] = NOTEBOOKS, size: str | None = None, seeds: int | None = None
) -> None:
    """Refuse to show chapters whose results are not all committed: half of their pages would be empty.

    Raises:
        NoRowsError: the message says what is missing, and what to do instead.
    """
    frame_size = size_of(dataset, size) if size else None
    request = Request(dataset, profile, frame_size, seeds, need_of(chapters), command=True)
    if refused := refusal(request, trainable=has_data(dataset)):
        raise NoRowsError(refused)


def _compare(folder: Path) -> None:
    """Say whether the study's networks score as the committed ones do."""
    table = compare(folder)
    if len(table):
        write_table(folder / "tables" / "reproduced.csv", table)
        print(reproduced(table))


def known_notebook(name: str) -> str:
    """The name of a notebook without its suffix; a number alone ("5", "05") will do.

    Raises:
        ValueError: There is none of that name.
    """
    stem = name.removesuffix(".ipynb")
    matches = [one for one in NOTEBOOKS if one == stem or one.split("_")[0] == stem.zfill(2)]
    if not matches:
        require_one_of("notebook", name, NOTEBOOKS)
    return matches[0]


@_in_one_line("make reference")
def reference(dataset: str = "procity", profile: str = "laptop", ship: bool | None = None) -> int:
    """Publish a finished study to figures/, README.md and data/README.md, and what was measured here: what `make reference` does.

    Args:
        dataset: "procity", "camvid" or "cityscapes".
        profile: "smoke", "laptop" or "full".
        ship: Also renew the two students in tcseg/weights; by default for procity only, and not at profile smoke.

    Returns:
        An exit code: 0 done, 1 there is nothing finished to publish. What went wrong is printed.
    """
    require_one_of("dataset", dataset, DATASETS)
    ship = ship if ship is not None else (dataset == "procity" and profile != "smoke")
    study = study_folder(dataset, profile)
    written = [*publish(study, dataset, profile, ship), *publish_measurements(), *ship_street()]
    _told([*written, *_write_documents()])
    for path in left_out(study):
        print(f"left out, too large to commit: {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


@_in_one_line("make rows")
def rows(dataset: str = "procity", profile: str = "laptop") -> int:
    """Publish the finished runs of a sweep: add their rows and redraw chapter 5 from all rows; what `make rows` does.

    No finished study is needed: a sweep can be spread over many sittings and machines, each of which leaves its rows.

    Args:
        dataset: "procity", "camvid" or "cityscapes".
        profile: "smoke", "laptop" or "full".

    Returns:
        An exit code, as `run_study`'s.
    """
    require_one_of("dataset", dataset, DATASETS)
    course_of(dataset, profile, "reference")
    new_rows = publish_rows(dataset, profile, study_folder(dataset, profile) / "runs")
    if not any(row.study == f"{dataset}-{profile}" for row in committed_rows()):
        again = f"make sweeps DATASET={dataset} PROFILE={profile}"
        raise NotFoundError(
            f"no run of {dataset} at {profile} is finished, here or committed; train some with: {again}"
        )
    print(f"{len(new_rows)} new rows in {FIGURES / 'runs'}")
    if profile == "bench":  # chapter 6 joins these rows to the times of a frame whenever it is run
        for run in (one for one in with_weights(open_study(dataset, profile), CHOSEN[FAST]) if one.seed == 0):
            print(ship(run, FAST).relative_to(ROOT))
        return 0
    drawn = Request(dataset, profile, need=need_of(upto([CHAPTER_OF_ROWS])))
    if dataset == "procity" and not refusal(drawn, trainable=False):
        if code := run_study(dataset, profile, "reference", [CHAPTER_OF_ROWS], with_report=False):
            return code
        named_artefacts = {*artefacts_named(ROOT / "notebooks" / f"{CHAPTER_OF_ROWS}.ipynb"), *ABLATION_SWEEPS}
    else:  # tables alone: not all that the chapter shows is committed
        study, named_artefacts = open_study(dataset, profile, "reference"), set()
        for name, table in tables(study).items():
            study.write_table(name, table)
            named_artefacts.add(name)
    written = publish_parts(study_folder(dataset, profile, "reference"), named_artefacts, dataset, profile)
    return _told([*written, *_write_documents()])


def artefacts_named(notebook: Path) -> set[str]:
    """Names of the tables and figures that a notebook's code writes, without suffix."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return set(re.findall(r'(?:write_table|figure)\("(\w+)"', code)) | set(re.findall(r'"(\w+)\.gif"', code))


def _write_documents() -> list[Path]:
    """Write the documents from their templates and the committed tables, and the links of the chapters."""
    texts = {ROOT / name: text for name, text in documents(FIGURES).items()} | linked_chapters(ROOT / "notebooks")
    for page, text in texts.items():
        page.write_text(text, encoding="utf-8")
    return list(texts)


def _told(written: Iterable[Path]) -> int:
    """Name the files that a command wrote."""
    print("\n".join(str(path.relative_to(ROOT)) for path in written))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tcseg.study.run_study study|report|reference|rows|documents|colab`, for the Makefile; people use `tcseg study`."""
    parser = argparse.ArgumentParser(prog="python -m tcseg.study.run_study", description=main.__doc__)
    parser.add_argument("what", choices=("study", "report", "reference", "rows", "documents", "colab"))
    parser.add_argument("--dataset", default="procity")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--no-ship", action="store_true", help="reference: leave tcseg/weights as it is")
    parsed = parser.parse_args(arguments)
    if parsed.what == "documents":
        return _in_one_line("make documents")(lambda: _told(_write_documents()))()
    if parsed.what == "colab":
        return _in_one_line("make colab")(lambda: _told(write_colab(ROOT / "notebooks", ROOT / "build" / "colab")))()
    if parsed.what == "rows":
        return rows(parsed.dataset, parsed.profile)
    if parsed.what == "reference":
        return reference(parsed.dataset, parsed.profile, ship=False if parsed.no_ship else None)
    return run_study(parsed.dataset, parsed.profile, runs="train" if parsed.what == "study" else "reference")


if __name__ == "__main__":
    sys.exit(main())
