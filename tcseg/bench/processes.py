"""Run the benchmark in several processes, one after the other, merge their tables, and format them for a terminal."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from tcseg.bench.latency import COLUMNS, KEY, bench
from tcseg.machine import worker_pool
from tcseg.models import registry, trained_on

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel


def merge(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Merge the tables of several processes: medians, `processes`, and `spread`, (highest - lowest) / median of p50.

    With one process, the spread is nan.
    """
    every = pd.concat(tables, ignore_index=True)
    numbers = [column for column in every.select_dtypes("number") if column not in KEY]
    groups = every.groupby(KEY, sort=False)
    table = groups[numbers].median().reset_index()
    p50 = groups["p50_ms"]
    table["processes"] = groups.size().to_numpy()
    spread = ((p50.max() - p50.min()) / p50.median()).where(groups.size() > 1)
    table["spread"] = spread.to_numpy()
    return table[[*COLUMNS, "processes", "spread"]]


def _one(
    models: dict[str, SegmentationModel], size: tuple[int, int], options: dict, device: torch.device | None = None
) -> pd.DataFrame:
    table = bench({name: model.to(device) for name, model in models.items()} if device else models, size, **options)
    table.attrs = {"missing": table.attrs["missing"]}
    return table


def bench_in_process(models: dict[str, SegmentationModel], size: tuple[int, int], **options: Any) -> pd.DataFrame:
    """Run `bench` in a new process, without progress bars; `missing` is in attrs."""
    device = next(next(iter(models.values())).parameters()).device
    by_host = {name: _picklable(model) for name, model in models.items()}
    with worker_pool(1) as pool:
        return pool.submit(_one, by_host, size, options | {"progress": False}, device).result()


def _picklable(model: SegmentationModel) -> SegmentationModel:
    """A copy that can be sent to another process: on the CPU, and without hooks that cannot be pickled."""
    copied = copy.deepcopy(model).cpu()
    try:
        pickle.dumps(copied)
    except (AttributeError, TypeError, pickle.PicklingError):  # transformers leaves hooks after the first frame
        weights, copied = copied.state_dict(), registry.build(model.arch, model.label_set, pretrained=False).eval()
        copied.load_state_dict(weights)
        trained_on.note(copied, trained_on.trained_size(model), getattr(model, "trained_on", None))
    return copied


def bench_repeatedly(
    processes: int, models: dict[str, SegmentationModel], size: tuple[int, int], **options: Any
) -> pd.DataFrame:
    """Run `bench` in several processes one after the other and merge the tables; a single run uses this process.

    Returns:
        As `merge`; `missing` is in attrs.
    """
    if processes == 1:
        tables = [_one(models, size, options)]
    else:
        tables = [bench_in_process(models, size, **options) for _ in range(processes)]
    table = merge(tables)
    table.attrs = {"missing": tables[0].attrs["missing"]}
    return table


def as_text(table: pd.DataFrame) -> str:
    """A merged table as text for a terminal, with the missing combinations."""
    machine, threads, noisy = table["machine"].iloc[0], table["threads"].iloc[0], table["noise"].iloc[0]
    hidden = ["machine", "cores", "height", "width", "threads", "noise", "gflop", "mbytes", "params_m", "processes"]
    empty = [column for column in table if table[column].isna().all()]
    columns = table.drop(
        columns=[*hidden, *(["spread"] if table["processes"].iloc[0] == 1 else []), *empty], errors="ignore"
    )
    lines = [
        f"{machine}, {threads} threads; the time of a fixed computation varied by {noisy:.0%} (idle: below 10 %)",
        columns.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="-"),
        *(f"missing: {what}: {reason}" for what, reason in table.attrs["missing"].items()),
    ]
    if table["processes"].iloc[0] > 1:
        worst = table["spread"].max()
        lines.append(f"the p50 of {table['processes'].iloc[0]} processes differ by at most {worst:.0%} (spread)")
    return "\n".join(lines)
