"""Options of an adaptation, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tcseg.adaptation.frames import Sampling
from tcseg.adaptation.learning.material import Settings
from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError, NotFoundError, require_one_of, require_writable_file
from tcseg.models import registry


@dataclass(frozen=True)
class AdaptOptions:
    """Options of `adapt`.

    Attributes:
        arch: the student that is started from: one that ships; None = student-cpu, whose licence binds nobody.
        init: a file of weights to start from, instead.
        size: (W,H) or "WxH" that the student sees, multiples of 32 (frames of another shape: as many pixels at their own shape);
            None = the frames' own, at most as many pixels as the start was trained at.
        steps, minutes: of training; minutes are made steps by timing a few. Default: 2000 steps.
        seed: order of the data and augmentation.
        stills: further folders whose pictures do not follow each other.
        fps: frames a second of folders of pictures that are video.
        per_second: moments a second that the teacher is asked about.
        held_out: share of each video, its end, that is not learned from.
        score: videos or folders that are only scored on, instead of the held-out parts.
        labels, label_classes: true label maps of some frames, and what they hold ("cityscapes", "camvid", or a file); a folder of
            your own (`tcseg.data.own`) says itself what they hold.
        teacher_name: what the teacher is called in card and table; None = where it comes from.
        teacher_size, licence, classes, rename, onnx: as for `teachers.open_teacher`.
        replay: whether drawn streets are learned from as well.
        labelled: a folder of your own whose labelled training frames are learned from, in the place of drawn streets.
        temporal: weight of the temporal loss; 0 = no pairs are shown.
        light: strength of other white balance, gamma and sharpness, 0..1: for other days and cameras.
        mixing: share of the frames that get classes of another, 0..1.
        zoom: range of the cuts of single frames; above 1 = closer.
        work: folder of the teacher's answers and of checkpoints; default NAME.work beside the weights. Kept.
        table: a CSV file to which this run's rows are added.
        film: whether a film of before and after is made.
        progress: bars, with the time left.
    """

    arch: str | None = None
    init: Path | str | None = None
    size: tuple[int, int] | str | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    stills: Sequence[str | Path] = ()
    fps: float | None = None
    per_second: float = 2.0
    held_out: float = 0.2
    score: Sequence[str | Path] = ()
    labels: Path | str | None = None
    label_classes: str = "cityscapes"
    teacher_name: str | None = None
    teacher_size: int | str | tuple[int, int] | None = None
    licence: str | None = None
    classes: str | Sequence[str] | None = None
    rename: dict[str, str] | None = None
    onnx: dict | None = None
    replay: bool = True
    labelled: Path | str | None = None
    temporal: float = 3.0
    light: float = 0.0
    mixing: float = 0.0
    zoom: tuple[float, float] = (0.9, 1.6)
    work: Path | str | None = None
    table: Path | str | None = None
    film: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 0.9:
            raise InputError(f"held_out is {self.held_out}; it is a share of each video, above 0 and below 0.9, as 0.2")
        if self.steps is not None and self.minutes is not None:
            raise InputError("give steps or minutes, not both")
        if self.minutes is not None and not 0 < self.minutes <= 10_000:
            raise InputError(f"minutes is {self.minutes}; it must be above 0")
        Sampling(self.per_second)  # refuses what cannot be
        if not 0 <= self.light <= 1 or not 0 <= self.mixing <= 1:
            raise InputError(f"light is {self.light} and mixing {self.mixing}; both must be 0 to 1")
        if not 0.25 <= self.zoom[0] <= self.zoom[1] <= 4:
            raise InputError(f"zoom is {self.zoom}; it must be (low, high) within 0.25 to 4, as (0.6, 2.0)")
        if self.table is not None:
            require_writable_file("table", Path(self.table))
        if self.arch and self.init:
            raise InputError(f"give arch {self.arch!r} or init {str(self.init)!r}, not both")
        if self.arch is not None:
            require_one_of("arch", self.arch, registry.shipped_names())
        if self.labelled and not self.replay:
            raise InputError("labelled is learned from in the place of drawn streets: give --labelled or --no-replay, not both")
        for path in (self.init, self.labels, self.labelled):
            if path is not None and not Path(path).exists():
                raise NotFoundError(f"{path} does not exist")

    @property
    def start(self) -> str:
        """What the student starts from, by name."""
        return Path(self.init).stem if self.init else self.arch or registry.FAST

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(W,H) as asked for."""
        size = parse_size(self.size) if isinstance(self.size, str) else self.size
        if size is not None and any(side < 64 or side % 32 for side in size):
            raise InputError(f"size is {size[0]}x{size[1]}; both sides must be multiples of 32, 64 or more")
        return size

    @property
    def settings(self) -> Settings:
        """Of the training, but for what the data decide."""
        usual = Settings()
        return replace(
            usual,
            steps=self.steps or usual.steps,
            seed=self.seed,
            temporal=self.temporal,
            pairs=usual.pairs if self.temporal else 0,
            replay=usual.replay * self.replay,
            light=self.light,
            mixing=self.mixing,
            zoom=self.zoom,
        )
