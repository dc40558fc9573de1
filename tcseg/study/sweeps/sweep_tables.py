"""Tables of the sweeps: their scores, what each variation changes with intervals, and what masked targets change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import pandas as pd

from tcseg.metrics.intervals import holm
from tcseg.study.comparisons import PAIRS, ablation, effects, thin_counts
from tcseg.study.recipes import ABLATION_SWEEPS, RECIPES, VARIATIONS, compared, variations
from tcseg.study.run_ids import codes, earlier
from tcseg.study.runs import Run
from tcseg.study.study import Study

IDENTITY = ["dataset", "profile", "recipe", "base", "seed", "targets"]
MEASURED = ["miou", "tc", "tc_ceiling", "flicker", "harmful_flicker", "train_seconds", "threads", "run_id"]


def _code(study: Study, names: Iterable[str]) -> str | None:
    """By which training code the compared rows are: the one that has trained most variations with a teacher; None = today's.

    Rows of two codes differ by more than what a sweep varies.
    """
    taught = [name for name in names if name in VARIATIONS and study.recipe(name).teacher != "none"]
    return max(codes(), key=lambda code: sum(len(study.finished_runs(name, [code])) for name in taught))


def earlier_targets(study: Study) -> str:
    """A sentence on the sweeps whose rows an earlier code has trained; empty where there are none."""
    used = {sweep: _code(study, [one.name for one in variations(sweep)]) for sweep in ABLATION_SWEEPS}
    lines = []
    for code, differs in earlier().items():
        if concerned := [sweep for sweep, one in used.items() if one == code]:
            lines.append(
                f"In {', '.join(concerned)}, rows with a teacher were trained with earlier targets (in the tables: *everywhere*): "
                f"{differs}. The six recipes above have today's targets. The sweeps are trained again when the method has settled."
            )
    return "\n".join(lines)


def table(study: Study, sweep: str) -> pd.DataFrame:
    """One row a finished run of a sweep: its variations, and the recipes that they vary as they are, all trained by one code.

    Returns:
        `IDENTITY` (targets: "none" without a teacher; "where shown"; of an earlier code "everywhere", also where a moved still
        shows nothing), what is varied (a column a field of the recipe, and `steps`), `MEASURED`. TC is with exact flow where there
        is one, else with DIS.
    """
    chosen = variations(sweep)
    bases = dict.fromkeys(variation.base for variation in chosen)
    varied = dict.fromkeys(["steps", *(field for variation in chosen for field in variation.change)])
    names = [*bases, *(variation.name for variation in chosen)]
    bases_of = {name: VARIATIONS[name].base if name in VARIATIONS else name for name in names}
    code = _code(study, names)
    rows = [_row(run, bases_of[name], varied) for name in names for run in study.finished_runs(name, [code])]
    return pd.DataFrame(rows, columns=[*IDENTITY, *varied, *MEASURED])


def differences(study: Study, names: Sequence[str] = ABLATION_SWEEPS) -> pd.DataFrame:
    """What each variation of some sweeps changes, with intervals: `comparisons.effects` of `recipes.compared`, a family a sweep.

    Returns:
        sweep, and the columns of `comparisons.effects`; no rows where nothing can be compared yet.
    """
    tables = []
    for sweep in names:
        pairs = compared(sweep)
        compared_names = {name for pair in pairs.values() for name in pair}
        code = _code(study, compared_names)
        runs = [run for name in compared_names for run in study.finished_runs(name, [code])]
        rows = effects(runs, pairs, primary=())
        if len(rows):
            rows.insert(2, "sweep", sweep)
            tables.append(rows)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


MASKED = ("kd", "kd+tl", "trajectory", "consistent", "consistent,temporal=0.75")
"""The recipes with a teacher that were trained with masked targets, and before."""


def target_mask(study: Study) -> pd.DataFrame:
    """What masked targets change: recipes as today's code trains them against the same seeds by the earlier code, a row a metric.

    Returns:
        recipe, code (the earlier one), and the columns of `comparisons.effects`, differences today - earlier; p_holm is corrected
        for the number of recipes; `thin_miou` is the mean IoU of `comparisons.THIN`. No rows where there is nothing to compare.
    """
    tables, pair = [], ("today", "earlier")
    for code in earlier():
        for name in MASKED:
            sides = zip(pair, (study.finished_runs(name, [None]), study.finished_runs(name, [code])), strict=True)
            runs = [SimpleNamespace(name=side, seed=run.seed, record=run.record) for side, own in sides for run in own]
            if len(rows := effects(runs, {name: pair}, ())):
                for run in runs:
                    run.record = _of_thin(run.record, study.label_set.classes)
                thin = effects(runs, {name: pair}, ()).query("metric == 'miou'").assign(metric="thin_miou")
                both = pd.concat([rows, thin], ignore_index=True)
                tables.append(both.assign(recipe=name, code=code, comparison=f"{name}_vs_earlier"))
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_holm=table.groupby("metric")["p"].transform(holm))


def _of_thin(record: dict, classes: Sequence[str]) -> dict:
    """A record whose counts of IoU are those of `comparisons.THIN` alone."""
    per_clip = record["per_clip"]
    return record | {"per_clip": {"names": per_clip["names"], "miou": thin_counts(per_clip["miou"], classes)}}


def _row(run: Run, base: str, varied: Iterable[str]) -> dict:
    record, metrics, cost = run.record, run.metrics, run.record["cost"]
    flow = "exact" if metrics["tc"].get("exact") is not None else "dis"
    return {
        **{key: record[key] for key in ("dataset", "profile")},
        "recipe": run.name,
        "base": base,
        "targets": "none" if record["recipe"]["teacher"] == "none" else _targets(record),
        **{name: record["recipe"][name] for name in varied},
        "seed": run.seed,
        "miou": metrics["miou"],
        "tc": metrics["tc"].get(flow),
        "tc_ceiling": metrics["tc_ceiling"].get(flow),
        **{key: metrics[key] for key in ("flicker", "harmful_flicker")},
        "train_seconds": cost["train_seconds"],
        "threads": cost.get("threads"),
        "run_id": run.id,
    }


def _targets(record: dict) -> str:
    return "everywhere" if record.get("training_code") in earlier() else "where shown"


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """`ablation`, `effects`, the sweeps that have runs and their `sweep_effects`, without controls.

    Of all finished runs of a study, here or committed. For real data, whose rows come from sweeps alone.
    """
    by_sweep = {name: table(study, name) for name in ABLATION_SWEEPS}
    swept = {name: rows for name, rows in by_sweep.items() if rows["recipe"].isin(list(VARIATIONS)).any()}
    names = dict.fromkeys(["teacher", *RECIPES, *(name for pair in PAIRS.values() for name in pair)])
    runs = [run for name in names for run in study.finished_runs(name)]
    six = [run for run in runs if run.name in ("teacher", *RECIPES)]
    changes = differences(study, list(swept))
    masked = target_mask(study)
    more_tables = {name: rows for name, rows in (("sweep_effects", changes), ("target_mask", masked)) if len(rows)}
    return {"ablation": ablation(six), "effects": effects(runs), **swept, **more_tables}
