"""The study: three profiles, the recipes of the ablation, and what a notebook asks for.

`open_study(...)` is the one object a notebook works with: clips, runs, tables and figures of a data set at a profile. It writes to
`data/study/<dataset>-<profile>/` only (and makes the embedded data in `data/procity/` when it is missing).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from tcseg import evaluation, models, procity, targets, training
from tcseg.data import Clips, data_root, find_dataset, load_clips
from tcseg.labels import LabelSet, label_set
from tcseg.machine import machine_facts, require_disk
from tcseg.runs import Run, find_reference, run_or_load, write_json
from tcseg.training import Recipe

FIGURES = data_root().parent / "figures"
"""Committed reference tables, runs and figures."""


@dataclass(frozen=True)
class Profile:
    """How large a study is.

    Attributes:
        size, camvid_size: (W,H) of frames in training and evaluation.
        train_snippets, val_snippets, test_snippets: of procity; at most so many of a real data set (None = all).
        neighbours: training snippets hold the annotated frame and so many on each side.
        labelled_share: of procity's training snippets whose labels are used (real data sets: all).
        teacher_steps, student_steps, batch, pairs: see `training.Recipe`.
        primary_seeds, seeds: paired seeds of `student` and `consistent`, and of the other recipes.
        bench_sizes, bench_frames: latency measurements.
    """

    name: str
    size: tuple[int, int]
    camvid_size: tuple[int, int]
    train_snippets: int | None
    val_snippets: int | None
    test_snippets: int
    neighbours: int
    labelled_share: float
    teacher_steps: int
    student_steps: int
    batch: int
    pairs: int
    primary_seeds: int
    seeds: int
    bench_sizes: tuple[tuple[int, int], ...]
    bench_frames: int


PROFILES = {
    "smoke": Profile("smoke", (128, 64), (128, 96), 8, 3, 0, 1, 0.5, 8, 8, 4, 2, 2, 1, ((256, 128),), 30),
    "laptop": Profile(
        "laptop", (256, 128), (256, 192), 160, 24, 6, 2, 0.25, 600, 1000, 6, 3, 3, 2, ((512, 256), (1024, 512)), 100
    ),
    "full": Profile(
        "full", (1024, 512), (480, 352), None, 108, 30, 2, 1.0, 40_000, 40_000, 16, 8, 5, 5,
        ((512, 256), (1024, 512), (2048, 1024)), 500,
    ),
}  # fmt: skip
FULL_PROCITY_SNIPPETS = 1000  # procity is as large as one asks; Cityscapes' own count is 2975

_STUDENT = Recipe("student", "student", steps=1)
RECIPES: dict[str, Recipe] = {
    "student": _STUDENT,
    "student+tl": replace(_STUDENT, name="student+tl", temporal=3.0),
    "kd": replace(_STUDENT, name="kd", teacher="plain"),
    "kd+tl": replace(_STUDENT, name="kd+tl", teacher="plain", temporal=3.0),
    "trajectory": replace(_STUDENT, name="trajectory", teacher="trajectory"),
    "consistent": replace(_STUDENT, name="consistent", teacher="trajectory", temporal=3.0),
}
"""teacher {none, plain, trajectory} x temporal loss {off, on}; `consistent_vs_student` is the primary comparison."""
TEACHER = Recipe("teacher", "teacher", steps=1, learning_rate=1.5e-3, pairs=0)
PRIMARY = ("student", "consistent")

NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "01_explore_cityscapes": ("tables/dataset.csv", "figures/class_shares.png"),
    "02_train_teacher": ("figures/teacher_training.png",),
    "03_distill_student": ("figures/distillation.png",),
    "04_temporal_consistency": ("figures/temporal.png", "tables/controls.csv"),
    "05_ablations": ("tables/ablation.csv", "tables/effects.csv", "figures/effects.png"),
    "06_realtime_benchmark": ("tables/latency.csv", "figures/latency.png", "figures/clip.gif"),
}
"""The notebooks in order, and what each must leave in the study's folder."""

MODES = ("train", "reference")


def _known(what: str, value: object, known: object) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(map(str, known))}")


def study_folder(dataset: str, profile: str, runs: str = "train") -> Path:
    """Where a study writes."""
    return data_root() / "study" / (f"{dataset}-{profile}" + ("-reference" if runs == "reference" else ""))


def open_study(
    dataset: str = "procity",
    profile: str = "laptop",
    runs: str = "train",
    notebook: str | None = None,
    interactive: bool = False,
    folder: Path | None = None,
) -> Study:
    """Open a study, and check everything that can be checked before work starts.

    Args:
        dataset: procity (embedded), camvid or cityscapes (found in `$TCSEG_DATA` or `data/`).
        profile: smoke, laptop or full.
        runs: "train" trains what is missing; "reference" shows the committed rows.
        notebook: whose usage is counted.
        interactive: whether widgets may be shown as well as pictures.
        folder: write there instead of `data/study/<dataset>-<profile>`; `tcseg study --out` and `--seeds` reach a notebook's
            kernel as `$TCSEG_STUDY_FOLDER` and `$TCSEG_SEEDS`.

    Raises:
        ValueError: an unknown value; the message lists the known ones.
        FileNotFoundError: the data set is not there; or no reference rows.
    """
    classes = label_set(dataset)
    _known("profile", profile, PROFILES)
    _known("runs", runs, MODES)
    if notebook is not None:
        _known("notebook", notebook, NOTEBOOKS)
    if dataset != "procity" and runs == "train" and find_dataset(dataset) is None:
        raise FileNotFoundError(
            f"dataset {dataset!r} is neither in $TCSEG_DATA/{dataset} nor in {data_root() / dataset}; "
            "data/README.md says how to get it, or use dataset='procity', which needs no download"
        )
    where = Path(folder or os.environ.get("TCSEG_STUDY_FOLDER") or study_folder(dataset, profile, runs))
    scale = PROFILES[profile]
    if os.environ.get("TCSEG_SEEDS"):
        count = int(os.environ["TCSEG_SEEDS"])
        scale = replace(scale, primary_seeds=count, seeds=count)
    return Study(dataset, scale, runs, classes, where, notebook, interactive)


@dataclass
class Study:
    """A data set at a profile: its clips, runs, tables and figures. Made by `open_study`."""

    dataset: str
    scale: Profile
    runs: str
    label_set: LabelSet
    folder: Path
    notebook: str | None
    interactive: bool

    def __post_init__(self) -> None:
        self._clips: dict[str, Clips] = {}
        self._used: dict[str, bool] = {}
        for folder in (self.tables, self.figures, self.runs_folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.scale.name

    @property
    def tables(self) -> Path:
        """Folder of CSV tables."""
        return self.folder / "tables"

    @property
    def figures(self) -> Path:
        """Folder of pictures."""
        return self.folder / "figures"

    @property
    def runs_folder(self) -> Path:
        """The run store."""
        return self.folder / "runs"

    @property
    def size(self) -> tuple[int, int]:
        """(W,H) of frames."""
        return self.scale.camvid_size if self.dataset == "camvid" else self.scale.size

    # -------------------------------------------------------------------------------------------- data

    def data_folder(self) -> Path:
        """The data set's tree; procity is made first if it is missing."""
        if self.dataset != "procity":
            folder = find_dataset(self.dataset)
            if folder is None:
                raise FileNotFoundError(
                    f"dataset {self.dataset!r} is not on this machine; data/README.md says how to get it"
                )
            return folder
        scale = self.scale
        train = scale.train_snippets or FULL_PROCITY_SNIPPETS
        (width, height), name = self.size, f"-{train}-{scale.val_snippets}-{scale.test_snippets}"
        return procity.generate(
            data_root() / "procity" / f"{width}x{height}{name}",
            size=self.size,
            train=train,
            val=scale.val_snippets,
            test=scale.test_snippets,
            neighbours=scale.neighbours,
        )

    def clips(self, split: str) -> Clips:
        """A split ("train" or "val") in memory; decoded once, then cached in the study's folder."""
        if split not in self._clips:
            limit = self.scale.val_snippets if split == "val" else self.scale.train_snippets
            if (self.dataset, split) == ("camvid", "train") and self.profile != "smoke":
                limit = None  # 367 stills cost less than one snippet of video each
            self._clips[split] = load_clips(
                self.dataset,
                self.data_folder(),
                split,
                self.size,
                self.folder / "cache",
                self.scale.neighbours,
                limit,
                _say,
            )
        return self._clips[split]

    @cached_property
    def tc_ceiling(self) -> dict[str, float | None]:
        """TC of val's true labels by flow source; None where they are not dense."""
        return evaluation.ceiling(self.clips("val"))

    # -------------------------------------------------------------------------------------------- runs

    def recipe(self, name: str, seed: int = 0) -> Recipe:
        """A recipe of the study ("teacher" or a key of `RECIPES`) at this profile's size."""
        _known("recipe", name, ("teacher", *RECIPES))
        scale = self.scale
        share = scale.labelled_share if self.dataset == "procity" else 1.0
        base = TEACHER if name == "teacher" else RECIPES[name]
        steps = scale.teacher_steps if name == "teacher" else scale.student_steps
        return replace(base, seed=seed, steps=steps, batch=scale.batch, pairs=scale.pairs, labelled_share=share)

    def seeds(self, name: str) -> tuple[int, ...]:
        """The paired seeds that this profile gives a recipe."""
        return tuple(range(self.scale.primary_seeds if name in PRIMARY else self.scale.seeds))

    def teacher(self) -> Run:
        """The one teacher of the study."""
        return self.run("teacher", 0)

    def run(self, name: str, seed: int = 0) -> Run:
        """Train a recipe, or load it: from the study's store, or from the committed rows with runs="reference".

        Raises:
            FileNotFoundError: runs="reference" and there is no such row.
        """
        recipe = self.recipe(name, seed)
        run = self._reference(name, seed) if self.runs == "reference" else self._train(recipe)
        self._used[run.id] = self._used.get(run.id, False) or run.trained_now
        if self.notebook:
            trained = sum(self._used.values())
            counts = {"runs_trained": trained, "runs_loaded": len(self._used) - trained}
            write_json(self.folder / "usage" / f"{self.notebook}.json", counts)
        return run

    def all_runs(self) -> list[Run]:
        """Every (recipe, seed) of the profile, recipe by recipe; trains what is missing."""
        return [self.run(name, seed) for name in RECIPES for seed in self.seeds(name)]

    def targets(self, kind: str) -> object:
        """The teacher's soft targets on the training split ("plain" or "trajectory"), uint8 (N,T,K,h,w)."""
        teacher, train = self.teacher(), self.clips("train")
        path = self.folder / "cache" / f"targets-{kind}-{teacher.id}-{train.key}.npy"
        return targets.make(teacher.model(), train, kind, path)

    def _reference(self, name: str, seed: int) -> Run:
        found = [run for run in self._reference_rows if (run.name, run.seed) == (name, seed)]
        if not found:
            raise FileNotFoundError(f"no reference row for {name} seed {seed} of {self.dataset}-{self.profile}")
        return found[0]

    @cached_property
    def _reference_rows(self) -> list[Run]:
        return find_reference(FIGURES / "runs", self.dataset, self.profile)

    def _train(self, recipe: Recipe) -> Run:
        train, val = self.clips("train"), self.clips("val")
        taught = recipe.teacher != "none"
        teacher_id = self.teacher().id if taught else None

        def fit(folder: Path) -> tuple[models.SegmentationModel, dict]:
            require_disk(folder, 100 << 20, f"training {recipe.name}")
            _say(f"training {recipe.name} seed {recipe.seed}: {recipe.steps} steps")
            return training.train(recipe, train, folder, self.targets(recipe.teacher) if taught else None)

        def measure(model: models.SegmentationModel) -> dict:
            result = evaluation.evaluate(model, val)
            result["metrics"]["tc_ceiling"] = self.tc_ceiling
            size = {
                "parameters": models.count_parameters(model),
                "gmacs": round(models.count_gmacs(model, self.size), 4),
            }
            return {**result, "model": {"arch": recipe.arch, **size}}

        context = {
            "dataset": self.dataset,
            "profile": self.profile,
            "split": "val",
            "data_key": [train.key, val.key],
            "generator": procity.VERSION if self.dataset == "procity" else None,
            "size": list(self.size),
            "machine": machine_facts(),
        }
        inputs = [train.key, teacher_id]
        return run_or_load(
            self.runs_folder, recipe.name, recipe.seed, asdict(recipe), inputs, fit, measure, context
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- tables and figures

    def write_table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write `tables/<name>.csv` aside and rename it; returns the table."""
        path = self.tables / f"{name}.csv"
        aside = path.with_suffix(".part")
        table.to_csv(aside, index=False)
        aside.replace(path)
        return table

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table of this study, or with runs="reference" the committed one.

        Raises:
            FileNotFoundError: no notebook has written it yet.
        """
        places = [self.tables, *([FIGURES / "tables"] if self.runs == "reference" else [])]
        for folder in places:
            if (folder / f"{name}.csv").exists():
                return pd.read_csv(folder / f"{name}.csv")
        raise FileNotFoundError(f"table {name}.csv is not in {self.tables}; run the notebook that writes it first")

    def figure(self, name: str, draw: Callable[[], Figure], alt: str) -> None:
        """Draw a figure, save it as `figures/<name>.png` (and .svg where it is all lines) with its alt text, show it.

        With runs="reference", a figure that needs weights or logs is shown as it was committed, and says so.
        """
        path = self.figures / f"{name}.png"
        try:
            figure = draw()
        except FileNotFoundError:
            committed = FIGURES / f"{name}.png"
            if self.runs != "reference" or not committed.exists():
                raise
            display(
                Markdown(
                    "*As the reference run drew it: this figure needs weights or logs that are not in the repository.*"
                )
            )
            path.write_bytes(committed.read_bytes())
        else:
            _save(figure, path)
        write_json(path.with_suffix(".json"), {"alt": alt})
        display(Image(path.read_bytes(), format="png", alt=alt, metadata={"alt": alt}))

    def banner(self) -> Markdown:
        """What this page shows: data, profile, mode; at smoke, that its numbers mean nothing."""
        width, height = self.size
        data = {
            "procity": "the embedded procedural city (**not** Cityscapes; same classes and layout)",
            "camvid": "CamVid (stills at 1 Hz to train on; one 101-frame clip of one street to evaluate on)",
            "cityscapes": "Cityscapes (labels on one frame of 30, no true flow)",
        }[self.dataset]
        lines = [f"Data: {data} at {width}x{height}. Profile: `{self.profile}`. Runs: `{self.runs}`."]
        if self.runs == "reference":
            lines.append("Results are the **committed reference rows**; nothing is trained here.")
        if self.profile == "smoke":
            lines.append("**Smoke profile: a few training steps on a handful of clips. Its numbers have no meaning.**")
        return Markdown("\n".join(f"> {line}  " for line in lines))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    aside = path.with_suffix(".part")
    aside.write_bytes(buffer.getvalue())
    aside.replace(path)
    if not any(axes.images for axes in figure.axes):  # a picture as SVG is a PNG in a larger envelope
        figure.savefig(path.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
