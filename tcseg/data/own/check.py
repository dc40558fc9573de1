"""Check a folder of one's own: everything that opening it checks, and every frame and label decoded (`tcseg data check`)."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tcseg.data.images import read_rgb
from tcseg.data.integrity.report import Report
from tcseg.data.own.clips import read_own_labels
from tcseg.data.own.films import Film
from tcseg.data.own.layout import TRAIN, VAL, Clip, OwnFolder, look
from tcseg.data.splits import counted, named
from tcseg.errors import TcsegError
from tcseg.labels import IGNORE
from tcseg.machine import usable_cores


def check(root: Path, quick: bool = False, progress: bool = False) -> Report:
    """Check a folder of one's own.

    Args:
        root: the folder.
        quick: only names, classes, split and sizes: nothing is decoded.
        progress: show a bar if stderr is a terminal.

    Returns:
        The report; `problems` is empty if the folder can be trained on.
    """
    found = look(root)
    report = Report("your own data", found.root, notes=found.notes, problems=found.problems)
    report.counts += [_count(found, split) for split in found.split]
    unused = sorted(set(found.clips) - {name for names in found.split.values() for name in names})
    if unused and found.split:
        report.notes.append(f"{counted(len(unused), 'clip')} in no split: {named(unused)}")
    if quick or found.table is None:
        return report
    pixels = _decode(found, report, progress)
    if found.split and not report.problems:
        _classes(found, pixels, report)
    return report


def _count(found: OwnFolder, split: str) -> str:
    clips = [found.clips[name] for name in found.split[split]]
    frames, labels = sum(clip.length for clip in clips), sum(len(clip.labels) for clip in clips)
    stills = sum(clip.name in found.stills for clip in clips)
    return (
        f"{split}: {counted(len(clips), 'clip')}{f' ({stills} of stills)' if stills else ''}, {counted(frames, 'frame')}, "
        f"{counted(labels, 'label')}"
    )


def _decode(found: OwnFolder, report: Report, progress: bool) -> dict[str, np.ndarray]:
    """Decode all pictures and labels; returns the pixels of each trainId, clip by clip."""
    pixels = {name: np.zeros(256, np.int64) for name in found.clips}
    jobs = [(clip, path, False) for clip in found.clips.values() for path in clip.frames]
    jobs += [(clip, path, True) for clip in found.clips.values() for path in clip.labels.values()]

    def one(job: tuple[Clip, Path, bool]) -> np.ndarray | str:
        clip, path, is_label = job
        try:
            if is_label:
                return np.bincount(read_own_labels(found, path).reshape(-1), minlength=256)
            if clip.film:
                film = Film(path)
                film.frame(max(clip.labels, default=0))
                film.close()
            else:
                read_rgb(path)
            return ""
        except TcsegError as error:
            return str(error)

    with ThreadPoolExecutor(usable_cores()) as pool:
        hidden = not (progress and sys.stderr.isatty())
        for (clip, path, _), told in zip(jobs, tqdm(pool.map(one, jobs), "decoding", len(jobs), disable=hidden), strict=True):
            if isinstance(told, str):
                report.problems += [told] if told else []
                continue
            pixels[clip.name] += told
            if not told[:IGNORE].any():
                report.problems.append(f"{path}: every pixel of the label is ignored")
    report.decoded = len(jobs)
    report.problems = list(dict.fromkeys(report.problems))
    return pixels


def _classes(found: OwnFolder, pixels: dict[str, np.ndarray], report: Report) -> None:
    """Classes that a split does not show; and the share of labelled pixels of each."""
    classes = found.label_set.classes
    for split in (TRAIN, VAL):
        total = sum(pixels[name] for name in found.split[split])[: len(classes)]
        shares = total / max(1, total.sum())
        order = np.argsort(-shares, kind="stable")
        report.counts.append(f"{split}: " + named([f"{classes[k]} {100 * shares[k]:.1f} %" for k in order if total[k]], 12))
        if missing := [name for name, count in zip(classes, total, strict=True) if not count]:
            what = "learned" if split == TRAIN else "measured"
            report.notes.append(f"{split} has no pixel of {named(missing)}; nothing can be {what} there")
