"""From videos and a teacher to a student of one's own: ask, learn, score, and write weights, card, table and film."""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from tcseg import atomic_files
from tcseg.adaptation import card, motion, report, store
from tcseg.adaptation.frames import Sampling, named
from tcseg.adaptation.kinds.answers import digest
from tcseg.adaptation.learning import training
from tcseg.adaptation.learning.batches import Labelled, Replay, can_replay, open_labelled, truth_of
from tcseg.adaptation.learning.material import Material, Settings
from tcseg.adaptation.options import AdaptOptions
from tcseg.adaptation.store import Targets
from tcseg.adaptation.teachers import Teacher, open_teacher
from tcseg.data.own import OwnFolder
from tcseg.errors import InputError, read_options, require_writable
from tcseg.models import provenance, registry, trained_on
from tcseg.models.networks import SegmentationModel

STILL_RATE = 1.0  # frames a second of folders that are said to be stills
LEAST = 0.25  # of the pixels of its training: a network sees nothing in much smaller frames
STRETCH = 1.15  # a size that was asked for may change the shape of frames by so much
FEW = 3  # snippets that must be held out at least, for a check that means anything
COLUMNS = (
    "video", "truth", "student", "teacher", "seed", "stage", "miou", "miou_ci_low", "miou_ci_high",
    "agreement", "agreement_ci_low", "agreement_ci_high", "flicker", "flicker_ci_low", "flicker_ci_high", "minutes", "frames",
)  # fmt: skip


@dataclass(frozen=True)
class Adapted:
    """What an adaptation made.

    Attributes:
        weights: NAME.safetensors; its sidecar NAME.json, card NAME.md and film NAME.mp4 lie beside it.
        scores: stage ("before", "after", "teacher") -> agreement, flicker, miou, 0..1, each an interval (value, low, high).
        table: a row a stage.
        network: the student.
    """

    weights: Path
    scores: dict[str, report.Score]
    table: pd.DataFrame
    network: SegmentationModel

    def __str__(self) -> str:
        return card.summary(self.scores)


def adapt(videos: str | Path | Sequence[str | Path], teacher: str | Path, out: str | Path, **options: object) -> Adapted:
    """Adapt a student to one's own unlabelled video: distil any teacher into it, steadily.

    A run that was killed goes on where it was, if it is started again with the same arguments.

    Args:
        videos: video files, and folders of pictures that are video.
        teacher: "hf:ORG/NAME", a folder saved by transformers, "X.onnx", "maps:DIR", weights of this package, or a student that
            ships; see `tcseg.adaptation.teachers.open_teacher`.
        out: NAME or NAME.safetensors, which must not exist.
        options: see `AdaptOptions`, such as `steps=1000`, `labels=DIR`, `seed=1`.

    Raises:
        InputError: classes do not match, too few frames, nothing moves, an option cannot be, or `out` exists.
        NotFoundError: a video, a teacher or stored maps are not there.
        CannotRunError: the hub cannot be reached, or another run is at work in the same folder.
        CannotWriteError: no disk.

    Example:
        >>> done = tcseg.adapt(drive, "student-cpu", folder / "mine", arch="student", size=(128, 64), steps=4, held_out=0.3,
        ...                    film=False, replay=False, progress=False)
        >>> done.weights.name, tcseg.load_model(done.weights).trained_size
        ('mine.safetensors', (128, 64))
    """
    chosen = read_options(AdaptOptions, options)
    videos = [videos] if isinstance(videos, str | Path) else list(videos)
    weights = _weights_of(Path(out))
    work = Path(chosen.work) if chosen.work else weights.with_suffix(".work")
    note = _require_free(weights, work, chosen.film)
    sources = [*videos, *chosen.stills]
    named(sources)  # they are there
    for source in chosen.score:
        named([source])
    initial = _initial(chosen)
    asked = open_teacher(
        teacher,
        (initial or registry.shipped(registry.FAST)).label_set,
        size=chosen.teacher_size,
        licence=chosen.licence,
        classes=chosen.classes,
        rename=chosen.rename,
        **(chosen.onnx or {}),
    )
    if chosen.teacher_name:
        asked = replace(asked, name=chosen.teacher_name, source=chosen.teacher_name)
    require_writable(work, "pass --work FOLDER")
    note.touch()
    truth = None
    if chosen.labels:
        truth = report.Truth(*truth_of(Path(chosen.labels), chosen.label_classes), asked.label_set)
    labelled = open_labelled(Path(chosen.labelled), asked.label_set) if chosen.labelled else None
    _say(chosen, f"teacher: {asked}")
    targets, initial = _collect(videos, asked, work, chosen, initial)
    return _Work(chosen, weights, work, asked, targets, initial, truth, labelled).run()


def _say(options: AdaptOptions, text: str) -> None:
    if options.progress:
        tqdm.write(text, file=sys.stderr)


def _weights_of(out: Path) -> Path:
    """The file of weights that a name means."""
    weights = out if out.suffix == ".safetensors" else out.with_name(f"{out.name}.safetensors")
    require_writable(weights.parent, "pass --out FOLDER/NAME")
    return weights


def _require_free(weights: Path, work: Path, film: bool) -> Path:
    """Refuse a name of which any file exists: `--out README` must not replace README.md. Returns a file that notes this name.

    A run that was killed while it wrote has left some of them itself: where `work` has the note, they may be written again.
    """
    note = work / f".{digest(os.fsencode(weights.absolute()).hex())}.name"
    suffixes = [".safetensors"] if note.exists() else [".safetensors", ".json", ".md", *([".mp4"] if film else [])]
    for path in map(weights.with_suffix, suffixes):
        if path.exists():
            raise InputError(f"{path} exists; give another name with --out, or remove it")
    return note


def _initial(options: AdaptOptions) -> SegmentationModel | None:
    """Where the student starts; None = the frames decide."""
    if options.init:
        return registry.load_weights(options.init)
    return registry.shipped(options.arch) if options.arch else None


# ------------------------------------------------------------------------------------------------ asking


def student_size(frame: tuple[int, int], trained: tuple[int, int], asked: tuple[int, int] | None = None) -> tuple[int, int]:
    """(W,H) that a student sees of frames (W,H): what was asked for, else their own, with `LEAST` to all pixels of its training.

    Enlarging CamVid's frames threefold cost three times as long, and the student was no better on train stills that were held out.
    One size is asked for, and videos may differ in shape: frames of quite another shape get as many pixels at their own.
    """
    if asked is None:
        own, most = frame[0] * frame[1], trained[0] * trained[1]
        scale = (min(most, max(own, LEAST * most)) / own) ** 0.5
        width, height = (max(trained_on.STEP, trained_on.STEP * round(side * scale / trained_on.STEP)) for side in frame)
        return width, height
    stretch = frame[0] * asked[1] / (frame[1] * asked[0])
    return asked if max(stretch, 1 / stretch) <= STRETCH else trained_on.network_size(frame, asked)


def _collect(
    videos: Sequence[str | Path], teacher: Teacher, work: Path, options: AdaptOptions, initial: SegmentationModel | None
) -> tuple[list[Targets], SegmentationModel]:
    """The teacher's answers to everything, and the student that is started from."""
    initial = initial or registry.shipped(registry.FAST)
    trained = trained_on.trained_size(initial) or trained_on.UNTRAINED_SIZE
    asked = options.frame_size

    def size_of(frame: tuple[int, int]) -> tuple[int, int]:
        return student_size(frame, trained, asked)

    sampling, found = Sampling(options.per_second), []
    for sources, fps in ((videos, options.fps), (options.stills, STILL_RATE)):
        if sources:
            found += store.collect(sources, teacher, size_of, work / "answers", sampling, fps, options.progress)
    if not found:
        raise InputError("no video is given; give video files, or folders of pictures")
    return found, initial


# ------------------------------------------------------------------------------------------------ the work


class _Work:
    """One adaptation, after the teacher has been asked."""

    def __init__(
        self,
        options: AdaptOptions,
        weights: Path,
        work: Path,
        teacher: Teacher,
        targets: list[Targets],
        initial: SegmentationModel,
        truth: report.Truth | None,
        labelled: OwnFolder | None,
    ) -> None:
        self.options, self.weights, self.work, self.teacher = options, weights, work, teacher
        self.targets, self.initial, self.truth, self.labelled = targets, initial.eval(), truth, labelled
        parts = [one.split(options.held_out) for one in targets]
        self.learned, self.kept = ([part[i] for part in parts] for i in (0, 1))
        for name, some, least in (("to learn from", self.learned, store.LEAST // 2), ("held out", self.kept, FEW)):
            if (count := sum(map(len, some))) < least:
                raise InputError(
                    f"there are {count} snippets {name}, and at least {least} are needed: give a longer video, ask more often "
                    "(--per-second), or change --held-out"
                )

    def run(self) -> Adapted:
        """Learn, score, write."""
        began = time.perf_counter()
        trained = self._train()
        network = trained.network
        largest = max((one.size for one in self.targets), key=lambda size: size[0] * size[1])
        trained_on.note(network, largest, card.videos_text([one.plan.name for one in self.targets]))
        scores, frames = report.compare(self.initial, network, self._shown(), self.truth, self.options.progress)
        minutes = trained.seconds / 60
        table = self._table(scores, minutes, frames)
        facts = self._facts(trained, frames, time.perf_counter() - began)
        self._write(network, scores, table, facts)
        _say(self.options, card.summary(scores))
        return Adapted(self.weights, scores, table, network)

    def _train(self) -> training.Trained:
        with store.alone(self.work, f".training-{self.options.seed}.lock"):
            settings = self._settings()
            material = Material(self.targets, self.learned, settings)
            self._tell_motion(material)
            network = copy.deepcopy(self.initial)
            replay, place = None, self.work / f"training-{settings.seed}"
            if self.labelled:
                replay = Labelled(settings, self.labelled)
                place = place.with_name(f"{place.name}-{replay.key}")
            elif settings.replay and can_replay(network):
                replay = Replay(settings, self.work)
            if self.options.minutes:
                settings = replace(settings, steps=self._steps_in(self.options.minutes, settings, material, network, replay))
                material.settings = settings
            check = training.QuickCheck(self.targets, self.kept)
            return training.train(
                settings, material, network, check, place, replay, self.options.progress
            )

    def _settings(self) -> Settings:
        """With cuts that fit into every video."""
        settings = self.options.settings
        sizes = np.array([one.size for one in self.targets])
        crop = tuple(int(min(side, most)) for side, most in zip(sizes.min(0), settings.crop, strict=True))
        return replace(settings, crop=crop)

    def _tell_motion(self, material: Material) -> None:
        pool = material.at(0)
        moving = [motion.moves(one) for one in pool if len(one.flow)]
        if not moving:
            _say(self.options, "no consecutive frames: the temporal loss uses moved stills")
        elif np.mean(moving) < 0.1:
            _say(
                self.options,
                "the camera stands still and little moves: what is learned is of this one view, and mistakes that the teacher "
                "makes in every frame cannot be outvoted",
            )

    def _steps_in(
        self,
        minutes: float,
        settings: Settings,
        material: Material,
        network: SegmentationModel,
        replay: Replay | None,
    ) -> int:
        """Steps that so many minutes allow; timed once, so that a run that goes on has as many."""
        path = self.work / f"steps-{settings.seed}-{minutes:g}.json"
        if path.exists():
            return int(json.loads(path.read_text())["steps"])
        seconds = training.time_step(settings, material, copy.deepcopy(network), replay)
        steps = max(settings.checks, int(60 * minutes / seconds))
        atomic_files.write_json(path, {"steps": steps, "seconds_per_step": seconds})
        return steps

    def _shown(self) -> Iterator[report.Shown]:
        if not self.options.score:
            return report.held_out_frames(self.targets, self.kept)
        names = named(self.options.score)
        return chain.from_iterable(
            report.video_frames(Path(source), name, self.teacher, self.options.fps if Path(source).is_dir() else None)
            for source, name in zip(self.options.score, names, strict=True)
        )

    def _table(self, scores: dict[str, report.Score], minutes: float, frames: int) -> pd.DataFrame:
        """A row a stage; `minutes` are of the training."""
        scored = named(self.options.score) if self.options.score else [one.plan.name for one in self.targets]
        shared = {"video": "+".join(scored), "truth": self.truth.label_set.name if self.truth else ""}
        shared |= {"student": self.options.start, "teacher": self.teacher.name, "seed": self.options.seed}
        rows = []
        for stage, of in scores.items():
            row = shared | {"stage": stage, "minutes": round(minutes, 2) if stage == "after" else math.nan, "frames": frames}
            for name in ("miou", "agreement", "flicker"):
                value, low, high = getattr(of, name)
                if stage == "teacher" and name == "agreement":
                    value = low = high = math.nan  # with itself
                row |= {name: round(value, 5), f"{name}_ci_low": round(low, 5), f"{name}_ci_high": round(high, 5)}
            rows.append(row)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _facts(self, trained: training.Trained, frames: int, seconds: float) -> dict:
        asked = store.describe(self.targets)
        return {
            "adapted": True,
            "teacher": {"source": self.teacher.source, "name": self.teacher.name, "licence": self.teacher.licence},
            "videos": [{"name": one.plan.name, "frames": one.plan.frames, "fps": one.plan.fps} for one in self.targets],
            "asked": asked | {"minutes": round(asked["minutes"], 3)},
            "learned_snippets": sum(map(len, self.learned)),
            "held_out_snippets": sum(map(len, self.kept)),
            "scored_frames": frames,
            "start": self.options.start,
            "start_licence": provenance.of(self.initial).get("licence", provenance.UNSTATED),
            "settings": asdict(trained.settings),
            "best_step": trained.step,
            "training_minutes": round(trained.seconds / 60, 2),
            "torch": torch.__version__,
        }

    def _write(
        self, network: SegmentationModel, scores: dict[str, report.Score], table: pd.DataFrame, facts: dict
    ) -> None:
        """Film first, weights last: who finds weights finds everything."""
        if self.options.film:
            source = self.options.score[0] if self.options.score else self.targets[0].plan.source
            share = 0.0 if self.options.score else 1 - self.options.held_out
            both = {"before": self.initial, "after": network}
            card.film(Path(source), self.weights.with_suffix(".mp4"), both, share, self.options.fps)
        text = card.render(self.weights.stem, network, scores, facts, self.truth)
        self.weights.with_suffix(".md").write_text(text, encoding="utf-8")
        if self.options.table:
            atomic_files.append_rows(Path(self.options.table), table)
        measured = {stage: {name: getattr(of, name) for name in ("agreement", "flicker", "miou")} for stage, of in scores.items()}
        registry.save_weights(network, self.weights, **facts, licence=card.licence(facts), scores=card.without_nan(measured))
