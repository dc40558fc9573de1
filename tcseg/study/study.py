"""`Study`: everything that a notebook uses, such as clips, runs, figures and tables.

`open_study(...)` of `opening` gives it: the clips, runs, tables and figures of a data set at a profile. It writes to
`data/study/<dataset>-<profile>/` only (and makes the embedded data in `data/procity/` when it is missing). Its tables and figures
are in `notebooks.outputs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path

from IPython.display import Markdown
from torch import Tensor

from tcseg import atomic_files, procity
from tcseg.atomic_files import write_json
from tcseg.data import tiles
from tcseg.data.clips import Clips
from tcseg.data.folders import data_root, explain_missing
from tcseg.data.own import lookup
from tcseg.data.splits import Coverage
from tcseg.errors import NotFoundError, TcsegError, require_one_of
from tcseg.evaluation import split_scores
from tcseg.machine import machine_facts, require_disk, writable
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.notebooks import banners, progress, timings
from tcseg.study.notebooks.outputs import Outputs
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import (
    FULL_PROCITY_SNIPPETS,
    PRIMARY,
    PROFILES,
    RECIPES,
    TAUGHT,
    TEACHER,
    VARIATIONS,
    Variation,
)
from tcseg.study.run_ids import codes as training_codes
from tcseg.study.run_ids import other_code, run_id_of
from tcseg.study.runs import OF_A_STUDY, Run, find_reference, read_record, run_or_load
from tcseg.training import loop, teacher_targets
from tcseg.training.recipe import Recipe
from tcseg.training.together import precision


class Study(Outputs):
    """A data set at a profile: its clips, runs, tables and figures. Made by `open_study`.

    Attributes:
        processes: how many processes train a run together.
    """

    processes = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._clips: dict[str, Clips] = {}
        self._used: dict[str, bool] = {}

    # -------------------------------------------------------------------------------------------- data

    def data_folder(self) -> Path:
        """Folder of the data set; procity is generated first if it is missing."""
        if self.dataset != "procity":
            folder = lookup.find_root(self.source)
            if folder is None:
                raise NotFoundError(explain_missing(self.dataset))
            return folder
        scale = self.scale
        train = scale.train_snippets or FULL_PROCITY_SNIPPETS
        name = procity.tree_name(self.size, train, scale.val_snippets, scale.test_snippets)
        return procity.generate(
            self._home_of_procity() / name,
            size=self.size,
            train=train,
            val=scale.val_snippets,
            test=scale.test_snippets,
            neighbours=scale.neighbours,
        )

    def _home_of_procity(self) -> Path:
        """Where the embedded data lie: for all studies in data/procity, or with this study where that cannot be written."""
        shared = data_root() / "procity"
        return shared if shared.is_dir() or writable(shared) else self.folder / "procity"

    def clips(self, split: str) -> Clips:
        """A split ("train" or "val") in memory; decoded once, then cached in the study's folder."""
        if split not in self._clips:
            limit = self.scale.val_snippets if split == "val" else self.scale.train_snippets
            if split == "train" and self.profile != "smoke" and lookup.trains_on_stills(self.source):
                limit = None  # CamVid's 367 stills cost less than one snippet of video each
            if self.dataset != "procity" and self.profile == "full":
                limit = None  # numbers to compare with papers are of the whole split
            arguments = self.source, self.data_folder(), split, self.size, self.folder / "cache", self.scale.neighbours
            with atomic_files.exclusive_lock(self.folder / "cache" / f"{split}.lock"):
                clips = lookup.load_clips(*arguments, limit, progress.tell)
            cut = self.scale.tile is not None and split == "train"
            self._clips[split] = tiles.cut(clips, self.scale.tile) if cut else clips
        return self._clips[split]

    def coverage(self, split: str) -> Coverage:
        """How much of a published split is on this machine, and what of it cannot be used; nothing is decoded."""
        return lookup.coverage_of(self.source, self.data_folder(), split, self.scale.neighbours)

    @cached_property
    def ceilings(self) -> dict[str, dict[str, float | None]]:
        """Every variant of TC of val's true labels, by flow source; None where they are not dense."""
        return split_scores.ceilings(self.clips("val"))

    @property
    def tc_ceiling(self) -> dict[str, float | None]:
        """TC of val's true labels by flow source."""
        return self.ceilings["tc"]

    # -------------------------------------------------------------------------------------------- runs

    def recipe(self, name: str, seed: int = 0) -> Recipe:
        """A recipe of the study ("teacher", or a key of `RECIPES` or `VARIATIONS`) at this profile's size."""
        require_one_of("recipe", name, ("teacher", *RECIPES, *VARIATIONS))
        scale, varied = self.scale, VARIATIONS.get(name, Variation("", name))
        base = TEACHER if varied.base == "teacher" else RECIPES[varied.base]
        student_steps = scale.camvid_steps if self.dataset == "camvid" else scale.student_steps
        steps = scale.teacher_steps if varied.base == "teacher" else student_steps
        size = {
            "seed": seed,
            "batch": scale.batch,
            "pairs": scale.pairs,
            "labelled_share": scale.labelled_share if self.dataset == "procity" else 1.0,
            "steps": max(1, round(varied.longer * steps)),
        }
        return replace(base, name=name, **(size | dict(varied.change)))

    def seeds(self, name: str) -> tuple[int, ...]:
        """The paired seeds of a recipe at this profile."""
        return tuple(range(self.scale.primary_seeds if name in PRIMARY else self.scale.seeds))

    def teacher(self, labelled_share: float | None = None) -> Run:
        """The study's teacher; or for a label budget, the one that was trained with this share of the labels."""
        return self.run(self.teacher_name(labelled_share))

    def teacher_name(self, labelled_share: float | None = None) -> str:
        """The recipe of the study's teacher, or of the one that has seen these labels only."""
        own = labelled_share in (None, self.recipe("teacher").labelled_share)
        return "teacher" if own else Variation("", "teacher", {"labelled_share": labelled_share}).name

    def run(self, name: str, seed: int = 0, wait: bool = True) -> Run | None:
        """Train a recipe, or load it: from the study's store, or from the committed rows with runs="reference".

        Args:
            name, seed: which.
            wait: whether to wait for another process that trains this run; without waiting, None is returned then.

        Raises:
            FileNotFoundError: runs="reference" and there is no such row.
        """
        run = self._reference(name, seed) if self.runs == "reference" else self._train(self.recipe(name, seed), wait)
        if run is not None:
            self.count(run, run.trained_now)
        return run

    def network(self, name: str) -> SegmentationModel:
        """The first seed of a recipe, in eval mode; of the committed rows, those of `student` and `consistent` ship."""
        return self.run(name).model()

    def count(self, run: Run, trained: bool) -> None:
        """Note for the page's footer that a run was used, and whether it was trained for this notebook."""
        self._used[run.id] = self._used.get(run.id, False) or trained
        if self.notebook:
            made = sum(self._used.values())
            counts = {"runs_trained": made, "runs_loaded": len(self._used) - made}
            write_json(self.folder / "usage" / f"{self.notebook}.json", counts)

    def is_finished(self, name: str, seed: int) -> bool:
        """Whether the run is in this study's own store."""
        recipe = self.recipe(name, seed)
        run_id = run_id_of(name, seed, asdict(recipe), self._inputs(recipe))
        return (self.runs_folder / run_id / "record.json").exists()

    def _inputs(self, recipe: Recipe) -> list:
        """What decides a run besides its recipe and the code: the data, the network behind its name, and the teacher."""
        teacher = self.teacher(recipe.labelled_share).id if recipe.teacher != "none" else None
        return [self.clips("train").key, registry.spec_key(recipe.arch), teacher]

    def finished_runs(self, name: str, codes: Iterable[str | None] | None = None) -> list[Run]:
        """The finished runs of a recipe or variation, one per seed, without training: your own, else the committed ones.

        Args:
            name: which.
            codes: trained by the one of these that has most of them (and of the recipes that they are compared with), the first of
                equals; [None] = today's code alone. Default: `run_ids.codes`.
        """
        compared = TAUGHT if name in TAUGHT else (name,)

        def count(code: str | None) -> int:
            return sum(len(self._finished(one, code)) for one in compared)

        return self._finished(name, max(training_codes() if codes is None else codes, key=count))

    def _finished(self, name: str, code: str | None) -> list[Run]:
        own = self.runs_folder.glob(f"{name}-s*/record.json")
        own_runs = [Run(read_record(path, **OF_A_STUDY), path.parent) for path in own]
        own_runs.sort(key=lambda run: run.record["finished"], reverse=True)
        committed = [Run(read_record(path, **OF_A_STUDY), None) for path in (FIGURES / "runs").glob(f"{name}-s*.json")]
        runs: dict[int, Run] = {}
        for run in (*own_runs, *committed):
            matches = run.name == name and self._belongs_here(run.record)
            if matches and run.seed not in runs and not self.why_stale(run.record, code):
                runs[run.seed] = run
        return [runs[seed] for seed in sorted(runs)]

    def _belongs_here(self, record: dict) -> bool:
        """Whether a record is of this data set and profile, at this size, trained by as many processes."""
        whose = (record["dataset"], record["profile"], tuple(record["size"]), record.get("processes", 1))
        return whose == (self.dataset, self.profile, self.size, self.processes)

    def why_stale(self, record: dict, code: str | None = None) -> str:
        """Why a record of this study does not belong to generator, recipes and `code` (None: all of today); empty when it does."""
        generator = procity.VERSION if self.dataset == "procity" else None
        if record.get("generator") != generator:
            return f"made with procity {record.get('generator')}, which is now {generator}"
        if record["recipe_name"] not in ("teacher", *RECIPES, *VARIATIONS):
            return f"there is no recipe {record['recipe_name']} any more"
        recipe = json.loads(json.dumps(asdict(self.recipe(record["recipe_name"], record["seed"]))))
        then = record["recipe"]
        changed = sorted(key for key in recipe.keys() | then.keys() if recipe.get(key) != then.get(key))
        return f"its recipe has changed ({', '.join(changed)})" if changed else other_code(record, code)

    def targets(self, kind: str, labelled_share: float | None = None) -> Tensor:
        """The teacher's predictions on the training split ("plain", "trajectory" or "features"); see `teacher_targets.make`."""
        teacher, train = self.teacher(labelled_share), self.clips("train")
        path = self.folder / "cache" / f"targets-{kind}-{teacher.id}-{train.key}.npy"
        with atomic_files.exclusive_lock(path.with_suffix(".lock")):
            return teacher_targets.make(teacher.model(), train, kind, path)

    def _reference(self, name: str, seed: int) -> Run:
        rows = [run for run in self._reference_rows if (run.name, run.seed) == (name, seed)]
        if not rows:
            at = f"{self.dataset}-{self.profile} at {self.size[0]}x{self.size[1]}"
            raise NotFoundError(f"no reference row for {name} seed {seed} of {at}; runs='train' trains it")
        return rows[0]

    @cached_property
    def _reference_rows(self) -> list[Run]:
        rows = find_reference(FIGURES / "runs", self.dataset, self.profile)
        return [run for run in rows if self._belongs_here(run.record)]

    def taught(self, recipe: Recipe) -> tuple[Tensor | None, Tensor | None]:
        """What a recipe's teacher says of the training split: targets and features, None where the recipe has no use for them."""
        targets = self.targets(recipe.teacher, recipe.labelled_share) if recipe.teacher != "none" else None
        return targets, self.targets("features", recipe.labelled_share) if recipe.needs_features else None

    def fit(self, recipe: Recipe, folder: Path) -> tuple[SegmentationModel, dict]:
        """Train a recipe, with checkpoints in a folder: its network and its cost."""
        require_disk(folder, 100 << 20, f"training {recipe.name}")
        progress.tell(f"training {recipe.name} seed {recipe.seed}: {recipe.steps} steps")
        shown = self.runs_folder, self.recipe, {recipe.name: 1}, 1, lambda: self.clips("val")
        with progress.watching(*shown), progress.silent():
            return loop.train(recipe, self.clips("train"), folder, *self.taught(recipe))

    def measure(self, recipe: Recipe, model: SegmentationModel) -> dict:
        """The scores of a network on val, and its size."""
        result = split_scores.evaluate(model, self.clips("val"))
        result["metrics"] = split_scores.with_ceilings(result["metrics"], self.ceilings)
        size = {"parameters": registry.count_parameters(model), "gmacs": round(registry.count_gmacs(model, self.size), 4)}
        return {**result, "model": {"arch": recipe.arch, **size}}

    def _train(self, recipe: Recipe, wait: bool) -> Run | None:
        train, val = self.clips("train"), self.clips("val")
        context = {
            "dataset": self.dataset,
            "profile": self.profile,
            "split": "val",
            "data_key": [train.key, val.key],
            "generator": procity.VERSION if self.dataset == "procity" else None,
            "size": list(self.size),
            "machine": machine_facts(),
            "processes": self.processes,
            "precision": precision(),
        }
        key = recipe.name, recipe.seed, asdict(recipe), self._inputs(recipe)
        work = partial(self.fit, recipe), partial(self.measure, recipe)
        return run_or_load(self.runs_folder, *key, *work, context, wait)

    # -------------------------------------------------------------------------------------------- what a page shows

    def banner(self) -> Markdown:
        """What this page shows: data, networks, mode; at smoke, that its numbers mean nothing. See banners.py."""
        lines = banners.of_shipped(self.notebook) or banners.of_study(self.dataset, self.profile, self.runs, self.size)
        lines += self._what_is_missing()
        quoted = "\n".join(f"> {line}  " for line in lines)
        return Markdown("\n\n".join(filter(None, (quoted, self._measured_time()))))

    def _what_is_missing(self) -> list[str]:
        """Which splits are a part of the published ones; what cannot be read is said by whoever reads it."""
        if self.dataset == "procity" or self.runs == "reference":
            return []
        try:
            parts = [coverage for split in ("train", "val") if not (coverage := self.coverage(split)).whole]
        except TcsegError as error:
            return [f"**{error}**"]
        return [f"**A part of the data set: {coverage}.**" for coverage in parts]

    def _measured_time(self) -> str:
        """What this notebook and its sections took: in this study's last run, else in the committed one; see timings.py."""
        folders = (FIGURES / "tables", self.tables)
        return timings.as_markdown(timings.of_sections(folders, list(PROFILES), self.notebook or ""))
