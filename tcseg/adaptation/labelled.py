"""Labelled frames of one's own: learned from beside the teacher's answers, in the place of drawn streets; and as truth."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch

from tcseg.adaptation.batches import Replay
from tcseg.adaptation.material import Settings
from tcseg.data.clip_files import read_frame
from tcseg.data.folders import OWN, kind_of
from tcseg.data.own import open_folder
from tcseg.data.own.clips import read_own_labels
from tcseg.data.own.films import Film
from tcseg.data.own.layout import CLASSES, TRAIN, OwnFolder
from tcseg.errors import InputError
from tcseg.labels import LabelSet

MOST = 400  # labelled frames that are kept in memory, evenly spread


def truth_of(labels: Path, classes: str) -> tuple[Path, str]:
    """Where true label maps lie and what they hold; a folder of one's own says both."""
    if kind_of(labels) != OWN:
        return labels, classes
    open_folder(labels)
    return labels / "labels", str(labels / CLASSES)


def open_labelled(root: Path, answered: LabelSet) -> OwnFolder:
    """The folder of one's own that is learned from; checked before any work.

    Args:
        root: the folder.
        answered: the student's classes.

    Raises:
        InputError: it has a problem, or other classes than the student.
    """
    folder = open_folder(root)
    if folder.label_set.classes != answered.classes:
        raise InputError(
            f"{root} has the classes {', '.join(folder.label_set.classes[:3])}, ... ({folder.label_set.num_classes}), the student "
            f"those of {answered.name} ({answered.num_classes}); start from a student of these classes with --init"
        )
    return folder


class Labelled(Replay):
    """Labelled frames of the training clips of a folder of one's own; `draw` as of drawn streets."""

    def __init__(self, settings: Settings, folder: OwnFolder) -> None:
        self.settings = settings
        jobs = [(clip, index) for name in folder.split[TRAIN] for clip in [folder.clips[name]] for index in sorted(clip.labels)]
        chosen = [jobs[i] for i in np.linspace(0, len(jobs) - 1, min(MOST, len(jobs))).round().astype(int)]
        width, height = folder.size
        size = max(settings.crop[0], 32 * round(width * settings.crop[1] / height / 32)), settings.crop[1]
        frames, labels, films = [], [], {}
        for clip, index in chosen:
            film = films.setdefault(clip.name, Film(clip.frames[0])) if clip.film else None
            frame = film.frame(index) if film else read_frame(clip.frames[index])
            truth = read_own_labels(folder, clip.labels[index])
            frames.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA).transpose(2, 0, 1))
            labels.append(cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT))
        self.frames, self.labels = torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(labels))
        told = (folder.label_set.classes, [(clip.name, index) for clip, index in chosen], self.frames.float().mean().item())
        self.key = hashlib.sha256(repr(told).encode()).hexdigest()[:8]
