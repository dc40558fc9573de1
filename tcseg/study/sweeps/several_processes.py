"""One run in several processes: the entry for `torchrun -m tcseg train` and `accelerate launch -m tcseg train`.

The first process does what a study does: it takes the lock, makes data and targets, scores, writes the record. The others wait for
its word, and train with it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tcseg.errors import InputError
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel
from tcseg.study.run_ids import run_id_of
from tcseg.study.study import Study
from tcseg.training import together
from tcseg.training.recipe import Recipe

MOST = 64  # processes that a run may have been begun with


def run_id_with(study: Study, recipe: Recipe, count: int) -> str:
    """The id of a recipe's run by so many processes, whether or not it is there."""
    taught = recipe.teacher != "none"
    teacher = run_id_with(study, study.recipe(study.teacher_name(recipe.labelled_share)), count) if taught else None
    inputs = [study.clips("train").key, registry.spec_key(recipe.arch), teacher, *_of_several(count)]
    return run_id_of(recipe.name, recipe.seed, asdict(recipe), inputs)


def _of_several(count: int) -> list[str]:
    return [f"{count} processes, {together.precision()}"] if count > 1 else []


def require_same_number(study: Study, name: str, seed: int) -> None:
    """Refuse to begin with another number of processes what some have begun and not finished.

    Raises:
        InputError: the message says how many, and where their checkpoint is.
    """
    recipes = [study.recipe(name, seed)]
    if recipes[0].teacher != "none":
        recipes.append(study.recipe(study.teacher_name(recipes[0].labelled_share)))
    for recipe in recipes:
        for count in range(1, MOST + 1):
            folder = study.runs_folder / run_id_with(study, recipe, count)
            if count != study.processes and (folder / "checkpoint.safetensors").exists():
                begun = f"{recipe.name} seed {recipe.seed} was begun with {count}"
                raise InputError(f"processes are {study.processes}, but {begun}: start {count}, or remove {folder}")


class StudyOfSeveral(Study):
    """A study whose runs are trained by several processes together; all of them, its teacher too.

    Their number and the precision are part of a run's id.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.processes = together.processes()

    @classmethod
    def of(cls, study: Study) -> StudyOfSeveral:
        """The same study, for this process and those that were started with it."""
        return cls(study.dataset, study.scale, study.runs, study.label_set, study.folder, study.notebook, study.source)

    def _inputs(self, recipe: Recipe) -> list:
        return [*super()._inputs(recipe), *_of_several(self.processes)]

    def fit(self, recipe: Recipe, folder: Path) -> tuple[SegmentationModel, dict]:
        """Train a recipe together with the other processes, which wait in `follow`."""
        self.taught(recipe)  # made here, before the others read them
        together.tell((recipe.name, recipe.seed, str(folder)))
        return self._fit_together(recipe, folder)

    def _fit_together(self, recipe: Recipe, folder: Path) -> tuple[SegmentationModel, dict]:
        return together.train(recipe, self.clips("train"), folder, *self.taught(recipe))

    def follow(self) -> None:
        """Train what the first process trains, until it has no more."""
        while (word := together.hear()) is not None:
            name, seed, folder = word
            self._fit_together(self.recipe(name, seed), Path(folder))
