"""Predictions as files: one label map (PNG) or probability array (npz) per frame, in a folder that appears when it is complete."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from tcseg.atomic_files import beside
from tcseg.errors import InputError
from tcseg.evaluation.label_map_values import write_meta
from tcseg.labels import LabelSet
from tcseg.video.encoding import make_aside


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label map, uint8 (H,W) trainIds, as an 8-bit grey PNG: what `tcseg evaluate` reads."""
    # Encoded in memory and written by Python: OpenCV's own writing says nothing when the disk is full.
    path.write_bytes(cv2.imencode(".png", labels)[1].tobytes())


def save_probs(path: Path, probs: np.ndarray) -> None:
    """Write probabilities, uint8 (K,h,w), as `probs` in an .npz that `np.load` reads."""
    # numpy's own savez_compressed takes zlib's level 6, which costs several times as much and saves some percent.
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("probs.npy", "w") as file,
    ):
        np.lib.format.write_array(file, np.ascontiguousarray(probs), allow_pickle=False)


class FrameFiles:
    """A folder with a file a frame, filled beside it under a name of this run's own, which gets its name when it is complete.

    Args:
        folder: new, or empty: files of two runs are not mixed, and nothing is deleted.
        what: the argument's name, for messages: "labels" (NAME.png) or "probs" (NAME.npz).
        names: of the frames, as `Source.names`; None = 000000, 000001, ...
        label_set: the classes of label maps, for the `meta.json` that is written beside them.

    Raises:
        ValueError: the folder has files already, or two frames have the same name.
        CannotWriteError: the folder beside it cannot be written. Raised before any work, as the others are.
    """

    SAVE = {"labels": (".png", save_labels), "probs": (".npz", save_probs)}

    def __init__(
        self, folder: Path, what: str, names: Sequence[str] | None = None, label_set: LabelSet | None = None
    ) -> None:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{what} is {folder}, which is there already; give a new folder, or remove it")
        if names is not None and len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise InputError(f"two images of the source are called {twice}; {what} needs a name for each frame")
        self.path, self.names, self.written, self.label_set = folder, names, 0, label_set
        self._suffix, self._save = self.SAVE[what]
        self._partial = beside(folder)
        make_aside(folder.parent, self._partial.mkdir, f"{what} is {folder}")

    def write(self, array: np.ndarray, index: int | None = None) -> None:
        """Write the next frame's file.

        Args:
            array: label map or probabilities.
            index: the frame's number in the source, by which `names` has its name; None = the next.

        Raises:
            OSError: the disk is full.
        """
        index = self.written if index is None else index
        name = f"{self.written:06}" if self.names is None else self.names[index]
        self._save(self._partial / f"{name}{self._suffix}", array)
        self.written += 1

    def close(self, keep: bool) -> None:
        """Give the folder its name, or remove what was written.

        Where another run has filled the folder meanwhile, it stays, and this one's is called NAME-2, as `path` then says.
        """
        if keep and self.written:
            if self.label_set is not None:
                write_meta(self._partial, self.label_set.classes, self.label_set.name)
            for number in count(2):
                with suppress(OSError):
                    self._partial.replace(self.path)  # onto an empty folder, too
                    return
                if not self.path.exists() or number > 99:
                    self._partial.replace(self.path)  # raises what is wrong
                    return
                self.path = self.path.with_name(f"{self.path.name.removesuffix(f'-{number - 1}')}-{number}")
        else:
            shutil.rmtree(self._partial, ignore_errors=True)
