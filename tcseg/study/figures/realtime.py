"""Figures of the benchmark: latency by model, runtime, precision, size and threads; roofline; speed against accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from .style import BLUE, CYCLE, GREEN, ORANGE, PALE, RED, canvas, few_ticks, mark_empty, name_points, styled

BUDGET_MS = 1000 / 30  # one frame of a 30 fps video: the dashed line
SCOPES = ("network", "network+argmax", "end_to_end")


@styled
def latency(table: pd.DataFrame) -> Figure:
    """End-to-end latency of each network in its fastest way, at the middle size: a dot at p50, a line to p99, the fastest on top.

    Args:
        table: rows of `latency.csv`.
    """
    rows = table[(table["scope"] == "end_to_end") & table["p50_ms"].notna()]
    widths = sorted(set(rows["width"]))
    rows = rows[rows["width"] == widths[len(widths) // 2]] if widths else rows
    rows = rows.sort_values("p50_ms").groupby("model", sort=False).first().reset_index()
    figure, axes = canvas(6.8, 0.3 * max(3, len(rows)) + 1.2)
    ax = axes[0, 0]
    if rows.empty:
        mark_empty(ax)
    else:
        y = range(len(rows))
        ax.hlines(y, rows["p50_ms"], rows["p99_ms"], color=BLUE, linewidth=2)
        ax.plot(rows["p50_ms"], y, "o", color=BLUE)
        ax.plot(rows["p99_ms"], y, "|", color=BLUE, markersize=9, markeredgewidth=2)
        ax.axvline(BUDGET_MS, color=RED, linestyle="--")
        ax.text(BUDGET_MS, -0.9, "30 frames a second", color=RED, ha="center", va="bottom", fontsize=9)
        ax.set_yticks(y, _engine(rows), fontsize=8.5)
        ax.set_ylim(len(rows) - 0.4, -0.8)
        ax.set_xscale("log")
        few_ticks(ax.xaxis)
    size = f"{rows['width'].iloc[0]:.0f}x{rows['height'].iloc[0]:.0f}, " if len(rows) else ""
    ax.set(xlabel=f"ms per frame, {size}end to end (dot p50, tick p99)")
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
    """Achieved rate against arithmetic intensity, with what a matrix product and a copy reach; a dot a model, float32.

    Convolutions may run faster than the matrix product that was measured; the chart says so where they do.

    Args:
        table: columns model, gflop, mbytes (a frame), p50_ms (network).
        gflops: of a large matrix product, 10^9 a second.
        gbytes: of a long stream, 10^9 bytes a second.
    """
    figure, axes = canvas(6.4, 4.2)
    ax = axes[0, 0]
    plotted = table.dropna(subset=["gflop", "mbytes", "p50_ms"])
    x = np.geomspace(1, 300, 100)
    bound = np.minimum(gflops, x * gbytes)
    ax.plot(x, bound, color="black")
    ax.text(300, gflops, f"matrix product: {gflops:.0f} GFLOP/s ", ha="right", va="bottom", fontsize=9)
    ax.text(1.05, gbytes * 1.5, f"copy: {gbytes:.0f} GB/s", ha="left", va="bottom", fontsize=9)
    points = {row.model: (1e3 * row.gflop / row.mbytes, 1e3 * row.gflop / row.p50_ms) for row in plotted.itertuples()}
    for place in points.values():
        ax.plot(*place, "o", color=BLUE)
    rates = [rate for _, rate in points.values()]
    ax.set(xscale="log", yscale="log", xlabel="operations per byte (convolutions and linear layers)", ylabel="GFLOP/s")
    ax.set(xlim=(1, 300), ylim=(0.7 * min([gbytes, *rates]), 1.6 * max([gflops, *rates])))
    for axis in (ax.xaxis, ax.yaxis):
        few_ticks(axis)
    name_points(ax, points)
    if any(rate > min(gflops, x * gbytes) for x, rate in points.values()):
        ax.set_title("above the line: faster than this matrix product or copy", fontsize=9)
    return figure


@styled
def jitter(times: dict[str, np.ndarray]) -> Figure:
    """How a frame's time spreads: a row a network, from the fastest frame to the slowest, with its median and p99.

    Args:
        times: name -> milliseconds of each frame, end to end.
    """
    figure, axes = canvas(6.8, 0.42 * max(2, len(times)) + 1.1)
    ax = axes[0, 0]
    names = sorted(times, key=lambda name: np.median(times[name]))
    for y, name in enumerate(names):
        low, middle, high, top = np.percentile(times[name], (0, 50, 99, 100))
        ax.plot([low, top], [y, y], color=PALE, linewidth=2)
        ax.plot(times[name], np.full(len(times[name]), y), "|", color=BLUE, alpha=0.25, markersize=8)
        ax.plot(middle, y, "o", color=BLUE, markersize=6)
        ax.plot(high, y, "|", color=RED, markersize=16, markeredgewidth=2.5)
    if names:
        ax.set_xscale("log")
        few_ticks(ax.xaxis)
        ax.set_yticks(range(len(names)), names, fontsize=8.5)
        ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set(xlabel="ms per frame, end to end (dot: median; red: p99; thin: each frame)")
    return figure


@styled
def against(table: pd.DataFrame, by: str, xlabel: str) -> Figure:
    """Frames a second, end to end, against a number (pixels of a frame, threads): a named line a model, runtime and precision.

    Args:
        table: rows of `latency.csv`; `by` is a column.
        by: the varied column.
        xlabel: its axis.
    """
    figure, axes = canvas(6.4, 3.8)
    ax, ends = axes[0, 0], {}
    rows = table[table["scope"] == "end_to_end"].dropna(subset=["fps"])
    for index, (name, own) in enumerate(rows.assign(name=_engine(rows)).groupby("name", sort=False)):
        line = own.groupby(by)["fps"].max()
        ax.plot(line.index, line, "osD^"[index % 4] + "-", color=CYCLE[index % 5], markersize=5)
        ends[name] = line.index[-1], line.iloc[-1]
    if len(rows):
        values = sorted(set(rows[by]))
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(values, [f"{value:.3g}" for value in values])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(values[0] * 0.9, values[-1] * (values[-1] / values[0]) ** 0.7 * 1.2)
        low, high = rows["fps"].min(), rows["fps"].max()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)) if high > 8 * low else MaxNLocator(6))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        name_points(ax, ends)
    ax.set(xlabel=xlabel, ylabel="frames per second, end to end")
    return figure


@styled
def speed_and_quality(table: pd.DataFrame) -> Figure:
    """Accuracy, consistency and flicker against the time per frame, a panel each, a named mark per network.

    Circles are our networks, squares are peers. Filled marks: all trained for the same number of steps; a line joins those that no
    faster one beats. Hollow marks: the best of a network that was trained for longer.

    Args:
        table: of `students.csv`: model, peer, best_ms, miou, tc, flicker and the same with `_2x` (0..1): after twice the
            profile's steps, at which networks are compared.
    """
    panels = (("miou", "mIoU (%)", 1), ("tc", "TC (%)", 1), ("flicker", "flicker (%): lower is better", -1))
    figure, axes = canvas(6.8, 9.6, len(panels), 1)
    plotted = table.dropna(subset=["best_ms", "miou_2x"]).sort_values("best_ms").reset_index(drop=True)
    for ax, (score, label, sign) in zip(axes[:, 0], panels, strict=True):
        equal = plotted.assign(score=100 * plotted[f"{score}_2x"]).dropna(subset=["score"])
        for _, row in equal.iterrows():
            style = {"marker": "s" if row["peer"] else "o", "color": RED if row["peer"] else BLUE, "linestyle": ""}
            ax.plot(row["best_ms"], row["score"], **style)
            if row["miou"] > row["miou_2x"]:
                ends = [row["score"], 100 * row[score]]
                ax.plot([row["best_ms"]] * 2, ends, color=style["color"], linewidth=0.7, zorder=0)
                ax.plot(row["best_ms"], ends[1], fillstyle="none", **style)
        best = (sign * equal["score"]).cummax()
        front = equal[sign * equal["score"] >= best]
        ax.plot(front["best_ms"], front["score"], color=PALE, zorder=0)
        ax.set(xscale="log", title=label, xlabel="ms per frame, end to end")
        few_ticks(ax.xaxis)
        if equal.empty:
            mark_empty(ax)
            continue
        ax.margins(x=0.12, y=0.15)
        colors = dict(zip(equal["model"], np.where(equal["peer"].astype(bool), RED, BLUE), strict=True))
        name_points(ax, {row.model: (row.best_ms, row.score) for row in equal.itertuples()}, colors)
    if len(plotted):
        told = "filled: the same number of steps; open: trained for longer"
        told += "\ngrey: no faster network is better. Circles: ours; squares: peers"
        figure.supxlabel(told, fontsize=9)
    return figure
