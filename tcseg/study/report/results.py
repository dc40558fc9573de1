"""Values for the text of the results: means over seeds, differences by class, speed-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from tcseg.data.own.lookup import label_set_of
from tcseg.models.students import CHOSEN
from tcseg.study.recipes import PRIMARY

from .tables import DASH, percent, seed_count, spread

COLUMNS = {  # of the result table: heading -> column of ablation.csv, flow
    "flicker %": ("flicker", None),
    "mIoU %": ("miou", None),
    "TC %, exact flow": ("tc", "exact"),
    "TC %, DIS flow": ("tc", "dis"),
}
COMPARED = {"lraspp-mv3-large": "LR-ASPP", "ddrnet-23-slim": "DDRNet-23-slim", "fast-scnn": "Fast-SCNN"}
"""The peers that the texts name."""
ROLES = {arch: role for role, arch in CHOSEN.items()}


def named(table: pd.DataFrame, column: str = "arch") -> pd.DataFrame:
    """A table of networks, the fastest first, with `name`: the role of a chosen student, and what a peer is."""
    if table.empty:
        return table
    names = [f"`{ROLES.get(arch, arch)}`" + " (peer)" * bool(peer) for arch, peer in table[[column, "peer"]].to_numpy()]
    return table.assign(name=names).sort_values("best_ms")


def _by_seed(rows: pd.DataFrame, column: str, flow: str | None) -> pd.Series:
    """One value a seed."""
    if column not in rows:
        return pd.Series(dtype=float)
    chosen = rows if flow is None else rows[rows["flow"] == flow]
    return chosen.groupby("seed")[column].first().dropna()


def recipes(ablation: pd.DataFrame, only: Sequence[str] = ()) -> pd.DataFrame:
    """ablation.csv (rows of one data set and profile) as text: a row a recipe, mean over its seeds (lowest–highest).

    The last row is the ceiling of TC, unless the table has it. With `only`: these recipes, and means alone.
    """
    if ablation.empty:
        return ablation
    measured = {head: column for head, column in COLUMNS.items() if len(_by_seed(ablation, *column))}
    if only:
        measured = {head: column for head, column in measured.items() if column != ("tc", "dis")}
    lines = []
    for recipe, rows in ablation.groupby("recipe", sort=False):
        values = {head: _by_seed(rows, *column) for head, column in measured.items()}
        if not only or recipe in only:
            cells = {head: percent(one.mean()) if only else spread(one) for head, one in values.items()}
            lines.append({"recipe": recipe, "seeds": rows["seed"].nunique()} | cells)
    tops = {head: _by_seed(ablation, "tc_ceiling", flow) for head, (name, flow) in measured.items() if name == "tc"}
    if any(map(len, tops.values())) and "true labels" not in set(ablation["recipe"]) and not only:
        cells = {head: percent(one.iloc[0]) for head, one in tops.items() if len(one)}
        lines.append({"recipe": "*true labels: the ceiling of TC*", "seeds": DASH} | cells)
    return pd.DataFrame(lines)


def per_class(records: Sequence[dict]) -> pd.DataFrame:
    """IoU (a share) by class, means over the seeds of the primary comparison's two recipes, and their `difference`.

    Of the classes that both have; empty where a recipe has no record.
    """
    iou = {name: [r["per_class"]["iou"] for r in records if r["recipe_name"] == name] for name in PRIMARY}
    if not all(iou.values()):
        return pd.DataFrame()
    table = pd.DataFrame({name: pd.DataFrame(rows, dtype=float).mean() for name, rows in iou.items()})
    if known := label_set_of(records[0]["dataset"]):
        table = table.set_axis(known.classes)
    return table.assign(difference=table[PRIMARY[1]] - table[PRIMARY[0]]).dropna()


# ------------------------------------------------------------------------------------------------ networks and their speed


def speedups(speeds: pd.DataFrame, role: str = "student-cpu") -> dict[str, dict[str, float]]:
    """Title of each of `COMPARED` -> how many times as fast a chosen student is; without those that were not timed.

    `fastest`: each in its fastest runtime and precision; `same`: the least of those with the same runtime and precision.
    """
    best = speeds.set_index("arch") if len(speeds) else speeds
    if CHOSEN[role] not in best.index:
        return {}
    own = best.loc[CHOSEN[role]]
    ways = [name for name in best if name.endswith("_ms") and name != "best_ms"]
    return {
        title: {
            "fastest": best.loc[arch, "best_ms"] / own["best_ms"],
            "same": (best.loc[arch, ways] / own[ways]).min(),
        }
        for arch, title in COMPARED.items()
        if arch in best.index
    }


def best_of(table: pd.DataFrame, metric: str, least: bool = False) -> str:
    """The recipe of a sweep with the highest mean of a metric, or the least, its mean and its lowest and highest seed."""
    means = table.groupby("recipe")[metric].mean()
    recipe = means.idxmin() if least else means.idxmax()
    values = table.loc[table["recipe"] == recipe, metric]
    ends = f"{percent(values.min())} to {percent(values.max())}" if len(values) > 1 else seed_count(1)
    return f"{percent(values.mean())} % ({ends}), `{recipe}`"


def covered(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rows of coverage.csv as text: percent of intervals that contain the true value, a column for each number of units.

    Args:
        rows: of one kind of unit.
        by: columns that a row is of, besides the method.
    """
    keys = [*by, "method"]
    named = rows.assign(percent=(100 * rows["coverage"]).map("{:.1f}".format)).set_index(keys)
    table = named.pivot_table("percent", keys, "clusters", "first").loc[named.index.unique()].fillna(DASH)
    return table.rename(columns=str).reset_index().astype(str)


def flow_scores(records: Iterable[Mapping]) -> pd.DataFrame:
    """TC of runs by the flow that they were trained with and the flow that scores them.

    Args:
        records: of a study's runs.

    Returns:
        A row a recipe and scoring flow, means over seeds: recipe, trained_with ("none" where flow had no part in training),
        scored_with, tc, ceiling (the true labels' under the same flow; NaN where they are not dense), share (tc / ceiling), seeds.
    """
    rows = []
    for record in records:
        tops, same = record["metrics"]["tc_ceiling"], {"recipe": record["recipe_name"], "trained_with": _trained_with(record)}
        for flow, tc in record["metrics"]["tc"].items():
            rows.append({**same, "scored_with": flow, "seed": record["seed"], "tc": tc, "ceiling": tops[flow]})
    columns = ["recipe", "trained_with", "scored_with", "seed", "tc", "ceiling"]
    grouped = pd.DataFrame(rows, columns=columns).astype({"tc": float, "ceiling": float}).groupby(columns[:3], sort=False)
    means = grouped[["tc", "ceiling"]].mean()
    return means.assign(share=means["tc"] / means["ceiling"], seeds=grouped["seed"].nunique()).reset_index()


def _trained_with(record: Mapping) -> str:
    """The flow that a run's temporal loss or trajectory teacher followed; "best" is named where a run is scored with it."""
    recipe = record["recipe"]
    if not recipe["temporal"] and recipe["teacher"] != "trajectory":
        return "none"
    best = next(iter(record["metrics"]["tc"])) if record["dataset"] == "procity" else "best"
    return best if recipe.get("flow", "best") == "best" else recipe["flow"]
