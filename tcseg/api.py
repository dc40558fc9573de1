"""The public functions of `import tcseg`: load networks, predict label maps, evaluate, export, benchmark.

Functions here take a model as people have it: the name of a student that ships, a file of weights, what `load_model` gives, or a
network. The rest of the public names are the package's own functions (see `tcseg.__all__`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tcseg.bench import latency
from tcseg.data.clips import Clips
from tcseg.deploy import export as exporting
from tcseg.deploy.label_map import padded_size
from tcseg.errors import InputError
from tcseg.evaluation import split_scores
from tcseg.labels import LabelSet
from tcseg.models import peers, registry
from tcseg.models.networks import SegmentationModel
from tcseg.models.students import CANDIDATES
from tcseg.models.trained_on import Size, trained_size
from tcseg.video import painting, render
from tcseg.video.pipeline import FrameRunner, open_runners


class Segmenter:
    """A trained network that segments frames of any size, each one independently.

    Attributes:
        network: the `torch.nn.Module`; frames (B,3,H,W) -> logits (B,K,H/s,W/s).
        classes: names of the K classes; the index is the value in a label map.
        colors: uint8 (K,3) RGB.
        trained_size: (W,H) of its training frames; None if unknown.

    Args:
        network: a trained network.
        runtime: "pytorch", "onnxruntime" or "openvino".

    Example:
        >>> model = tcseg.load_model("student")
        >>> labels = model.predict(frames)  # frames: uint8 RGB, (H,W,3) or (T,H,W,3)
        >>> labels.shape == frames.shape[:-1], labels.dtype
        (True, dtype('uint8'))
        >>> picture = model.paint(frames, labels)
    """

    def __init__(self, network: SegmentationModel, runtime: str = "pytorch") -> None:
        self.network, self.runtime = network.eval(), runtime
        self._opened: dict[tuple, FrameRunner] = {}

    def __repr__(self) -> str:
        return f"Segmenter({self.network.arch!r}, {len(self.classes)} classes, trained at {self.trained_size})"

    @property
    def label_set(self) -> LabelSet:
        """The classes and their colours."""
        return self.network.label_set

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.label_set.classes

    @property
    def colors(self) -> np.ndarray:
        """Colours of the K classes: uint8 (K,3) RGB."""
        return self.label_set.colors

    @property
    def trained_size(self) -> tuple[int, int] | None:
        """(W,H) of the training frames; None if unknown."""
        return trained_size(self.network)

    def predict(self, frames: np.ndarray | torch.Tensor, size: Size = None) -> np.ndarray:
        """Predict the class of every pixel, exactly like `tcseg segment`.

        Args:
            frames: uint8 RGB, (H,W,3) or (T,H,W,3).
            size: (W,H) that the network sees, multiples of 32; None = as many pixels as in its training, at the frames' aspect
                ratio; "native" = the frames' own.

        Returns:
            uint8 (H,W) or (T,H,W), of the frames' own size.

        Raises:
            InputError: frames of another type or shape, or none.
        """
        frames = _checked(frames)
        if isinstance(size, tuple) and (full := padded_size(size)) != size:
            raise InputError(f"size is {size[0]}x{size[1]}; sides must be multiples of 32: pass {full}")
        if frames.ndim == 3:
            return self._runner(frames, size)(frames)[0]
        if not len(frames):
            raise InputError(f"frames have shape {frames.shape}: there are no frames")
        runner = self._runner(frames[0], size)
        return np.stack([runner(frame)[0] for frame in frames])

    def paint(self, frames: np.ndarray, labels: np.ndarray, overlay: float = 0.6) -> np.ndarray:
        """Overlay the class colours on frames: uint8 RGB in the frames' shape; `overlay` (0..1) is the opacity."""
        frames = _checked(frames)
        if frames.ndim == 3:
            return painting.blend(frames, labels, self.label_set, overlay)
        return np.stack([painting.blend(*pair, self.label_set, overlay) for pair in zip(frames, labels, strict=True)])

    def _runner(self, frame: np.ndarray, size: Size) -> FrameRunner:
        key = (frame.shape, size, next(self.network.parameters()).device)
        if key not in self._opened:
            ((runner,),) = open_runners([self.network], self.runtime, frame, live=True, size=size)
            self._opened = {key: runner}  # one: a runtime of each size ever seen would fill the memory
        return self._opened[key]


Model = str | Path | SegmentationModel | Segmenter


def load_model(model: Model = "student", runtime: str = "pytorch", device: str | torch.device = "cpu") -> Segmenter:
    """Load a trained network.

    Args:
        model: an included student (`list_models`), the path of a file of weights (`.safetensors`, its `.json` beside it), or a
            network.
        runtime: "pytorch", "onnxruntime" or "openvino"; the latter two on the CPU.
        device: where PyTorch runs it.

    Raises:
        InputError: there is no such student, or the file is damaged. NotFoundError: there is no such file.

    Example:
        >>> tcseg.load_model("student-cpu").trained_size
        (1024, 512)
    """
    if isinstance(model, Segmenter):
        return model
    if isinstance(model, str | Path):
        is_file = isinstance(model, Path) or model.endswith(".safetensors")
        model = registry.load_weights(model) if is_file else registry.shipped(model)
    return Segmenter(model.to(device), runtime)


def list_models(trained: bool = True) -> list[str]:
    """List the names for `load_model`, or with trained=False for `build_model` (which also takes "timm:" and a timm encoder).

    Example:
        >>> tcseg.list_models()
        ['student', 'student-consistent', 'student-cpu', 'student-street', 'student-street-cpu']
    """
    return registry.shipped_names() if trained else [*registry.REGISTRY, *CANDIDATES, *peers.PEERS]


def predict(model: Model, frames: np.ndarray | torch.Tensor, size: Size = None) -> np.ndarray:
    """Predict the class of every pixel with `load_model(model).predict(frames, size)`. For repeated calls, keep the loaded model.

    Example:
        >>> tcseg.predict("student", frames).max() < 19
        np.True_
    """
    return load_model(model).predict(frames, size)


def segment_video(
    source: str | int | Path, out: Path | str | None, model: Model = "student", **options: object
) -> dict:
    """Segment a video, a folder of images or a camera, and write the painted video or the label maps.

    Args:
        source, out: as in `tcseg.video.render.segment`.
        options: fields of `tcseg.video.options.SegmentOptions` and `size`, such as `labels=FOLDER`, `strip=True`.
        model: a name, a file, or a network.

    Returns:
        What was done: frames, fps, p50_ms, flicker, written, message (None if all went well), ...

    Example:
        >>> done = tcseg.segment_video(video, folder / "classes.mp4", model="student", progress=False)
        >>> done["frames"], done["message"]
        (3, None)
    """
    return render.segment(source, out, load_model(model).network, **options)


def evaluate(model: Model, clips: Clips) -> dict:
    """Evaluate a network on a split: {"metrics": {miou, tc, flicker, ...}, "per_class", "per_clip"}; shares 0..1.

    Raises:
        InputError: the network has other classes than the data.

    Example:
        >>> result = tcseg.evaluate("student", clips)  # clips: see `load_clips`
        >>> 0 < result["metrics"]["miou"] < 1
        True
    """
    network = load_model(model).network
    if network.label_set.classes != clips.label_set.classes:
        raise InputError(
            f"the model has the classes of {network.label_set.name} ({network.num_classes}), but the data those of "
            f"{clips.label_set.name} ({clips.label_set.num_classes}); evaluate it on data with its own classes"
        )
    return split_scores.evaluate(network, clips)


def export(model: Model, path: Path | str, **options: object) -> exporting.Export:
    """Export a network to .onnx, .xml (OpenVINO) or .pt2 (torch.export), and compare it with PyTorch.

    Args:
        model: a name, a file, or a network.
        path: where; the suffix is the format.
        options: as in `tcseg.deploy.export.export`, such as `size=(1024, 512)`, `scope="labels"`, `precision="int8"`.

    Example:
        >>> tcseg.export("student-cpu", folder / "fast.onnx", size=(128, 64)).agreement > 0.999
        True
    """
    return exporting.export(load_model(model).network, path, **options)


def benchmark(*names: Model, **options: object) -> pd.DataFrame:
    """Measure the latency of networks at batch 1 in milliseconds; one row per network, runtime and precision.

    Args:
        names: names, files or networks.
        options: `size` and the fields of `tcseg.bench.latency.BenchOptions`, such as
            `runtimes=["openvino"]`, `anyway=True`.

    Example:
        >>> table = tcseg.benchmark("student-cpu", size=(128, 64), frames=3, runtimes=["pytorch"], anyway=True, progress=False)
        >>> bool((table["p50_ms"] > 0).all())
        True
    """
    networks = {_name(one): load_model(one).network for one in names}
    if len(networks) < len(names):
        raise InputError(f"names are {', '.join(map(_name, names))}; each may occur only once")
    return latency.bench(networks, **options)


def _name(model: Model) -> str:
    if isinstance(model, str | Path):
        return str(model) if isinstance(model, str) and not model.endswith(".safetensors") else Path(model).stem
    return (model.network if isinstance(model, Segmenter) else model).arch


def _checked(frames: np.ndarray | torch.Tensor) -> np.ndarray:
    array = frames.cpu().numpy() if isinstance(frames, torch.Tensor) else np.asarray(frames)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise InputError(f"frames are {array.dtype} {array.shape}; they must be uint8 RGB, (H,W,3) or (T,H,W,3)")
    return np.ascontiguousarray(array)
