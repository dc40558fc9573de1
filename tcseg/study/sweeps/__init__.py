"""Train many runs: the six recipes of the ablation and its sweeps; which runs, side by side, and the tables of their scores."""

from __future__ import annotations

from .parallel_training import all_runs, run_sweeps, runs_of_seed, side_by_side
from .planning import SWEEPS, Task, forecast, pending, plan
from .sweep_tables import differences, earlier_targets, table, tables, target_mask

__all__ = [
    "SWEEPS", "Task", "all_runs", "differences", "earlier_targets", "forecast", "pending", "plan", "run_sweeps", "runs_of_seed",
    "side_by_side", "table", "tables", "target_mask",
]  # fmt: skip
