"""Textures: pure functions of a random generator, packed into one flat mip atlas that the kernels sample.

A texture is float (S,S,4) in 0..1, S a power of two: RGB and a cut-out alpha. Row 0 is the TOP (v = 1). All
wrap around.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from typing import NamedTuple

import cv2
import numpy as np

NAMES = (
    "white", "asphalt", "detail", "paving", "cobble", "grass", "leaf0", "leaf1", "bark", "facade0", "facade1",
    "facade2", "facade3", "shop0", "shop1", "roof", "brick", "concrete", "planks", "bars", "wheel", "bikewheel",
    "glass", "sign0", "sign1", "sign2", "sign3", "busside", "tramside", "cloud", "cloth", "hedge", "ads",
)  # fmt: skip
LEVELS = 10  # mip levels of the largest texture, 512 px
INDEX = {name: i for i, name in enumerate(NAMES)}


class Atlas(NamedTuple):
    """All mip levels of all textures of a city in one flat array.

    Attributes:
        texels: uint8 (M,4).
        start: int64 (textures, levels) first texel of each level.
        log_size: int64 (textures,) log2 of the side of level 0.
    """

    texels: np.ndarray
    start: np.ndarray
    log_size: np.ndarray


def noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 4, gain: float = 0.55) -> np.ndarray:
    """Wrapping value noise (size,size), mean 0, standard deviation 1."""
    out = np.zeros((size, size), np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        n = min(cells, size)
        grid = np.pad(rng.standard_normal((n, n)).astype(np.float32), 2, mode="wrap")
        step = size / n
        xy = (np.arange(size, dtype=np.float32) + 0.5) / step - 0.5 + 2
        out += amplitude * cv2.remap(grid, *np.meshgrid(xy, xy), cv2.INTER_CUBIC)
        cells, amplitude = cells * 2, amplitude * gain
    return (out - out.mean()) / (out.std() + 1e-6)


def _rgba(grey: np.ndarray, tint: Seq[float] = (1, 1, 1), alpha: np.ndarray | float = 1.0) -> np.ndarray:
    out = np.empty((*grey.shape[:2], 4), np.float32)
    out[..., :3] = (grey[..., None] if grey.ndim == 2 else grey) * np.asarray(tint, np.float32)
    out[..., 3] = alpha
    return np.clip(out, 0, 1)


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Mottled asphalt with patches and tar seams."""
    grain = cv2.GaussianBlur(rng.standard_normal((512, 512)).astype(np.float32), (0, 0), 0.8)
    grey = 0.345 + 0.012 * noise(rng, 512, 4, 3) + 0.010 * noise(rng, 512, 32, 3, 0.8) + 0.04 * grain
    for _ in range(3):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 60, 40), (400, 400, 180, 120)))
        grey[y : y + h, x : x + w] *= rng.uniform(0.93, 1.05)
    for _ in range(2):
        points = np.cumsum(rng.normal(0, 14, (18, 2)) + rng.normal(0, 20, 2), 0) + rng.uniform(0, 512, 2)
        seam = np.zeros_like(grey)
        cv2.polylines(seam, [points.astype(np.int32)], False, 1.0, 2, cv2.LINE_AA)
        grey -= 0.07 * seam
    return _rgba(grey, (0.98, 1.0, 1.03))


def _blocks(rng: np.random.Generator, rows: int, cols: int, joint: int, spread: float, shift: bool) -> np.ndarray:
    """Bricks or slabs: grey (256,256) with joints; every second row is shifted by half a block when asked."""
    size = 256
    out = np.zeros((size, size), np.float32)
    h, w = size // rows, size // cols
    for r in range(rows):
        row = np.repeat(1 + spread * rng.standard_normal(cols), w)
        line = np.ones(size, np.float32)
        line[:] = row
        for j in range(joint):
            line[j::w] *= 0.72
        out[r * h : (r + 1) * h] = np.roll(line, (w // 2) * (r % 2) if shift else 0)
        out[r * h : r * h + joint] *= 0.72
    return out + 0.03 * noise(rng, size, 32, 3)


def leaves(rng: np.random.Generator, colour: Seq[float], cover: float) -> np.ndarray:
    """A clump of leaves, cut out: dense inside, ragged at the rim."""
    size = 256
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size * 2 - 1
    radius = np.hypot(x, y) + 0.09 * noise(rng, size, 8, 3)
    rough = noise(rng, size, 24, 3, 0.7)
    alpha = ((0.93 - radius) * 2.2 + 0.32 * rough > 0.28 + (1 - cover) * 0.6 * (radius > 0.25)).astype(np.float32)
    shade = 0.78 + 0.17 * noise(rng, size, 28, 2, 0.8) + 0.07 * noise(rng, size, 6, 2)
    hue = np.stack([1 + 0.06 * noise(rng, size, 12, 2), np.ones_like(shade), 1 + 0.05 * noise(rng, size, 12, 2)], -1)
    return _rgba(np.clip(shade, 0.3, 1.3)[..., None] * hue, colour, alpha)


def _window(tile: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator, frame: Seq[float]) -> None:
    """Paint one window (x0,y0,x1,y1) with frame, bars, a sill and a reflection or a curtain."""
    x0, y0, x1, y1 = box
    cv2.rectangle(tile, (x0 - 3, y0 - 3), (x1 + 3, y1 + 3), [float(c) for c in frame], -1)
    top = np.array((0.42, 0.48, 0.54)) * rng.uniform(0.5, 1.0)
    low = np.array((0.16, 0.18, 0.21)) * rng.uniform(0.7, 1.5)
    ramp = np.linspace(0, 1, y1 - y0 + 1)[:, None, None]
    tile[y0 : y1 + 1, x0 : x1 + 1] = top * (1 - ramp) + low * ramp
    if rng.random() < 0.4:  # a curtain or a blind
        tile[y0 : y0 + int((y1 - y0) * rng.uniform(0.2, 0.9)), x0 : x1 + 1] = np.array((0.72, 0.7, 0.64)) * rng.uniform(
            0.7, 1
        )
    middle = (x0 + x1) // 2
    cv2.line(tile, (middle, y0), (middle, y1), [float(c) for c in frame], 2)
    cv2.line(tile, (x0, y0 + (y1 - y0) // 3), (x1, y0 + (y1 - y0) // 3), [float(c) for c in frame], 2)
    cv2.rectangle(tile, (x0 - 5, y1 + 3), (x1 + 5, y1 + 6), (0.55, 0.53, 0.5), -1)


def facade(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Four bays by four floors (12 m x 12 m) of one kind: plaster, brick, stone, glass, panel or timber."""
    size, cell = 512, 128
    base = 0.86 + 0.02 * noise(rng, size, 8, 4)
    tile = np.repeat(base[..., None], 3, 2)
    if kind == "brick":
        tile = tile * np.kron(_blocks(rng, 32, 16, 1, 0.10, True), np.ones((2, 2)))[..., None] * (0.95, 0.9, 0.86)
    elif kind == "stone":
        tile = tile * np.kron(_blocks(rng, 8, 8, 1, 0.04, True), np.ones((2, 2)))[..., None]
    tile = np.ascontiguousarray(tile, np.float32)
    if kind == "glass":
        for r in range(4):
            for c in range(8):
                pane = np.array((0.45, 0.55, 0.62)) * rng.uniform(0.55, 1.1)
                tile[r * cell + 6 : (r + 1) * cell - 22, c * 64 + 3 : c * 64 + 61] = pane
                tile[r * cell + 6 : r * cell + 40, c * 64 + 3 : c * 64 + 61] *= 1.25
        return _rgba(tile)
    frame = (0.92, 0.91, 0.88) if rng.random() < 0.7 else (0.35, 0.27, 0.2)
    half, high = int(rng.integers(20, 36)), int(rng.integers(52, 78))
    for r in range(4):
        if kind in ("panel", "stone"):
            tile[r * cell : r * cell + 4] *= 0.75
        for c in range(4):
            x, y = c * cell + 64, r * cell + 26
            _window(tile, (x - half, y, x + half, y + high), rng, frame)
            if kind == "panel" and c % 2 == 0:  # balcony
                cv2.rectangle(tile, (x - half - 14, y + 44), (x + half + 14, y + high + 14), (0.62, 0.62, 0.6), -1)
    if kind == "timber":
        for c in range(5):
            cv2.line(tile, (c * cell, 0), (c * cell, size), (0.28, 0.2, 0.15), 9)
            cv2.line(tile, (0, c * cell), (size, c * cell), (0.28, 0.2, 0.15), 9)
        for c in range(4):
            cv2.line(tile, (c * cell, 0), (c * cell + 26, 128), (0.28, 0.2, 0.15), 6)
    return _rgba(tile)


def shop(rng: np.random.Generator, accent: Seq[float]) -> np.ndarray:
    """Ground floor of three shops: fascia with lettering, show windows, doors (12 m x 3.6 m)."""
    tile = np.full((256, 512, 3), 0.55, np.float32) + 0.02 * rng.standard_normal((256, 512, 1)).astype(np.float32)
    for i in range(3):
        x0, w = i * 170, 168
        colour = np.clip(np.asarray(accent) * rng.uniform(0.5, 1.2) + rng.normal(0, 0.12, 3), 0.1, 0.9)
        tile[14:62, x0 + 4 : x0 + w] = colour
        for x in range(x0 + 30, x0 + w - 30, 13):
            if rng.random() < 0.8:
                h = int(rng.integers(10, 17))
                tile[38 - h : 38 + h // 2, x : x + 8] = 0.93 if colour.mean() < 0.6 else 0.1
        tile[72:214, x0 + 8 : x0 + 112] = np.linspace(0.42, 0.2, 142)[:, None, None] * np.array((0.9, 1.0, 1.05))
        for _ in range(6):
            x, y = int(rng.integers(x0 + 12, x0 + 100)), int(rng.integers(110, 200))
            tile[y : y + 12, x : x + 12] = rng.uniform(0.2, 0.8, 3)
        tile[72:250, x0 + 120 : x0 + 160] = colour * 0.45
    return _rgba(cv2.resize(tile, (512, 512)))


def planks(rng: np.random.Generator, gap: float, bar: int) -> np.ndarray:
    """A fence cut out of the plane: vertical boards or bars with two rails."""
    size = 256
    x = np.arange(size) % bar
    board = np.broadcast_to(x < bar * (1 - gap), (size, size)).copy()
    board[:10] = False
    board[30:52] = board[180:202] = True
    shade = (
        0.8 + 0.12 * np.repeat(rng.standard_normal(size // bar + 1), bar)[None, :size] + 0.06 * noise(rng, size, 16, 2)
    )
    shade[30:52] *= 0.9
    return _rgba(shade.astype(np.float32), (1, 1, 1), board.astype(np.float32))


def wheel() -> np.ndarray:
    """A car wheel: tyre, alloy rim with five spokes."""
    size = 128
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / 64 - 1
    r, a = np.hypot(x, y), np.arctan2(y, x)
    grey = np.where(r > 0.66, 0.09, 0.52)
    grey = np.where((r < 0.58) & (np.cos(5 * a) < 0.1) & (r > 0.16), 0.14, grey)
    return _rgba(grey.astype(np.float32), (1, 1, 1), (r < 0.98).astype(np.float32))


def bike_wheel() -> np.ndarray:
    """A bicycle wheel: tyre ring, hub, spokes thick enough to survive sampling."""
    size = 128
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / 64 - 1
    r, a = np.hypot(x, y), np.arctan2(y, x)
    spokes = np.abs(np.sin(6 * a)) * r < 0.09
    alpha = ((r < 0.98) & (r > 0.78)) | (r < 0.16) | (spokes & (r < 0.9))
    grey = np.where(r > 0.78, 0.1, 0.5)
    return _rgba(grey.astype(np.float32), (1, 1, 1), alpha.astype(np.float32))


def sign(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Prohibition disc, warning triangle, blue mandatory disc, or a yellow / blue direction board."""
    size = 128
    image = np.zeros((size, size, 4), np.float32)
    white, red, blue, black = (0.95, 0.95, 0.95, 1), (0.8, 0.08, 0.1, 1), (0.08, 0.25, 0.7, 1), (0.05, 0.05, 0.05, 1)
    if kind == 0:
        cv2.circle(image, (64, 64), 61, red, -1)
        cv2.circle(image, (64, 64), 44, white, -1)
        ink = np.zeros((size, size), np.uint8)
        cv2.putText(ink, str(rng.choice([30, 50, 70])), (34, 80), cv2.FONT_HERSHEY_DUPLEX, 1.5, 255, 5)
        image[ink > 127] = black
    elif kind == 1:
        cv2.fillPoly(image, [np.array([[64, 4], [124, 118], [4, 118]])], red)
        cv2.fillPoly(image, [np.array([[64, 36], [98, 102], [30, 102]])], white)
        cv2.rectangle(image, (60, 56), (68, 92), black, -1)
    elif kind == 2:
        cv2.circle(image, (64, 64), 61, white, -1)
        cv2.circle(image, (64, 64), 57, blue, -1)
        cv2.arrowedLine(image, (64, 104), (64, 26), white, 12, tipLength=0.4)
    else:
        board = (0.9, 0.75, 0.1, 1) if rng.random() < 0.5 else blue
        cv2.rectangle(image, (2, 2), (125, 125), board, -1)
        cv2.rectangle(image, (7, 7), (120, 120), white if board == blue else black, 3)
        for y in (34, 64, 94):
            cv2.line(image, (22, y), (int(rng.integers(60, 104)), y), white if board == blue else black, 9)
    return image


def coach_side(rng: np.random.Generator, stripe: Seq[float]) -> np.ndarray:
    """The side of a bus or tram in its paint's tint: window band with pillars and a coloured stripe."""
    tile = np.full((256, 256, 3), 0.95, np.float32)
    tile[44:132] = (0.12, 0.14, 0.17)
    for x in range(0, 256, 32):
        tile[44:132, x : x + 3] = 0.3
        tile[48:90, x + 6 : x + 26] *= rng.uniform(1.0, 2.4)
    tile[168:190] = np.asarray(stripe) * 0.9
    tile[246:] = 0.2
    return _rgba(tile)


def paint_all(rng: np.random.Generator, style: dict) -> Iterator[np.ndarray]:
    """The textures of one city, one by one in the order of `NAMES`."""
    green, kinds, accents = np.asarray(style["leaf"]), style["facades"], style["accents"]
    grey = np.full((8, 8), 1.0, np.float32)
    cloud = np.clip(0.5 + 0.28 * noise(rng, 256, 4, 6, 0.6), 0, 1)
    glass = np.linspace(1.0, 0.45, 64, dtype=np.float32)[:, None] * np.ones((1, 64), np.float32)
    hedge = 0.75 + 0.16 * noise(rng, 256, 32, 3, 0.8)
    grass = 0.8 + 0.09 * noise(rng, 256, 8, 4, 0.9)
    ads = np.kron(rng.uniform(0.15, 0.95, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.float32)
    yield _rgba(grey)
    yield asphalt(rng)
    yield _rgba(0.8 + 0.06 * noise(rng, 256, 64, 2, 1.0))
    yield _rgba(0.62 * _blocks(rng, 8, 4, 2, 0.05, bool(rng.random() < 0.5)))
    yield _rgba(0.5 * _blocks(rng, 16, 16, 3, 0.12, True))
    yield _rgba(grass)
    yield leaves(rng, green, 0.92)
    yield leaves(rng, green * (1.12, 1.0, 0.8), 0.8)
    yield _rgba(0.5 + 0.1 * noise(rng, 128, 12, 3), (0.72, 0.6, 0.48))
    yield from (facade(rng, kinds[i % len(kinds)]) for i in range(4))
    yield from (shop(rng, accents[i % len(accents)]) for i in range(2))
    yield _rgba(0.75 * _blocks(rng, 16, 16, 2, 0.10, True))
    yield _rgba(0.9 * _blocks(rng, 16, 8, 2, 0.12, True))
    yield _rgba(0.8 + 0.04 * noise(rng, 256, 8, 5, 0.7))
    yield planks(rng, 0.16, 32)
    yield planks(rng, 0.5, 32)
    yield wheel()
    yield bike_wheel()
    yield _rgba(glass)
    yield from (sign(rng, k) for k in range(4))
    yield coach_side(rng, accents[0])
    yield coach_side(rng, accents[-1])
    yield _rgba(cloud)
    yield _rgba(0.85 + 0.07 * noise(rng, 64, 6, 3))
    yield _rgba(hedge, green)
    yield _rgba(ads)


def build_atlas(textures: Iterable[np.ndarray]) -> Atlas:
    """Make the mip chains. Alpha keeps its coverage: each level is re-thresholded by the kernels at one half.

    Args:
        textures: float (S,S,4) in 0..1, S a power of two.
    """
    chunks, starts, logs, total = [], [], [], 0
    for texture in textures:
        image = np.asarray(texture, np.float32)
        cover = float(image[..., 3].mean())
        start, last = np.zeros(LEVELS, np.int64), int(np.log2(image.shape[0]))
        for level in range(last + 1):
            stored = image.copy()
            if 0.02 < cover < 0.98:  # scale alpha so that the share above one half stays the cover
                cut = float(np.quantile(stored[..., 3], 1 - cover))
                stored[..., 3] *= 0.5 / max(cut, 0.05)
            chunks.append(np.clip(stored * 255 + 0.5, 0, 255).astype(np.uint8).reshape(-1, 4))
            start[level:] = total
            total += len(chunks[-1])
            if level < last:
                image = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 4).mean((1, 3))
        starts.append(start)
        logs.append(last)
    return Atlas(np.concatenate(chunks), np.array(starts), np.array(logs, np.int64))
