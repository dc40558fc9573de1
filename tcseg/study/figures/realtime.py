"""Figures of the benchmark: latency by model, runtime, precision, size and threads; roofline; speed against accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from .style import BLUE, CYCLE, GREEN, ORANGE, PALE, RED, canvas, mark_empty, styled

BUDGET_MS = 1000 / 30  # one frame of a 30 fps video: the dashed line
SCOPES = ("network", "network+argmax", "end_to_end")


@styled
def latency(table: pd.DataFrame) -> Figure:
    """Latency per model, runtime, precision and size: a dot at p50, a line to p90, a tick at p99; a colour a scope, logarithmic.

    Args:
        table: rows of `latency.csv`.
    """
    kinds = table[["model", "runtime", "precision", "width", "height"]].astype(str)
    named = table.assign(name=_engine(kinds) + "\n" + kinds["width"] + "x" + kinds["height"])
    names = list(dict.fromkeys(named["name"]))
    figure, axes = canvas(6.8, 0.55 * max(2, len(names)) + 1.4)
    ax = axes[0, 0]
    for index, scope in enumerate(SCOPES):
        rows = named[(named["scope"] == scope) & named["p50_ms"].notna()]
        y = np.array([names.index(name) for name in rows["name"]], float) + 0.24 * (index - 1)
        ax.hlines(y, rows["p50_ms"], rows["p90_ms"], color=CYCLE[index], linewidth=2)
        ax.plot(rows["p50_ms"], y, "o", color=CYCLE[index], label=scope)
        ax.plot(rows["p99_ms"], y, "|", color=CYCLE[index], markersize=9, markeredgewidth=2)
    ax.axvline(BUDGET_MS, color=RED, linestyle="--", label="30 frames a second")
    ax.set(xlabel="milliseconds per frame, logarithmic (dot p50, line to p90, tick p99)", xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(1, len(names)) - 0.4, -0.6)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return figure


def _engine(table: pd.DataFrame) -> pd.Series:
    """Model, runtime and precision of each row in a few words."""
    return table["model"] + " · " + table["runtime"] + " " + table["precision"]


@styled
def waterfall(table: pd.DataFrame) -> Figure:
    """Where a frame's time goes, one size: preparation, network, label map, as parts of p50; a bar a model, runtime and precision.

    Args:
        table: rows of `latency.csv` of one size.
    """
    wide = table.assign(name=_engine(table)).pivot_table(index="name", columns="scope", values="p50_ms", sort=False)
    figure, axes = canvas(6.8, 0.34 * max(2, len(wide)) + 1.5)
    ax = axes[0, 0]
    if len(wide):
        network, labelled, whole = (wide[scope].to_numpy(float) for scope in SCOPES)
        parts = {"prepare": whole - labelled, "network": network, "label map": labelled - network}
        offset = np.zeros(len(wide))
        for (name, width), color in zip(parts.items(), (GREEN, BLUE, ORANGE), strict=True):
            ax.barh(range(len(wide)), width.clip(0), left=offset, color=color, label=name)
            offset += width.clip(0)
        for y, total in enumerate(whole):
            ax.text(total, y, f" {total:.1f}", va="center", fontsize=9)
        ax.set_yticks(range(len(wide)), wide.index)
        ax.invert_yaxis()
        ax.margins(x=0.12)
        figure.legend(loc="outside lower center", ncols=3)
    ax.set(xlabel="milliseconds per frame, end to end, p50")
    ax.grid(False, axis="y")
    return figure


@styled
def roofline(table: pd.DataFrame, gflops: float, gbytes: float) -> Figure:
    """Achieved rate against arithmetic intensity, below the machine's roof; a dot a model, float32, its fastest runtime.

    Args:
        table: columns model, gflop, mbytes (a frame), p50_ms (network).
        gflops: of a large matrix product, 10^9 a second.
        gbytes: of a long stream, 10^9 bytes a second.
    """
    figure, axes = canvas(6.4, 4.0)
    ax = axes[0, 0]
    plotted = table.dropna(subset=["gflop", "mbytes", "p50_ms"])
    x = np.geomspace(1, 300, 100)
    ax.plot(
        x,
        np.minimum(gflops, x * gbytes),
        color="black",
        label=f"matrix product {gflops:.0f} GFLOP/s, copy {gbytes:.0f} GB/s",
    )
    for index, row in enumerate(plotted.itertuples()):
        point = 1e3 * row.gflop / row.mbytes, 1e3 * row.gflop / row.p50_ms
        ax.plot(*point, "osD^vPX<>"[index % 9], color=CYCLE[index % len(CYCLE)], label=row.model)
    ax.set(xscale="log", yscale="log", xlabel="operations per byte (convolutions and linear layers)", ylabel="GFLOP/s")
    ax.xaxis.set_major_formatter("{x:g}")
    for which in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        which("{x:g}")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _few_ticks(axis: Axis) -> None:
    """Label 1, 2, 3 and 5 of each power of ten: more of them run into each other."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


@styled
def jitter(times: dict[str, np.ndarray]) -> Figure:
    """How a frame's time spreads: a histogram a network, its p99 as a line.

    Args:
        times: name -> milliseconds of each frame, end to end.
    """
    figure, axes = canvas(6.4, 3.2)
    ax = axes[0, 0]
    if times:
        every = np.concatenate(list(times.values()))
        edges = np.geomspace(every.min() * 0.98, every.max() * 1.02, 60)
        for index, (name, values) in enumerate(times.items()):
            color = CYCLE[index % len(CYCLE)]
            ax.hist(values, edges, color=color, alpha=0.5, label=name)
            ax.axvline(np.percentile(values, 99), color=color, linewidth=1.5)
        if edges[0] < BUDGET_MS < edges[-1]:
            ax.axvline(BUDGET_MS, color=RED, linestyle="--")
        ax.set(xscale="log")
        _few_ticks(ax.xaxis)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    ax.set(xlabel="milliseconds per frame, end to end (lines: p99)", ylabel="frames")
    return figure


@styled
def against(table: pd.DataFrame, by: str, xlabel: str) -> Figure:
    """Frames a second, end to end, against a number (pixels of a frame, threads): a line a model, runtime and precision.

    Args:
        table: rows of `latency.csv`; `by` is a column.
        by: the varied column.
        xlabel: its axis.
    """
    figure, axes = canvas(6.4, 3.6)
    ax = axes[0, 0]
    rows = table[table["scope"] == "end_to_end"].dropna(subset=["fps"])
    for index, (name, own) in enumerate(rows.assign(name=_engine(rows)).groupby("name", sort=False)):
        line = own.groupby(by)["fps"].max()
        ax.plot(line.index, line, "o-", color=CYCLE[index % len(CYCLE)], markersize=4, label=name)
    if len(rows):
        values = sorted(set(rows[by]))
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(values, [f"{value:.3g}" for value in values])
        ax.xaxis.set_minor_locator(NullLocator())
        _few_ticks(ax.yaxis)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    ax.set(xlabel=xlabel, ylabel="frames per second, end to end")
    return figure


@styled
def speed_and_quality(table: pd.DataFrame) -> Figure:
    """Accuracy and consistency against the time per frame, one mark per network.

    Circles and triangles are our networks, squares and crosses are peers. Filled marks: all trained for the same number of steps; a
    line joins the Pareto front. Hollow marks: the best of a network that was trained for longer.

    Args:
        table: of `students.csv`: model, peer, best_ms, miou, tc, flicker and the same with `_2x` (0..1): after twice the
            profile's steps, at which networks are compared.
    """
    figure, axes = canvas(8.4, 3.8, 1, 3)
    plotted = table.dropna(subset=["best_ms", "miou_2x"]).sort_values("best_ms").reset_index(drop=True)
    panels = (("miou", "mIoU (%)", 1), ("tc", "TC (%)", 1), ("flicker", "flicker (%)", -1))
    for ax, (score, label, sign) in zip(axes[0], panels, strict=True):
        equal = plotted.assign(score=100 * plotted[f"{score}_2x"]).dropna(subset=["score"])
        for index, row in equal.iterrows():
            marker = ("sP" if row["peer"] else "o^")[index // len(CYCLE) % 2]
            marker_style = {"marker": marker, "color": CYCLE[index % len(CYCLE)], "linestyle": ""}
            ax.plot(row["best_ms"], row["score"], label=row["model"], **marker_style)
            if row["miou"] > row["miou_2x"]:
                ends = [row["score"], 100 * row[score]]
                ax.plot([row["best_ms"]] * 2, ends, color=marker_style["color"], linewidth=0.7, zorder=0)
                ax.plot(row["best_ms"], ends[1], fillstyle="none", **marker_style)
        best = (sign * equal["score"]).cummax()
        front = equal[sign * equal["score"] >= best]
        ax.plot(front["best_ms"], front["score"], color=PALE, zorder=0)
        ax.set(xscale="log", xlabel="milliseconds, end to end", title=label)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        if equal.empty:
            mark_empty(ax)
    handles, names = axes[0, 0].get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    return figure
