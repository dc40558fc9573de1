"""The generated parts of README.md, from the committed tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tcseg.models.peers import PEERS
from tcseg.models.students import CHOSEN
from tcseg.study.comparisons import BASELINES, scope_of
from tcseg.study.notebooks import timings
from tcseg.study.recipes import NETWORK_LENGTHS, PROFILES
from tcseg.study.report import effect_sentences, reproduction, summary
from tcseg.study.runs import find_reference


def cost_table(folder: Path) -> str:
    """What a cold study of the embedded data took: minutes by profile, runs, disk, machine."""
    times = summary.read_table(folder, "notebooks")
    path = folder / "provenance.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    stamps = noted.get("files", {}).get("tables/notebooks.csv", {})
    lines = []
    for profile, rows in times.groupby("profile", sort=False) if len(times) else ():
        machine = stamps.get(f"procity-{profile}", {}).get("machine", {})
        megabytes = noted.get("disk_mb", {}).get(f"procity-{profile}")
        disk = "–" if megabytes is None else f"{megabytes:.0f}"
        where = f"{machine.get('cpu', '–')}, {machine.get('cores', '–')} cores"
        seconds = timings.whole(rows.set_index("notebook")["seconds"], summary.titles())
        minutes = "– (made in several sittings)" if seconds is None else f"{seconds / 60:.0f}"
        trained = rows["runs_trained"].sum() if seconds is not None else _runs(folder, profile)
        lines.append(f"| `{profile}` | {minutes} | {trained} | {disk} | {machine.get('gpu') or where} |")
    head = ["| profile | notebooks, minutes | networks trained | results and cache, MB | measured on |"]
    return "\n".join([*head, "|---|--:|--:|--:|---|", *lines]) if lines else ""


def _runs(folder: Path, profile: str) -> int:
    """Networks in the embedded data's ablation at a profile."""
    table = summary.own_rows(summary.read_table(folder, "ablation"), {"dataset": "procity", "profile": profile})
    return table["run_id"].nunique() if "run_id" in table else 0


def readme_sections(folder: Path) -> dict[str, str]:
    """The generated parts of the README: results, effects, cost, course and latency, of all committed studies but smoke.

    Args:
        folder: figures/.

    Returns:
        Section name -> Markdown.
    """
    table, effects, changes = (summary.read_table(folder, name) for name in ("ablation", "effects", "sweep_effects"))
    results, differences = [], []
    for dataset, profile in summary.studies(table):
        if profile == "smoke":
            continue
        title = f"{summary.DATA_NAMES.get(dataset, dataset)}, profile `{profile}`, split val:"
        results.append(f"{title}\n\n{summary.result_table(folder, dataset, profile)}")
        own = {"dataset": dataset, "profile": profile}
        if found := effect_sentences.effects_table(summary.own_rows(effects, own)):
            told = (
                _scope(folder, dataset, profile),
                effect_sentences.both_longer(summary.own_rows(effects, own)),
                effect_sentences.last_doubling(summary.own_rows(changes, own)),
            )
            differences += [f"{title}\n\n{found}", *([" ".join(filter(None, told))] if any(told) else [])]
    return {
        "headline": headline(folder),
        "results": "\n\n".join(results),
        "effects": "\n\n".join(differences),
        "cost": cost_table(folder),
        "course": summary.course_map(folder, summary.titles()).replace("](", "](notebooks/"),
        "latency": summary.latency_table(folder),
        "again": "\n\n".join(
            filter(None, (reproduction.again_table(folder), reproduction.verdict(summary.read_table(folder, "reproduced"))))
        ),
    }


def _scope(folder: Path, dataset: str, profile: str) -> str:
    """What the intervals of a committed study speak of; empty where it has no rows."""
    try:
        return scope_of(find_reference(folder / "runs", dataset, profile)[0].record["per_clip"])
    except FileNotFoundError:
        return ""


def headline(folder: Path, profile: str = "laptop") -> str:
    """What came out: at equal steps, against the longest-trained student, on a real street; and the time of a frame."""
    effects, lines = summary.read_table(folder, "effects"), []
    for dataset in ("procity", "camvid"):
        own = summary.own_rows(effects, {"dataset": dataset, "profile": profile})
        names = dict.fromkeys(filter(None, (next(iter(BASELINES)), _longest(own))))
        lines += [line for name in names if (line := _claim(own, name, dataset))]
    lines += _carried(summary.read_table(folder, "sweep_effects"), profile)
    lines += _fastest(summary.read_table(folder, "speeds"), summary.read_table(folder, "students"))
    lines += _camera(summary.read_table(folder, "half_resolution"))
    lines += _on_gpu(summary.read_table(folder, "gpu"))
    return "\n".join(lines)


def _carried(changes: pd.DataFrame, profile: str, role: str = "student-cpu") -> list[str]:
    """A line on the recipe with a chosen student, the primary comparison with another network."""
    own = summary.own_rows(changes, {"dataset": "procity", "profile": profile})
    arch = CHOSEN[role]
    line = _claim(own, f"consistent,arch={arch}_vs_student,arch={arch}", "procity", f", with `{role}`")
    return [line] if line else []


def _claim(effects: pd.DataFrame, comparison: str, dataset: str, network: str = "") -> str:
    """A line on one comparison; empty where it was not made, or with one seed."""
    found = effects[effects["comparison"] == comparison].set_index("metric") if len(effects) else effects
    if not {"flicker_relative", "miou"} <= set(found.index) or found["seeds"].iloc[0] < 2:
        return ""
    flicker, miou = (
        effect_sentences.interval(*found.loc[metric, ["difference", "ci_low", "ci_high"]])
        for metric in ("flicker_relative", "miou")
    )
    against = f"against the same network trained for {effect_sentences.STEPS.get(comparison, 'as many steps')}"
    known = found.loc[["flicker_relative", "miou"], "ci_low"].notna().all()
    told = "95 % over seeds and clips" if known else "no interval: one clip"
    sure = f"{int(found['seeds'].iloc[0])} paired seeds, {told}"
    place = summary.DATA_NAMES[dataset].split()[0]
    return f"- On {place}{network}: **flicker {flicker} %**, mIoU {miou} points, {against}; {sure}."


def _longest(effects: pd.DataFrame) -> str:
    """The comparison with the student that was trained for longest; empty where there is none."""
    there = set(effects["comparison"]) if len(effects) else set()
    return next((name for name in reversed(BASELINES) if name in there), "")


COMPARED = {"lraspp-mv3-large": "LR-ASPP", "ddrnet-23-slim": "DDRNet-23-slim", "fast-scnn": "Fast-SCNN"}
"""The peers that the headline names."""


def _fastest(speeds: pd.DataFrame, students: pd.DataFrame, role: str = "student-cpu") -> list[str]:
    """A line on a chosen student beside its peers, each in its fastest runtime and precision, and what they score."""
    best = speeds.set_index("arch") if len(speeds) else speeds
    if CHOSEN[role] not in best.index:
        return []
    own = best.loc[CHOSEN[role]]
    ways = [name for name in best if name.endswith("_ms") and name != "best_ms"]
    peers = [
        f"{best.loc[arch, 'best_ms'] / own['best_ms']:.1f} times the rate of {title}"
        + ("" if best.loc[arch].get("trained", True) else " (untrained)")
        + (f" (like for like at least {(best.loc[arch, ways] / own[ways]).min():.1f})" if ways else "")
        for arch, title in COMPARED.items()
        if arch in best.index
    ]
    speed = f"**{own['best_ms']:.1f} ms a frame** of {own['width']}x{own['height']}, uint8 in and label map out"
    where = f"on {own['threads']} cores of {own['machine']} (`{role}`, {own['best']})"
    rates = (
        f"- {speed}, {where}: {', '.join(peers)}, each in its fastest runtime, in int8 unless that costs it accuracy."
    )
    return [" ".join(filter(None, (rates, _scores(students, role))))]


def _scores(students: pd.DataFrame, role: str) -> str:
    """What a chosen student and its peers score after as many steps: the length that most of them have, of these the longest."""
    names = {CHOSEN[role]: f"`{role}`"} | COMPARED
    table = students.set_index("arch").reindex(names) if len(students) else students
    lengths = [times for times in NETWORK_LENGTHS if f"miou_{times:g}x" in table]
    if not lengths or table.loc[CHOSEN[role], "steps"] == 0:
        return ""
    times = max(lengths, key=lambda n: (table[f"miou_{n:g}x"].notna().sum(), n))
    scored = table.dropna(subset=[f"miou_{times:g}x"])
    columns = scored[f"miou_{times:g}x"], scored[f"seeds_{times:g}x"].astype(int)
    told = [
        f"{names[arch]} {100 * miou:.1f} % ({effect_sentences.seed_count(n)})" for arch, miou, n in zip(scored.index, *columns)
    ]
    how = f"From scratch, on labels alone, after {int(times * PROFILES['bench'].student_steps)} steps each"
    return f"{how}: mIoU {', '.join(told)}; chapter 6 has other lengths, and who is not at its end."


def _camera(half: pd.DataFrame) -> list[str]:
    """A line on frames of a camera's size, of which the network sees half."""
    if half.empty:
        return []
    row = half[half["seen"] < half["width"]].sort_values("p50_ms").iloc[0]
    width, height, seen = (int(row[name]) for name in ("width", "height", "seen"))
    time = f"**{row['p50_ms']:.1f} ms a frame** of {width}x{height} (p99 {row['p99_ms']:.1f}), a label for each pixel"
    return [f"- {time}, where `student-cpu` sees the frame shrunk to {seen}x{seen * height // width}: chapter 6."]


def _on_gpu(times: pd.DataFrame, role: str = "student-gpu") -> list[str]:
    """A line on a chosen student on a GPU beside its fastest peer, each in the fastest of PyTorch's ways in fp16."""
    if times.empty:
        return []
    ends = times[(times["scope"] == "end_to_end") & (times["precision"] == "fp16") & (times["n"] > 0)]
    ends = ends[ends["width"] == ends["width"].max()].sort_values("p50_ms")
    best = ends.groupby("model", sort=False).first()
    own, peer = best.loc[role], best[best.index.isin(PEERS)].iloc[0]
    time = f"**{own['p50_ms']:.2f} ms a frame** of {own['width']}x{own['height']}, to the device and back"
    where = f"on one {own['machine']} (`{role}`, fp16, {own['runtime']}): {own['fps']:.0f} frames a second"
    return [f"- {time}, {where}; the fastest peer, {COMPARED.get(peer.name, peer.name)}, has {peer['fps']:.0f}."]


def fill_readme(text: str, sections: Mapping[str, str]) -> str:
    """Put the sections between their markers, `<!-- NAME: ... -->` and `<!-- end of NAME -->`; the rest stays."""
    for name, section in sections.items():
        pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        body = f"\n{section}\n\n" if section else ""
        text = pattern.sub(lambda found, body=body: found[1] + body + found[2], text)
    return text
