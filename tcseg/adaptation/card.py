"""What a person reads and looks at after an adaptation: a few lines, a model card, and a film of before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import jinja2
import numpy as np

from tcseg.adaptation.report import STAGES, Score, Truth
from tcseg.metrics.intervals import Interval
from tcseg.models.networks import SegmentationModel
from tcseg.models.registry import count_parameters
from tcseg.models.trained_on import trained_size
from tcseg.video.encoding import Sink
from tcseg.video.painting import blend, caption
from tcseg.video.pipeline import open_runners, resized
from tcseg.video.reading.decoding import open_source

TEMPLATES = Path(__file__).parents[1] / "templates"
SECONDS = 20.0  # of the film, at most
PANEL = 640  # columns of each of its two pictures, at most
WHAT = {"agreement": "agreement with the teacher, mIoU", "flicker": "flicker", "miou": "truth, mIoU"}


def videos_text(names: Sequence[str]) -> str:
    """Names of videos in a few words."""
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more videos"


def cell(value: Interval) -> str:
    """An interval in per cent: "61.2 (58.0 to 64.4)"; "-" where nothing was counted."""
    if math.isnan(value.value):
        return "-"
    limits = "" if math.isnan(value.low) else f" ({100 * value.low:.1f} to {100 * value.high:.1f})"
    return f"{100 * value.value:.1f}{limits}"


def _rows(scores: Mapping[str, Score]) -> list[tuple[str, list[str]]]:
    rows = []
    for name, label in WHAT.items():
        values = [getattr(scores[stage], name) for stage in STAGES]
        if all(math.isnan(one.value) for one in values):
            continue
        cells = [cell(one) for one in values]
        rows.append((label, [*cells[:2], "-"] if name == "agreement" else cells))
    return rows


def summary(scores: Mapping[str, Score]) -> str:
    """A table for a terminal, in per cent."""
    lines = [f"{'%, with 95 % intervals':34}" + "".join(f"{stage:>24}" for stage in STAGES)]
    lines += [f"{label:34}" + "".join(f"{one:>24}" for one in cells) for label, cells in _rows(scores)]
    if math.isnan(scores["after"].miou.value):
        lines.append("Agreement is not truth: where the teacher is wrong, a good student is, too (--labels DIR measures truth).")
    else:
        lines.append("Agreement is not truth; the last line is measured against labels.")
    return "\n".join(lines)


def licence(facts: Mapping) -> str:
    """What a sidecar says of the licence of an adapted student: all that it was made of may bind it."""
    teacher, start = facts["teacher"], f"what it started from ({facts['start_licence']}; {facts['start']})"
    return f"as its teacher ({teacher['licence']}; {teacher['source']}), {start} and its videos allow"


def render(
    name: str, network: SegmentationModel, scores: Mapping[str, Score], facts: Mapping, truth: Truth | None
) -> str:
    """The model card."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    told = "truth_by_class" if truth else "agreement_by_class"
    stages = STAGES if truth else STAGES[:2]
    shares = [getattr(scores[stage], told) for stage in stages]
    classes = dict.fromkeys(one for share in shares for one in share)
    by_class = [(one, [f"{100 * share[one]:.0f}" if one in share else "-" for share in shares]) for one in classes]
    text = environment.get_template("ADAPTED.md.j2").render(
        name=name,
        arch=network.arch,
        parameters=count_parameters(network),
        size=trained_size(network),
        classes=network.label_set.classes,
        facts=facts,
        licence=f"So it may be used {licence(facts)}.",
        rows=_rows(scores),
        by_class=by_class,
        truth=truth.name if truth else "",
    )
    return text.strip() + "\n"


def without_nan(value: object) -> object:
    """For JSON, which has no nan: None."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, Interval):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def film(
    source: Path, path: Path, networks: Mapping[str, SegmentationModel], begins: float = 0.0, fps: float | None = None
) -> Path:
    """Write a film, each network's classes over the same frames, side by side.

    Args:
        source: a video or a folder of pictures.
        path: .mp4.
        networks: caption -> network.
        begins: share of the video that is left out, at its start; `SECONDS` from there are shown.
        fps: of a folder that does not say.
    """
    opened = open_source(source)
    rate = fps or opened.fps
    total = opened.count or sum(1 for _ in open_source(source).frames())
    first, last = int(begins * total), int(begins * total) + max(1, round(SECONDS * rate))
    sink, runners, finished = Sink(path, rate), None, False
    try:
        for index, frame in enumerate(opened.frames()):
            if index >= last:
                break
            if index < first:
                continue
            if runners is None:
                (runners,) = open_runners(networks.values(), "pytorch", frame, live=True)
            panels = [
                _panel(blend(frame, runner(frame)[0], network.label_set), name)
                for (name, network), runner in zip(networks.items(), runners, strict=True)
            ]
            sink.write(np.hstack(panels))
        finished = True
    finally:
        with suppress(OSError):
            sink.close(keep=finished)
    return path


def _panel(picture: np.ndarray, text: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if width > PANEL:
        picture = resized(picture, (PANEL, round(height * PANEL / width / 2) * 2))
    return caption(np.ascontiguousarray(picture), text)
