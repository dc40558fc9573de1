"""What makes real video flicker, on the finished picture: motion blur, rain, glare, exposure, sensor noise, JPEG.

Every effect has its own stream seeded by the frame, so any frame can be had without the ones before it. "overcast",
"haze", "dusk", "rain" and "glare" also change the light of the scene (`style.light_vector`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

from .layout import stream
from .style import WEATHERS, CityStyle

CAMERA = ("noise", "exposure", "blur", "jpeg")
EFFECTS = (*CAMERA, "overcast", "haze", "dusk", "rain", "glare")
"""Names of the switches."""


def choose(effects: bool | dict, style: CityStyle, city: str, seed: int) -> dict[str, float]:
    """Strengths of the effects of a snippet, 0..1; absent is off.

    Args:
        effects: True draws weather and camera from the city's mix, False is a clear day and a perfect camera, a dict
            switches single ones on (True or a strength).
        style: of the city.
        city: its name.
        seed: of the snippet.

    Raises:
        ValueError: an unknown effect or a strength outside 0..1.
    """
    if isinstance(effects, dict):
        for name, value in effects.items():
            if name not in EFFECTS:
                raise ValueError(f"effects has {name!r}; the switches are {', '.join(EFFECTS)}")
            if not 0 <= float(value) <= 1:
                raise ValueError(f"effects[{name!r}] is {value!r}; it must be True, False or a strength in 0..1")
        return {name: float(value) for name, value in effects.items() if value}
    if not effects:
        return {}
    rng = stream("effects", city, seed)
    kind = str(rng.choice(WEATHERS, p=style.weather))
    out = {name: float(rng.uniform(0.4, 1.0)) for name in CAMERA}
    strength = float(rng.uniform(0.5, 1.0))
    if kind != "sunny":
        out[kind] = strength
    return out


@njit(cache=True, nogil=True)
def _smear(image, flow, shutter, out):
    """Average along the motion of the exposure; the longest motion nearby decides, so fast things bleed."""
    rows, cols = image.shape[:2]
    for y in range(rows):
        for x in range(cols):
            u, v = flow[0, y, x] * shutter, flow[1, y, x] * shutter
            length = max(abs(u), abs(v))
            if length < 0.6:
                for k in range(3):
                    out[y, x, k] = image[y, x, k]
                continue
            taps = min(int(length) + 2, 11)
            for k in range(3):
                out[y, x, k] = 0.0
            for i in range(taps):
                f = i / (taps - 1.0) - 0.5
                sx = min(max(int(x + f * u + 0.5), 0), cols - 1)
                sy = min(max(int(y + f * v + 0.5), 0), rows - 1)
                for k in range(3):
                    out[y, x, k] += image[sy, sx, k] / taps


def _longest(flow: np.ndarray, reach: int) -> np.ndarray:
    """Per pixel the flow of largest magnitude within reach pixels (a tile maximum, spread)."""
    rows, cols = flow.shape[1:]
    size = np.hypot(flow[0], flow[1])
    h, w = -(-rows // reach), -(-cols // reach)
    tiles = (
        np.pad(size, ((0, h * reach - rows), (0, w * reach - cols))).reshape(h, reach, w, reach).transpose(0, 2, 1, 3)
    )
    best = tiles.reshape(h, w, -1).argmax(2)
    y, x = (
        np.minimum(np.arange(h)[:, None] * reach + best // reach, rows - 1),
        np.minimum(np.arange(w)[None] * reach + best % reach, cols - 1),
    )
    coarse = flow[:, y, x]
    spread = np.stack([cv2.resize(c, (cols, rows), interpolation=cv2.INTER_LINEAR) for c in coarse])
    far = np.hypot(spread[0], spread[1]) > size + 1.0
    return np.where(far[None], spread, flow).astype(np.float32)


def motion_blur(image: np.ndarray, flow: np.ndarray, strength: float) -> np.ndarray:
    """Smear float (H,W,3) along flow (2,H,W) px a frame; full strength opens the shutter for a third of a frame."""
    shutter = 0.33 * strength
    if np.abs(flow).max() * shutter < 0.6:
        return image
    out = np.empty_like(image)
    _smear(image, _longest(flow, max(4, image.shape[1] // 64)), shutter, out)
    return out


def rain_streaks(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Bright slanted streaks and a few drops on the windscreen."""
    rows, cols = image.shape[:2]
    layer = np.zeros((rows, cols), np.float32)
    for _ in range(int(170 * strength)):
        x, y, length = rng.uniform(0, cols), rng.uniform(-0.1 * rows, rows), rng.uniform(0.02, 0.09) * rows
        cv2.line(
            layer,
            (int(x), int(y)),
            (int(x + 0.12 * length), int(y + length)),
            float(rng.uniform(0.03, 0.10)),
            1,
            cv2.LINE_AA,
        )
    return image + layer[..., None] * (0.9 - image)


def exposure_curve(strength: float, key: tuple) -> np.ndarray:
    """Gain of each of the 30 frames: slow drift, small steps of the automatic exposure, sometimes one jump."""
    rng = stream("exposure", *key)
    t = np.arange(30)
    drift = 0.05 * np.sin(2 * np.pi * t / rng.uniform(20, 60) + rng.uniform(0, 6.28))
    steps = np.cumsum(rng.normal(0, 0.008, 30))
    jump = (rng.uniform(-0.14, 0.14) if rng.random() < 0.35 else 0.0) * (t >= rng.integers(4, 26))
    return np.exp(strength * (drift + steps - steps.mean() + jump))


def _glare(image: np.ndarray, strength: float, sun: tuple[float, float]) -> np.ndarray:
    """Veil and halo about the sun's pixel."""
    rows, cols = image.shape[:2]
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    r = np.hypot(x - sun[0], (y - sun[1]) * 1.2) / cols
    veil = strength * (0.42 * np.exp(-r * 4.5) + 0.5 * np.exp(-r * 22))
    return image + veil[..., None].astype(np.float32) * np.array((1.0, 0.93, 0.8), np.float32)


def _jpeg(image: np.ndarray, strength: float) -> np.ndarray:
    """Compressed and read back: quality 94 down to 60."""
    quality = int(94 - 34 * strength)
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def apply(
    image: np.ndarray,
    chosen: dict[str, float],
    t: int,
    flow: np.ndarray | None,
    sun: tuple[float, float] | None,
    key: tuple,
) -> np.ndarray:
    """Camera model: float (H,W,3) scene colours -> uint8 (H,W,3).

    Args:
        image: about 0..1, may exceed 1.
        chosen: strengths.
        t: frame.
        flow: float32 (2,H,W) forward flow for motion blur, or None.
        sun: pixel of the sun for glare, or None when it lies behind.
        key: (city, seed).
    """
    if "blur" in chosen and flow is not None:
        image = motion_blur(image, flow, chosen["blur"])
    if "rain" in chosen:
        image = rain_streaks(image, chosen["rain"], stream("rain", *key, t))
    if "glare" in chosen and sun is not None:
        image = _glare(image, chosen["glare"], sun)
    if "exposure" in chosen:
        image = image * np.float32(exposure_curve(chosen["exposure"], key)[t])
    image = np.maximum(image, 0)
    image = np.where(image > 0.75, 0.75 + 0.25 * np.tanh((image - 0.75) / 0.25), image)  # shoulder of the film curve
    if "noise" in chosen:
        rng = stream("noise", *key, t)
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        dark = 2.2 if "dusk" in chosen else 1.0
        image = image + chosen["noise"] * dark * (0.006 + 0.014 * np.sqrt(image)) * grain
    out = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return _jpeg(out, chosen["jpeg"]) if "jpeg" in chosen else out
