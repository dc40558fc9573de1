"""Comparisons between the recipes of the ablation: differences, intervals, and minimal detectable differences.

One row a comparison and metric. Differences and intervals are in shares (0.01 = one point); `flicker_relative` and
`harmful_flicker_relative` are shares of the base's own flicker, `tc_gap_closed` of the way from the base's TC to the ceiling.
How: `seed_clip_effects`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from tcseg.data.clips import CAMVID_BLOCK
from tcseg.metrics import intervals, seed_clip_effects
from tcseg.study.recipes import LONGER, PRIMARY

STUDENT, CONSISTENT = PRIMARY
BASELINES = {f"consistent_vs_student{tail}": (CONSISTENT, STUDENT + steps) for tail, steps in LONGER.items()}
"""The primary comparison: with the student trained for the same number of steps, and with students trained for longer."""
PAIRS: dict[str, tuple[str, str]] = {
    **BASELINES,
    **{
        f"consistent{tail}_vs_student{tail}": (CONSISTENT + steps, STUDENT + steps)
        for tail, steps in LONGER.items()
        if tail
    },
    **{
        f"{recipe}_vs_{base}": (recipe, base)
        for recipe, base in (
            ("student+tl", "student"),
            ("kd", "student"),
            ("kd+tl", "kd"),
            ("trajectory", "kd"),
            ("consistent", "trajectory"),
        )
    },
    "kd_vs_student_few_labels": ("kd,labelled_share=0.125", "student,labelled_share=0.125"),
    "consistent_vs_student_few_labels": (
        "consistent,labelled_share=0.125",
        "student,labelled_share=0.125",
    ),
}
"""Comparisons, name -> (recipe, base): the primary one first, then with both trained for longer, then one step at a time.

`few_labels`: an eighth of the snippets have labels. Comparisons without runs are left out.
"""


THIN = ("pole", "traffic light", "traffic sign", "sign", "person", "pedestrian", "rider", "motorcycle", "bicycle", "bicyclist")
"""Classes that a driver needs and a mean hides: few pixels each."""


class Measured(Protocol):
    """What a comparison needs of a run."""

    name: str
    seed: int
    record: dict


class Row(NamedTuple):
    """A metric of the table: its counts in a record's `per_clip`, and how two models' values become an effect."""

    metric: str
    counts: str
    contrast: seed_clip_effects.Contrast


SCORES = ("miou", "tc", "tc_ceiling", "flicker", "harmful_flicker", "pixel_accuracy")
ABLATION = ("dataset", "profile", "split", "recipe", "seed", "flow", *SCORES, "train_seconds", "run_id")
"""The columns of ablation.csv."""


def ablation(runs: Sequence[Measured]) -> pd.DataFrame:
    """Runs as rows, one a run and flow ("exact", "dis"), with the columns of `ABLATION`.

    What does not depend on the flow is repeated; None where a data set cannot say.
    """
    rows = []
    for run in runs:
        record, scores = run.record, run.record["metrics"]
        same = {key: record[key] for key in ("dataset", "profile", "split", "run_id")}
        same |= {"recipe": run.name, "seed": run.seed, "train_seconds": record["cost"]["train_seconds"]}
        same |= {key: scores[key] for key in ("miou", "flicker", "harmful_flicker", "pixel_accuracy")}
        for flow in ("exact", "dis"):
            rows.append(same | {"flow": flow, **{key: scores[key].get(flow) for key in ("tc", "tc_ceiling")}})
    return pd.DataFrame(rows, columns=list(ABLATION))


def block_of(per_clip: Mapping) -> int:
    """Rows that make a block of 17 frames where all rows are of one clip, named `<clip>+<frame>`; 1 where rows are clips."""
    clips, frames = zip(*(name.rpartition("+")[::2] for name in per_clip["names"]), strict=True)
    if len(set(clips)) > 1 or not clips[0] or len(frames) < 2:
        return 1
    return max(1, CAMVID_BLOCK // (int(frames[1]) - int(frames[0])))


def scope_of(per_clip: Mapping) -> str:
    """A sentence on what intervals over the clips of a record speak of: other clips of these cities, or this one street.

    Args:
        per_clip: of a record; names as in Cityscapes' layout, `<city>_<sequence>_<frame>`, or `<clip>+<frame>` for blocks.
    """
    streets = {name.rpartition("+")[0] for name in per_clip["names"]}
    if len(streets) == 1 and "" not in streets:
        return "The intervals speak of this one street: their units are blocks of its frames."
    return intervals.scope([name.split("_")[0] for name in per_clip["names"]])


def score_interval(runs: Sequence[Measured], counts: str) -> intervals.Interval:
    """One recipe's score over its seeds, and its interval over clips: the seeds' counts are added.

    Args:
        runs: of one recipe.
        counts: a metric of their records' `per_clip`, as "miou" or "tc_exact".
    """
    per_seed = [run.record["per_clip"][counts] for run in runs]
    added = {key: np.sum([one[key] for one in per_seed], axis=0) for key in per_seed[0]}
    (blocks,) = intervals.units([added], block_of(runs[0].record["per_clip"]))
    return intervals.clip_interval(blocks)


def thin_counts(counts: Mapping[str, Sequence], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """The counts of a metric by class, of the classes of `THIN` alone.

    Args:
        counts: name -> values (clips, classes), as a record's `per_clip["miou"]`.
        classes: of the data set.
    """
    columns = [k for k, name in enumerate(classes) if name in THIN]
    return {key: np.asarray(value)[:, columns] for key, value in counts.items()}


def metrics_of(record: dict) -> list[Row]:
    """The metrics that a record has counts for; `tc` is with exact flow where there is one, else with DIS."""
    per_clip_counts = record["per_clip"]
    best = next((flow for flow in ("exact", "dis") if f"tc_{flow}" in per_clip_counts), "")
    top = record["metrics"].get("tc_ceiling", {}).get(best)
    rows = [
        Row("miou", "miou", seed_clip_effects.difference),
        Row("tc", f"tc_{best}", seed_clip_effects.difference),
        Row("tc_dis", "tc_dis", seed_clip_effects.difference),
        Row("flicker", "flicker", seed_clip_effects.difference),
        Row("harmful_flicker", "harmful_flicker", seed_clip_effects.difference),
        Row("flicker_relative", "flicker", seed_clip_effects.relative),
        Row("harmful_flicker_relative", "harmful_flicker", seed_clip_effects.relative),
    ]
    if top is not None:
        rows.append(Row("tc_gap_closed", f"tc_{best}", seed_clip_effects.gap_closed(top)))
    return [row for row in rows if row.counts in per_clip_counts]


def effects(
    runs: Sequence[Measured],
    pairs: Mapping[str, tuple[str, str]] = PAIRS,
    primary: Collection[str] = tuple(BASELINES),
) -> pd.DataFrame:
    """Compare recipes of one study.

    Two families for Holm: the quantities of the primary comparison (against all three students), which was named before its runs,
    and those of all others.
    A ratio tests the same hypothesis as its difference, "nothing changes": both carry the difference's p, and count once.

    Args:
        runs: of one data set and profile, any recipes and seeds; seeds that both recipes of a pair have are compared.
        pairs: name -> (recipe, base); those without a common seed are left out.
        primary: names of the first family; with none, there is one family.

    Returns:
        dataset, profile, comparison, metric, difference, ci_low, ci_high (over seeds and clips), seeds, clips (those in which
        anything was counted), p_holm, p, seed_difference, seed_low, seed_high (over seeds alone), mdd (minimal detectable
        difference; power 0.8, level 0.05).
    """
    by_name: dict[str, dict[int, dict]] = {}
    for run in runs:
        by_name.setdefault(run.name, {})[run.seed] = run.record
    rows = []
    for comparison, (first, base) in pairs.items():
        seeds = sorted(set(by_name.get(first, {})) & set(by_name.get(base, {})))
        if seeds:
            records = [(by_name[base][seed], by_name[first][seed]) for seed in seeds]
            rows += [_row(comparison, metric, records) for metric in metrics_of(records[0][0])]
    table = pd.DataFrame(rows)
    return _adjusted(table, primary).drop(columns="counts") if len(table) else table


def _row(comparison: str, metric: Row, records: Sequence[tuple[dict, dict]]) -> dict:
    base, other = ([record["per_clip"][metric.counts] for record in side] for side in zip(*records, strict=True))
    first = records[0][0]
    block = block_of(first["per_clip"])
    estimate = seed_clip_effects.effect(base, other, metric.contrast, block)
    return {
        "dataset": first["dataset"],
        "profile": first["profile"],
        "comparison": comparison,
        "metric": metric.metric,
        "difference": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "seeds": len(records),
        "clips": intervals.clips_in(intervals.units([*base, *other], block)[0]),
        "p": estimate.p,
        "seed_difference": estimate.seeds.value,
        "seed_low": estimate.seeds.low,
        "seed_high": estimate.seeds.high,
        "mdd": estimate.mdd,
        "counts": metric.counts,
    }


def _adjusted(table: pd.DataFrame, primary: Collection[str]) -> pd.DataFrame:
    """Add p_holm, corrected by Holm: primary comparisons and others apart. A comparison has one p a quantity, in all its rows."""
    hypotheses = table.groupby(["comparison", "counts"], sort=False)["p"].transform("first")
    once = ~table.duplicated(["comparison", "counts"])
    first = table["comparison"].isin(list(primary))
    adjusted = pd.Series(np.nan, table.index)
    for family in (once & first, once & ~first):
        adjusted[family] = intervals.holm(hypotheses[family])
    table["p"] = hypotheses
    holm = adjusted.groupby([table["comparison"], table["counts"]], sort=False).transform("first")
    table.insert(table.columns.get_loc("p"), "p_holm", holm)
    return table
