"""Open a study of a data set at a profile; every argument is checked before work starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tcseg import procity
from tcseg.data.folders import explain_missing, explain_variable, find_dataset
from tcseg.data.frame_size import parse_size
from tcseg.data.own import lookup
from tcseg.data.own.layout import OwnFolder
from tcseg.errors import InputError, NoRowsError, NotFoundError, require_one_of, require_writable
from tcseg.models.trained_on import network_size
from tcseg.study import reference_rows
from tcseg.study.paths import NOTEBOOKS, PASS_OUT, study_folder
from tcseg.study.recipes import PROFILES
from tcseg.study.study import Study

MODES = ("train", "reference")
SIDES = 32  # what the sides of a study's frames are multiples of


def require_known(dataset: str, profile: str, runs: str, profiles: Iterable[str] = PROFILES) -> None:
    """Refuse an unknown data set, profile or mode.

    Raises:
        InputError: the message lists the known ones.
    """
    lookup.require_dataset(dataset)
    require_one_of("profile", profile, profiles)
    require_one_of("runs", runs, MODES)


def size_of(dataset: str, text: str) -> tuple[int, int]:
    """(W,H) from text such as "512x256", checked against the networks' stride and procity's camera.

    Raises:
        InputError: the text is no size, or the data set cannot have it.
    """
    size = parse_size(text, SIDES)
    return procity.check_size(size) if dataset == "procity" else size


def open_study(
    dataset: str = "procity",
    profile: str = "laptop",
    runs: str = "train",
    notebook: str | None = None,
    folder: Path | None = None,
) -> Study:
    """Open a study; all arguments are checked before work starts.

    Args:
        dataset: procity (embedded), camvid or cityscapes (found in `$TCSEG_DATA` or `data/`), or a folder of your own (see
            `tcseg.data.own`), whose frames have as many pixels as the profile's, at their own aspect.
        profile: smoke, laptop or full.
        runs: "train" trains what is missing; "reference" shows the committed rows.
        notebook: whose usage is counted.
        folder: write there instead of `data/study/<dataset>-<profile>`; `tcseg study --out`, `--seeds` and `--size` reach a
            notebook's kernel as `$TCSEG_STUDY_FOLDER`, `$TCSEG_SEEDS` and `$TCSEG_SIZE`.

    Raises:
        ValueError: an unknown value (the message lists the known ones), or with runs="reference" one that goes with no committed
            rows (the message says what would do).
        FileNotFoundError: the data set is not there, or a table of an earlier chapter.

    Example:
        >>> study = tcseg.open_study("procity", "laptop", runs="reference", folder=folder)
        >>> round(study.run("consistent", seed=0).metrics["flicker"], 2)
        0.04
    """
    require_known(dataset, profile, runs, PROFILES if notebook is None else reference_rows.STUDIES)
    if notebook is not None:
        require_one_of("notebook", notebook, NOTEBOOKS)
    size, seeds = os.environ.get("TCSEG_SIZE"), os.environ.get("TCSEG_SEEDS")
    if seeds and (not seeds.isdecimal() or int(seeds) < 1):
        raise InputError(f"TCSEG_SEEDS is {seeds!r}; give the number of seeds, at least 1, or unset it")
    need = reference_rows.NEEDS[notebook] if notebook else reference_rows.ROWS_ALONE
    request = reference_rows.Request(dataset, profile, _own_size(dataset, size), int(seeds) if seeds else None, need)
    arguments = folder or os.environ.get("TCSEG_STUDY_FOLDER")
    where = {mode: Path(arguments or study_folder(dataset, profile, mode, size)) for mode in MODES}
    untrained = _why_not_trained(request, where["train"])
    if runs == "train" and untrained:
        raise NotFoundError(untrained)
    if runs == "reference" and (refused := reference_rows.refusal(request, trainable=not untrained)):
        raise NoRowsError(refused)
    if dataset in ("camvid", "cityscapes") and runs == "train" and (note := explain_variable()):
        print(f"{note}; {dataset} is read from {find_dataset(dataset)}", file=sys.stderr, flush=True)
    scale, own = request.scale, lookup.own_folder(dataset)
    if own is not None:
        _claim(where[runs], own)
        scale = scale if size else replace(scale, size=network_size(own.size, scale.size))
    classes = lookup.label_set_of(dataset)
    return Study(lookup.name_of(dataset), scale, runs, classes, where[runs], notebook, lookup.absolute(dataset))


def _claim(folder: Path, own: OwnFolder) -> None:
    """Note whose study a folder holds; two data sets of one name must not share it.

    Raises:
        InputError: it holds the study of another folder, which still exists.
    """
    note = folder / "dataset.txt"
    other = Path(note.read_text(encoding="utf-8")) if note.exists() else own.root
    if other != own.root and other.is_dir():
        raise InputError(f"{folder} holds the study of {other}, and {own.root} has the same name; pass --out FOLDER, or rename one")
    require_writable(folder, PASS_OUT)
    note.write_text(str(own.root), encoding="utf-8")


def _own_size(dataset: str, text: str | None) -> tuple[int, int] | None:
    try:
        return size_of(dataset, text) if text else None
    except InputError as error:
        raise InputError(f"TCSEG_SIZE: {error}, or unset it") from None


def _why_not_trained(request: reference_rows.Request, folder: Path) -> str:
    """What training needs and does not find, and how to get it; empty if everything is there."""
    dataset = request.dataset
    if dataset != "procity" and lookup.find_root(dataset) is None:
        return explain_missing(dataset)
    for table, chapter in request.need.earlier.items():
        if not (folder / "tables" / f"{table}.csv").is_file():
            shown = "" if reference_rows.refusal(request, trainable=False) else ", or use runs='reference'"
            return f"{folder} has no tables/{table}.csv; run {chapter} first, with the same parameters{shown}"
    return ""


def open_rows(dataset: str, profile: str, folder: Path | None = None) -> Study:
    """A study of which only recipes and rows are used (`finished_runs`, `why_stale`): no data are needed, `--size` is ignored.

    Args:
        dataset, profile: whose.
        folder: where runs of one's own are looked for; its usual place by default, as `open_study` has it.
    """
    where = Path(folder or os.environ.get("TCSEG_STUDY_FOLDER") or study_folder(dataset, profile))
    name, classes = lookup.name_of(dataset), lookup.label_set_of(dataset)
    return Study(name, PROFILES[profile], "reference", classes, where, None, lookup.absolute(dataset))
