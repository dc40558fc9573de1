"""What an exported file says of itself: facts inside it, the same in a sidecar beside it, and a script that runs it alone.

Beside NAME.onnx lie NAME.onnx.json and NAME.onnx.py, so files of several formats have one each, and NAME.json stays the sidecar of
the weights NAME.safetensors. Neither replaces a file that `tcseg export` did not write.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tcseg import __version__
from tcseg.deploy.exported_files import digest
from tcseg.errors import InputError
from tcseg.labels import IGNORE
from tcseg.models import provenance
from tcseg.models.trained_on import size_text, trained_size

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

TEMPLATES = Path(__file__).parents[1] / "templates"
WRITTEN_BY = "Written by tcseg export"
"""In the first line of a script of ours."""
TO_LABELS = {
    "network": "resize the logits to the frame's size (bilinear, half-pixel centres), then take each pixel's greatest class",
    "labels": "none needed: the output is the class of each pixel",
}
TYPED = ("classes", "colors", "ignored", "height", "width", "stride", "mean", "std", "opset", "trained_size")
"""Facts that are no text in the sidecar."""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        size: (W,H) of the frames; with `dynamic`, only the example's.
        scope: "network" (logits out) or "labels".
        dynamic: any height and width that are multiples of 32.
        precision: "fp32", "fp16" or "int8".
        channels_last: frames (B,H,W,3).
        opset: of an .onnx file; None = `export.OPSET`.
    """

    size: tuple[int, int]
    scope: str = "network"
    dynamic: bool = False
    precision: str = "fp32"
    channels_last: bool = False
    opset: int | None = None


def facts(network: SegmentationModel, contents: Contents) -> dict[str, str]:
    """What a reader of the file needs besides the graph; `notebooks/use.md` has a table of it."""
    width, height = contents.size
    of_graph = {} if contents.opset is None else {"opset": str(contents.opset)}
    return {
        "tcseg": __version__,
        "arch": network.arch,
        "classes": json.dumps(network.label_set.classes),
        "colors": json.dumps(network.label_set.colors.tolist()),
        "ignored": str(IGNORE),
        "scope": contents.scope,
        "to_labels": TO_LABELS[contents.scope],
        "precision": contents.precision,
        "layout": "NHWC" if contents.channels_last else "NCHW",
        "channel_order": "RGB",
        "value_range": "uint8, 0 to 255; normalisation is inside",
        "mean": _numbers(network.mean),
        "std": _numbers(network.std),
        "size": "dynamic, multiples of 32" if contents.dynamic else size_text(contents.size),
        "height": "dynamic" if contents.dynamic else str(height),
        "width": "dynamic" if contents.dynamic else str(width),
        "stride": str(network.stride),
        **of_graph,
        **_of_training(network),
        **provenance.of(network),
    }


def _numbers(values: object) -> str:
    return json.dumps([round(float(value), 4) for value in values.flatten()])


def _of_training(network: SegmentationModel) -> dict[str, str]:
    """What is known of it: a reader of a dynamic file must choose a size."""
    size, dataset = trained_size(network), getattr(network, "trained_on", None)
    return ({"trained_size": size_text(size)} if size else {}) | ({"trained_on": dataset} if dataset else {})


# ------------------------------------------------------------------------------------------------ the files beside it


def sidecar_of(path: Path) -> Path:
    """NAME.onnx -> NAME.onnx.json."""
    return path.with_name(f"{path.name}.json")


def script_of(path: Path) -> Path:
    """NAME.onnx -> NAME.onnx.py; a script called as its network might be called as a package that it imports (torch.py)."""
    return path.with_name(f"{path.name}.py")


def require_free(path: Path) -> None:
    """Refuse to write over a file beside an export that somebody else wrote.

    Raises:
        InputError: there is one.
    """
    for file, ours in ((script_of(path), _is_our_script), (sidecar_of(path), _is_our_sidecar)):
        if file.is_symlink() or (file.exists() and not (file.is_file() and ours(file))):
            raise InputError(
                f"out is {path.name}, but {file} lies beside it and was not written by tcseg export: move it, or give another name"
            )


def _is_our_script(file: Path) -> bool:
    with file.open(errors="replace") as lines:
        return WRITTEN_BY in lines.readline(500)


def _is_our_sidecar(file: Path) -> bool:
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(noted, dict) and {"tcseg", "file", "sha256"} <= noted.keys()


def write_sidecar(path: Path, noted: dict[str, str], measured: dict[str, object]) -> None:
    """Write the facts and what was measured beside a file, with the file's hash."""
    typed = {key: _typed(value) if key in TYPED else value for key, value in noted.items()}
    whole = {"file": path.name, "sha256": digest(path), **typed, **measured, "script": script_of(path).name}
    sidecar_of(path).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _typed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return [int(side) for side in text.split("x")] if "x" in text else text


def write_script(path: Path, network: SegmentationModel, contents: Contents) -> None:
    """Write the script that runs a file on a picture with its runtime, numpy and OpenCV alone."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("exported.py.j2").render(
        suffix=path.suffix,
        contents=contents,
        trained=trained_size(network),
        written_by=WRITTEN_BY,
    )
    script_of(path).write_text(text.strip() + "\n", encoding="utf-8")
