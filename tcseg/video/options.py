"""Options of what segments a video, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tcseg.errors import InputError, require_one_of
from tcseg.video.pipeline import Calibrate, OnFrame
from tcseg.video.reading.excerpt import Excerpt
from tcseg.video.temporal_filters import FILTERS

if TYPE_CHECKING:
    from tcseg.video.render import OpenNetworks


@dataclass(frozen=True)
class VideoOptions:
    """Options of `segment` and `side_by_side`.

    Attributes:
        overlay: 0..1, how strongly the colours cover the frame.
        fps: of the output; None = the source's.
        runtime: "pytorch", "onnxruntime" or "openvino".
        progress: a bar with live frames a second, and before it a line: what the network sees, and what it was trained on.
        strip: measure flicker (see `flicker_meter`) and plot it under the picture.
        show: a window with the picture; q, Esc or closing it ends as Ctrl-C does.
        steady: the name of a filter at inference, of `temporal_filters.FILTERS`, between the network and the label map; None =
            none.
        on_error: of a damaged frame: "skip" leaves it out, counts it and goes on, "stop" ends there.
        legend: the classes' names and colours along the upper edge (see `legend`); not in pictures too narrow for it.
        start, end, stride: which frames are taken: see `excerpt.Excerpt`. A stride of 2 halves the rate of the output.
    """

    overlay: float = 0.6
    fps: float | None = None
    runtime: str = "pytorch"
    progress: bool = True
    strip: bool = False
    show: bool = False
    steady: str | None = None
    on_error: str = "skip"
    legend: bool = True
    start: float | None = None
    end: float | None = None
    stride: int = 1

    @property
    def excerpt(self) -> Excerpt:
        """The frames that are taken."""
        return Excerpt(self.start, self.end, self.stride)

    def __post_init__(self) -> None:
        _ = self.excerpt
        if not 0 <= self.overlay <= 1:
            raise InputError(f"overlay is {self.overlay}; it must be 0 (the frame) .. 1 (the colours)")
        if self.steady is not None:
            require_one_of("steady", self.steady, FILTERS)
        require_one_of("on_error", self.on_error, ("skip", "stop"))


@dataclass(frozen=True)
class SegmentOptions(VideoOptions):
    """Options of `segment` alone, beside those of `VideoOptions`.

    Attributes:
        on_frame: called in order with (index, frame uint8 (H,W,3) RGB, [labels uint8 (H,W)]).
        labels: a new folder for label maps, an 8-bit PNG of trainIds a frame, of the frame's size. Called as the source's
            images are, so that `tcseg evaluate` finds them (any layout); of a video 000000.png, 000001.png, ... A `meta.json`
            beside them says what they hold.
        probs: a new folder for probabilities, called likewise, .npz: `np.load(file)["probs"]` is uint8 (K,h,w), 255 = 1, one cell
            for 4x4 pixels of what the network saw. About 0.3 byte a value: 12 kB a frame at 256x128, 190 kB at 1024x512.
        classes: names of classes, in any case: these alone are painted, in the legend, and counted by the strip; the rest stays
            the frame. Label maps and probabilities have all classes all the same. None = all.
        lines: a file for a line of JSON a frame, "-" for stdout, or a text stream; see `outputs.FrameLines`.
        networks: keeps networks open from one source to the next; see `OpenNetworks`.
        precision: "fp32"; "int8" in ONNX Runtime and OpenVINO; "fp16" or "bf16" of a network on a GPU.
        calibrate: for int8: (W,H) -> frames of that size, uint8 (N,H,W,3) RGB, as those that the network will see.
        calibrate_ahead: a source that is read once and is not live (a pipe, standard input) is calibrated on its own first frames
            instead; they are kept meanwhile, and segmented as the others.
    """

    on_frame: OnFrame | None = None
    labels: Path | str | None = None
    probs: Path | str | None = None
    classes: tuple[str, ...] | list[str] | str | None = None
    lines: Path | str | TextIO | None = None
    networks: OpenNetworks | None = None
    precision: str = "fp32"
    calibrate: Calibrate | None = None
    calibrate_ahead: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "int8" and self.calibrate is None:
            raise InputError("precision is 'int8', calibrate is None: int8 takes its ranges from frames; say where from")
        if self.labels is not None and self.probs is not None and Path(self.labels) == Path(self.probs):
            raise InputError(f"labels and probs are both {self.labels}; give two folders")

    @property
    def folders(self) -> dict[str, Path]:
        """The folders that are to be written."""
        return {name: Path(path) for name in ("labels", "probs") if (path := getattr(self, name)) is not None}
