"""Kinds of files that tcseg reads: how a whole one is made, and what reads it. Damaged, each is refused in a line with its name."""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tcseg import atomic_files, procity
from tcseg.adaptation.kinds.checkpoint_files import read_config
from tcseg.adaptation.kinds.onnx_files import OnnxAnswers
from tcseg.data import integrity
from tcseg.data.class_tables import class_table
from tcseg.data.clip_files import read_labels
from tcseg.data.images import read_rgb, require_whole
from tcseg.deploy.export import export
from tcseg.deploy.exported_files import open_file
from tcseg.errors import InputError
from tcseg.evaluation.label_map_files import evaluate_files
from tcseg.flow import read_kitti
from tcseg.labels import CITYSCAPES
from tcseg.models import registry
from tcseg.study.measurements.faults.damage import BYTES, TEXT, Damage
from tcseg.study.notebooks.execution import known_parameters
from tcseg.study.opening import open_rows
from tcseg.study.paths import FIGURES, REPOSITORY
from tcseg.video.encoding import record
from tcseg.video.reading.decoding import open_source

SIZE = (64, 32)
EXPORTED = (64, 64)
"""What an exported network takes: its smallest size."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: as the table has it.
        make: folder -> a whole file, and what lies beside it.
        read: reads it as a command would.
        damages: what is done to it.
        checked: it has checksums, so that damage is either harmless or refused: what is read equals what a whole file gives.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    damages: tuple[Damage, ...] = BYTES
    checked: bool = False


def _picture(seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), np.uint8)
    return cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)


def _written(name: str, picture: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        cv2.imwrite(str(folder / name), picture)
        return folder / name

    return make


def _copied(source: Path) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy(source, folder / source.name))


def _labels() -> np.ndarray:
    labels = np.full(SIZE[::-1], 7, np.uint8)
    labels[8:20, 16:] = 26
    return labels


def _make_video(folder: Path) -> Path:
    return record([_picture(seed) for seed in range(6)], folder / "drive.mp4", 25)


def _read_video(path: Path) -> int:
    """The frames that can be read; no frame at all is an error, as in `tcseg segment`."""
    source = open_source(path)
    count = sum(1 for _ in source.frames())
    if not count:
        raise InputError(f"{source.name} has no frames")
    return count


def _read_flow(path: Path) -> bytes:
    require_whole(path)
    return b"".join(part.tobytes() for part in read_kitti(path))


def _make_maps(folder: Path) -> Path:
    """Frames, predictions and labels of a clip, with a meta.json beside the predictions."""
    for place, picture in (("frames", _picture()), ("labels", _labels()), ("maps", _labels())):
        (folder / place / "clip").mkdir(parents=True)
        for index in range(3):
            cv2.imwrite(str(folder / place / "clip" / f"{index:06}.png"), picture)
    (folder / "maps" / "meta.json").write_text(json.dumps({"values": "ids", "classes": list(CITYSCAPES.classes)}))
    return folder / "maps" / "meta.json"


def _evaluate(path: Path) -> float:
    root = next(one.parent for one in path.parents if one.name == "maps")
    table, _ = evaluate_files(
        root / "maps", root / "frames", root / "labels", "folder", flows=["dis"], workers=1, progress=False
    )
    return float(table["miou"].iloc[0]) if "miou" in table else len(table)


def _make_map(folder: Path) -> Path:
    return _make_maps(folder).parent / "clip" / "000001.png"


def _append(path: Path) -> int:
    atomic_files.append_rows(path, pd.DataFrame({"seed": [1], "miou": [0.5]}))
    return len(pd.read_csv(path))


def _make_table(folder: Path) -> Path:
    table = pd.DataFrame({"seed": range(20), "miou": np.linspace(0.1, 0.5, 20), "student": "a, b"})
    return atomic_files.write_table(folder / "rows.csv", table)


def _make_record(folder: Path) -> Path:
    source = next(iter(sorted((FIGURES / "runs").glob("student-s*.json"))))
    goal = folder / "runs" / source.stem / "record.json"
    goal.parent.mkdir(parents=True)
    shutil.copy(source, goal)
    return goal


def _finished(path: Path) -> int:
    return len(open_rows("procity", "laptop", path.parents[2]).finished_runs("student"))


def _make_weights(folder: Path) -> Path:
    registry.save_weights(registry.shipped("student-cpu"), folder / "mine.safetensors")
    return folder / "mine.safetensors"


def _load(path: Path) -> bytes:
    state = registry.load_weights(path).state_dict()
    return b"".join(value.numpy().tobytes() for value in state.values())


def _make_sidecar(folder: Path) -> Path:
    return _make_weights(folder).with_suffix(".json")


@cache
def _exported(name: str) -> dict[str, bytes]:
    """An exported network: content of its files, by their names. Its facts are among them, which have its hash."""
    with tempfile.TemporaryDirectory(prefix="tcseg-") as folder:
        export(registry.shipped("student-cpu"), Path(folder) / name, np.stack([_picture()]), EXPORTED)
        return {one.name: one.read_bytes() for one in Path(folder).iterdir()}


def _export(path: Path) -> Path:
    for name, content in _exported(path.name).items():
        (path.parent / name).write_bytes(content)
    return path


def _make_onnx(folder: Path) -> Path:
    return _export(folder / "network.onnx")


def _ask(path: Path) -> float:
    teacher = OnnxAnswers(path, classes=CITYSCAPES.classes)
    return float(teacher(_picture(), (SIZE[0] // 8, SIZE[1] // 8)).sum())


def _run(path: Path) -> bytes:
    exported = path.with_suffix(".xml") if path.suffix == ".bin" else path
    frames = cv2.resize(_picture(), EXPORTED).transpose(2, 0, 1)[None]
    return open_file(exported, threads=1)(np.ascontiguousarray(frames)).tobytes()


def _make_openvino(folder: Path) -> Path:
    return _export(folder / "network.xml")


def _make_bin(folder: Path) -> Path:
    return _make_openvino(folder).with_suffix(".bin")


def _make_classes(folder: Path) -> Path:
    rows = "\n".join(f"  - {{name: class {i}, id: {i}, color: [{i}, 0, 9]}}" for i in range(6))
    (folder / "classes.yaml").write_text(f"classes:\n{rows}\nignore: [255]\n")
    return folder / "classes.yaml"


def _make_config(folder: Path) -> Path:
    said = {"model_type": "segformer", "id2label": {"0": "road"}, "depths": [2, 2, 2, 2]}
    (folder / "config.json").write_text(json.dumps(said))
    return folder / "config.json"


def _make_tree(folder: Path) -> Path:
    procity.generate(folder / "city", size=SIZE, train=1, val=0, test=0, neighbours=0, workers=1, progress=False)
    return folder / "city" / "manifest.json"


def _check_tree(path: Path) -> int:
    root = next(one for one in path.parents if one.name == "city")
    if problems := integrity.check(root, "procity").problems:
        raise InputError("; ".join(problems))
    return len(integrity.check(root, "procity", quick=True).problems)


def _make_instances(folder: Path) -> Path:
    return next(_make_tree(folder).parent.rglob("*_instanceIds.png"))


def bomb(folder: Path) -> Path:
    """A PNG of some hundred kilobytes that would take 14 GB of memory."""
    side = 70_000

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    path = folder / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


NOTEBOOK = REPOSITORY / "notebooks" / "00_start_here.ipynb"
KINDS = (
    Kind("PNG frame", _written("frame.png", _picture()), lambda path: read_rgb(path).tobytes(), checked=True),
    Kind("JPEG frame", _written("frame.jpg", _picture()), read_rgb),
    Kind("video", _make_video, _read_video),
    Kind("label map", _written("a_labelIds.png", _labels()), lambda path: read_labels(path, "cityscapes").tobytes(), checked=True),
    Kind("predicted map", _make_map, _evaluate, checked=True),
    Kind("meta of predicted maps", _make_maps, _evaluate, TEXT),
    Kind("flow", _written("a_flow_forward.png", np.full((32, 64, 3), 40_000, np.uint16)), _read_flow, checked=True),
    Kind("instanceIds", _make_instances, _check_tree, checked=True),
    Kind("manifest", _make_tree, _check_tree, TEXT),
    Kind("table", _make_table, _append),
    Kind("record of a run", _make_record, _finished, TEXT),
    Kind("weights", _make_weights, _load, checked=True),
    Kind("sidecar of weights", _make_sidecar, lambda path: _load(path.with_suffix(".safetensors")), TEXT, checked=True),
    Kind("ONNX network", _make_onnx, _run, checked=True),
    Kind("ONNX teacher", _make_onnx, _ask, checked=True),
    Kind("OpenVINO network", _make_openvino, _run, checked=True),
    Kind("OpenVINO weights", _make_bin, _run, checked=True),
    Kind("class table", _make_classes, lambda path: class_table(str(path))),
    Kind("configuration of a teacher", _make_config, lambda path: read_config(path.parent), TEXT),
    Kind("notebook", _copied(NOTEBOOK), known_parameters, TEXT),
)
"""All of them."""
