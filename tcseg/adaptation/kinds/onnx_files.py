"""An ONNX file of any framework as a teacher.

What goes in and what comes out is read from the graph: planes (1,3,H,W) or pixels (1,H,W,3), bytes or floats, of one size or of
any; logits or probabilities (1,K,h,w) or (1,h,w,K), or labels (1,H,W), (1,1,H,W) or (1,H,W,1). What a graph cannot say is read
from the file's metadata (`classes` or `names`, `mean`, `std`), or told.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tcseg.adaptation.kinds.answers import Place, digest, digest_files, resize_scores, shares, without_void
from tcseg.adaptation.kinds.checkpoint_files import three
from tcseg.adaptation.kinds.windows import SHORT_SIDE, STEP, shown_size
from tcseg.deploy.exported_files import require_runtime, require_unchanged
from tcseg.errors import InputError, NotFoundError
from tcseg.models.trained_on import size_text
from tcseg.video.pipeline import resized

LAYOUTS = ("nchw", "nhwc")
DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OnnxAnswers:
    """A network in an ONNX file as a teacher, on the CPU; see `answers.Answers`.

    Args:
        path: .onnx.
        size: at which it sees a frame, the shorter side or (W,H), where the graph takes any; None = the graph's own, else a shorter
            side of 1024.
        classes: names in the order of its outputs; None = of the metadata.
        layout: "nchw" or "nhwc"; None = where the graph has the 3 channels.
        mean, std: of R, G and B, 0..1, for a graph that takes floats, (frame / 255 - mean) / std; None = of the metadata.
            Mean (0,0,0) and std (1,1,1) is 0..1; std 1/255 is 0..255.
        output: the name of one of its outputs; None = the first that can be read.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is damaged, or does not say what it takes and gives.
        CannotRunError: ONNX Runtime is not installed.
    """

    by_name = False

    def __init__(
        self,
        path: Path,
        size: int | tuple[int, int] | None = None,
        classes: Sequence[str] | None = None,
        layout: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        output: str | None = None,
    ) -> None:
        self.path, self.session = path, _open(path)
        noted = {key.lower(): value for key, value in self.session.get_modelmeta().custom_metadata_map.items()}
        self._read_input(layout, size)
        self.scaling = self._read_scaling(noted, mean, std)
        self.output = self._read_output(output)
        self.classes = tuple(classes or _noted_names(noted))
        if not self.classes:
            raise InputError(
                f"{path} does not name its classes: pass classes, in the order of its outputs (cityscapes = the 19 trainIds)"
            )
        self.licence = noted.get("license", noted.get("licence", ""))
        self.key = digest("onnx", digest_files([path]), self.classes, self.layout, self.size, self.scaling, self.output)
        told = f"a shorter side of {self.size}" if isinstance(self.size, int) else size_text(self.size)
        self.seen = f"sees {told}, {self.layout}"

    def require(self, places: Sequence[Place]) -> None:
        """It answers anything."""

    def _read_input(self, layout: str | None, size: int | tuple[int, int] | None) -> None:
        """Layout, type and size of what goes in."""
        inputs = self.session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) > 1 or len(shape) != 4 or inputs[0].type not in DTYPES:
            told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise InputError(
                f"{self.path} takes {told}; it must take one picture, bytes or floats, (1,3,H,W) or (1,H,W,3)"
            )
        if layout is not None and layout not in LAYOUTS:
            raise InputError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
        found = [name for name, axis in zip(LAYOUTS, (1, 3), strict=True) if shape[axis] == 3]
        if layout is None and len(found) != 1:
            raise InputError(
                f"{self.path} takes {shape}, which does not tell where the channels are: pass layout, nchw or nhwc"
            )
        self.layout = layout or found[0]
        rows, columns = shape[2:] if self.layout == "nchw" else shape[1:3]
        if isinstance(shape[0], int) and shape[0] != 1:
            raise InputError(f"{self.path} takes {shape[0]} frames at once; export it for one, or for any number")
        fixed = (columns, rows) if isinstance(rows, int) and isinstance(columns, int) else None
        if fixed and size is not None and size not in (fixed, min(fixed)):
            raise InputError(
                f"size of the teacher is {size if isinstance(size, int) else size_text(size)}, but {self.path} takes "
                f"{size_text(fixed)} alone"
            )
        self.size = fixed or size or SHORT_SIDE
        self.fixed, self.dtype, self.input = fixed, DTYPES[inputs[0].type], inputs[0].name

    def _read_scaling(
        self, noted: dict[str, str], mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std of what goes in, 0..1; None for bytes."""
        if self.dtype == np.uint8:
            if mean is not None or std is not None:
                raise InputError(f"mean and std are given, but {self.path} takes bytes, which it normalises by itself")
            return None
        mean = _numbers(noted.get("mean")) if mean is None else mean
        std = _numbers(noted.get("std")) if std is None else std
        if mean is None or std is None:
            raise InputError(
                f"{self.path} takes floats and does not say how they are normalised: pass mean and std of 0..1, as "
                f"{IMAGENET[0]} and {IMAGENET[1]} (ImageNet's), or 0,0,0 and 1,1,1"
            )
        return three("mean", mean), three("std", std)

    def _read_output(self, wanted: str | None) -> str:
        outputs = self.session.get_outputs()
        names = [one.name for one in outputs]
        if wanted is not None and wanted not in names:
            raise InputError(f"output is {wanted!r}; {self.path} has {', '.join(names)}")
        usable = [
            one.name
            for one in outputs
            if len(one.shape) in (3, 4) and one.type.startswith(("tensor(float", "tensor(int", "tensor(uint"))
        ]
        if wanted is None and not usable:
            told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in outputs)
            raise InputError(f"{self.path} gives {told}; it must give scores (1,K,h,w) or labels (1,H,W)")
        return wanted or usable[0]

    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None = None) -> np.ndarray:
        """As `answers.Answers`.

        Raises:
            InputError: what comes out does not fit the number of classes.
        """
        size = self.fixed or shown_size((frame.shape[1], frame.shape[0]), self.size, None)
        shown = resized(frame, size)
        if self.scaling is not None:
            mean, std = (np.array(part, np.float32) for part in self.scaling)
            shown = ((shown.astype(np.float32) / 255 - mean) / std).astype(self.dtype)
        batch = np.ascontiguousarray(shown.transpose(2, 0, 1) if self.layout == "nchw" else shown)[None]
        try:
            (out,) = self.session.run([self.output], {self.input: batch})
        except Exception as error:  # of onnxruntime's own classes, which have no common parent
            first = str(error).strip().splitlines()[0]
            hint = (
                ""
                if self.fixed
                else f" (sides of {size_text(size)}, multiples of {STEP}: is there a size that it needs? pass size)"
            )
            raise InputError(f"{self.path} does not run ({first}){hint}") from error
        return self._scores(out, grid)

    def _scores(self, out: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Scores (K,h,w) of what came out, whatever it is."""
        count = len(self.classes)
        if out.dtype.kind in "iu":
            labels = out.squeeze() if out.ndim == 4 and 1 in out.shape[1:] else out[0]
            if labels.ndim != 2:
                raise InputError(f"{self.path} gives {out.dtype} {out.shape}; labels are (1,H,W)")
            return shares(without_void(labels, count), count, grid)
        if out.ndim != 4 or count not in (out.shape[1], out.shape[3]):
            raise InputError(
                f"{self.path} gives {out.dtype} {out.shape}, but classes are {count}: (1,{count},h,w) is expected"
            )
        last = out.shape[1] != count or (out.shape[3] == count and self.layout == "nhwc")
        scores = torch.from_numpy(out[0].transpose(2, 0, 1) if last else out[0]).float()
        sums = scores.sum(0)
        if scores.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=0.01):  # logits
            scores = scores.softmax(0)
        return resize_scores(scores, grid).numpy()


def _open(path: Path) -> object:
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist; give an ONNX file")
    require_runtime("onnxruntime")
    require_unchanged(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path} cannot be read as ONNX ({first}): is it whole, with its .data file beside it?"
        ) from error


def _parsed(text: str | None) -> object:
    """A value of the metadata: JSON, or Python's own writing."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError):
            continue
    return text


def _numbers(text: str | None) -> Sequence[float] | None:
    found = _parsed(text)
    return found.split(",") if isinstance(found, str) else found


def _noted_names(noted: dict[str, str]) -> tuple[str, ...]:
    """Names of classes in a file's metadata: a list, {0: name, ...}, or words between commas."""
    found = _parsed(noted.get("classes") or noted.get("names"))
    if isinstance(found, dict):
        found = [found[key] for key in sorted(found, key=int)]
    if isinstance(found, str):
        found = [name.strip() for name in found.split(",")]
    return tuple(map(str, found or ()))
