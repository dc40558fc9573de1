"""Break the science on purpose and see which tests notice: cosmic-ray over one module after another, in a copy of the checkout.

    pip install cosmic-ray  # 8.7; not one of the project's dependencies
    python tests/mutation.py training.temporal_losses metrics.segmentation --sample 40

A mutant is the module with one operator, comparison, number, condition or decorator changed. It is killed if one of the module's
tests fails, and survives if all pass. A sample is drawn by a seed, so that it can be drawn again. The survivors are printed as
diffs; each is a test that is missing, or the same program (then say so). The counts go to a table.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHOICE = "not takes_a_step"  # a minute of whole trainings, which say little about one line
TESTS = {
    "training.losses": "test_losses test_recipe",
    "training.temporal_losses": "test_temporal_losses test_recipe",
    "training.recipe": "test_recipe test_training",
    "training.teacher_targets": "test_training",
    "data.augmentation": "test_augmentation test_training",
    "data.flow_sources": "test_flow_sources test_training",
    "metrics.temporal": "test_temporal",
    "metrics.trajectories": "test_temporal",
    "metrics.segmentation": "test_segmentation",
    "metrics.intervals": "test_intervals",
    "metrics.seed_clip_effects": "test_intervals",
}
"""Module -> the files whose tests are to notice."""
POINTLESS = [
    r"core/ReplaceBinaryOperator_BitOr_.*",  # `X | None` in annotations, which are never read
    r"core/ReplaceBinaryOperator_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(RShift|LShift|BitOr|BitAnd|BitXor)",  # TypeErrors, mostly
    r"core/ReplaceComparisonOperator_.*_(Is|IsNot)",
    r"core/ExceptionReplacer",
]
"""Mutations that nobody makes by mistake: they would die of a TypeError, and flatter the tests."""


def configure(folder: Path, module: str, timeout: float) -> Path:
    """Write cosmic-ray's configuration for a module; returns its path."""
    files = [str(path) for name in TESTS[module].split() for path in (folder / "tests").rglob(f"{name}.py")]
    command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider -m 'not slow' -k '{CHOICE}' {' '.join(files)}"
    path, place = folder / f"{module}.toml", module.replace(".", "/")
    path.write_text(
        f'[cosmic-ray]\nmodule-path = "tcseg/{place}.py"\ntimeout = {timeout}\nexcluded-modules = []\n'
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {POINTLESS!r}\n"
    )
    return path


def run(folder: Path, module: str, sample: int, seed: int, timeout: float) -> tuple[int, list[str]]:
    """How many mutants of a module were tried, and the survivors' diffs.

    Raises:
        CalledProcessError: cosmic-ray failed, or the tests fail with nothing broken.
    """
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    tools = Path(sys.executable).parent
    config, session = configure(folder, module, timeout), folder / f"{module}.sqlite"
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # two mutants of one second and one size would share their bytecode
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }

    def call(*command: object) -> None:
        subprocess.run([str(part) for part in command], cwd=folder, env=environment, check=True)

    call(tools / "cosmic-ray", "init", config, session)
    call(tools / "cr-filter-operators", session, config)
    with use_db(session, WorkDB.Mode.open) as db:
        left_out = {job for job, result in db.results if result.worker_outcome is WorkerOutcome.SKIPPED}
        items = [item for item in db.work_items if item.job_id not in left_out]
        items.sort(key=lambda item: [(m.start_pos, m.operator_name, m.occurrence) for m in item.mutations])
        chosen = random.Random(seed).sample(items, min(sample or len(items), len(items)))
        db.clear()
        db.add_work_items(chosen)
    call(tools / "cosmic-ray", "baseline", config)
    call(tools / "cosmic-ray", "exec", config, session)
    with use_db(session, WorkDB.Mode.open) as db:
        done = list(db.completed_work_items)
    return len(done), [result.diff for _, result in done if result.test_outcome is TestOutcome.SURVIVED]


def copy_checkout(folder: Path) -> None:
    """What git has or would take, in a folder of its own: mutants are written to disk."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def main() -> None:
    """Try mutants of the modules that are named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="module", help=f"default: all of {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each module; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--timeout", type=float, default=120, help="seconds a mutant; one that hangs is killed")
    parser.add_argument("--table", type=Path, default=Path("mutation.csv"), help="where the counts go")
    options = parser.parse_args()
    if unknown := sorted(set(options.modules) - set(TESTS)):
        parser.error(f"no module of the science: {', '.join(unknown)}; choose from {', '.join(TESTS)}")
    if find_spec("cosmic_ray") is None:
        parser.error(f"cosmic-ray is missing: {sys.executable} -m pip install cosmic-ray")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, options.table.open("w", newline="") as file:
        copy_checkout(Path(folder))
        table = csv.writer(file)
        table.writerow(["module", "mutants", "killed", "survived"])
        for module in options.modules or TESTS:
            tried, survivors = run(Path(folder), module, options.sample, options.seed, options.timeout)
            table.writerow([module, tried, tried - len(survivors), len(survivors)])
            file.flush()
            print(*survivors, sep="\n")
            print(f"{module}: {tried - len(survivors)} of {tried} mutants killed", flush=True)


if __name__ == "__main__":
    main()
