"""The consistent student compared with filters at inference: accuracy, consistency, time and age of the evidence.

`steadiness.csv` has a row a filter, `steadiness_effects.csv` the paired comparisons of the consistent student with each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import torch

from tcseg.bench import busy_machine
from tcseg.data.clips import Clips
from tcseg.deploy.runtimes import Network, open_network
from tcseg.errors import NotFoundError
from tcseg.evaluation.split_scores import evaluate_predictor
from tcseg.machine import cpu_name
from tcseg.study.comparisons import effects
from tcseg.study.measurements import write_table
from tcseg.study.opening import open_study
from tcseg.study.recipes import PRIMARY
from tcseg.study.runs import Run
from tcseg.study.study import Study
from tcseg.video import temporal_filters
from tcseg.video.pipeline import FrameRunner

SIZE = (1024, 512)  # of the frames on which milliseconds are taken
FRAMES = 60
SEEDS = 3  # of each student, at most
ROUNDS = 3  # of the video with and without a filter
NewFilter = Callable[[], temporal_filters.Filter]
ON_TOP = ("running mean 0.3", "mean along flow 0.3")  # filters that are tried on the consistent student, too


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Score every filter on the first seeds of the plain student, and time it.

    Args:
        out: folder; gets `tables/steadiness_effects.csv`, too.
        quick: at profile smoke.
        anyway: report although the machine is busy.

    Returns:
        recipe, filter ("" = none), seeds, miou, tc, flicker, harmful_flicker (means over seeds, 0..1), lag (mean age of the
        evidence, frames), frame_ms (without the filter, frame to label map) and added_ms (medians at 1024x512, PyTorch, see
        `milliseconds`; keyframes save network time, so theirs can be negative), threads, cpu.

    Raises:
        FileNotFoundError: the students of the study are not trained on this machine.
        NoisyMachineError: something else keeps the machine busy.
    """
    busy_machine.require_quiet(busy_machine.lowest_noise(), anyway or quick)
    study = open_study("procity", "smoke" if quick else "laptop")
    runs = {name: _trained(study, name, quick) for name in PRIMARY}
    clips, few = study.clips("val"), 12 if quick else FRAMES
    frames, threads = _frames(clips, few), torch.get_num_threads()
    rows, scored = [], []
    for recipe, name, make in _cells(quick):
        label = recipe if not name else f"{recipe}, {name}"
        results = [_scored(label, run, clips, make) for run in runs[recipe]]
        scored += results
        means = pd.DataFrame([_scores(one.record["metrics"]) for one in results]).mean()
        model = runs[recipe][0].model().eval()
        alone, added = milliseconds(open_network(model, size=SIZE), model.stride, frames, name)
        rows.append({
            "recipe": recipe, "filter": name, "seeds": len(results), **means.round(5), "lag": round(make().lag, 2),
            "frame_ms": round(alone, 2), "added_ms": round(added, 2), "threads": threads, "cpu": cpu_name(),
        })  # fmt: skip
    others = dict.fromkeys(one.name for one in scored if one.name.startswith(f"{PRIMARY[0]}, "))
    pairs = {f"{PRIMARY[1]}_vs_{name}": (PRIMARY[1], name) for name in others}
    write_table(out, "steadiness_effects", effects(scored, pairs))
    return pd.DataFrame(rows)


def _cells(quick: bool) -> list[tuple[str, str, NewFilter]]:
    """Recipe, filter's name, and how to make it: every filter on the plain student, few on the consistent one."""
    chosen = dict(list(temporal_filters.FILTERS.items())[::4]) if quick else temporal_filters.FILTERS
    plain = [(PRIMARY[0], "", temporal_filters.Nothing), *((PRIMARY[0], name, make) for name, make in chosen.items())]
    on_top = [(PRIMARY[1], name, temporal_filters.FILTERS[name]) for name in ON_TOP]
    return [*plain, (PRIMARY[1], "", temporal_filters.Nothing), *([] if quick else on_top)]


def _trained(study: Study, name: str, quick: bool) -> list[Run]:
    if quick:
        return [study.run(name)]
    results = [run for run in study.finished_runs(name) if run.folder is not None][:SEEDS]
    if not results:
        raise NotFoundError(f"no {name} is trained in {study.folder}; make the study first: make study")
    return results


def _scored(label: str, run: Run, clips: Clips, make: NewFilter) -> SimpleNamespace:
    """A student behind a filter, as `effects` takes it."""
    result = evaluate_predictor(temporal_filters.filtered(run.model(), clips, make), clips)
    kept = {key: run.record[key] for key in ("dataset", "profile")}
    ceilings = {"tc_ceiling": run.metrics["tc_ceiling"]}
    record = {**kept, "per_clip": result["per_clip"], "metrics": result["metrics"] | ceilings}
    return SimpleNamespace(name=label, seed=run.seed, record=record)


def _scores(metrics: dict) -> dict[str, float]:
    return {name: metrics[name] for name in ("miou", "flicker", "harmful_flicker")} | {"tc": metrics["tc"]["exact"]}


def _frames(clips: Clips, count: int) -> np.ndarray:
    """Frames of val in a row, enlarged: uint8 (N,H,W,3)."""
    images = np.concatenate([np.asarray(frames) for frames in clips.frames[:3]])[:count].transpose(0, 2, 3, 1)
    return np.stack([cv2.resize(image, SIZE, interpolation=cv2.INTER_LINEAR) for image in images])


def milliseconds(network: Network, stride: int, frames: np.ndarray, name: str) -> tuple[float, float]:
    """What a frame takes without a filter, and what one adds: from the frame to its label map, as `tcseg segment` does it.

    With and without take turns, so that a slow moment of the machine hits both. A filter has probabilities made of the logits, and
    logits of its answer: that is a part of its price.

    Args:
        network: opened for frames of that size.
        stride: of its logits.
        frames: uint8 (N,H,W,3), one video.
        name: of the filter, of `temporal_filters.FILTERS`; "" = none.

    Returns:
        Medians over the video, milliseconds; of keyframes over whole periods, of which a frame has the mean.
    """
    looks = []
    counted = replace(network, run=lambda prepared: looks.append(0) or network.run(prepared))
    plain, filtered = FrameRunner(network, stride, frames[0], None), FrameRunner(counted, stride, frames[0], None, name or None)
    looks.clear()
    without, with_filter = [], []
    for _ in range(ROUNDS):
        without += [_timed(plain, frame) for frame in frames]
        with_filter += [_timed(filtered, frame) for frame in frames]
    period = max(1, round(ROUNDS * len(frames) / len(looks)))  # 1, or the distance of keyframes
    whole = np.array(with_filter[: len(with_filter) // period * period]).reshape(-1, period).mean(1)
    return float(np.median(without)), float(np.median(whole) - np.median(without))


def _timed(runner: FrameRunner, frame: np.ndarray) -> float:
    started = time.perf_counter()
    runner(frame)
    return 1e3 * (time.perf_counter() - started)
