"""Differences in words: with their intervals, as tables and sentences for the chapters, the README and the report."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pandas as pd

from tcseg.study.comparisons import BASELINES
from tcseg.study.recipes import LONGER

STEPS = dict(zip(BASELINES, ("as many steps", "twice the steps", "four times the steps"), strict=True))
CONVERGED = 0.005
"""mIoU that doubling the steps gains, below which a network has converged."""
RELATIVE = ("tc_gap_closed", "flicker_relative", "harmful_flicker_relative")
METRIC_NAMES = {
    "miou": "mIoU, points",
    "tc": "TC, points",
    "tc_gap_closed": "TC, % of the way to the ceiling",
    "flicker_relative": "flicker, %",
    "harmful_flicker_relative": "harmful flicker, %",
}


def effects_table(table: pd.DataFrame) -> str:
    """The primary comparison as Markdown: differences with their intervals, corrected p, and what could be seen at all.

    A second table follows where there are students that were trained for longer: the claim is the weakest of its columns.

    Args:
        table: effects.csv, rows of one data set and profile.

    Returns:
        Markdown; empty where the comparison is not in the table.
    """
    if "p_holm" not in table:
        return ""
    rows = table[(table["comparison"] == "consistent_vs_student") & table["metric"].isin(METRIC_NAMES)]
    lines = []
    for row in rows.itertuples():
        both = interval(row.difference, row.ci_low, row.ci_high)
        seeds = interval(row.seed_difference, row.seed_low, row.seed_high)
        p = "–" if pd.isna(row.p_holm) else f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else "< 0.001"
        smallest = "–" if pd.isna(row.mdd) else f"{100 * row.mdd:.1f}"
        if row.seeds == 1:  # what another seed would do is not known: an interval over clips alone, and no test
            alone = " over clips alone" if pd.notna(row.ci_low) else ""
            both, seeds, p, smallest = f"{both}{alone}", "–", "–", "–"
        lines.append(f"| {METRIC_NAMES[row.metric]} | {both} | {seeds} | {p} | {smallest} |")
    if not lines:
        return ""
    over = seed_count(rows["seeds"].iloc[0])
    level, of_seeds = (", 95 %" * bool(rows[end].notna().any()) for end in ("ci_low", "seed_low"))
    head = f"| consistent − student | over seeds and clips{level} | over {over}{of_seeds} | p (Holm) | detectable |"
    return "\n".join([head, "|---|--:|--:|--:|--:|", *lines, *_against_longer(table)])


def _against_longer(table: pd.DataFrame) -> list[str]:
    """The same comparison against students that were trained for longer, a column each; nothing where none was."""
    found = {name: table[table["comparison"] == name].set_index("metric") for name in BASELINES}
    found = {name: rows for name, rows in found.items() if len(rows)}
    if len(found) < 2:
        return []
    names = [f"{STEPS[name]} ({seed_count(rows['seeds'].iloc[0])})" for name, rows in found.items()]
    lines = ["", f"| against a student of | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for metric, title in METRIC_NAMES.items():
        if all(metric in rows.index for rows in found.values()):
            cells = [interval(*rows.loc[metric, ["difference", "ci_low", "ci_high"]]) for rows in found.values()]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def both_longer(effects: pd.DataFrame) -> str:
    """The primary comparison with both trained for as long as any pair was, in a sentence; empty where none was trained longer.

    Args:
        effects: effects.csv, rows of one data set and profile.
    """
    there = set(effects["comparison"]) if len(effects) else set()
    pairs = {f"consistent{tail}_vs_student{tail}": STEPS[f"consistent_vs_student{tail}"] for tail in LONGER if tail}
    name = next((name for name in reversed(pairs) if name in there), None)
    if name is None:
        return ""
    rows = effects[effects["comparison"] == name].set_index("metric")
    told = [
        f"{title} {interval(*rows.loc[metric, ['difference', 'ci_low', 'ci_high']])}{' %' * (metric in RELATIVE)}"
        for metric, title in (("miou", "mIoU"), ("tc", "TC"), ("flicker_relative", "flicker"))
        if metric in rows.index
    ]
    return f"Both trained for {pairs[name]}: {', '.join(told)} ({seed_count(rows['seeds'].iloc[0])})."


def last_doubling(changes: pd.DataFrame) -> str:
    """What the last doubling of the plain student's steps gained, in a sentence: how far it is from its end. Empty before any.

    Args:
        changes: sweep_effects.csv, rows of one data set and profile.
    """
    if changes.empty:
        return ""
    steps = changes["comparison"].str.extract(r"^student,steps=(\d+)x_vs_student(?:,steps=\d+x)?$")[0].astype(float)
    rows = changes[steps.eq(steps.max()) & (changes["metric"] == "miou")]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    gain = interval(row["difference"], row["ci_low"], row["ci_high"])
    rule = "less" if row["difference"] < CONVERGED else "not less"
    return (
        f"The last doubling of the plain student's steps, to {steps.max():g} times as many, gains {gain} points of mIoU "
        f"({seed_count(row['seeds'])}): {rule} than the {100 * CONVERGED:g} by which this study calls a network converged."
    )


def seed_count(seeds: int) -> str:
    """How many seeds, in words for a table."""
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def interval(value: float, low: float, high: float) -> str:
    """Percent with sign and interval; a dash where nothing was measured."""
    if pd.isna(value):
        return "–"
    spread = "" if pd.isna(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f}{spread}".replace("-", "−")


SHOWN = {"miou": "mIoU, points", "tc": "TC, points", "flicker_relative": "flicker, %"}


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
    """Differences in words: a row a comparison, its seeds, and a column a metric, "+1.2 (−0.3 to +2.7)".

    A star stands behind what is clear of zero after correction for the number of differences (`p_holm` below 0.05).

    Args:
        effects: as `comparisons.effects` makes them, of one data set and profile.
        shown: metric -> heading; "–" where a comparison has no such metric.
    """
    if effects.empty:
        return pd.DataFrame(columns=["seeds", *shown.values()]).rename_axis("comparison")
    columns = ["difference", "ci_low", "ci_high", "p_holm"]
    words = [interval(*row) + " *" * (p < 0.05) for *row, p in effects[columns].itertuples(index=False)]
    by_metric = effects.assign(words=words).pivot(index="comparison", columns="metric", values="words")
    seeds = effects.groupby("comparison", sort=False)["seeds"].first()
    table = seeds.to_frame().join(
        by_metric.reindex(columns=list(shown)).astype(object).fillna("–").rename(columns=shown)
    )
    return table.rename(index=in_words)
