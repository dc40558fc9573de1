"""`tcseg adapt` on CamVid, scored by truth: a student learns a public network's stored answers, and no label of CamVid.

It learns from the train stills and the first 60 % of the val clip as unlabelled video; the rest of the clip is scored. Two of the
train stills lie 1.3 s before and 1.0 s after the val clip (the field's split has this leak). The clip is one street, so intervals
over seeds and moments speak of that street.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from tcseg.adaptation.run import adapt
from tcseg.data.folders import find_dataset
from tcseg.data.images import IMAGES
from tcseg.errors import NotFoundError
from tcseg.machine import as_finished
from tcseg.study.measurements import write_table
from tcseg.study.measurements.parts import Parts

SEEDS = 5
SEEN = 0.6  # share of the val clip that is learned from
HELD_OUT = 0.1  # share of what is learned from that only decides when to stop
RATE = 15.0  # frames a second of the val clip
TEACHER = "ESPNetv2 s2.0 of EdgeNets, stored maps"
LICENCE = "MIT; trained on Cityscapes, so for non-commercial use"
QUICK = {"steps": 4, "replay": False, "size": "128x96"}


def measure(out: Path, quick: bool = False) -> Iterator[pd.DataFrame]:
    """Adapt `student-cpu` to CamVid, a seed a process, and score it beside its teacher and what it started from.

    A seed that was interrupted goes on from its checkpoint; one that is finished is not trained again.

    Args:
        out: folder; gets tables/adapt_classes.csv, too.
        quick: a few steps of two seeds.

    Yields:
        A row a seed and stage ("before", "after", "teacher"): see `tcseg.adaptation.run.COLUMNS`; shares in 0..1.

    Raises:
        NotFoundError: CamVid, or the stored maps (`data/teacher_maps/camvid`), are not on this machine.
    """
    changes = QUICK if quick else {}
    folder = Parts(out, "adapt", False, changes).folder  # of this code and these settings
    protocol = _protocol(folder)
    seeds = range(2 if quick else SEEDS)
    tables: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = {}
    tasks = {seed: (seed, folder, protocol, changes) for seed in seeds}
    for seed, result in tqdm(as_finished(_seed, tasks), "seeds", len(tasks)):  # bars of two at once would mix
        tables[seed] = result
        scores, classes = (pd.concat(some) for some in zip(*(tables[one] for one in sorted(tables)), strict=True))
        write_table(out, "adapt_classes", classes)
        yield scores


def _protocol(folder: Path) -> dict[str, Path]:
    """What is learned from and scored: the val clip in two parts, as folders of links.

    Raises:
        NotFoundError: as `measure`.
    """
    camvid, maps = find_dataset("camvid"), find_dataset("teacher_maps")
    if camvid is None or maps is None or not (maps / "camvid").is_dir():
        raise NotFoundError("data/camvid and data/teacher_maps/camvid are needed; data/README.md says how to get CamVid")
    frames = sorted(path for path in (camvid / "val").iterdir() if path.suffix in IMAGES)
    first = round(SEEN * len(frames))
    for part, some in (("seen", frames[:first]), ("scored", frames[first:])):
        (folder / part / "val").mkdir(parents=True, exist_ok=True)
        for frame in some:
            with suppress(FileExistsError):  # from a run before, or one beside this
                (folder / part / "val" / frame.name).symlink_to(frame.resolve())
    return {
        "video": folder / "seen" / "val",
        "score": folder / "scored" / "val",
        "stills": camvid / "train",
        "labels": camvid / "valannot",
        "maps": maps / "camvid",
    }


def _seed(seed: int, folder: Path, protocol: dict[str, Path], changes: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of one seed: scores, and IoU by class."""
    scores, classes = (folder / f"{name}-{seed}.csv" for name in ("scores", "classes"))
    if not classes.exists():
        weights = folder / f"camvid-{seed}.safetensors"
        for left in folder.glob(f"camvid-{seed}.*"):
            left.unlink()
        done = adapt(
            protocol["video"], f"maps:{protocol['maps']}", weights, classes="cityscapes", licence=LICENCE,
            teacher_name=TEACHER, seed=seed,
            stills=[protocol["stills"]], fps=RATE, held_out=HELD_OUT, score=[protocol["score"]], labels=protocol["labels"],
            label_classes="camvid", work=folder / f"work-{seed}", film=False, progress=False, **changes,
        )  # fmt: skip
        done.table.to_csv(scores, index=False)
        by_class = [
            {"seed": seed, "stage": stage, "class": name, "iou": round(iou, 5)}
            for stage, score in done.scores.items()
            for name, iou in score.truth_by_class.items()
        ]
        pd.DataFrame(by_class).to_csv(classes, index=False)
    return pd.read_csv(scores).assign(video="camvid val, last 40 %", teacher=TEACHER), pd.read_csv(classes)
