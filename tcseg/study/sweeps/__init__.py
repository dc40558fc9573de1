"""Train many runs: the six recipes of the ablation and its sweeps; which runs, side by side, and the tables of their scores."""

from __future__ import annotations

from .one_run import list_recipes, train_one
from .parallel_training import all_runs, run_sweeps, runs_of_seed, side_by_side
from .planning import SWEEPS, Task, forecast, pending, plan, read_part, take_part
from .sweep_tables import differences, earlier_targets, table, tables, target_mask

__all__ = [
    "SWEEPS", "Task", "all_runs", "differences", "earlier_targets", "forecast", "list_recipes", "pending", "plan", "read_part",
    "run_sweeps", "runs_of_seed", "side_by_side", "table", "tables", "take_part", "target_mask", "train_one",
]  # fmt: skip
