"""Effect of fp16 and int8 on accuracy, consistency and flicker, for each student, runtime and precision.

int8 is recommended for a student where it loses at most half a point of mIoU and flickers at most 5 % more; whether it is faster is
another question (`tcseg bench`), which nets of hard-swish and squeeze-and-excite answer with no.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg import procity
from tcseg.data.clips import Clips
from tcseg.deploy.export import write_onnx
from tcseg.deploy.exported_files import open_file, require_runtime
from tcseg.deploy.label_map import upsample_argmax
from tcseg.deploy.quantization import CALIBRATION_FRAMES, PRECISIONS, convert
from tcseg.errors import InputError
from tcseg.evaluation.split_scores import evaluate_predictor, predict
from tcseg.models.networks import SegmentationModel
from tcseg.models.peers import PEERS
from tcseg.models.registry import FAST, SHIPPED, shipped
from tcseg.models.students import CHOSEN
from tcseg.procity import writer
from tcseg.study.model_selection import with_weights
from tcseg.study.opening import open_study
from tcseg.video.reading.decoding import open_source

COLUMNS = [
    *("model", "runtime", "precision", "miou", "tc", "flicker", "harmful_flicker"),
    *("miou_lost", "flicker_more", "agreement", "bytes", "recommended"),
]
SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
MOST_MIOU_LOST, MOST_FLICKER_MORE = 0.005, 0.05  # half a point; a twentieth of fp32's flicker


def measure(out: Path, quick: bool = False, others: Mapping[str, SegmentationModel] | None = None) -> pd.DataFrame:
    """Score students and peers in every runtime and precision on procity's val, each at the size that it was trained for.

    The students that ship, and the other one of `CHOSEN` and the peers if `bench` has trained them on this machine.

    Args:
        out: not used: there is one table only.
        quick: at profile smoke, calibrated on few frames.
        others: further students, by name.

    Returns:
        `COLUMNS`: miou, tc (exact flow), flicker, harmful_flicker, miou_lost and agreement in 0..1; flicker_more relative, 0 = as
        much as fp32; bytes of the file; recommended: within `MOST_MIOU_LOST` and `MOST_FLICKER_MORE`. PyTorch's row has no file.

    Raises:
        RuntimeError: ONNX Runtime or OpenVINO is not installed.
    """
    for runtime in SUFFIXES:
        require_runtime(runtime)
    study = open_study("procity", "smoke" if quick else "laptop")
    calibration, clips = training_frames(study.size, 4 if quick else CALIBRATION_FRAMES), study.clips("val")
    networks = {name: shipped(name) for name in SHIPPED} | dict(others or {})
    rows = [row for name, network in networks.items() for row in precision_rows(name, network, clips, calibration)]
    if not quick:
        rows += _chosen()
    return pd.DataFrame(rows, columns=COLUMNS)


def _chosen() -> list[dict]:
    """The rows of the roles of `students.CHOSEN`, as it ships where it does, and of the peers whose weights are here."""
    study, networks = open_study("procity", "bench"), {FAST: shipped(FAST)}
    for name, arch in (CHOSEN | dict(zip(PEERS, PEERS, strict=True))).items():
        if name not in networks and (runs := with_weights(study, arch)):
            networks[name] = runs[0].model()
    calibration, clips = training_frames(study.size), study.clips("val")
    return [row for name, network in networks.items() for row in precision_rows(name, network, clips, calibration)]


def refused(table: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """(Architecture, runtime, precision) -> why it is not recommended, in words, of a table of `measure`."""

    def why(row: tuple) -> str:
        lost, more = 100 * row.miou_lost, 100 * row.flicker_more
        return f"{row.precision} in {row.runtime} loses {lost:.1f} points of mIoU and has {more:+.1f} % flicker on procity's val"

    unfit = table[~table["recommended"].astype(bool)].itertuples()
    return {(CHOSEN.get(row.model, row.model), row.runtime, row.precision): why(row) for row in unfit}


def precision_rows(name: str, model: SegmentationModel, clips: Clips, calibration: np.ndarray) -> Iterator[dict]:
    """The rows of one student: PyTorch's, then those of each precision and runtime; see `measure`."""
    width, height = clips.frames.shape[-1], clips.frames.shape[-2]
    labels = [predict(model, np.asarray(frames)) for frames in clips.frames]
    truth = _scores(labels, clips)
    yield _row(name, "pytorch", "fp32", truth, truth, 1.0, None)
    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
        source = Path(folder) / "source.onnx"
        write_onnx(model, source, (width, height), batch=1)
        for precision in PRECISIONS:
            for runtime, suffix in SUFFIXES.items():
                path = Path(folder) / f"{precision}{suffix}"
                convert(source, path, precision, calibration)
                maps = _labels(open_file(path), clips)
                agreement = float(np.mean([(a == b).mean() for a, b in zip(maps, labels, strict=True)]))
                size = sum(file.stat().st_size for file in {path, path.with_suffix(".bin")} if file.exists())
                yield _row(name, runtime, precision, _scores(maps, clips), truth, agreement, size)


def _labels(run: Callable[[np.ndarray], np.ndarray], clips: Clips) -> list[np.ndarray]:
    """Label maps of every clip, frame by frame: uint8 (T,H,W) each."""
    size, maps = (clips.frames.shape[-1], clips.frames.shape[-2]), []
    for frames in clips.frames:
        planes = (np.ascontiguousarray(frame[None]) for frame in frames)
        maps.append(np.concatenate([upsample_argmax(run(one), size) for one in planes]))
    return maps


def _scores(labels: list[np.ndarray], clips: Clips) -> dict[str, float]:
    metrics = evaluate_predictor(lambda index: labels[index], clips)["metrics"]
    return {name: metrics[name] for name in ("miou", "flicker", "harmful_flicker")} | {"tc": metrics["tc"]["exact"]}


def _row(
    name: str, runtime: str, precision: str, scores: dict, truth: dict, agreement: float, size: int | None
) -> dict[str, object]:
    lost = round(truth["miou"] - scores["miou"], 6)
    more = round(scores["flicker"] / truth["flicker"] - 1, 5) if truth["flicker"] else float("nan")
    recommended = lost <= MOST_MIOU_LOST and not more > MOST_FLICKER_MORE
    facts = {"model": name, "runtime": runtime, "precision": precision, "agreement": round(agreement, 6), "bytes": size}
    return {**facts, **scores, "miou_lost": lost, "flicker_more": more, "recommended": recommended}


# ------------------------------------------------------------------------------------------------ what int8 is calibrated on


def calibration_frames(
    size: tuple[int, int], source: Path | None = None, count: int = CALIBRATION_FRAMES
) -> tuple[np.ndarray, str]:
    """Frames for int8, and where from: spread over a video or folder, else procity's training streets.

    Args:
        size: (W,H) of the frames wanted.
        source: video or folder of images.
        count: at most.

    Returns:
        uint8 (N,H,W,3) RGB.

    Raises:
        FileNotFoundError, ValueError: the source cannot be read, or has no frames.
    """
    if source is None:
        return training_frames(size, count), f"{count} frames of procity's training streets"
    opened = open_source(source)
    step = max(1, (opened.count or count) // count)  # neighbours in a video look alike
    frames = [_resized(frame, size) for frame in islice(opened.frames(), 0, step * count, step)]
    if not frames:
        raise InputError(f"{source} has no frames; give a video, or a folder of images, of the road")
    return np.stack(frames), f"{len(frames)} frames of {source}"


def training_frames(size: tuple[int, int], count: int = CALIBRATION_FRAMES) -> np.ndarray:
    """The labelled frames of procity's first training snippets, rendered at a size: uint8 (N,H,W,3) RGB."""
    rows = 32 * max(1, -(-max(size[0], 2 * size[1]) // 64))
    rendered = (2 * rows, rows)  # the city's camera is twice as wide as high
    snippets = [writer.SnippetTask("", "train", index, rendered) for index in range(count)]
    snippets.sort(key=lambda snippet: snippet.city)  # a city's textures are painted once
    images = (snippet.sequence().render(procity.ANNOTATED, truth=False).image for snippet in snippets)
    return np.stack([_resized(image, size) for image in images])


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
