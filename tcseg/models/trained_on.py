"""The training data and frame size of a network, and the size at which it should see a frame.

A network recognises objects at the scale of its training data and is less accurate at other scales. If no size is given, frames are
therefore resized to as many pixels as the training frames had. `registry.load_weights` stores on a network what its sidecar says:
`trained_size`, (W,H), and `trained_on`, the name of the data set; both are None if unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

Size = tuple[int, int] | Literal["native"] | None
"""Size of the frames that a network sees: (W,H), multiples of 32; "native" = the frame's own; None = from the training size."""
NATIVE = "native"
UNTRAINED_SIZE = (1024, 512)
"""Default if the training size is unknown; the tables compare networks at this size."""
STEP = 32
DRAWN = ("procity",)
CALLED = {"procity": "procity, which is synthetic", "camvid": "CamVid", "cityscapes": "Cityscapes"}


def note(model: nn.Module, size: object, dataset: object) -> None:
    """Store the training size and data set on a network.

    Args:
        model: any network.
        size: [W,H] of the training frames, or None.
        dataset: its name, or None.

    Raises:
        ValueError: the size is not two whole numbers above zero.
    """
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if size is not None and not whole:
        raise InputError(f"size is {size!r}; it must be the [width, height] of the training frames, or be omitted")
    model.trained_size = None if size is None else (size[0], size[1])
    model.trained_on = None if dataset is None else str(dataset)


def trained_size(model: nn.Module) -> tuple[int, int] | None:
    """(W,H) of the training frames of a network; None if unknown."""
    return getattr(model, "trained_size", None)


def network_size(frame: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """The size at which a network should see frames: as many pixels as in its training, at the frame's own aspect ratio.

    Both sides are rounded to multiples of 32, at least 32. A smaller frame is enlarged, because its objects are too small for the
    network (on a procity street at 256x128, `student-cpu`, trained at 1024x512, has 19.8 % mIoU, and 50.5 % if it is enlarged).

    Args:
        frame: (W,H) of the frames.
        trained: (W,H) of the training frames.

    Returns:
        (W,H); unchanged if the frame has the training size.
    """
    if frame == trained:
        return frame
    scale = (trained[0] * trained[1] / (frame[0] * frame[1])) ** 0.5
    width, height = (max(STEP, STEP * round(side * scale / STEP)) for side in frame)
    return width, height


def size_for(model: nn.Module, frame: tuple[int, int], size: Size = None) -> tuple[int, int] | None:
    """The (W,H) that frames are resized to for a network; None = they are not resized, only padded.

    Args:
        model: a network.
        frame: (W,H) of the frames.
        size: the size given by the user; see `Size`.
    """
    trained = trained_size(model)
    if size is None and trained is not None:
        size = network_size(frame, trained)
    return None if size in (None, NATIVE, frame) else size


def export_size(model: nn.Module) -> tuple[int, int]:
    """Default (W,H) for a fixed input size: the training size rounded up to multiples of 32, or 1024x512 if it is unknown."""
    width, height = trained_size(model) or UNTRAINED_SIZE
    return STEP * -(-width // STEP), STEP * -(-height // STEP)


def read_size(text: str | None) -> Size:
    """Parse the option `--size`: "1024x512", "native", or None.

    Raises:
        ValueError: the text is none of these.
    """
    if text is None or text.strip().lower() == NATIVE:
        return text and NATIVE
    try:
        return parse_size(text)
    except InputError:
        raise InputError(
            f"size is {text!r}; it must be WIDTHxHEIGHT, such as 1024x512, or native (the size of the video)"
        ) from None


# ------------------------------------------------------------------------------------------------ text


def size_text(size: tuple[int, int]) -> str:
    """(1024, 512) -> "1024x512"."""
    return f"{size[0]}x{size[1]}"


def training_of(model: nn.Module) -> str:
    """A clause about the training size and data of a network, with a note if it was only trained on synthetic streets."""
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
        size: the size given by the user.
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
