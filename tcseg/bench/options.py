"""Options of the latency benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tcseg.deploy.export import sample_frames
from tcseg.deploy.exported_files import RUNTIMES
from tcseg.errors import InputError


@dataclass(frozen=True)
class BenchOptions:
    """Options of `bench`.

    Attributes:
        frames: maximum per model and runtime; at least 30 are measured, unless `frames` is smaller.
        seconds: maximum per model and runtime.
        runtimes: names from `tcseg.deploy.runtimes.ENGINES`; an unavailable one has rows with n = 0 and no times.
        precisions: "fp32", "int8" (on CPUs, in the file runtimes), "fp16", "bf16" (on GPUs).
        threads: threads of the network (the label map uses one). None = torch's number.
        images: uint8 (N,H,W,3) RGB frames of the given size; None = random pictures. Real frames are better, because the time of
            the label map depends on the number of class borders.
        calibration: uint8 (N,H,W,3) frames for int8; None = `images`.
        cold: also start each network in a separate process and measure the time to the first prediction, and the memory.
        anyway: report the times even if the machine is busy.
        progress: show progress bars.
    """

    frames: int = 500
    seconds: float = 10
    runtimes: Sequence[str] = RUNTIMES
    precisions: Sequence[str] = ("fp32",)
    threads: int | None = None
    images: np.ndarray | None = None
    calibration: np.ndarray | None = None
    cold: bool = False
    anyway: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}; it must be at least 1")

    def with_images(self, size: tuple[int, int]) -> BenchOptions:
        """A copy with images and calibration frames of this size filled in.

        Raises:
            InputError: the frames have another size or type.
        """
        images = sample_frames(size, 8) if self.images is None else self.images
        if images.dtype != np.uint8 or images.shape[1:] != (size[1], size[0], 3):
            raise InputError(
                f"images are {images.dtype} {images.shape}; with size={size} they must be uint8 (N,{size[1]},{size[0]},3)"
            )
        return replace(self, images=images, calibration=images if self.calibration is None else self.calibration)
