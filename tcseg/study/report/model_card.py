"""The model card of the students that ship with the package: MODEL_CARD.md, and the end of chapter 7.

Every number in it is read from the weights' sidecars, the committed records and the committed tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcseg.errors import NotFoundError
from tcseg.models import registry
from tcseg.study.paths import FIGURES
from tcseg.study.report import data_card
from tcseg.study.study import PROFILES

USES = """\
Trying things: overlays of your own video, a baseline that answers fast on a laptop's processor, a small network to export, quantise
or distil further, and the examples of the course. `student` and `student-consistent` have the same shape and the same speed, and
only their training differs; `student-cpu` is another network, for speed, with a section of its own.

**Not for driving**, nor for any decision about people. They were trained on drawn streets only, nobody has tested them on a
road, and they are small networks that are wrong somewhere in every frame. They do not say when they are lost."""

FAILURES = """\
- **Real streets.** See above; there is no class that may be relied on.
- **Another scale.** They know things as large as they are in frames of the size of their training. `tcseg segment`, `export` and
  the functions in Python resize to it unless told otherwise; at a larger video's own size (`--size native`) a car fills more
  pixels than any car that they have seen.
- **Another camera.** Training had a camera at windscreen height that looks ahead, with the car's bonnet in view: no fisheye, no
  bird's eye, no picture with a date in it.
- **What was never drawn.** Night, snow, tunnels, bridges, road works, animals, people who sit or carry; `data/README.md` has the
  list.
- **Thin and rare things**: the lower half of the table of classes. A class that is not among the nineteen gets the name of one
  that is.
- **Steadily wrong.** The consistent student was trained not to change its mind, and holds on to mistakes as well; a low flicker
  says nothing about being right."""

LICENCE = """\
The weights are under the repository's MIT licence, as is the code that made them. They were trained on pictures that the code of
this repository draws; no photograph, and no weights trained on photographs, went into the plain student. The teacher of the
consistent student started from ImageNet weights (EfficientNet-Lite0, Apache-2.0); its answers, not its weights, are in the
student."""

REAL = {"camvid": "CamVid's validation street", "cityscapes": "Cityscapes"}
"""Data set -> what its labelled frames are called here."""

SCORES = {
    "mIoU of 19 classes, %": "miou",
    "mIoU at borders, %": "miou_boundary",
    "pixel accuracy, %": "pixel_accuracy",
    "TC, exact flow, %": ("tc", "exact"),
    "TC, DIS flow, %": ("tc", "dis"),
    "flicker, %": "flicker",
    "harmful flicker, %": "harmful_flicker",
    "steady and right, %": "steady_and_right",
}


def card(folder: Path = FIGURES) -> str:
    """The whole page.

    Args:
        folder: figures/: runs/ and tables/.

    Returns:
        Markdown.

    Raises:
        FileNotFoundError: the record of a student that ships is not committed.
    """
    parts = ["# Model card: the students", "<!-- made by `make reference` from tcseg/study/report/model_card.py, do not edit -->"]
    for title, text in sections(folder).items():
        parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"


def sections(folder: Path = FIGURES) -> dict[str, str]:
    """Title -> Markdown without headings; a section whose table is not committed says so. Arguments and errors as `card`."""
    notes = {name: registry.shipped_notes(name) for name in registry.SHIPPED}
    records = {name: _record(folder, note["run_id"]) for name, note in notes.items()}
    return {
        "What they are": _networks(notes, records),
        "What they are for": USES,
        "What they were trained on": _training(records),
        "How good they are on drawn streets": _scores(notes),
        "Class by class": _classes(records),
        "The fast one": _fast(folder),
        "On a real street": _real(folder),
        "How fast": _speed(_table(folder, "latency"), _table(folder, "precision")),
        "Where they fail": FAILURES,
        "Licence": LICENCE,
    }


def _record(folder: Path, run_id: str) -> dict:
    path = folder / "runs" / f"{run_id}.json"
    if not path.exists():
        raise NotFoundError(
            f"{path.name} is not in {path.parent}; the weights and their records are published together: make reference"
        )
    return json.loads(path.read_text())


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _networks(notes: Mapping[str, dict], records: Mapping[str, dict]) -> str:
    """Shape and size of each."""
    width, height = next(iter(notes.values()))["size"]
    rows = []
    for name, note in notes.items():
        size = records[name]["model"]
        file = (registry.WEIGHTS / f"{name}.safetensors").stat().st_size
        cells = [
            f"`{name}`",
            note["recipe"],
            f"{size['parameters']:,}",
            f"{1000 * size['gmacs']:.0f}",
            f"{file / 1000:.0f}",
        ]
        rows.append(cells)
    heads = [
        "network",
        "recipe",
        "parameters",
        f"million multiply-adds at {width}x{height}",
        "file, kB (half precision)",
    ]
    what = registry.spec_of(next(iter(notes.values()))["arch"]).description
    return (
        f"{what}: one RGB frame in, the nineteen Cityscapes classes of every pixel out, one frame at a time and without memory. "
        f'In Python: `tcseg.models.registry.shipped("student-consistent")`.\n\n{_markdown(heads, rows)}'
    )


def _training(records: Mapping[str, dict]) -> str:
    """Data and recipe of each."""
    first = next(iter(records.values()))
    scale, recipe = PROFILES[first["profile"]], first["recipe"]
    rows = {
        "teacher": [record["recipe"]["teacher"] for record in records.values()],
        "weight of the temporal loss": [f"{record['recipe']['temporal']:g}" for record in records.values()],
        "steps": [record["recipe"]["steps"] for record in records.values()],
        "minutes": [f"{record['cost']['train_seconds'] / 60:.1f}" for record in records.values()],
        "run": [f"`{record['run_id']}`" for record in records.values()],
    }
    machine = first["machine"]
    return (
        f"procity {first['generator']}, streets that a program draws (`data/README.md` is their card): {scale.train_snippets} "
        f"snippets of {2 * scale.neighbours + 1} frames at {first['size'][0]}x{first['size'][1]}. Of "
        f"{100 * recipe['labelled_share']:.0f} % of them one frame has labels that may be used; the rest is unlabelled video, "
        "which only `student-consistent` has seen. The scores below are of other cities. "
        f"Minutes on {first['cost']['threads']} thread of {machine['cpu']}.\n\n"
        + _markdown(["", *(f"`{name}`" for name in records)], [[name, *cells] for name, cells in rows.items()])
    )


def _scores(notes: Mapping[str, dict]) -> str:
    """Metrics of each, and the ceiling of those that have one."""
    first = next(iter(notes.values()))
    rows = []
    for title, key in SCORES.items():
        ceiling = "–"
        if isinstance(key, tuple):
            ceiling = _percent(first["metrics"]["tc_ceiling"][key[1]])
            values = [note["metrics"][key[0]][key[1]] for note in notes.values()]
        else:
            values = [note["metrics"][key] for note in notes.values()]
        rows.append([title, *map(_percent, values), ceiling])
    heads = [
        f"val of {first['dataset']}, profile `{first['profile']}`",
        *(f"`{name}`" for name in notes),
        "the true labels",
    ]
    return (
        "The first seed of each recipe; seeds differ, and README.md has the means, the spread and the intervals of the difference. "
        "TC and flicker are explained there too: both can be had for nothing by not looking, so read them beside the mIoU.\n\n"
        + _markdown(heads, rows)
    )


def _percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def _classes(records: Mapping[str, dict]) -> str:
    """IoU of each class, best first (of the last network)."""
    classes = registry.shipped_notes(registry.SHIPPED[-1])["classes"]
    iou = pd.DataFrame({name: record["per_class"]["iou"] for name, record in records.items()}, index=classes).astype(
        float
    )
    ordered = iou.sort_values(registry.SHIPPED[-1], ascending=False)
    rows = [[name, *map(_percent, values)] for name, *values in ordered.itertuples()]
    return _markdown(["IoU, %", *(f"`{name}`" for name in records)], rows)


def _fast(folder: Path) -> str:
    """The student that is made for a camera's size: what it is, and what it scores."""
    note = registry.shipped_notes(registry.FAST)
    record = _record(folder, note["run_id"])
    metrics, recipe = note["metrics"], record["recipe"]
    size = "x".join(map(str, note["size"]))
    tile = "x".join(map(str, PROFILES[note["profile"]].tile))
    file = (registry.WEIGHTS / f"{registry.FAST}.safetensors").stat().st_size
    scores = (metrics["miou"], metrics["tc"]["exact"], metrics["tc_ceiling"]["exact"], metrics["flicker"])
    told = "mIoU {} %, TC {} % (the true labels: {}), flicker {} %".format(*map(_percent, scores))
    shape, cost = record["model"], record["cost"]
    what = (
        f"`{registry.FAST}`: {registry.spec_of(note['arch']).description}; {shape['parameters']:,} parameters, "
        f"{1000 * shape['gmacs']:.0f} million multiply-adds at {size}, {file / 1000:.0f} kB in half precision."
    )
    how = (
        f"Trained on labels alone, on stills of procity at {size} in tiles of {tile}, for {recipe['steps']} steps "
        f"({cost['train_seconds'] / 60:.0f} minutes on {cost['threads']} thread; run `{note['run_id']}`). On val at that size, one "
        f"seed: {told}. Chapter 6 compares it with others after as many steps, chapter 5 trains its shape with the whole recipe."
    )
    command = f"tcseg segment VIDEO --model {registry.FAST} --runtime openvino --precision int8"
    return f"{what} {how}{_fall(_table(folder, 'zero_shot'))}\n\n```bash\n{command}\n```"


def _fall(table: pd.DataFrame) -> str:
    """What the fast one is worth on real streets beside the others, in a sentence; empty where that was not measured."""
    if table.empty:
        return ""
    told = []
    for dataset, rows in table.groupby("dataset", sort=False):
        miou = rows.set_index("network")["miou"]
        others = " and ".join(_percent(miou[name]) for name in registry.SHIPPED)
        told.append(f"{_percent(miou[registry.FAST])} % on {REAL[dataset]} (the other two: {others})")
    return (
        f" **Those are drawn streets. On real ones its mIoU is {', '.join(told)}**: none of the three may be trusted there, and a "
        "higher score on drawn streets does not mean a higher one on real ones."
    )


def _real(folder: Path) -> str:
    """What the networks that ship are worth on real streets, and what a fine-tune would give."""
    table, by_class = _table(folder, "zero_shot"), _table(folder, "zero_shot_classes")
    if table.empty or by_class.empty:
        return "Not measured yet (`tcseg measure zero_shot`)."
    rows = []
    for row in table.itertuples():
        seen = f"{row.seen_width}x{row.seen_height}"
        scores = map(_percent, (row.miou, row.pixel_accuracy, row.miou_native))
        rows.append([f"{REAL[row.dataset]}, {row.classes} classes", row.frames, f"`{row.network}`", seen, *scores])
    heads = ["frames of", "frames", "network", "sees", "mIoU, %", "pixel accuracy, %", "mIoU at their own size, %"]
    whose = ", ".join(f"`{row.network}` {row.sha256[:12]}" for row in table.drop_duplicates("network").itertuples())
    return (
        "**None of them has seen a real road.** As they come, on labelled real frames, which they see at the size that "
        "`tcseg segment` chooses; scored at the frames' own size. CamVid's split is one street and the other frames are few: "
        "that is no measure of another road, so there is no interval. CamVid's eleven classes are Cityscapes' nineteen merged, "
        f"the best class first.\n\n{_markdown(heads, rows)}\n\nClass by class: IoU in %, and in brackets what most of its other "
        "pixels are taken for, with their share in % of the class's pixels.\n\n"
        f"{_real_classes(by_class)}\n\nSHA-256 of these files begins with: {whose}."
        f"{_transfer(_table(folder, 'transfer'))}"
    )


def _real_classes(table: pd.DataFrame) -> str:
    """The classes that are in the labels, the most frequent first."""
    networks, lines = list(dict.fromkeys(table["network"])), []
    for dataset, rows in table[table["share"] > 0].groupby("dataset", sort=False):
        cells = {(row.network, row["class"]): _mistaken(row) for _, row in rows.iterrows()}
        shares = rows.drop_duplicates("class").set_index("class")["share"].sort_values(ascending=False)
        for name, share in shares.items():
            lines.append([f"{REAL[dataset]}: {name}", f"{100 * share:.1f}", *(cells[one, name] for one in networks)])
    return _markdown(["class", "% of the pixels", *(f"`{name}`" for name in networks)], lines)


def _mistaken(row: pd.Series) -> str:
    wrong = f" ({row['taken_for']} {100 * row['taken_for_share']:.0f})" if isinstance(row["taken_for"], str) else ""
    return _percent(row["iou"]) + wrong


def _transfer(table: pd.DataFrame) -> str:
    """What students of drawn streets are worth on CamVid after a fine-tune; empty where that was not measured."""
    if table.empty:
        return ""
    return (
        "\n\nWhat a training on real frames would give: students of the plain recipe, trained for this (none of them is a file "
        "that ships), as they come from procity, fine-tuned on CamVid, and trained on CamVid alone.\n\n"
        + data_card.transfer(table).strip()
    )


def _speed(table: pd.DataFrame, precision: pd.DataFrame) -> str:
    """The fastest way to run them at each size and precision, end to end, and for which of them int8 is offered."""
    if table.empty:
        return "Not measured yet (`tcseg bench --all`)."
    rows = table[table["model"].isin(["student", registry.FAST]) & (table["scope"] == "end_to_end") & (table["n"] > 0)]
    best = rows.sort_values("p50_ms").groupby(["model", "width", "height", "precision"]).first().reset_index()
    lines = [
        [
            f"`{row.model}`",
            f"{row.width}x{row.height}",
            f"{row.runtime} {row.precision}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.fps:.0f}",
        ]
        for row in best.itertuples()
    ]
    where = f"{best['machine'].iloc[0]}, {best['threads'].iloc[0]} threads, batch 1"
    shown = _markdown(["network", "frame", "runs fastest in", "p50 ms", "p99 ms", "frames/s"], lines)
    return f"{where}, uint8 frame in, label map of its size out.\n\n{shown}{_offered(precision)}"


def _offered(precision: pd.DataFrame) -> str:
    """For which of the networks int8 loses little enough to be offered; empty where that was not measured."""
    if precision.empty:
        return ""
    offered = precision[precision["precision"] == "int8"].groupby("model")["offered"].all()
    told = [
        f"`{name}`: {'yes' if offered[name] else 'no'}" for name in (*registry.SHIPPED, registry.FAST) if name in offered
    ]
    return f"\n\nIs int8 offered, at most half a point of mIoU and a twentieth of the flicker lost? {', '.join(told)}."
