"""Measure the flicker of a video without ground truth while it runs: the share of pixels that change their class.

No labels are needed, so any video will do. It is not the flicker of the study's tables, which knows the true classes and
(on procity) the true motion: here the motion is estimated and right or wrong cannot be told apart, so that a changed answer
may be a healed one, and even a perfect answer has a share above zero, because its contours are moved by a flow that is off by
a fraction of a pixel. Compare answers to one video; do not compare videos. And look at the answers too: a constant map has 0.

Convention: frame t is compared with t-1, on t's grid. Motion is estimated (DIS) from t back to t-1 on frames at most `WIDTH` wide,
which is what keeps it cheap; the classes are looked up in the full-size maps, nearest, one pixel for each pixel of the small frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tcseg.errors import InputError
from tcseg.flow import estimate

WIDTH = 256  # of the frames that motion is estimated on, at most
DOUBT = (
    16.0  # grey levels (mean of R, G, B): where the picture differs more from what the flow says, nothing is counted
)
LEAST = 0.1  # share of the picture that must be comparable; below it (a cut, a blink) there is no value
HISTORY = 120  # frames that the plot shows of a source whose length is unknown
SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # upper ends of the plot
COLORS = (
    (255, 176, 59),
    (86, 190, 255),
    (120, 220, 140),
    (230, 130, 200),
)  # of the lines; told apart by the colour-blind
GROUND, GRID, INK = (20, 20, 20), (62, 62, 62), (185, 185, 185)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if width <= WIDTH:
        return frame
    # DIS refuses sides below its patches: a panorama keeps 16 rows
    return cv2.resize(frame, (WIDTH, max(16, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)


def _trace(now: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow every pixel back: flow float32 (2,h,w), now -> before, and where it may be believed, bool (h,w).

    Not believed: where it leaves the frame, and where the frame before, moved by it, looks otherwise (occlusion, mistake).
    """
    flow = estimate("dis", now, before)
    height, width = now.shape[:2]
    x, y = flow[0] + np.arange(width, dtype=np.float32), flow[1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alike = cv2.absdiff(moved, now).mean(2, dtype=np.float32) <= DOUBT
    return flow, alike & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def drop_oldest(series: list, keep: int | None) -> None:
    """Shorten a list to its last `keep` values once it has twice as many; None leaves it alone."""
    if keep is not None and len(series) >= 2 * keep:
        del series[:-keep]


class Meter:
    """Flicker of one or more networks' answers to one video, frame by frame.

    Args:
        keep: so many frames of the series at least, and at most twice as many; None = all.

    Attributes:
        series: a list a frame, with one share (0..1) a network; nan for the first frame, and where less than `LEAST` of the
            picture could be compared.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self.series: list[list[float]] = []
        self._before: np.ndarray | None = None
        self._maps: list[np.ndarray] = []
        self._sum, self._count = np.zeros(1), 0  # a camera may run for days: the mean is not taken anew each frame

    def step(self, frame: np.ndarray, maps: Sequence[np.ndarray]) -> list[float]:
        """Add a frame, and return its shares.

        Args:
            frame: uint8 (H,W,3) RGB, all of one size.
            maps: uint8 (H,W) a network, the answers to it.

        Raises:
            ValueError: a map has not the frame's size, or the frame another size than the one before.
        """
        for labels in maps:
            if labels.shape != frame.shape[:2]:
                raise InputError(f"labels are {labels.shape} but the frame {frame.shape}; need (H,W) and (H,W,3)")
        now, shares = _small(frame), [float("nan")] * len(maps)
        if self._before is not None:
            flow, counted = _trace(now, self._before)
            if counted.mean() >= LEAST:
                pairs = zip(self._maps, maps, strict=True)
                shares = [float(_changed(before, after, flow)[counted].mean()) for before, after in pairs]
        self._before, self._maps = now, list(maps)
        self.series.append(shares)
        drop_oldest(self.series, self._keep)
        if not np.isnan(shares).any():
            self._sum, self._count = self._sum + shares, self._count + 1
        return shares

    def means(self) -> list[float]:
        """Mean over the frames that have a value, one a network; nan where none has."""
        return (self._sum / self._count).tolist() if self._count else [float("nan")] * len(self._maps)


def _changed(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Whether each small pixel's class changed, bool (h,w), from full-size maps (H,W) and a small flow (2,h,w)."""
    (height, width), (rows, columns) = after.shape, flow.shape[1:]
    x = ((np.arange(columns) + 0.5) * width / columns).astype(np.intp)[None]
    y = ((np.arange(rows) + 0.5) * height / rows).astype(np.intp)[:, None]
    from_x = np.rint(x + flow[0] * (width / columns)).astype(np.intp).clip(0, width - 1)
    from_y = np.rint(y + flow[1] * (height / rows)).astype(np.intp).clip(0, height - 1)
    return before[from_y, from_x] != after[y, x]


def flicker(frames: Iterable[np.ndarray], maps: Iterable[np.ndarray]) -> np.ndarray:
    """Share of pixels whose class changed against the frame before, after motion.

    Args:
        frames: uint8 (H,W,3) RGB each, in order.
        maps: uint8 (H,W) each, the answers.

    Returns:
        float (T,), 0..1; nan for the first frame and where the frames cannot be compared.
    """
    meter = Meter()
    return np.array([meter.step(frame, [labels])[0] for frame, labels in zip(frames, maps, strict=True)])


def changed(frames: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> np.ndarray:
    """The pixels that `Meter` counts as changed, to be looked at.

    Args:
        frames: a frame and the next one, uint8 (H,W,3) RGB.
        maps: the answers to them, uint8 (H,W).

    Returns:
        bool (h,w) on the grid of the second frame, which is at most `WIDTH` wide here.
    """
    flow, counted = _trace(_small(frames[1]), _small(frames[0]))
    return counted & _changed(maps[0], maps[1], flow)


# ------------------------------------------------------------------------------------------------ the strip


def strip_height(width: int, networks: int = 1) -> int:
    """Rows of the strip under a picture so wide; even, as video codecs want them."""
    return 2 * round(max(32, width / 16, 15 * networks) / 2)


def draw_strip(
    series: Sequence[Sequence[float]],
    means: Sequence[float],
    width: int,
    names: Sequence[str] = ("flicker",),
    expected: int | None = None,
) -> np.ndarray:
    """Plot the shares frame by frame, with the newest value and the mean in words.

    The axis is as long as the clip, and the line grows along it; where several frames share a column, it shows the highest. Where
    the length is unknown, the axis has the last `HISTORY` frames, the newest at the right. The plot says which of the two it is.

    Args:
        series: as `Meter.series`, not empty: shares 0..1, one row a frame, one column a name; nan leaves a gap.
        means: as `Meter.means()`.
        width: pixels.
        names: of the columns.
        expected: frames of the whole clip; None = unknown. A clip that turns out longer has a longer axis.

    Returns:
        uint8 (strip_height(width, len(names)), width, 3) RGB.
    """
    height, scale = strip_height(width, len(names)), min(0.8, max(0.35, width / 1700))
    strip = np.full((height, width, 3), GROUND, np.uint8)
    margin = _write(strip, names, series[-1], means, scale)
    if width - margin >= 32:  # a picture narrower than the words has only these
        x, values = _along_the_axis(series, width - margin - 2, expected)
        if expected is None:
            told = f"last {HISTORY} frames"
        else:
            told = f"{max(expected, len(series))} frames"
        _plot(strip[2 : height - 2, margin : width - 2], x, values, told, scale)
    return strip


def _along_the_axis(
    series: Sequence[Sequence[float]], columns: int, expected: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Where the values lie in a plot so wide (n,), and the values (n,names); at most one a column."""
    if expected is None:
        values = np.array(series[-HISTORY:], float)
        return (columns - 1) * (1 - np.arange(len(values))[::-1] / (HISTORY - 1)), values
    values, length = np.array(series, float), max(expected, len(series))
    together = -(-length // columns)  # frames that share a column
    if together > 1:
        lacking = -len(values) % together
        blocks = np.concatenate((values, np.full((lacking, values.shape[1]), np.nan)))
        blocks = blocks.reshape(-1, together, values.shape[1])
        values = np.where(np.isnan(blocks).all(1), np.nan, np.nan_to_num(blocks, nan=-1.0).max(1))
    places = np.minimum(np.arange(len(values)) * together, length - 1)
    return (columns - 1) * places / max(1, length - 1), values


def _write(strip: np.ndarray, names: Sequence[str], newest, means: Sequence[float], scale: float) -> int:
    """Write name, newest value and mean of each series; returns the column where the plot may begin."""
    if len(names) == 1:
        lines = [(f"{names[0]} {_percent(newest[0])}", COLORS[0]), (f"mean {_percent(means[0])}", INK)]
        widest = f"{names[0]} 88.8 %"
    else:
        legend = zip(names, newest, means, COLORS * len(names), strict=False)
        lines = [(f"{name} {_percent(now)}, mean {_percent(mean)}", color) for name, now, mean, color in legend]
        widest = f"{max(names, key=len)} 88.8 %, mean 88.8 %"
    pitch, ascent = strip.shape[0] / len(lines), _text_size("0", scale)[1]
    for index, (line, color) in enumerate(lines):
        baseline = round((index + 0.5) * pitch + ascent / 2)
        cv2.putText(strip, line, (5, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return _text_size(widest, scale)[0] + 14


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def _text_size(text: str, scale: float) -> tuple[int, int]:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0]


def _plot(area: np.ndarray, x: np.ndarray, values: np.ndarray, told: str, scale: float) -> None:
    """Draw the lines into an area (h,w,3), in place; its upper end is the smallest of `SCALES` above them all."""
    height, width = area.shape[:2]
    highest = np.nanmax(values) if not np.isnan(values).all() else 0.0
    top = next((end for end in SCALES if 1.05 * highest <= end), 1.0)
    for level in (0.0, 0.5, 1.0):
        row = round((height - 1) * level)
        cv2.line(area, (0, row), (width - 1, row), GRID, 1)
    label, small = f"{100 * top:.0f} %", 0.85 * scale
    baseline = _text_size("0", small)[1] + 3
    at = width - 4 - _text_size(told, small)[0]
    if at > 3 * _text_size(label, small)[0]:  # below the line, which may be there
        cv2.putText(area, told, (at, baseline), cv2.FONT_HERSHEY_SIMPLEX, small, INK, 1, cv2.LINE_AA)
    for index, column in enumerate(values.T):
        y = (height - 2) * (1 - np.minimum(column / top, 1))
        for line in _unbroken(x, y):
            if values.shape[1] == 1:
                _fill_below(area, line, COLORS[0])
            cv2.polylines(area, [_fixed(line)], False, COLORS[index % len(COLORS)], 1, cv2.LINE_AA, _SHIFT)
    cv2.putText(area, label, (3, baseline), cv2.FONT_HERSHEY_SIMPLEX, small, INK, 1, cv2.LINE_AA)


_SHIFT = 4  # OpenCV draws between pixels in fixed point: 4 bits after it


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**_SHIFT).astype(np.int32)


def _unbroken(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Points (n,2) of the parts of a line between its gaps."""
    gaps = np.flatnonzero(np.isnan(y))
    parts = np.split(np.stack((x, y), 1), sorted({*gaps.tolist(), *(gaps + 1).tolist()}))
    return [part for part in parts if len(part) and not np.isnan(part).any()]


def _fill_below(area: np.ndarray, line: np.ndarray, color: tuple[int, int, int]) -> None:
    floor = np.array([[line[-1, 0], area.shape[0] - 1], [line[0, 0], area.shape[0] - 1]])
    painted = area.copy()
    cv2.fillPoly(painted, [_fixed(np.concatenate((line, floor)))], color, cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(area, 0.7, painted, 0.3, 0, dst=area)
