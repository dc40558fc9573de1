"""Label maps or probabilities of any program, which lie in a folder, as a teacher.

Layouts, for a video `drive.mp4` or a folder of pictures `drive/`: `DIR/labels/drive/000017.png` with
`DIR/confidence/drive/000017.png` beside it or not, `DIR/drive/000017.png`, `DIR/labels/000017.png`, `DIR/000017.png`; or `.npz`
files, as `tcseg segment --probs` writes them. A file is called as the frame's picture is; of a video by the frame's number, with
or without leading zeros.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tcseg.adaptation.kinds.answers import Place, digest, digest_files, resize_scores, shares, without_void
from tcseg.data.images import files_below, natural, read_values
from tcseg.errors import InputError, NotFoundError
from tcseg.evaluation.label_map_values import read_meta
from tcseg.labels import CITYSCAPES, IGNORE, ids_to_train_ids

LABELS, CONFIDENCE = "labels", "confidence"
MAPS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".npz")
_TOLD = 4  # folders in a message


class MapAnswers:
    """Stored answers as a teacher; see `answers.Answers`.

    Args:
        folder: that holds them.
        assumed: what the values 0, 1, ... mean where nothing says: the student's classes.
        classes: what they mean; None = as a `meta.json` beside the maps says.

    Raises:
        NotFoundError: there is no such folder, or no map in it.
        InputError: its `meta.json` or its first map cannot be read.
    """

    by_name = True

    def __init__(self, folder: Path, assumed: Sequence[str], classes: Sequence[str] | None = None) -> None:
        if not folder.is_dir():
            raise NotFoundError(
                f"maps are {str(folder)!r}, which is no folder; give the one that holds label maps, as maps:DIR"
            )
        self.folder = folder
        self.root = folder / LABELS if (folder / LABELS).is_dir() else folder
        files = [path for path in files_below(self.root, MAPS) if CONFIDENCE not in path.relative_to(folder).parts]
        if not files:
            raise NotFoundError(f"{self.root} has no maps ({', '.join(MAPS)})")
        self.at: dict[tuple[str, ...], dict[tuple, Path]] = defaultdict(dict)
        for path in files:
            self.at[path.relative_to(self.root).parent.parts][natural(path.stem)] = path
        self._taken: dict[Path, str] = {}
        meta = read_meta(files, self.root) or {}
        self.are_ids = meta.get("values") == "ids"
        said = classes or meta.get("classes") or (CITYSCAPES.classes if self.are_ids else None)
        self.classes = tuple(said or assumed)
        _ = self._probs(files[0]) if files[0].suffix == ".npz" else self._labels(files[0])
        confidence = files_below(folder / CONFIDENCE, MAPS) if (folder / CONFIDENCE).is_dir() else []
        self.key = digest("maps", digest_files([*files, *confidence]), self.classes, self.are_ids)
        self.licence = ""
        self.seen = f"{len(files)} stored maps" + ("" if said else ", whose values are taken for the student's classes")

    def _of(self, video: str) -> dict[tuple, Path]:
        """The maps of a video: of the folder that is called like it, else those that lie in no folder."""
        called = tuple(video.split("/"))
        named = [parts for parts in self.at if parts[-len(called) :] == called] or [
            parts for parts in self.at if parts[-1:] == called[-1:]
        ]
        if len(named) > 1:
            raise InputError(
                f"{self.root} has several folders {video!r}: {self._folders(named)}; give the one above the right one"
            )
        return self.at[named[0]] if named else self.at.get((), {})

    def _folders(self, parts: Sequence[tuple[str, ...]]) -> str:
        told = ", ".join("/".join(one) or "." for one in list(parts)[:_TOLD])
        return told + (f" and {len(parts) - _TOLD} more" if len(parts) > _TOLD else "")

    def require(self, places: Sequence[Place]) -> None:
        """Refuse frames that have no map.

        Raises:
            NotFoundError: counted by video.
        """
        for video in dict.fromkeys(place.video for place in places):
            wanted = [place.frame for place in places if place.video == video]
            found = self._of(video)
            if not found:
                raise NotFoundError(
                    f"{self.root} has no maps of {video!r}: no folder is called so, and what it has lies in "
                    f"{self._folders(list(self.at))}"
                )
            taken = {
                self._taken.setdefault(found[natural(name)], video) for name in wanted if natural(name) in found
            } - {video}
            if taken:
                raise InputError(
                    f"{self.root} has one set of maps for {taken.pop()!r} and {video!r}: "
                    "put those of each video into a folder of its name"
                )
            lacking = [name for name in wanted if natural(name) not in found]
            if lacking:
                raise NotFoundError(
                    f"maps:{self.folder} lacks {len(lacking)} of the {len(wanted)} frames of {video!r} that are asked for, "
                    f"the first {lacking[0]} (it has {next(iter(found.values())).name} and so on, {len(found)} in all)"
                )

    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None) -> np.ndarray:
        """As `answers.Answers`.

        Raises:
            NotFoundError: the frame has no map, or it is not told which frame it is.
            InputError: a map is damaged, or holds values that are no class.
        """
        if place is None:
            raise InputError("places is None; stored maps are found by the names of videos and frames")
        self.require([place])
        path = self._of(place.video)[natural(place.frame)]
        if path.suffix == ".npz":
            return resize_scores(torch.from_numpy(self._probs(path)), grid).numpy()
        labels = self._labels(path)
        return shares(labels, len(self.classes), grid, self._confidence(path, labels.shape))

    def _labels(self, path: Path) -> np.ndarray:
        labels = read_values(path)
        if labels.ndim != 2:
            raise InputError(
                f"{path} is in colours; a label map holds the numbers of classes: write grey or palette PNGs"
            )
        if self.are_ids:
            if labels.max() > 255:
                raise InputError(f"{path} holds {labels.max()}, which is no label id of Cityscapes: 0..33")
            labels = ids_to_train_ids(labels.astype(np.uint8))
        wrong = ((labels < 0) | (labels >= len(self.classes))) & (labels != IGNORE)
        beyond = np.unique(labels[wrong])
        if len(beyond):
            raise InputError(
                f"{path} holds {beyond[:6].tolist()}, but classes are {len(self.classes)}: "
                f"0..{len(self.classes) - 1}, 255 = none"
            )
        return without_void(labels, len(self.classes))

    def _confidence(self, path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
        file = self.folder / CONFIDENCE / path.relative_to(self.root)
        if self.root == self.folder or not (self.folder / CONFIDENCE).is_dir():
            return None
        if not file.exists():
            raise NotFoundError(
                f"{file} is missing; there is a label map of that name, and others have their confidence"
            )
        values = read_values(file)
        if values.shape != shape or values.dtype != np.uint8:
            raise InputError(
                f"{file} is {values.dtype} {values.shape}; beside its label map it must be uint8 {shape}, 255 = certain"
            )
        return values

    def _probs(self, path: Path) -> np.ndarray:
        """Probabilities (K,h,w) float32, 0..1, of an .npz."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                probs = archive["probs"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} cannot be read as probabilities ({error}): write it with tcseg segment --probs"
            ) from error
        if probs.ndim != 3 or probs.shape[0] != len(self.classes) or probs.dtype.kind not in "uf":
            raise InputError(
                f"{path} holds {probs.dtype} {probs.shape}; {len(self.classes)} classes need ({len(self.classes)},h,w)"
            )
        return probs.astype(np.float32) / (255 if probs.dtype == np.uint8 else 1)
