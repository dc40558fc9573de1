"""What a teacher answered, on disk: asked once, and never again.

A folder a video, teacher and size; in it a file a snippet, a ZIP archive of the frames as the student sees them (`0.png`, ...) and
of the answers (`probs.npy`, uint8 (T,K,h,w) at stride 4). A file has its name when it is whole: after a kill at any moment the
next run goes on with the first that is missing. What decides the answers decides the folder's name: another teacher, size,
sampling or video is another folder.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from tcseg.adaptation.frames import USUAL, Plan, Sampling, content_of, make_plan, named, plan_key, read_snippets
from tcseg.adaptation.kinds.answers import digest
from tcseg.adaptation.teachers import STRIDE, Teacher
from tcseg.atomic_files import beside, exclusive_lock, write_json
from tcseg.errors import CannotRunError, InputError, explain_unwritable, require_writable
from tcseg.machine import require_disk
from tcseg.models.trained_on import size_text
from tcseg.video.pipeline import resized

FORMAT = 1
LEAST = 10  # snippets, below which nothing can be learned and held out
ABOUT = "about.json"
_PNG_SHARE, _PROBS_SHARE = 0.6, 0.35  # of the raw bytes: measured 0.24..0.46 and 0.01..0.30 on six clips of real roads

SizeOf = Callable[[tuple[int, int]], tuple[int, int]]
"""(W,H) of a video's frames -> (W,H) that the student sees, multiples of 32."""


@dataclass(frozen=True)
class Stored:
    """One snippet: frames uint8 (T,H,W,3) RGB as the student sees them, and the teacher's answers uint8 (T,K,H/4,W/4), 255 = 1."""

    frames: np.ndarray
    probs: np.ndarray


@dataclass(frozen=True)
class Targets:
    """A video's snippets with their answers; `targets[i]` reads one from disk.

    Attributes:
        folder: of the files.
        plan: which frames they are.
        size: (W,H) that the student sees.
        teacher: as it is told, with its source and licence.
    """

    folder: Path
    plan: Plan
    size: tuple[int, int]
    teacher: str = field(default="")

    def __len__(self) -> int:
        return len(self.plan.snippets)

    def __getitem__(self, index: int) -> Stored:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _read(self.file(index))

    def file(self, index: int) -> Path:
        """Where a snippet lies, or will."""
        return self.folder / f"{index:06}.zip"

    def missing(self) -> list[int]:
        """Snippets that are not there yet. A file that is not a whole archive (a power cut) counts as missing."""
        return [index for index in range(len(self)) if not zipfile.is_zipfile(self.file(index))]

    def split(self, held_out: float = 0.2) -> tuple[list[int], list[int]]:
        """Snippets to learn from, and those of the video's end that are kept apart: the last `held_out` of its time."""
        begins = (1 - held_out) * self.plan.frames
        kept = [index for index, one in enumerate(self.plan.snippets) if one.first >= begins]
        learned = [index for index, one in enumerate(self.plan.snippets) if one.first + one.length <= begins]
        return learned, kept

    def bytes_each(self, classes: int) -> int:
        """Disk that a snippet of the largest length takes, at most."""
        pixels = self.size[0] * self.size[1] * max(one.length for one in self.plan.snippets)
        return int(pixels * (3 * _PNG_SHARE + classes / STRIDE**2 * _PROBS_SHARE))


# ------------------------------------------------------------------------------------------------ collecting


def collect(
    sources: Sequence[str | Path],
    teacher: Teacher,
    size_of: SizeOf,
    folder: Path | str,
    sampling: Sampling = USUAL,
    fps: float | None = None,
    progress: bool = True,
) -> list[Targets]:
    """Ask a teacher about videos, once: what lies in the folder already is not asked again.

    Args:
        sources: video files and folders of pictures.
        teacher: see `teachers.open_teacher`.
        size_of: the size that the student sees.
        folder: where answers are kept.
        sampling: how densely.
        fps: of folders of pictures that do not say.
        progress: bars, with the time left.

    Returns:
        A `Targets` for each source, complete.

    Raises:
        NotFoundError: a source is not there, or stored maps lack frames.
        InputError: a source cannot be read, or all together have too few frames that differ.
        CannotWriteError: there is too little disk, before anybody is asked; or the folder cannot be written.
        CannotRunError: another process is at work in this folder.
    """
    names, folder = named(sources), require_writable(Path(folder), "give another folder")
    with alone(folder):
        plans = [
            _plan(source, name, sampling, fps, folder, progress) for source, name in zip(sources, names, strict=True)
        ]
        _require_different(plans)
        require_enough(plans)
        everything = [_targets(plan, teacher, size_of(plan.size), folder) for plan in plans]
        lacking = [targets.missing() for targets in everything]
        for plan, wanted in zip(plans, lacking, strict=True):
            teacher.require(plan.places(wanted))
        classes = teacher.label_set.num_classes
        need = sum(
            targets.bytes_each(classes) * len(wanted) for targets, wanted in zip(everything, lacking, strict=True)
        )
        require_disk(folder, need, f"the teacher's answers to {sum(map(len, lacking))} snippets")
        _ask_all(everything, lacking, teacher, progress)
    return everything


@contextmanager
def alone(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keep other processes out of a folder.

    Raises:
        CannotRunError: one is at work there.
    """
    try:
        with exclusive_lock(folder / name, wait=False):
            yield
    except BlockingIOError as error:
        raise CannotRunError(f"{folder} is in use by another run; wait for it, or give another folder") from error


def _plan(source: str | Path, name: str, sampling: Sampling, fps: float | None, folder: Path, progress: bool) -> Plan:
    """A source's plan, from the folder if it was made before."""
    content = content_of(Path(source))
    own = fps if Path(source).is_dir() else None
    path = folder / f"plan-{plan_key(content, sampling, own)}.json"
    plan = Plan.read(path)
    if plan is None:
        plan = make_plan(source, name, sampling, own, progress, content)
        _written(path, plan.write)
    return Plan(**vars(plan) | {"source": str(source), "name": name})  # the file may lie elsewhere today


def _require_different(plans: Sequence[Plan]) -> None:
    first: dict[str, Plan] = {}
    for plan in plans:
        if (same := first.setdefault(plan.content, plan)) is not plan:
            raise InputError(f"{same.source} and {plan.source} are the same video; give it once")


def require_enough(plans: Sequence[Plan]) -> None:
    """Refuse videos with too little in them.

    Raises:
        InputError: there are fewer than `LEAST` snippets, because the videos are short, or because nothing moves.
    """
    found, still = sum(len(plan.snippets) for plan in plans), sum(plan.still for plan in plans)
    if found >= LEAST:
        return
    names, frames = ", ".join(plan.name for plan in plans), sum(plan.frames for plan in plans)
    if found + still >= LEAST:
        raise InputError(
            f"nothing moves in {names}: of {found + still} moments in {frames} frames {found} differ, and at least {LEAST} must: "
            "give a video of a moving camera, or of moving traffic"
        )
    raise InputError(
        f"{names}: {frames} frames, in which there are {found} moments to learn from; at least {LEAST} are needed, about "
        f"{3 * LEAST} frames in a row: give a longer video, or several"
    )


def _targets(plan: Plan, teacher: Teacher, size: tuple[int, int], folder: Path) -> Targets:
    if any(side % 32 or side < 32 for side in size):
        raise InputError(f"size of the student is {size_text(size)}; both sides must be multiples of 32")
    key = digest(f"targets {FORMAT}", teacher.key, plan.content, plan.snippets, size, _names_matter(plan, teacher))
    return Targets(folder / key, plan, size, str(teacher))


def _names_matter(plan: Plan, teacher: Teacher) -> str:
    """Stored maps are found by names: the same video called otherwise has other maps."""
    return plan.name if teacher.answers.by_name else ""


def _ask_all(everything: Sequence[Targets], lacking: Sequence[list[int]], teacher: Teacher, progress: bool) -> None:
    total = sum(
        targets.plan.snippets[i].length for targets, wanted in zip(everything, lacking, strict=True) for i in wanted
    )
    done = sum(one.length for targets in everything for one in targets.plan.snippets) - total
    if not total:
        return
    with tqdm(
        total=done + total, initial=done, desc=f"asking {teacher.name}", unit="frame", disable=not progress
    ) as bar:
        for targets, wanted in zip(everything, lacking, strict=True):
            _written(targets.folder / ABOUT, partial(_write_about, targets=targets, teacher=teacher))
            for index, frames in read_snippets(targets.plan, wanted):
                probs = teacher.ask(frames, targets.size, targets.plan.places([index]))
                seen = np.stack([resized(frame, targets.size) for frame in frames])
                _written(targets.file(index), partial(_write, stored=Stored(seen, probs)))
                bar.update(len(frames))


# ------------------------------------------------------------------------------------------------ files


def _write_about(path: Path, targets: Targets, teacher: Teacher) -> None:
    """For whoever looks into the folder."""
    plan = targets.plan
    told = {"source": plan.source, "frames": plan.frames, "fps": plan.fps, "scenes": len(plan.scenes)}
    asked = {"snippets": len(targets), "size": targets.size, "classes": teacher.label_set.classes}
    write_json(path, told | asked | {"teacher": teacher.source, "licence": teacher.licence, "key": teacher.key})


def _written(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file aside and rename it.

    Raises:
        CannotWriteError: the disk is full, or the folder is not ours.
    """
    aside = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        aside.replace(path)
    except OSError as error:
        fix = "free some space, or give another folder, and run again: what is finished is kept"
        raise explain_unwritable(path.parent, error, fix) from error
    finally:
        aside.unlink(missing_ok=True)


def _write(path: Path, stored: Stored) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index, frame in enumerate(stored.frames):
            picture = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            archive.writestr(f"{index}.png", picture.tobytes(), zipfile.ZIP_STORED)
        with archive.open("probs.npy", "w") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(stored.probs), allow_pickle=False)


def _read(path: Path) -> Stored:
    """Read a snippet.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("probs.npy") as file:
                probs = np.lib.format.read_array(file, allow_pickle=False)
            pictures = [np.frombuffer(archive.read(f"{index}.png"), np.uint8) for index in range(len(probs))]
        frames = np.stack([cv2.cvtColor(cv2.imdecode(one, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for one in pictures])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.zlib.error, cv2.error) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read ({first}): remove it and run again; it alone is asked anew") from error
    return Stored(frames, probs)


def describe(targets: Sequence[Targets]) -> dict:
    """What there is, for a report: videos, frames, scenes, snippets, still, minutes, bytes."""
    plans = [one.plan for one in targets]
    files = [file for one in targets for file in one.folder.glob("*.zip")]
    return {
        "videos": len(plans),
        "frames": sum(plan.frames for plan in plans),
        "scenes": sum(len(plan.scenes) for plan in plans),
        "snippets": sum(len(plan.snippets) for plan in plans),
        "still": sum(plan.still for plan in plans),
        "minutes": sum(plan.frames / plan.fps for plan in plans) / 60,
        "bytes": sum(file.stat().st_size for file in files),
    }
