"""Tables of differences between recipes, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pandas as pd

from tcseg.study.comparisons import BASELINES
from tcseg.study.recipes import LONGER

from .tables import DASH, change, interval, percent, seed_count

PRIMARY = next(iter(BASELINES))
LENGTHS = ("the same number of", "twice as many", "four times as many")
STEPS = dict(zip(BASELINES, LENGTHS, strict=True))
"""Comparison -> how many steps the plain student was trained for, to be followed by "steps"."""
CONVERGED = 0.005
"""A network has converged if doubling its steps raises its mIoU by less than this."""
METRIC_NAMES = {
    "flicker_relative": "flicker, %",
    "miou": "mIoU, points",
    "harmful_flicker_relative": "harmful flicker, %",
    "tc": "TC, points",
    "tc_gap_closed": "TC, % of the gap to the ceiling",
}
SHOWN = {"flicker_relative": "flicker, %", "miou": "mIoU, points", "tc": "TC, points"}


def comparison(effects: pd.DataFrame, name: str = PRIMARY) -> pd.DataFrame:
    """The rows of one comparison by metric; empty where it was not made."""
    rows = effects[effects["comparison"] == name] if "comparison" in effects else pd.DataFrame(columns=["metric"])
    return rows.set_index("metric")


def primary(effects: pd.DataFrame) -> pd.DataFrame:
    """The primary comparison of effects.csv (rows of one data set and profile) as text: a row a metric; empty where there is none.

    Differences with their intervals, p after Holm's correction, and the smallest effect that could be detected.
    """
    rows = comparison(effects).reindex(METRIC_NAMES).dropna(subset="difference") if "p_holm" in effects else None
    if rows is None or rows.empty:
        return pd.DataFrame()
    one = rows["seeds"].iloc[0] == 1  # no other seed: an interval over clips alone, and no test
    level, of_seeds = (", 95 %" * bool(rows[end].notna().any()) for end in ("ci_low", "seed_low"))
    lines = [
        {
            "consistent − student": METRIC_NAMES[metric],
            f"over seeds and clips{level}": change(row) + " over clips alone" * bool(one and pd.notna(row["ci_low"])),
            f"over {seed_count(int(row['seeds']))}{of_seeds}": DASH
            if one
            else interval(row["seed_difference"], row["seed_low"], row["seed_high"]),
            "p (Holm)": DASH if one or pd.isna(row["p_holm"]) else _probability(row["p_holm"]),
            "smallest detectable": DASH if one else percent(row["mdd"]),
        }
        for metric, row in rows.iterrows()
    ]
    return pd.DataFrame(lines)


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def against_longer(effects: pd.DataFrame) -> pd.DataFrame:
    """The recipe against students that were trained for longer, a column each; empty where none was."""
    found = {name: rows for name in BASELINES if len(rows := comparison(effects, name))}
    if len(found) < 2:
        return pd.DataFrame()
    heads = {name: f"{STEPS[name]} steps ({seed_count(int(rows['seeds'].iloc[0]))})" for name, rows in found.items()}
    return pd.DataFrame(
        {"compared with a student trained for": title}
        | {heads[name]: change(rows.loc[metric]) for name, rows in found.items()}
        for metric, title in METRIC_NAMES.items()
        if all(metric in rows.index for rows in found.values())
    )


def both_longer(effects: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The primary comparison with both networks trained for as long as any pair was: how long, and its rows by metric."""
    pairs = {f"consistent{tail}_vs_student{tail}": STEPS[f"consistent_vs_student{tail}"] for tail in LONGER if tail}
    for name, length in reversed(pairs.items()):
        if len(rows := comparison(effects, name)):
            return length, rows
    return "", pd.DataFrame()


def last_doubling(changes: pd.DataFrame) -> pd.Series | None:
    """What the plain student's mIoU gained when its steps were doubled for the last time; None before any doubling.

    A row of sweep_effects.csv (rows of one data set and profile) with `times`, of the profile's steps.
    """
    if changes.empty:
        return None
    times = changes["comparison"].str.extract(r"^student,steps=(\d+)x_vs_student(?:,steps=\d+x)?$")[0].astype(float)
    rows = changes.assign(times=times)[times.eq(times.max()) & (changes["metric"] == "miou")]
    return rows.iloc[0] if len(rows) else None


# ------------------------------------------------------------------------------------------------ all comparisons


def in_words(comparison: str) -> str:
    """The name of a comparison to be read: what both sides have before a colon, then what differs.

    "kd,steps=2x_vs_student,steps=2x" is "steps=2x: kd − student", "kd,method=cwd_vs_kd" is "kd: method=cwd".
    """
    name, _, base = comparison.partition("_vs_")
    if "=" not in comparison:
        return f"{name} − {base}".replace("_", " ")
    ours, theirs = ([_shorter(word) for word in side.split(",")] for side in (name, base))
    shared = [word for word in ours if word in theirs]
    own, other = (", ".join(word for word in side if word not in shared) for side in (ours, theirs))
    return f"{', '.join(shared)}{': ' * bool(shared)}{own or 'as it is'}{' − ' + other if other else ''}"


def _shorter(word: str) -> str:
    """A word of a name for a table that must fit its page: "labelled_share=0.125" as "labels 1/8"."""
    key, _, value = word.partition("=")
    return f"labels {Fraction(value)}" if key == "labelled_share" else word


def intervals(effects: pd.DataFrame, shown: Mapping[str, str] = SHOWN) -> pd.DataFrame:
    """Differences as text: a row a comparison, its seeds, and a column a metric, "+1.2 (−0.3 to +2.7)".

    A star marks a difference that is clear of zero after correction for the number of differences (`p_holm` below 0.05).

    Args:
        effects: As `effects.effects` makes them, of one data set and profile.
        shown: Metric -> heading; "–" where a comparison has no such metric.
    """
    if effects.empty:
        return pd.DataFrame(columns=["seeds", *shown.values()]).rename_axis("comparison")
    columns = ["difference", "ci_low", "ci_high", "p_holm"]
    words = [interval(*row) + " *" * (p < 0.05) for *row, p in effects[columns].itertuples(index=False)]
    by_metric = effects.assign(words=words).pivot(index="comparison", columns="metric", values="words")
    seeds = effects.groupby("comparison", sort=False)["seeds"].first()
    table = seeds.to_frame().join(
        by_metric.reindex(columns=list(shown)).astype(object).fillna(DASH).rename(columns=shown)
    )
    return table.rename(index=in_words)
