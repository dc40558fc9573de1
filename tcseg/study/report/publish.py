"""Publish results: `make reference` copies a finished study's tables, figures and run records to `figures/`.

Nothing but `make reference` and `make rows` writes there. Tables are merged: the rows of this study replace its old rows, those of
other data sets, profiles or machines stay. `stale` says which committed results no longer belong to the code.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tcseg import procity
from tcseg.atomic_files import beside, write_json
from tcseg.machine import machine_facts
from tcseg.study.opening import open_rows
from tcseg.study.paths import FIGURES, MEASURED
from tcseg.study.recipes import PROFILES
from tcseg.study.report.reproduction import command_of
from tcseg.study.report.shipping import MAX_BYTES, PublishError, ship_students
from tcseg.study.run_ids import codes
from tcseg.study.runs import git_state, now, versions

MAX_SVG_BYTES = 300_000
MERGED_BY = ("dataset", "profile", "machine")  # columns that say whose rows a table holds


def publish(study: Path, dataset: str, profile: str, ship: bool = False, target: Path = FIGURES) -> list[Path]:
    """Copy a finished study's tables, figures and run records (no weights) to `target`, and note where each came from.

    Figures of real data sets stay out: their frames may not be redistributed. Files that this study left there before
    and does not have any more are removed.

    Args:
        study: The study's folder.
        dataset: Its data set.
        profile: Its profile.
        ship: Also write the weights of `student` and `consistent`, seed 0, to tcseg/weights in half precision.
        target: The folder of committed results.

    Returns:
        The files written.

    Raises:
        PublishError: The study is not there or not finished, or a table or record is larger than a megabyte.
    """
    if not (study / "tables" / "ablation.csv").is_file():
        again = f"make study DATASET={dataset} PROFILE={profile}"
        raise PublishError(f"{study} holds no finished study (no tables/ablation.csv): {again}")
    written = [*_publish_tables(study, dataset, target), *_publish_runs(study, target)]
    if dataset == "procity":
        written += _publish_figures(study, target)
    kept = {f"runs/{run_id}.json" for run_id in _named_runs(study)}  # rows of other sittings that the tables show
    _note_provenance(target, written, f"{dataset}-{profile}", _stamp(), megabytes(study), kept)
    if ship:
        written += ship_students(study)
    return written


def publish_rows(dataset: str, profile: str, runs: Path, target: Path = FIGURES) -> list[Path]:
    """Copy the records of finished runs of the recipes and sweeps of today, without weights, whether a table names them or not.

    So a sweep over many sittings, on any machine, leaves its rows: `make rows`.

    Args:
        dataset, profile: Whose rows.
        runs: A study's store of runs.
        target: The folder of committed results.

    Returns:
        The files written: those that were not committed yet.
    """
    written = []
    for source in sorted(runs.glob("*/record.json")):
        record = json.loads(source.read_text())
        goal = target / "runs" / f"{record['run_id']}.json"
        mine = (record["dataset"], record["profile"]) == (dataset, profile)
        if mine and not goal.exists() and not _why_stale(record):
            written.append(_write(goal, (json.dumps(record) + "\n").encode()))
    _note_provenance(target, written, f"{dataset}-{profile}", _stamp(), whole=False)
    return written


def publish_parts(
    study: Path, names: Collection[str], dataset: str, profile: str, target: Path = FIGURES
) -> list[Path]:
    """Copy some tables and figures of a study, and with its times what it takes on the disk; all else that is committed stays.

    Args:
        study: The study's folder: one that was drawn from committed rows, or a cold one whose times are wanted.
        names: Of tables and figures, without suffix.
        dataset, profile: Whose.
        target: The folder of committed results.

    Returns:
        The files written.
    """
    files = [*_publish_tables(study, dataset, target, names)]
    if dataset == "procity":
        files += _publish_figures(study, target, names)
    disk = megabytes(study) if "notebooks" in names else None
    _note_provenance(target, files, f"{dataset}-{profile}", _stamp(), disk, whole=False)
    return files


def _stamp() -> dict[str, Any]:
    return {"date": now(), "git": git_state(), "versions": versions(), "machine": machine_facts()}


def publish_measurements(source: Path = MEASURED, target: Path = FIGURES) -> list[Path]:
    """Copy the tables and figures of every measurement made here (`tcseg measure`); a quick one is left out.

    Returns:
        The files written; none where nothing was measured.
    """
    written = []
    for note in sorted((source / "records").glob("*.json")):
        record = json.loads(note.read_text())
        if record.pop("quick"):
            continue
        names = record.pop("files")
        copies = [_write(target / name.removeprefix("figures/"), (source / name).read_bytes()) for name in names]
        _note_provenance(target, copies, f"measure {note.stem}", record)
        written += copies
    return written


def _write(path: Path, content: bytes) -> Path:
    """Write aside and rename; refuse what is too large for the repository."""
    if len(content) > MAX_BYTES:
        raise PublishError(f"{path.name} has {len(content) / 1e6:.1f} MB; committed files stay under 1 MB")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = beside(path)
    aside.write_bytes(content)
    os.replace(aside, path)
    return path


def merge_rows(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The old rows of other studies, then the new rows; the columns are those of `new`.

    Whose rows: the columns of `MERGED_BY` that the table has. A table without any belongs to the newest study alone.
    """
    keys = [column for column in MERGED_BY if column in new and column in old]
    if not keys:
        return new
    renewed = set(new[keys].itertuples(index=False, name=None))
    stays = [row not in renewed for row in old[keys].itertuples(index=False, name=None)]
    kept = old[stays].reindex(columns=new.columns)
    return pd.concat([kept, new], ignore_index=True) if len(kept) else new


def _publish_tables(study: Path, dataset: str, target: Path, only: Collection[str] | None = None) -> Iterator[Path]:
    for source in sorted((study / "tables").glob("*.csv")):
        if only is not None and source.stem not in only:
            continue
        goal, new = target / "tables" / source.name, pd.read_csv(source)
        owned = any(column in new for column in ("dataset", "machine"))
        if dataset != "procity" and not owned:
            continue  # a table that does not say its data set is procity's
        merged = merge_rows(pd.read_csv(goal), new) if goal.exists() else new
        buffer = io.StringIO()
        merged.to_csv(buffer, index=False, lineterminator="\n")
        yield _write(goal, buffer.getvalue().encode())


def _named_runs(study: Path) -> set[str]:
    """Ids of all runs in a study's tables."""
    tables = [pd.read_csv(path) for path in (study / "tables").glob("*.csv")]
    return {run_id for table in tables if "run_id" in table for run_id in table["run_id"].dropna()}


def _publish_runs(study: Path, target: Path) -> Iterator[Path]:
    """Records of the study as it stands now: those that a table names, and the teachers' that are of today's recipe."""
    named = _named_runs(study)
    for source in sorted((study / "runs").glob("*/record.json")):
        record = json.loads(source.read_text())
        if record["run_id"] in named or (record["recipe"]["arch"] == "teacher" and not _why_stale(record)):
            yield _write(target / "runs" / f"{record['run_id']}.json", (json.dumps(record) + "\n").encode())


def _publish_figures(study: Path, target: Path, only: Collection[str] | None = None) -> Iterator[Path]:
    large = left_out(study)
    for source in sorted((study / "figures").iterdir()):
        if only is not None and source.stem not in only:
            continue
        if source.suffix in {".png", ".gif", ".json", ".svg"} and source not in large:
            yield _write(target / source.name, source.read_bytes())


def left_out(study: Path) -> list[Path]:
    """Figures of a study that are too large to be committed: a megabyte, or 300 kB as SVG."""
    limits = {".svg": MAX_SVG_BYTES}
    found = sorted((study / "figures").iterdir())
    return [path for path in found if path.stat().st_size > limits.get(path.suffix, MAX_BYTES)]


def megabytes(folder: Path) -> float:
    """What a study takes on the disk, in 10^6 bytes, with its checkpoints, cache and report."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def _note_provenance(
    target: Path,
    written: list[Path],
    study: str,
    stamp: dict[str, Any],
    disk_mb: float | None = None,
    kept: Collection[str] = (),
    whole: bool = True,
) -> None:
    """figures/provenance.json: file -> study -> date, commit, versions, machine.

    What `study` wrote before and has no more is removed, but for `kept`; nothing where `written` is not the whole of it.
    """
    path = target / "provenance.json"
    noted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"files": {}, "disk_mb": {}}
    files: dict[str, dict[str, Any]] = noted["files"]
    names = {file.relative_to(target).as_posix() for file in written}
    gone = [name for name, by in files.items() if study in by and name not in {*names, *kept}] if whole else []
    for name in gone:
        del files[name][study]
        if not files[name]:
            del files[name]
            (target / name).unlink(missing_ok=True)
    for name in names:
        files.setdefault(name, {})[study] = stamp
    disk = noted["disk_mb"] | ({study: disk_mb} if disk_mb is not None else {})
    write_json(path, {"files": dict(sorted(files.items())), "disk_mb": disk})


# ------------------------------------------------------------------------------------------------ what is stale


def stale(target: Path = FIGURES) -> list[str]:
    """Committed results that the code of today would not give: their recipe, the training code or procity's version has changed.

    Formatting code, editing a figure or a notebook makes nothing stale.

    Returns:
        One line for each study concerned, with the command that reproduces it; empty when all is current.
    """
    problems: dict[str, list[str]] = {}
    records = {}
    for path in sorted((target / "runs").glob("*.json")):
        record = json.loads(path.read_text())
        records[record["run_id"]] = record
        if reason := _why_stale(record, codes()):
            problems.setdefault(f"{record['dataset']} {record['profile']}", []).append(f"{record['run_id']}: {reason}")
    table = target / "tables" / "ablation.csv"
    for row in pd.read_csv(table).dropna(subset=["run_id"]).itertuples() if table.exists() else ():
        if row.run_id not in records:
            line = f"{row.run_id}: a row of ablation.csv without a record in runs/"
            problems.setdefault(f"{row.dataset} {row.profile}", []).append(line)
    return [
        f"{study}: {lines[0]}{f' (and {len(set(lines)) - 1} more)' if len(set(lines)) > 1 else ''}; reproduce it with "
        + command_of("-".join(study.split()))
        for study, lines in problems.items()
    ] + _stale_measurements(target)


def _stale_measurements(target: Path) -> list[str]:
    """One line for each committed measurement of another version of procity."""
    path, found = target / "provenance.json", {}
    for by in json.loads(path.read_text())["files"].values() if path.exists() else ():
        for name, stamp in by.items():
            if stamp.get("procity", procity.VERSION) != procity.VERSION:
                found[name] = (
                    f"{name}: made with procity {stamp['procity']}, which is now {procity.VERSION}; reproduce it with "
                )
                found[name] += f"tcseg {name} and make reference"
    return list(found.values())


def _why_stale(record: dict[str, Any], by: Sequence[str | None] = (None,)) -> str:
    """Why a record is stale: not by one of these training codes, None = today's; empty when it is not."""
    if record["profile"] not in PROFILES:
        return f"there is no profile {record['profile']} any more"
    with tempfile.TemporaryDirectory() as folder:
        study = open_rows(record["dataset"], record["profile"], Path(folder))
        reasons = [study.why_stale(record, code) for code in by]
    return "" if "" in reasons else reasons[0]
