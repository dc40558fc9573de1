"""The training data and frame size of a network, and the size at which it should see a frame.

A network knows things as large as they were in its training: at another scale it answers as readily, and wrongly. So wherever no
size is given, frames are resized for the network to as many pixels as those of its training had. `registry.load_weights` notes on a
network what its sidecar says: `trained_size`, (W,H), and `trained_on`, the data set's name; both are None where nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

Size = tuple[int, int] | Literal["native"] | None
"""Of the frames that a network sees: (W,H), multiples of 32; "native", the frame's own; None, by what it was trained at."""
NATIVE = "native"
UNTRAINED_SIZE = (1024, 512)
"""Where some size is needed and none is known: what the tables compare networks at."""
STEP = 32
DRAWN = ("procity",)
CALLED = {"procity": "procity, which is synthetic", "camvid": "CamVid", "cityscapes": "Cityscapes"}


def note(model: nn.Module, size: object, dataset: object) -> None:
    """Note on a network what is known of its training.

    Args:
        model: any network.
        size: [W,H] of the frames, or None.
        dataset: a name, or None.

    Raises:
        ValueError: the size is not two whole numbers above zero.
    """
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if size is not None and not whole:
        raise InputError(f"size is {size!r}; it must be [width, height] of the training frames, or absent")
    model.trained_size = None if size is None else (size[0], size[1])
    model.trained_on = None if dataset is None else str(dataset)


def trained_size(model: nn.Module) -> tuple[int, int] | None:
    """(W,H) of the frames that a network was trained on; None where that is not known."""
    return getattr(model, "trained_size", None)


def network_size(frame: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """The size at which a network should see frames: as many pixels as in its training, at the frame's own aspect ratio.

    Both sides are rounded to multiples of 32, at least 32. A smaller frame is enlarged: what is in it is too small for the network
    (of a procity street at 256x128 `student-cpu`, trained at 1024x512, gets 19.8 % mIoU as it is and 50.5 % enlarged).

    Args:
        frame: (W,H) of the frames.
        trained: (W,H) of those that the network was trained on.

    Returns:
        (W,H); the frame's own where that is the size of the training.
    """
    if frame == trained:
        return frame
    scale = (trained[0] * trained[1] / (frame[0] * frame[1])) ** 0.5
    width, height = (max(STEP, STEP * round(side * scale / STEP)) for side in frame)
    return width, height


def size_for(model: nn.Module, frame: tuple[int, int], size: Size = None) -> tuple[int, int] | None:
    """The (W,H) that frames are resized to for a network; None = they stay as they are, and are padded.

    Args:
        model: a network.
        frame: (W,H) of the frames.
        size: as asked for; see `Size`.
    """
    trained = trained_size(model)
    if size is None and trained is not None:
        size = network_size(frame, trained)
    return None if size in (None, NATIVE, frame) else size


def export_size(model: nn.Module) -> tuple[int, int]:
    """(W,H) for what takes frames of one size and no video says which: that of the training in multiples of 32, else 1024x512."""
    width, height = trained_size(model) or UNTRAINED_SIZE
    return STEP * -(-width // STEP), STEP * -(-height // STEP)


def read_size(text: str | None) -> Size:
    """What a person wrote for `--size`: "1024x512", "native", or None.

    Raises:
        ValueError: it is none of these.
    """
    if text is None or text.strip().lower() == NATIVE:
        return text and NATIVE
    try:
        return parse_size(text)
    except InputError:
        raise InputError(f"size is {text!r}; write width x height, as 1024x512, or native: the video's own") from None


# ------------------------------------------------------------------------------------------------ in words


def size_text(size: tuple[int, int]) -> str:
    """(1024, 512) -> "1024x512"."""
    return f"{size[0]}x{size[1]}"


def training_of(model: nn.Module) -> str:
    """The training size and data of a network as a clause, with a note if it has seen synthetic streets only."""
    size, dataset = trained_size(model), getattr(model, "trained_on", None)
    if size is None and dataset is None:
        return "its training size and data are unknown"
    text = f"it was trained at {size_text(size) if size else 'an unknown size'}"
    text += f" on {CALLED.get(dataset, dataset)}" if dataset else ", on unknown data"
    return f"{text}, and has never seen a real road" if dataset in DRAWN else text


def describe_input(models: Mapping[str, nn.Module], frame: tuple[int, int], size: Size = None) -> str:
    """The size at which networks see a video, and their training: one line per network, for a terminal.

    Args:
        models: name -> network.
        frame: (W,H) of the video.
        size: as asked for.
    """
    return "\n".join(_line(name, model, frame, size) for name, model in models.items())


def _line(name: str, model: nn.Module, frame: tuple[int, int], size: Size) -> str:
    seen_size = size_for(model, frame, size)
    line = f"{name} sees {size_text(seen_size or frame)}" + ("" if seen_size else ", the video's own size")
    trained = trained_size(model)
    if size is None:
        other = "--size native: the video's own" if seen_size else "" if trained else "change it with --size WxH"
        line += f" ({other} {size_text(frame)})" if seen_size else f" ({other})" if other else ""
    return f"{line}; {training_of(model)}"
