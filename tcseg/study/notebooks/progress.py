"""What a notebook shows while networks are trained: loss, validation mIoU, a picture that changes, run 3 of 15, time left.

The training loop is left alone: a thread reads the log and the checkpoint that each run writes in its folder, whichever
process trains it. So runs side by side have a row each in one panel, and nothing is written to standard error, which Jupyter
shows on red ground.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from IPython.display import HTML, DisplayHandle
from safetensors import SafetensorError, safe_open
from torch.nn import functional as F

from tcseg.data.clips import Clips, annotated_frame
from tcseg.labels import IGNORE, colorize
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.figures import interactive
from tcseg.training.recipe import Recipe

WATCHED = "TCSEG_WATCHED"
"""Set where a panel tells how a training goes: whoever trains, in whichever process, says nothing."""
FRAMES = 8  # of the validation split, for the mIoU: a second's work on one core for a student
EVERY = 2.0  # seconds between two looks


def in_notebook() -> bool:
    """Whether a person sees a notebook's page: not a terminal, nor a notebook under the study's runner."""
    return "JPY_PARENT_PID" in os.environ and "TCSEG_QUIET" not in os.environ


def tell(line: str) -> None:
    """Say what is being done: in a notebook as plain output, elsewhere on standard error; nothing where a panel tells it."""
    if WATCHED not in os.environ:
        print(line, file=sys.stdout if in_notebook() else sys.stderr, flush=True)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep the training loop's lines from a page that has a panel."""
    if WATCHED in os.environ:
        with contextlib.redirect_stdout(io.StringIO()):  # not None: the kernel flushes it
            yield
    else:
        yield


def clock(seconds: float) -> str:
    """A time that is left, in words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Preview:
    """How well a checkpoint does on a few validation frames, and what it predicts for one of them.

    The networks are built beforehand, in the caller's thread and without touching its random numbers; numba is not used, because it
    would change the number of torch's threads.
    """

    def __init__(self, clips: Clips, recipes: Mapping[str, Recipe]) -> None:
        t = annotated_frame(clips)
        chosen = np.linspace(0, len(clips) - 1, min(FRAMES, len(clips))).astype(int)
        self.frames, self.labels = clips.frames[chosen, t], clips.labels[chosen, t]
        self.label_set = clips.label_set
        self.shown = int(self.frames.mean((1, 2, 3)).argmax())
        with torch.random.fork_rng(devices=[]):
            self.networks = {
                arch: registry.build(arch, clips.label_set, pretrained=False).eval()
                for arch in {recipe.arch for recipe in recipes.values()}
            }

    def look(self, checkpoint: Path, arch: str) -> tuple[float, np.ndarray] | None:
        """(mIoU 0..1, picture uint8 (H,3W,3): frame, truth, prediction) of a checkpoint; None while none can be read."""
        network = self.networks.get(arch)
        if network is None or not checkpoint.exists():
            return None
        try:
            _load(network, checkpoint)
        except (OSError, SafetensorError, RuntimeError):  # replaced while it was read
            return None
        with torch.no_grad():
            logits = network(torch.from_numpy(self.frames))
            upsampled = F.interpolate(logits, self.labels.shape[-2:], mode="bilinear", align_corners=False)
        guesses = upsampled.argmax(1).numpy()
        frame = self.frames[self.shown].transpose(1, 2, 0)
        maps = (colorize(one[self.shown].astype(np.uint8), self.label_set) for one in (self.labels, guesses))
        return mean_iou(guesses, self.labels, self.label_set.num_classes), np.hstack((frame, *maps))


def _load(network: SegmentationModel, checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as file:
        names = [name for name in file.keys() if name.startswith("model.") and ".adapter." not in name]  # noqa: SIM118
        weights = {name.removeprefix("model."): file.get_tensor(name) for name in names}
    network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("adapter.")})


def mean_iou(guesses: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """mIoU, 0..1, over the classes that occur in either; both are trainIds of one shape."""
    counted = labels != IGNORE
    pairs = np.bincount(classes * labels[counted].astype(int) + guesses[counted], minlength=classes**2)
    table = pairs.reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    return float((np.diag(table)[union > 0] / union[union > 0]).mean())


class Panel:
    """The panel of some trainings: reads what they leave in the store of runs.

    Args:
        store: the folder of runs.
        recipe: (name, seed) -> its recipe.
        total: how many runs there will be.
        workers: how many at a time.
        preview: for mIoU and picture; None = neither.
        show: is given the HTML, again and again.
    """

    def __init__(
        self,
        store: Path,
        recipe: Callable[[str, int], Recipe],
        total: int,
        workers: int,
        preview: Preview | None,
        show: Callable[[HTML], None],
    ) -> None:
        self.store, self.recipe, self.total, self.workers = store, recipe, total, workers
        self.preview, self.show = preview, show
        self.began, self.finished_seconds = time.time(), []
        self.done = 0
        self._looks: dict[str, tuple[float, int, str, str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Panel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.update(last=True)

    def _work(self) -> None:
        while not self._stop.wait(EVERY):
            with contextlib.suppress(
                OSError, ValueError, KeyError
            ):  # a file that is being written; the next look has it
                self.update()

    def update(self, last: bool = False) -> None:
        """Look once, and show it."""
        folders = [path.parent for path in self.store.glob("*/log.jsonl") if path.stat().st_mtime >= self.began - 1]
        done = [folder for folder in folders if self._is_trained(folder)]
        going = [] if last else sorted(folder for folder in folders if folder not in done)
        rows = [row for row in map(self._row, going) if row is not None]
        self.done = len(done)
        whole = [_last(folder / "log.jsonl")["seconds"] for folder in done]
        waiting = max(0, self.total - len(done) - len(rows))
        typical = np.mean(whole) if whole else max((row["whole"] for row in rows), default=0.0)
        left = max((row["seconds"] for row in rows), default=0.0) + typical * -(-waiting // self.workers)
        number = f"run {min(self.total, len(done) + 1)}" + (f" to {len(done) + len(rows)}" if len(rows) > 1 else "")
        title = (
            f"{len(done)} of {self.total} trained" if last else f"Training {number} of {max(self.total, len(folders))}"
        )
        self.show(
            HTML(interactive.fill("progress", title=title, rows=rows, left="" if last or not left else clock(left)))
        )

    def _is_trained(self, folder: Path) -> bool:
        """Whether the last step is done; scoring and the record come later."""
        named, line = _named(folder), _last(folder / "log.jsonl")
        return named is not None and bool(line) and line["step"] + 1 >= self.recipe(*named).steps

    def _row(self, folder: Path) -> dict | None:
        named, line = _named(folder), _last(folder / "log.jsonl")
        if named is None or not line:
            return None
        recipe = self.recipe(*named)
        step = int(line["step"]) + 1
        whole = line["seconds"] / step * recipe.steps
        seconds = max(0.0, whole - line["seconds"] - (time.time() - (folder / "log.jsonl").stat().st_mtime))
        miou, at, picture = self._look(folder, recipe.arch)
        return {
            "label": f"{named[0]}, seed {named[1]}", "step": step, "steps": recipe.steps, "loss": f"{line['loss']:.3f}",
            "miou": miou, "at": at, "picture": picture, "left": clock(seconds), "seconds": seconds, "whole": whole,
        }  # fmt: skip

    def _look(self, folder: Path, arch: str) -> tuple[str, int, str]:
        """mIoU, step and picture of the newest checkpoint; of an earlier one while that cannot be read."""
        checkpoint = folder / "checkpoint.safetensors"
        stamp = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
        known = self._looks.get(folder.name, (0.0, 0, "…", ""))
        if self.preview is not None and stamp > known[0] and (found := self.preview.look(checkpoint, arch)):
            with safe_open(checkpoint, "pt") as file:
                step = int(file.metadata()["step"])
            known = stamp, step, f"{100 * found[0]:.1f} %", interactive.uri(found[1])
            self._looks[folder.name] = known
        return known[2], known[1], known[3]


def _named(folder: Path) -> tuple[str, int] | None:
    """Recipe and seed of a run's folder."""
    found = re.fullmatch(r"(.+)-s(\d+)-[0-9a-f]+", folder.name)
    return (found[1], int(found[2])) if found else None


def _last(log: Path) -> dict:
    """The last whole line of a training's log; empty before there is one."""
    for line in reversed(log.read_text().splitlines()):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    return {}


@contextlib.contextmanager
def watching(
    store: Path,
    recipe: Callable[[str, int], Recipe],
    names: Mapping[str, int],
    workers: int,
    clips: Callable[[], Clips],
) -> Iterator[None]:
    """A panel around some trainings, where a person sees a notebook; one panel, however deep this is nested.

    Args:
        store: the folder of runs.
        recipe: (name, seed) -> its recipe.
        names: recipe -> how many of its runs are missing.
        workers: how many are trained at a time.
        clips: gives the validation split.
    """
    if not in_notebook() or WATCHED in os.environ or not names:
        yield
        return
    handle = DisplayHandle()
    handle.display(HTML("<p>Preparing the training …</p>"))
    preview = Preview(clips(), {name: recipe(name, 0) for name in names})
    os.environ |= {WATCHED: "1", "TCSEG_QUIET": "1"}
    try:
        with Panel(store, recipe, sum(names.values()), workers, preview, handle.update):
            yield
    finally:
        for name in (WATCHED, "TCSEG_QUIET"):
            del os.environ[name]
