"""What a step sees: single frames, cut around rare classes half of the time, pairs of neighbours, and frames with labels.

All that is random is derived from (seed, step), so that a run that was killed draws what it would have drawn.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.adaptation.learning.augmentation import change_light, mix_classes
from tcseg.adaptation.learning.material import Material, Settings
from tcseg.adaptation.motion import Prepared
from tcseg.adaptation.teachers import STRIDE
from tcseg.atomic_files import beside
from tcseg.data.augmentation import Clip
from tcseg.data.clip_files import read_frame
from tcseg.data.folders import OWN, kind_of
from tcseg.data.own import open_folder
from tcseg.data.own.clips import read_own_labels
from tcseg.data.own.films import Film
from tcseg.data.own.layout import CLASSES, TRAIN, OwnFolder
from tcseg.data.procity_clips import draw_frames
from tcseg.errors import InputError
from tcseg.flow import homography_flow, synthetic_motion, warp
from tcseg.labels import CITYSCAPES, LabelSet
from tcseg.models.networks import SegmentationModel

RAREST = 0.003  # share of the pixels below which a class is not looked for more often: it may be a mistake of the teacher's
DRAWN = 48  # frames of procity that are drawn for replay


def draw(material: Material, step: int) -> list[Clip]:
    """A step's single frames and pairs, augmented: a `Clip` of T = 1, and one of T = 2 where `settings.pairs` asks for pairs."""
    settings = material.settings
    rng = np.random.default_rng([settings.seed, 1, step])
    look = torch.Generator().manual_seed(int(rng.integers(2**31)))
    pool = material.at(step)
    singles = [_single(_pick(material, pool, rng), settings, rng) for _ in range(settings.batch)]
    batch = [_stacked(singles)]
    moving = [one for one in pool if len(one.flow)]
    if settings.pairs and moving:
        batch.append(_stacked([_pair(moving[rng.integers(len(moving))], settings, rng) for _ in range(settings.pairs)]))
    elif settings.pairs:
        batch.append(_moved([singles[i % len(singles)] for i in range(settings.pairs)], look))
    for clip in batch:
        clip.frames = change_light(clip.frames, settings.light, look)
    return [mix_classes(batch[0], settings.mixing, rng), *batch[1:]]


Cut = tuple[Prepared, int, tuple[float, float] | None]
"""A snippet, a frame of it, and what the cut shall be centred at, (x,y) in pixels."""


def _pick(material: Material, pool: list[Prepared], rng: np.random.Generator) -> Cut:
    """A frame: any, or one that shows a rare class, with a place where it is."""
    counts, shares = material.counts, material.shares
    if rng.random() >= material.settings.rare or not counts.any():
        one = pool[rng.integers(len(pool))]
        return one, int(rng.integers(len(one.frames))), None
    present = counts.sum(0) > 0
    wanted = np.where(present, np.maximum(shares, RAREST) ** -0.5, 0.0) * np.minimum(1.0, shares / RAREST)
    kind = int(rng.choice(len(wanted), p=wanted / wanted.sum()))
    one = pool[int(rng.choice(len(pool), p=counts[:, kind] / counts[:, kind].sum()))]
    t = int(rng.integers(len(one.frames)))
    amount = one.probs[t, kind].numpy().ravel().astype(float)
    if not amount.any():
        return one, t, None
    cell = int(rng.choice(amount.size, p=amount / amount.sum()))
    row, column = divmod(cell, one.probs.shape[-1])
    return one, t, (STRIDE * (column + 0.5), STRIDE * (row + 0.5))


def _box(
    size: tuple[int, int], box: tuple[int, int], centre: tuple[float, float] | None, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a box, in cells; about a centre, somewhere near it, or anywhere."""
    found = []
    for whole, wide, middle in zip(size, box, centre or (None, None), strict=True):
        room = (whole - wide) // STRIDE
        if middle is None:
            start = int(rng.integers(room + 1))
        else:
            start = round((middle - wide / 2 + (rng.random() - 0.5) * wide * 0.6) / STRIDE)
        start = min(max(start, 0), room)
        found.append(slice(start, start + wide // STRIDE))
    return found[1], found[0]


def _pixels(cells: slice) -> slice:
    return slice(STRIDE * cells.start, STRIDE * cells.stop)


def _single(cut: Cut, settings: Settings, rng: np.random.Generator) -> dict[str, Tensor]:
    """A zoomed cut of one frame: frames (1,3,h,w), probs (1,K,h/4,w/4) 0..255."""
    one, t, centre = cut
    size, crop = (one.frames.shape[-1], one.frames.shape[-2]), settings.crop
    low, high = settings.zoom
    zoom = low * (high / low) ** rng.random()
    box = tuple(min(whole, STRIDE * round(side / zoom / STRIDE)) for whole, side in zip(size, crop, strict=True))
    rows, columns = _box(size, box, centre, rng)
    image = one.frames[t, :, _pixels(rows), _pixels(columns)].permute(1, 2, 0).numpy()
    probs = one.probs[t : t + 1, :, rows, columns].float()
    if (image.shape[1], image.shape[0]) != crop:
        how = cv2.INTER_AREA if image.shape[1] > crop[0] else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), crop, interpolation=how)
        probs = F.interpolate(probs, (crop[1] // STRIDE, crop[0] // STRIDE), mode="bilinear", align_corners=False)
    frames = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return _flipped({"frames": frames, "probs": probs}, rng.random() < 0.5)


def _pair(one: Prepared, settings: Settings, rng: np.random.Generator) -> dict[str, Tensor]:
    """The same cut of two neighbours, without resampling: frames (2,3,h,w), probs, flow (2,h/4,w/4), visible."""
    size = one.frames.shape[-1], one.frames.shape[-2]
    t = int(rng.integers(len(one.flow)))
    box = tuple(min(whole, side) for whole, side in zip(size, settings.crop, strict=True))
    rows, columns = _box(size, box, None, rng)
    cut = {
        "frames": one.frames[t : t + 2, :, _pixels(rows), _pixels(columns)],
        "probs": one.probs[t : t + 2, :, rows, columns].float(),
        "flow": one.flow[t, :, rows, columns].float(),
        "visible": one.visible[t, rows, columns],
    }
    return _flipped(cut, rng.random() < 0.5)


def _flipped(cut: dict[str, Tensor], mirrored: bool) -> dict[str, Tensor]:
    if not mirrored:
        return cut
    cut = {name: value.flip(-1) for name, value in cut.items()}
    if "flow" in cut:
        cut["flow"][0] *= -1
    return cut


def _stacked(cuts: list[dict[str, Tensor]]) -> Clip:
    """A batch as the study's losses take it; `taught` says how sure the teacher was, 0..1."""
    probs = torch.stack([cut["probs"] for cut in cuts])
    sure = probs.sum(2)
    clip = Clip(
        torch.stack([cut["frames"] for cut in cuts]),
        targets=probs / sure[:, :, None].clamp(min=1),
        taught=(sure / 255).clamp(max=1),
    )
    if "flow" in cuts[0]:
        clip.flow, clip.visible = (torch.stack([cut[name] for cut in cuts]) for name in ("flow", "visible"))
    return clip


def _moved(cuts: list[dict[str, Tensor]], look: torch.Generator) -> Clip:
    """Stills and the same moved by known homographies, where there is no video; what the moved one does not show has no vote."""
    still = torch.cat([cut["frames"] for cut in cuts]).float()
    probs = torch.cat([cut["probs"] for cut in cuts])
    size, grid = (still.shape[-1], still.shape[-2]), (probs.shape[-1], probs.shape[-2])
    moves = synthetic_motion(len(cuts), size, look)
    back = torch.linalg.inv(moves)
    second, _ = warp(still, homography_flow(back, size))
    shrink = torch.tensor([[1 / STRIDE, 0, 0.5 / STRIDE - 0.5], [0, 1 / STRIDE, 0.5 / STRIDE - 0.5], [0, 0, 1]])
    there, here = (homography_flow(shrink @ one @ torch.linalg.inv(shrink), grid) for one in (moves, back))
    told, kept = warp(probs, here)
    clip = _stacked([{"frames": torch.stack(f), "probs": torch.stack(p)} for f, p in
                     zip(zip(still, second, strict=True), zip(probs, told, strict=True), strict=True)])  # fmt: skip
    clip.taught[:, 1] *= kept
    clip.flow, clip.visible = there, torch.ones_like(kept)
    return clip


# ------------------------------------------------------------------------------------------------ replay


class Replay:
    """Frames of drawn streets with their true labels: drawn once, in a few seconds, and kept in a file."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        height = settings.crop[1]
        path = folder / f"procity-{height}.npz"
        if not path.exists():
            frames, labels = draw_frames(DRAWN, (2 * height, height))
            aside = beside(path)
            with aside.open("wb") as file:
                np.savez(file, frames=frames, labels=labels)
            aside.replace(path)
        with np.load(path) as kept:
            self.frames, self.labels = torch.from_numpy(kept["frames"]), torch.from_numpy(kept["labels"])

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Frames (B,3,h,w) float, changed in colour, and labels (B,h,w)."""
        rng = np.random.default_rng([self.settings.seed, 2, step])
        look = torch.Generator().manual_seed(int(rng.integers(2**31)))
        width, count = self.settings.crop[0], len(self.frames)
        some = rng.choice(count, min(self.settings.batch, count), replace=False)
        room = self.frames.shape[-1] - width
        frames, labels = [], []
        for index in some:
            start = int(rng.integers(max(0, room) + 1))
            frame, label = (one[index][..., start : start + width] for one in (self.frames, self.labels))
            mirrored = rng.random() < 0.5
            frames.append(frame.flip(-1) if mirrored else frame)
            labels.append(label.flip(-1) if mirrored else label)
        return change_light(torch.stack(frames)[:, None], self.settings.light, look)[:, 0], torch.stack(labels).long()


def can_replay(network: SegmentationModel) -> bool:
    """Whether drawn streets have the network's classes."""
    return network.label_set.classes == CITYSCAPES.classes


# ------------------------------------------------------------------------------------------------ labelled frames of one's own

MOST_LABELLED = 400  # labelled frames that are kept in memory, evenly spread


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
        chosen = [jobs[i] for i in np.linspace(0, len(jobs) - 1, min(MOST_LABELLED, len(jobs))).round().astype(int)]
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
