"""Full-size label maps of 2048x1024 from a network that sees the full frame, or half its width and height.

A label map is upsampled from a coarser answer in any case. So a network may as well look at a smaller picture, for a quarter of the
time; what that costs in accuracy, on thin things above all, is measured here. Both networks are `student-cpu`, trained for as many
steps on tiles of one size, each at the scale that it sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcseg import procity
from tcseg.bench import busy_machine, latency
from tcseg.data import tiles
from tcseg.data.clips import Clips
from tcseg.deploy.runtimes import FILE_RUNTIMES, Network, open_networks, with_smaller_frames
from tcseg.errors import CannotRunError, NotFoundError
from tcseg.evaluation import split_scores
from tcseg.labels import CITYSCAPES, ids_to_train_ids
from tcseg.machine import cpu_name, usable_cores, worker_pool
from tcseg.metrics import seed_clip_effects
from tcseg.metrics.trajectories import chained
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.students import CHOSEN
from tcseg.procity import writer
from tcseg.study.comparisons import THIN, thin_counts
from tcseg.study.measurements.quality.precision import training_frames
from tcseg.study.model_selection import with_weights
from tcseg.study.opening import open_study
from tcseg.study.recipes import PROFILES
from tcseg.study.runs import Run, run_or_load
from tcseg.training import loop
from tcseg.training.recipe import Recipe

ROLE = "student-cpu"
FRAME = (2048, 1024)
LENGTH = 6  # consecutive frames of each validation street, the annotated one last
PRECISIONS = ("fp32", "int8")
THIN_CLASSES = [name for name in CITYSCAPES.classes if name in THIN]
Size = tuple[int, int]


class Street(NamedTuple):
    """Frames in a row with their truth: uint8 (T,H,W,3) RGB, uint8 (T,H,W) trainIds, flow t -> t+1 float16 (T-1,2,H,W), bool."""

    name: str
    frames: np.ndarray
    labels: np.ndarray
    flow: np.ndarray
    visible: np.ndarray


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time and score both ways, with the network of chapter 6's `student-cpu`; the one that sees all is trained here, minutes.

    Args:
        out: folder; the networks that are trained here are kept in its `runs/`.
        quick: small frames, few of them, networks as they are built.
        anyway: report although the machine is busy.

    Returns:
        seen (width that the network sees), width, height (of frame and label map), runtime, precision, network_ms (p50), p50_ms,
        p90_ms, p99_ms, max_ms (end to end, with shrinking), n, fps, control (p99 / p50 of a fixed computation), miou, thin (mean
        IoU of `comparisons.THIN`), tc, flicker (0..1, means over seeds, all frames of the streets), <metric>_changed, _low, _high
        (miou, thin: against the network that sees all, over seeds and streets), seeds, streets, threads, machine, iou_<class> of
        thin classes.

    Raises:
        FileNotFoundError: `student-cpu` is not trained on this machine.
        NoisyMachineError: something else keeps the machine busy.
    """
    frame = (256, 128) if quick else FRAME
    half = (frame[0] // 2, frame[1] // 2)
    networks = {frame: _built(), half: _built()} if quick else _networks(out / "runs", frame)
    bench = PROFILES["smoke" if quick else "bench"]
    with worker_pool(usable_cores()) as pool:
        streets = list(pool.map(partial(_street, size=frame), range(2 if quick else bench.val_snippets)))
    opened = [_open(networks[input_size], input_size, frame, quick) for input_size in (frame, half)]
    times, control = _times({key: nets[0] for one in opened for key, nets in one.items()}, streets, quick, anyway)
    scored = {key: [_score(net, streets) for net in nets] for one in opened for key, nets in one.items()}
    rows = []
    for key, results in scored.items():
        input_size, runtime, precision = key
        same = {"seen": int(input_size), "width": frame[0], "height": frame[1], "runtime": runtime, "precision": precision}
        base = scored[str(frame[0]), runtime, precision]
        rows.append(
            same | times[key] | {"control": control} | _summary(results, base if base is not results else None)
            | {"streets": len(streets), "threads": usable_cores(), "machine": cpu_name()}
        )  # fmt: skip
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ networks


def _built() -> list[SegmentationModel]:
    return [registry.build(CHOSEN[ROLE], CITYSCAPES.num_classes, False).eval()]


def _networks(store: Path, frame: Size) -> dict[Size, list[SegmentationModel]]:
    """What the network sees -> one network a seed, the same seeds."""
    study = open_study("procity", "bench")
    runs = with_weights(study, CHOSEN[ROLE])
    if not runs:
        raise NotFoundError(
            f"{ROLE} is not trained on this machine; train it: tcseg sweep --profile bench --only students"
        )
    return {frame: [_whole(store, run, frame) for run in runs], study.size: [run.model() for run in runs]}


def _whole(store: Path, run: Run, frame: Size) -> SegmentationModel:
    """The recipe of a run once more, on frames of another size, or what it gave last time."""
    recipe, bench = Recipe(**run.record["recipe"]), PROFILES["bench"]

    def fit(folder: Path) -> tuple[SegmentationModel, dict]:
        print(f"training {recipe.name} seed {recipe.seed} on frames of {frame[0]}x{frame[1]}")
        return loop.train(recipe, tiles.cut(_stills(frame, bench.train_snippets), bench.tile), folder)

    name = f"{recipe.name} at {frame[0]}x{frame[1]}"
    inputs = [procity.VERSION, frame, bench.train_snippets, bench.tile, registry.spec_key(recipe.arch)]
    context = {"dataset": "procity", "profile": "bench", "size": frame}
    whole = run_or_load(store, name, recipe.seed, asdict(recipe), inputs, fit, lambda _: {"metrics": {}}, context)
    return whole.model().eval()


def _stills(size: Size, count: int) -> Clips:
    """The annotated frames of procity's first training snippets."""
    with worker_pool(usable_cores()) as pool:
        drawn = list(pool.map(partial(_still, size=size), range(count), chunksize=8))
    frames, labels = (np.stack(part)[:, None] for part in zip(*drawn, strict=True))
    key = hashlib.sha256(f"{procity.VERSION} stills {count} {size}".encode()).hexdigest()[:12]
    names = [f"{i:06d}" for i in range(count)]
    return Clips("procity", "train", frames, labels, np.ones((count, 1), bool), {}, names, key)


def _still(index: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    street = writer.SnippetTask("", "train", index, size).sequence()
    frame = street.render(procity.ANNOTATED, flow=(False, False))
    return np.ascontiguousarray(frame.image.transpose(2, 0, 1)), ids_to_train_ids(frame.label_ids)


def _open(
    trained_models: Sequence[SegmentationModel], input_size: Size, frame: Size, quick: bool
) -> dict[tuple[str, str, str], list[Network]]:
    """(Width seen, runtime, precision) -> a network a seed, all of which take whole frames and answer with whole label maps."""
    calibration = training_frames(input_size, 2) if quick else training_frames(input_size)
    by_key: dict[tuple[str, str, str], list[Network]] = {}
    for model, precision in product(trained_models, PRECISIONS):
        opened = open_networks(model, FILE_RUNTIMES, input_size, usable_cores(), precision, calibration)
        for runtime, network in opened.items():
            whole = network if input_size == frame else with_smaller_frames(network, input_size)
            by_key.setdefault((str(input_size[0]), runtime, precision), []).append(whole)
    return by_key


# ------------------------------------------------------------------------------------------------ clock and score


def _street(index: int, size: Size) -> Street:
    sequence, last = writer.SnippetTask("", "val", index, size).sequence(), procity.ANNOTATED
    drawn = [sequence.render(t, flow=(t < last, False)) for t in range(last - LENGTH + 1, last + 1)]
    return Street(
        f"{sequence.city}_{index:06d}",
        np.stack([frame.image for frame in drawn]),
        np.stack([ids_to_train_ids(frame.label_ids) for frame in drawn]),
        np.stack([frame.flow_forward for frame in drawn[:-1]]).astype(np.float16),
        np.stack([frame.visible_forward for frame in drawn[:-1]]),
    )


def _times(
    networks: dict[tuple[str, str, str], Network], streets: Sequence[Street], quick: bool, anyway: bool
) -> tuple[dict[tuple[str, str, str], dict[str, float]], float]:
    """Times of each network in turns, and p99 / p50 of a fixed computation that takes about as long."""
    images = np.stack([street.frames[-1] for street in streets])
    before = busy_machine.lowest_noise()
    busy_machine.require_quiet(before, anyway or quick)
    _, refused = latency.warm_up(networks, images, False)
    if refused:
        raise CannotRunError("; ".join(f"{what}: {why}" for what, why in refused.items()))
    times = latency.take_turns(networks, images, 3 if quick else 300, 0 if quick else 5, not quick)
    control = busy_machine.time_fixed_work(ms=5, repeats=20 if quick else 300)
    rows = {}
    for key, milliseconds in times.items():
        network_ms = {"network_ms": float(np.median(milliseconds[:, 0]))}
        rows[key] = {k: round(v, 2) for k, v in (network_ms | latency.summarize(milliseconds[:, 2])).items()}
    return rows, round(float(np.percentile(control, 99) / np.median(control)), 2)


def _score(network: Callable[[np.ndarray], np.ndarray], streets: Sequence[Street]) -> dict:
    """Metrics on every frame of the streets; see `split_scores.summarise`."""
    blocks: split_scores.Blocks = {}
    for street in streets:
        maps = np.stack([network(frame) for frame in street.frames])
        flows = {"exact": chained(lambda t, s=street: (s.flow[t].astype(np.float32), s.visible[t]))}
        every = np.ones(len(maps), bool)
        blocks |= split_scores.count_clip(
            maps, street.labels, every, flows, CITYSCAPES, "exact", blocks=[street.name] * len(maps)
        )
    return split_scores.summarise(blocks)


def _summary(results: Sequence[dict], base: Sequence[dict] | None) -> dict[str, float]:
    """Means over seeds, and differences from the network that sees all, if this is another one."""
    metrics = [result["metrics"] for result in results]
    ious = pd.DataFrame([result["per_class"]["iou"] for result in results], columns=CITYSCAPES.classes, dtype=float)
    each = ious[THIN_CLASSES].mean()
    row = {
        "miou": np.mean([one["miou"] for one in metrics]),
        "thin": each.mean(),
        "tc": np.mean([one["tc"]["exact"] for one in metrics]),
        "flicker": np.mean([one["flicker"] for one in metrics]),
    }
    for name, part in (("miou", dict), ("thin", partial(thin_counts, classes=CITYSCAPES.classes))):
        sides = [[part(result["per_clip"]["miou"]) for result in side] for side in (base or results, results)]
        estimate = seed_clip_effects.effect(*sides)[:3] if base else (float("nan"),) * 3
        row |= dict(zip((f"{name}_changed", f"{name}_low", f"{name}_high"), estimate, strict=True))
    return {key: round(float(value), 5) for key, value in row.items()} | {
        "seeds": len(results), **{f"iou_{name.replace(' ', '_')}": round(float(value), 4) for name, value in each.items()}
    }  # fmt: skip
