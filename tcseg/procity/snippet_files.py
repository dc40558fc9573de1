"""The files of one snippet in the Cityscapes layout: their names and content.

`leftImg8bit_sequence/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png`, `leftImg8bit` (annotated frames only),
`gtFine` (labelIds, instanceIds, color), `camera`, and `flow` (KITTI 16-bit PNG, both directions, valid = visible).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tcseg.atomic_files import replacing
from tcseg.labels import CITYSCAPES_ROWS
from tcseg.procity.world.style import CITIES

from .sequence import ANNOTATED, FRAMES, Frame, Sequence

SPLITS = ("train", "val", "test")
_PALETTE = np.zeros((34, 3), np.uint8)
for _row in CITYSCAPES_ROWS:
    if _row.id >= 0:
        _PALETTE[_row.id] = _row.color


class SnippetTask(NamedTuple):
    """One snippet to be written: everything a worker process needs."""

    root: str
    split: str
    index: int
    size: tuple[int, int]
    neighbours: int = 0
    seed: int = 0

    @property
    def city(self) -> str:
        """The split's cities take turns."""
        return CITIES[self.split][self.index % len(CITIES[self.split])]

    @property
    def scene_seed(self) -> int:
        """Depends on (seed, split, index) only; blocks of eight consecutive indices share one stratum."""
        return (self.seed * len(SPLITS) + SPLITS.index(self.split)) * 8_000 + self.index

    def sequence(self, effects: bool = True) -> Sequence:
        """The street that its frames are of."""
        return Sequence(self.city, self.scene_seed, self.size, effects)

    @property
    def frames(self) -> range:
        """Frames on disk: those about the annotated one for train, all for val and test."""
        if self.split != "train":
            return range(FRAMES)
        return range(max(0, ANNOTATED - self.neighbours), min(FRAMES, ANNOTATED + self.neighbours + 1))

    def files(self) -> Iterator[tuple[int, str, str]]:
        """(frame, kind, path below the root) of every file."""
        folder = f"{self.split}/{self.city}"
        for t in self.frames:
            stem = f"{self.city}_{self.index // len(CITIES[self.split]):06d}_{t:06d}"
            yield t, "image", f"leftImg8bit_sequence/{folder}/{stem}_leftImg8bit.png"
            if t == ANNOTATED:
                yield t, "image", f"leftImg8bit/{folder}/{stem}_leftImg8bit.png"
            if t == ANNOTATED or self.split != "train":
                for kind in ("labelIds", "instanceIds", "color"):
                    yield t, kind, f"gtFine/{folder}/{stem}_gtFine_{kind}.png"
            yield t, "camera", f"camera/{folder}/{stem}_camera.json"
            if t + 1 in self.frames:
                yield t, "flow_forward", f"flow/{folder}/{stem}_flow_forward.png"
            if t - 1 in self.frames:
                yield t, "flow_backward", f"flow/{folder}/{stem}_flow_backward.png"


def _kitti(flow: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """uint16 (H,W,3) in OpenCV's order: valid, v, u as value * 64 + 2**15."""
    out = np.empty((*visible.shape, 3), np.uint16)
    out[..., 0] = visible
    for values, channel in zip(flow, (2, 1), strict=True):
        out[..., channel] = np.clip(values.astype(np.float64) * 64 + 32768 + 0.5, 0, 65535)
    return out


def _encode(frame: Frame, kind: str) -> bytes:
    """The bytes of one file."""
    if kind == "camera":
        return json.dumps(frame.camera, indent=1).encode()
    if kind == "image":
        array = frame.image[..., ::-1]
    elif kind == "labelIds":
        array = frame.label_ids
    elif kind == "instanceIds":
        array = frame.instance_ids.astype(np.uint16)
    elif kind == "color":
        array = _PALETTE[frame.label_ids][..., ::-1]
    else:
        forward = kind == "flow_forward"
        array = _kitti(
            *((frame.flow_forward, frame.visible_forward) if forward else (frame.flow_backward, frame.visible_backward))
        )
    return cv2.imencode(".png", np.ascontiguousarray(array))[1].tobytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def record_of(root: Path, snippet: SnippetTask) -> Path:
    """Hashes of a finished snippet, kept until the manifest is written."""
    return root / ".parts" / f"{snippet.split}_{snippet.index:06d}.json"


def _write_frame(root: Path, sequence: Sequence, t: int, items: list[tuple[str, str]]) -> dict[str, str]:
    """Render a frame and write its files, (kind, path below root) each; path -> sha256."""
    kinds = {kind for kind, _ in items}
    frame = sequence.render(t, flow=("flow_forward" in kinds, "flow_backward" in kinds))
    encoded = {kind: _encode(frame, kind) for kind in sorted(kinds)}
    for kind, name in items:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, encoded[kind])
    return {name: hashlib.sha256(encoded[kind]).hexdigest() for kind, name in items}


def small_worker() -> None:
    """Keep a worker process small: at its first call numba would load scipy's BLAS (20 MB), which no kernel here uses."""
    sys.modules.setdefault("scipy.linalg", None)  # type: ignore[arg-type]  # None: "there is no such module"


def write_snippet(snippet: SnippetTask, only: frozenset[str] | None = None) -> dict[str, str]:
    """Render and write a snippet, or only the named files of it.

    Returns:
        path below the root -> sha256.
    """
    cv2.setNumThreads(1)
    root = Path(snippet.root)
    by_frame: dict[int, list[tuple[str, str]]] = {}
    for t, kind, name in snippet.files():
        if only is None or name in only:
            by_frame.setdefault(t, []).append((kind, name))
    sequence = snippet.sequence()
    hashes = {}
    for t, items in by_frame.items():
        hashes |= _write_frame(root, sequence, t, items)
    if only is None:
        record = record_of(root, snippet)
        record.parent.mkdir(exist_ok=True)
        write_file(record, json.dumps(hashes).encode())
    return hashes
