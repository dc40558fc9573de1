"""What `runs="reference"` can show: which studies have committed rows, and what each chapter needs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pandas as pd

from tcseg.data.own.lookup import find_root, name_of
from tcseg.labels import DATASETS
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import PRIMARY, PROFILES, RECIPES, Profile
from tcseg.study.runs import of_one_code, shipped_weights

STUDIES = ("smoke", "laptop", "full")
"""The profiles that chapters can be opened at; `bench` is for chapter 6's question alone."""


@dataclass(frozen=True)
class Need:
    """What a chapter takes from the committed results.

    Attributes:
        rows: recipes of which it shows seed 0.
        every_seed: all seeds that the profile gives them, too.
        weights: recipes whose network (seed 0) it asks; it must ship.
        tables: committed ones that it reads.
        earlier: tables that it reads whatever was trained -> the chapter that leaves them.
        data: whether it shows frames of the data set.
    """

    rows: tuple[str, ...] = ()
    every_seed: bool = False
    weights: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    earlier: Mapping[str, str] = field(default_factory=dict)
    data: bool = True


_TIMES = ("latency_here", "latency_frames", "latency_scaling")
NEEDS = {
    "00_start_here": Need(data=False),
    "01_explore_cityscapes": Need(),
    "02_train_teacher": Need(("teacher",)),
    "03_distill_student": Need(("teacher", "student", "kd")),
    "04_temporal_consistency": Need(
        ("teacher", "student", "student+tl", "kd", "consistent"), weights=PRIMARY, tables=("metrics_controls",)
    ),
    "05_ablations": Need(
        ("teacher", *RECIPES),
        every_seed=True,
        weights=PRIMARY,
        tables=("controls",),
        earlier={"controls": "04_temporal_consistency"},
    ),
    "06_realtime_benchmark": Need(PRIMARY, weights=PRIMARY, tables=_TIMES),
    "07_your_own_video": Need(data=False),
}
ROWS_ALONE = Need(data=False)
"""A study that no chapter shows: somebody asks it for rows."""


def need_of(chapters: Iterable[str]) -> Need:
    """What several chapters need together, as a report shows them."""
    needs = [NEEDS[name] for name in chapters]

    def every(field: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for need in needs for name in getattr(need, field)))

    parts = {field: every(field) for field in ("rows", "weights", "tables")}
    return Need(**parts, every_seed=any(need.every_seed for need in needs), data=any(need.data for need in needs))


@dataclass(frozen=True)
class Request:
    """What somebody wants to see of the committed results.

    Attributes:
        dataset, profile: whose.
        size, seeds: (W,H) of frames and number of seeds, where they are not the profile's own.
        need: of the chapter; a chapter can be opened at `STUDIES` alone.
        command: whether it comes from the command line, whose options have other names.
    """

    dataset: str
    profile: str
    size: tuple[int, int] | None = None
    seeds: int | None = None
    need: Need = ROWS_ALONE
    command: bool = False

    @property
    def scale(self) -> Profile:
        """The profile, with the requested size and number of seeds."""
        scale = PROFILES[self.profile]
        if self.size:
            scale = replace(scale, size=self.size, camvid_size=self.size)
        return replace(scale, primary_seeds=self.seeds, seeds=self.seeds) if self.seeds else scale

    @property
    def frame(self) -> tuple[int, int]:
        """(W,H) of the frames."""
        return self.scale.camvid_size if self.dataset == "camvid" else self.scale.size

    @property
    def study(self) -> str:
        """The name of the study."""
        return f"{name_of(self.dataset)}-{self.profile}"


@dataclass(frozen=True)
class Row:
    """What says which study a committed row belongs to."""

    study: str
    size: tuple[int, int]
    recipe: str
    seed: int
    run_id: str


def committed_rows() -> list[Row]:
    """Those that are shown: of each recipe the rows of one training code, as `runs.find_reference` gives them."""
    studies: dict[str, list[dict]] = {}
    for path in sorted((FIGURES / "runs").glob("*.json")):
        record = json.loads(path.read_text())
        studies.setdefault(f"{record['dataset']}-{record['profile']}", []).append(record)
    return [
        Row(study, tuple(r["size"]), r["recipe_name"], r["seed"], r["run_id"])
        for study, records in studies.items()
        for r in sorted(of_one_code(records), key=lambda record: record["run_id"])
    ]


def committed_file(study: str, name: str) -> Path | None:
    """A committed figure ("ablation.png") or table ("tables/ablation.csv") of a study; None where that study left none.

    Most figures are of one study: another's must not pass for it.
    """
    path, noted = FIGURES / name, FIGURES / "provenance.json"
    files = json.loads(noted.read_text())["files"] if noted.exists() else {}
    return path if path.exists() and study in files.get(name, {}) else None


def refusal(request: Request, trainable: bool) -> str:
    """Why the committed results cannot show a request, and what to do instead, as one line; empty where they can.

    Args:
        request: what somebody wants to see.
        trainable: whether the same can be had with runs="train", as far as data and earlier chapters go.
    """
    rows = committed_rows()
    why = _why_not(request, rows)
    if not why:
        return ""
    ways = [_change(request, other) for other in _others(request) if not _why_not(other, rows)][:1]
    if trainable:
        ways.append(_training(request))
    if not ways:
        ways = ["run from a clone of the repository, which has figures/runs"]
    return ("" if request.command else "runs is 'reference', but ") + f"{why}; {', or '.join(ways)}"


def _why_not(request: Request, rows: Sequence[Row]) -> str:
    """The first thing that is missing, in words; empty where nothing is."""
    mine = [row for row in rows if row.study == request.study]
    if not mine:
        shown = {(row.study, row.size) for row in rows if request.need is ROWS_ALONE or not row.study.endswith("-bench")}
        committed_names = ", ".join(f"{study} at {w}x{h}" for study, (w, h) in sorted(shown))
        return f"no reference rows for {request.study} are committed (there are: {committed_names or 'none'})"
    by_recipe = {(row.recipe, row.seed): row.run_id for row in reversed(mine) if row.size == request.frame}  # the first counts
    if not by_recipe:
        sizes = ", ".join(f"{w}x{h}" for w, h in sorted({row.size for row in mine}))
        frame = f"frames of {request.frame[0]}x{request.frame[1]}"
        return f"no reference rows for {request.study} are of {frame}: those committed are of {sizes}"
    return _why_not_rows(request, by_recipe) or _why_not_files(request, by_recipe)


def _why_not_rows(request: Request, by_recipe: dict[tuple[str, int], str]) -> str:
    need, scale = request.need, request.scale
    if missing := [name for name in need.rows if (name, 0) not in by_recipe]:
        return f"the committed rows of {request.study} are without {', '.join(missing)}"
    for name in need.rows if need.every_seed else ():
        seeds = 1 if name == "teacher" else scale.primary_seeds if name in PRIMARY else scale.seeds
        present = sum((name, seed) in by_recipe for seed in range(seeds))
        if present < seeds:
            return f"the committed rows of {request.study} have {present} of {seeds} seeds of {name}"
    return ""


def _why_not_files(request: Request, by_recipe: dict[tuple[str, int], str]) -> str:
    need = request.need
    if missing := [name for name in need.weights if shipped_weights(by_recipe[name, 0]) is None]:
        return (
            f"the networks of {request.study} whose answers are shown ({', '.join(missing)}) do not come with the package"
        )
    if missing := [name for name in need.tables if committed_file(request.study, f"tables/{name}.csv") is None]:
        return f"{request.study} has no committed table {missing[0]}.csv"
    if need.data and not has_data(request.dataset):
        return f"the frames of {request.dataset} are not on this machine (data/README.md says how to get them)"
    return ""


def has_data(dataset: str) -> bool:
    """Whether a data set is here, or can be made."""
    return dataset == "procity" or find_root(dataset) is not None


def _others(request: Request) -> Iterator[Request]:
    """Other requests, those with the fewest changes first."""
    profiles = PROFILES if request.need is ROWS_ALONE else STUDIES
    ways = product(
        dict.fromkeys((request.size, None)), dict.fromkeys((request.seeds, None)), profiles, dict.fromkeys(DATASETS)
    )
    others = [replace(request, size=s, seeds=n, profile=p, dataset=d) for s, n, p, d in ways]
    return iter(sorted(others, key=lambda other: len(_changed(request, other))))


def _changed(request: Request, other: Request) -> list[str]:
    return [name for name in ("dataset", "profile", "size", "seeds") if getattr(request, name) != getattr(other, name)]


def _change(request: Request, other: Request) -> str:
    """In words: what to write instead."""
    changed = _changed(request, other)
    dropped = [
        f"--{name}" if request.command else f"TCSEG_{name.upper()}" for name in changed if name in ("size", "seeds")
    ]
    form = "--{} {}" if request.command else "{}={!r}"
    used = [form.format(name, getattr(other, name)) for name in changed if name in ("dataset", "profile")]
    parts = [f"use {(' ' if request.command else ' and ').join(used)}"] if used else []
    if dropped:
        parts.append(f"{'leave out' if request.command else 'unset'} {' and '.join(dropped)}")
    return " and ".join(parts)


def _training(request: Request) -> str:
    if not request.command:
        return "runs='train'"
    more = {"size": request.size and "{}x{}".format(*request.size), "seeds": request.seeds}
    options = "".join(f" --{name} {value}" for name, value in more.items() if value)
    return f"train your own: tcseg study --dataset {shlex.quote(request.dataset)} --profile {request.profile}{options}"


# ------------------------------------------------------------------------------------------------ are the scores the same?


def compare(folder: Path, committed: Path = FIGURES) -> pd.DataFrame:
    """Compare the scores of a study's networks with the committed ones of the same run id: of one recipe, seed, data and code.

    Args:
        folder: The study's. A record that was itself committed is not compared with itself.
        committed: figures/.

    Returns:
        A row a network: whose it is, both machines and numbers of threads, both mIoUs, flickers and TCs (DIS flow), and whether
        all metrics are equal to the last digit. Empty where the two have no network in common.
    """
    committed_records = {record["run_id"]: record for record in _records(committed / "runs", "*.json")}
    rows = []
    for record in _records(folder / "runs", "*/record.json"):
        theirs = committed_records.get(record["run_id"])
        if theirs is None or theirs["finished"] == record["finished"]:
            continue
        row = {"dataset": record["dataset"], "profile": record["profile"]}
        row |= {"recipe": record["recipe_name"], "seed": record["seed"]}
        for end, one in (("", record), ("_committed", theirs)):
            row |= {f"machine{end}": one["machine"]["cpu"], f"threads{end}": one["cost"].get("threads")}
            row |= {f"{name}{end}": one["metrics"][name] for name in ("miou", "flicker")}
            row[f"tc_dis{end}"] = one["metrics"]["tc"].get("dis")
        rows.append(row | {"equal": record["metrics"] == theirs["metrics"]})
    return pd.DataFrame(rows)


def _records(folder: Path, pattern: str) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(pattern))]
