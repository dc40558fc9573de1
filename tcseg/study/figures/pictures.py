"""Images: label maps, flow, masks, frames side by side, and a slider through them."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tcseg.labels import IGNORE, LabelSet, colorize
from tcseg.procity import flow_colors

from .style import YELLOW, canvas, styled

LIT = (213, 94, 0)  # the colour of highlighted pixels
SCALE = matplotlib.colormaps["magma"].with_extremes(bad="#56B4E9")
GREYS = 8  # levels that become one in a film
SHEET = 9.6  # inches that a contact sheet is wide


def overlay(frame: np.ndarray, labels: np.ndarray, label_set: LabelSet, opacity: float = 0.6) -> np.ndarray:
    """Paint labels over a frame; unlabelled pixels show the darkened frame.

    Args:
        frame: uint8 (H,W,3) RGB.
        labels: uint8 (H,W) trainIds, 255 = unlabelled.
        label_set: whose colours.
        opacity: of the labels, 0..1.

    Returns:
        uint8 (H,W,3).
    """
    mixed = (1 - opacity) * frame.astype(np.float32) + opacity * colorize(labels, label_set)
    return np.where((labels == IGNORE)[..., None], frame * 0.4, mixed).astype(np.uint8)


def highlight(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Light up pixels (H,W) bool of a frame uint8 (H,W,3): the rest is turned to a pale gray."""
    gray = 160 + 0.35 * frame.astype(np.float32).mean(-1, keepdims=True).repeat(3, -1)
    return np.where(mask[..., None], np.array(LIT, np.float32), gray).clip(0, 255).astype(np.uint8)


def lit(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`highlight` in few greys and without noise: a film of such pictures takes a third of the bytes as GIF."""
    gray = cv2.bilateralFilter(highlight(frame, np.zeros_like(mask))[..., 0], 5, 18, 3).astype(np.float32)
    gray = (160 + 1.15 * (gray - 160)).clip(0, 255) // GREYS * GREYS + GREYS // 2
    return np.where(mask[..., None], np.array(LIT, np.float32), gray[..., None]).astype(np.uint8)


def titled(picture: np.ndarray, title: str) -> np.ndarray:
    """A picture, uint8 (H,W,3) RGB, below a white bar with its title: as legible in a film as the text around it."""
    width = picture.shape[1]
    scale = width / 640
    bar = np.full((round(40 * width / 512), width, 3), 255, np.uint8)
    place = round(8 * scale), round(0.7 * len(bar))
    cv2.putText(bar, title, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 30), max(1, round(2 * scale)), cv2.LINE_AA)
    return np.vstack((bar, picture))


def showpiece(frames: np.ndarray, flow: np.ndarray | None) -> int:
    """Which clip to show: of the brighter half, the one that moves most. Others stand at a red light, or in the dark.

    Args:
        frames: uint8 (N,T,3,H,W).
        flow: (N,T-1,2,H,W) pixels; None where there is none: then the brightest clip.
    """
    light = np.array([clip[:: max(1, len(clip) // 4)].mean() for clip in frames])
    if flow is None:
        return int(light.argmax())
    speed = np.array([np.abs(np.asarray(clip, np.float32)).mean() for clip in flow])
    return int(np.where(light >= np.median(light), speed, -1).argmax())


@styled
def image_grid(
    images: Mapping[str, np.ndarray], columns: int = 2, width: float = 6.8, crop: tuple[slice, slice] | None = None
) -> Figure:
    """Pictures side by side, each with its title.

    Args:
        images: title -> uint8 (H,W,3), or (H,W) bool shown black (False) and white.
        columns: how many in a row.
        width: of the figure in inches.
        crop: rows and columns of pixels to show, of each picture.
    """
    if crop is not None:
        images = {title: image[crop] for title, image in images.items()}
    rows = -(-max(1, len(images)) // columns)
    ratio = max((image.shape[0] / image.shape[1] for image in images.values()), default=0.5)
    figure, axes = canvas(width, rows * (width / columns * ratio + 0.3), rows, columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, image) in zip(axes.flat, images.items(), strict=False):
        ax.imshow(image, cmap="gray", interpolation="nearest", aspect="auto" if image.shape[0] < 8 else "equal")
        ax.set_title(title)
    return figure


def predictions(
    frame: np.ndarray, labels: np.ndarray, guesses: Mapping[str, np.ndarray], label_set: LabelSet
) -> Figure:
    """A frame and its truth, then for each model its answer and the labelled pixels that it gets wrong.

    Args:
        frame: uint8 (H,W,3).
        labels: uint8 (H,W) trainIds, 255 = unlabelled.
        guesses: model -> uint8 (H,W) trainIds.
        label_set: whose colours.
    """
    images = {"frame": frame, "true labels": overlay(frame, labels, label_set, 0.8)}
    for name, guess in guesses.items():
        images[name] = colorize(guess, label_set)
        images[f"{name}: wrong"] = highlight(frame, (labels != IGNORE) & (guess != labels))
    return image_grid(images)


@styled
def scalar_maps(maps: Mapping[str, np.ndarray], unit: str, columns: int = 2) -> Figure:
    """Maps of one quantity on one colour scale: title -> float (H,W) in `unit`; NaN is blue, which the scale has not."""
    rows = -(-max(1, len(maps)) // columns)
    ratio = max((values.shape[0] / values.shape[1] for values in maps.values()), default=0.5)
    figure, axes = canvas(6.8, rows * (6.2 / columns * ratio + 0.35), rows, columns)
    finite = [values[np.isfinite(values)] for values in maps.values()]
    pooled = np.concatenate(finite) if finite else np.zeros(0)
    top = (float(np.quantile(pooled, 0.99)) if pooled.size else 1.0) or 1.0
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        drawn = ax.imshow(values, cmap=SCALE, vmin=0, vmax=top, interpolation="nearest")
        ax.set_title(title)
    if maps:
        figure.colorbar(drawn, ax=list(axes.flat), label=unit, shrink=0.9, pad=0.02)
    if any(np.isnan(values).any() for values in maps.values()):
        figure.supxlabel("blue: hidden in the next frame, not compared", fontsize=9)
    return figure


@styled
def beside(frame: np.ndarray, values: np.ndarray, unit: str) -> Figure:
    """A frame uint8 (H,W,3), and beside it a map (h,w) of a quantity in `unit`, drawn at the frame's size."""
    height, width = frame.shape[:2]
    figure, axes = canvas(8.0, 4.0 * height / width + 0.3, 1, 2)
    axes[0, 0].imshow(frame)
    axes[0, 0].set_title("frame")
    drawn = axes[0, 1].imshow(values, cmap=SCALE, vmin=0, interpolation="bilinear", extent=(0, width, height, 0))
    axes[0, 1].set_title(unit)
    for ax in axes.flat:
        ax.axis("off")
    figure.colorbar(drawn, ax=list(axes.flat), shrink=0.8, pad=0.02)
    return figure


@styled
def flow_picture(frame: np.ndarray, flow: np.ndarray, visible: np.ndarray) -> Figure:
    """What flow and visibility say about a frame: arrows on the frame, the flow in colour with its key, hidden pixels.

    Args:
        frame: uint8 (H,W,3).
        flow: (2,H,W) pixels, to the next frame.
        visible: (H,W) bool.
    """
    height, width = frame.shape[:2]
    step = max(4, width // 20)  # pixels between arrows
    flow = np.asarray(flow, np.float32)
    figure, axes = canvas(6.8, 2 * (3.4 * height / width + 0.35), 2, 2)
    for ax in axes.flat:
        ax.axis("off")
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    axes[0, 0].imshow(frame)
    true_length = {"angles": "xy", "scale_units": "xy", "scale": 1}
    axes[0, 0].quiver(x, y, flow[0, y, x], flow[1, y, x], color=YELLOW, width=0.005, **true_length)
    axes[0, 0].set_title("motion of each pixel (true length)")
    top = float(np.quantile(np.hypot(*flow), 0.98)) or 1.0
    axes[0, 1].imshow(flow_colors(flow, top))
    axes[0, 1].set_title(f"flow as colour, full at {top:.1f} px")
    axes[1, 0].imshow(highlight(frame, ~visible))
    axes[1, 0].set_title(f"hidden in the next frame: {100 * (1 - visible.mean()):.1f} %")
    disc = np.linspace(-1, 1, 65, dtype=np.float32)
    key = flow_colors(np.stack(np.meshgrid(disc, disc)), 1.0)
    key[np.hypot(*np.meshgrid(disc, disc)) > 1] = 255
    axes[1, 1].imshow(key, extent=(-top, top, top, -top))
    axes[1, 1].set_title("colour key: direction of motion")
    return figure


@styled
def class_palette(label_set: LabelSet) -> Figure:
    """The colour of each class and its trainId: the legend of every label map."""
    columns = 4 if max(map(len, label_set.classes)) <= 20 else 2
    rows = -(-label_set.num_classes // columns)
    figure, axes = canvas(6.8, 0.34 * rows + 0.2)
    ax = axes[0, 0]
    for index, name in enumerate(label_set.classes):
        column, row = divmod(index, rows)
        ax.add_patch(matplotlib.patches.Rectangle((column, -row), 0.14, 0.7, color=label_set.colors[index] / 255))
        text = name if len(name) <= 40 else f"{name[:39]}…"
        ax.text(column + 0.18, 0.35 - row, f"{index} {text}", va="center")
    ax.set(xlim=(0, columns), ylim=(-rows + 0.8, 0.9))
    ax.axis("off")
    return figure


@styled
def time_slices(slices: Mapping[str, np.ndarray], label_set: LabelSet) -> Figure:
    """One column of pixels followed through time: title -> labels (H,T). A stable label draws a smooth band.

    Each pixel is painted in its class's colour; speckles along time are flicker.
    """
    figure, axes = canvas(6.8, 3.4, 1, max(1, len(slices)))
    for ax, (title, labels) in zip(axes.flat, slices.items(), strict=False):
        ax.imshow(colorize(labels, label_set), aspect="auto", interpolation="nearest")
        ax.set(title=title, xlabel="time (frames)")
        ax.grid(False)
    axes[0, 0].set(ylabel="row of the image (px)", xlabel="time (frames)")
    return figure


def as_picture(figure: Figure, dpi: int = 110) -> np.ndarray:
    """A figure as it would be shown: uint8 (H,W,3) RGB."""
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _ratio(rows: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Height of a picture as a share of its width."""
    shapes = [image.shape for pictures in rows.values() for image in pictures.values()]
    return shapes[0][0] / shapes[0][1] if shapes else 0.5


@styled
def contact_sheet(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Pictures in rows and columns, without gaps: a name above each column and beside each row.

    Args:
        rows: row name -> column name -> uint8 (H,W,3); every row has the same columns.
    """
    names = list(next(iter(rows.values()), {}))
    across, down = max(1, len(names)), max(1, len(rows))
    figure, axes = canvas(SHEET, 0.3 + 0.97 * SHEET * _ratio(rows) * down / across, down, across)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    for row, (title, pictures) in zip(axes, rows.items(), strict=False):
        row[0].set_ylabel(title, fontsize=8)
        for ax, name in zip(row, names, strict=True):
            ax.imshow(pictures[name], interpolation="antialiased")
    for ax, name in zip(axes[0], names, strict=False):
        ax.set_title(name)
    return figure
