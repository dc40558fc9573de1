"""Students on cameras that they never saw: how far do drawn streets get, or the frames of one real camera?

`student-cpu` learns on, from drawn streets with their true labels or from CamVid's train stills with a public network's stored
answers: each with `adapt`'s defaults, and with the varied frames of the students for real streets. Then truth decides on real
frames that were not learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from tcseg import procity
from tcseg.adaptation.run import adapt
from tcseg.data.folders import find_dataset
from tcseg.errors import NotFoundError
from tcseg.labels import ids_to_train_ids
from tcseg.machine import as_finished
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.measurements.parts import Parts
from tcseg.study.measurements.real.street import VARIED
from tcseg.study.measurements.real.zero_shot import Labelled, labelled_sets, scores_of

SEEDS, STEPS = 3, 1000
SIZE, STREETS = (704, 352), 400  # (W,H) and number of the drawn frames
RUNS: dict[tuple[str, str], dict] = {
    ("procity", "plain"): {},
    ("procity", "other light, mixed classes"): VARIED,
    ("procity", "and other cameras"): VARIED,
    ("camvid", "plain"): {},
    ("camvid", "other light, mixed classes"): VARIED,
}
"""(What is learned from, what is changed about it) -> options of `adapt`."""
QUICK = {"steps": 2, "size": "128x64", "held_out": 0.3}


def measure(out: Path, quick: bool = False) -> Iterator[pd.DataFrame]:
    """Train each of `RUNS` with every seed, and score it on the real data sets that it did not learn from.

    Args:
        out: folder.
        quick: two steps of one seed on few streets.

    Yields:
        A row a run, seed and data set: learned_from, changes, seed, dataset, miou and pixel_accuracy (0..1, over CamVid's 11 or
        Cityscapes' 19 classes), frames, steps, minutes; seed -1 is `student-cpu` as it ships.

    Raises:
        NotFoundError: CamVid, Cityscapes or the stored maps are not on this machine.
    """
    changes, seeds = (QUICK, 1) if quick else ({"steps": STEPS, "held_out": 0.1}, SEEDS)
    folder = Parts(out, "unseen_camera", False, [list(RUNS.items()), changes]).folder
    camvid, maps = find_dataset("camvid"), find_dataset("teacher_maps")
    if camvid is None or maps is None:
        raise NotFoundError("data/camvid and data/teacher_maps/camvid are needed (or in $TCSEG_DATA)")
    if not {"camvid", "cityscapes"} <= {one.dataset for one in labelled_sets()}:
        raise NotFoundError("labelled frames of Cityscapes are needed, in data/cityscapes (or in $TCSEG_DATA)")
    _draw(folder / "procity", 12 if quick else STREETS, own=True)
    _draw(folder / "cameras", 12 if quick else STREETS, own=False)
    tasks = {
        (*run, seed): (run, seed, folder, options | changes, camvid / "train", maps / "camvid")
        for run, options in RUNS.items()
        for seed in range(seeds)
    }
    start = registry.shipped(registry.FAST)
    tables = {("", "", -1): pd.DataFrame([_row("procity", "as shipped", -1, one, start) for one in labelled_sets()])}
    for key, table in tqdm(as_finished(_run, tasks), "runs", len(tasks)):
        tables[key] = table
        yield pd.concat([tables[one] for one in [("", "", -1), *tasks] if one in tables])


def _draw(folder: Path, count: int, own: bool) -> None:
    """Frames of drawn streets and their label maps, seen by the cities' own cameras or by any."""
    done = folder / "drawn"
    if done.exists():
        return
    rng, cities = np.random.default_rng(0), procity.CITIES["train"]
    for place in ("frames", "maps"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    order = sorted(range(count), key=lambda index: index % len(cities))  # city by city: its textures are painted once
    for index in tqdm(order, f"drawing {folder.name}"):
        other = {"height": rng.uniform(0.8, 2.5), "pitch": rng.uniform(-0.02, 0.12), "focal": rng.uniform(0.6, 1.4)}
        camera = procity.Camera() if own else procity.Camera(**other)
        view = procity.Sequence(cities[index % len(cities)], index, SIZE, camera=camera).render(0, flow=(False, False))
        cv2.imwrite(str(folder / "frames" / f"{index:05}.png"), view.image[..., ::-1])
        cv2.imwrite(str(folder / "maps" / f"{index:05}.png"), ids_to_train_ids(view.label_ids))
    done.touch()


def _run(run: tuple[str, str], seed: int, folder: Path, options: dict, stills: Path, maps: Path) -> pd.DataFrame:
    """The rows of one training; what was trained before is only scored."""
    learned, changes = run
    if learned == "procity":
        drawn = folder / ("cameras" if changes == "and other cameras" else "procity")
        stills, maps = drawn / "frames", drawn / "maps"
    name = f"{learned}-{list(RUNS).index(run)}-{seed}"
    weights, table = folder / f"{name}.safetensors", folder / f"{name}.csv"
    if not table.exists():
        for left in folder.glob(f"{name}.*"):
            left.unlink()
        done = adapt(
            [], f"maps:{maps}", weights, arch=registry.FAST, stills=[stills], classes="cityscapes", seed=seed,
            temporal=0.0, replay=False, work=folder / f"work-{name}", film=False, progress=False, **options,
        )  # fmt: skip
        unseen = [one for one in labelled_sets() if one.dataset != learned]
        minutes = float(done.table["minutes"].max())
        rows = [_row(learned, changes, seed, one, done.network) | {"minutes": minutes} for one in unseen]
        pd.DataFrame(rows).assign(steps=options["steps"]).to_csv(table, index=False)
    return pd.read_csv(table)


def _row(learned: str, changes: str, seed: int, labelled: Labelled, network: SegmentationModel) -> dict:
    shared = {"learned_from": learned, "changes": changes, "seed": seed, "dataset": labelled.dataset}
    return shared | scores_of(network, labelled) | {"frames": len(labelled.files)}
