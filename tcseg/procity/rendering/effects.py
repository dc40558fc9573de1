"""Camera and weather effects on the finished image: motion blur, rain, glare, exposure, sensor noise, JPEG.

Every effect has its own stream seeded by the frame, so any frame can be had without the ones before it. "overcast",
"haze", "dusk", "rain" and "glare" also change the light of the scene (`style.light_vector`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

from tcseg.errors import InputError
from tcseg.procity.world.layout import stream
from tcseg.procity.world.style import WEATHERS, CityStyle

CAMERA = ("noise", "exposure", "blur", "jpeg")
EFFECTS = (*CAMERA, "overcast", "haze", "dusk", "rain", "glare")
"""Names of the switches."""
STRIP = 32  # rows that are developed at a time, so that no temporary is as large as the picture
GLARE_TINT = np.array((1.0, 0.93, 0.8), np.float32)


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
                raise InputError(f"effects contains {name!r}; the valid names are {', '.join(EFFECTS)}")
            if not 0 <= float(value) <= 1:
                raise InputError(f"effects[{name!r}] is {value!r}; it must be True, False or a strength in 0..1")
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
def _smear(image, flow, shutter, top, out):
    """Average along the motion of the exposure; the longest motion nearby decides, so fast things bleed.

    out (h,W,3) gets the image's rows top .. top + h.
    """
    rows, cols = image.shape[:2]
    for row in range(out.shape[0]):
        y = top + row
        for x in range(cols):
            u, v = flow[0, y, x] * shutter, flow[1, y, x] * shutter
            length = max(abs(u), abs(v))
            if length < 0.6:
                for k in range(3):
                    out[row, x, k] = image[y, x, k]
                continue
            taps = min(int(length) + 2, 11)
            for k in range(3):
                out[row, x, k] = 0.0
            for i in range(taps):
                f = i / (taps - 1.0) - 0.5
                sx = min(max(int(x + f * u + 0.5), 0), cols - 1)
                sy = min(max(int(y + f * v + 0.5), 0), rows - 1)
                for k in range(3):
                    out[row, x, k] += image[sy, sx, k] / taps


def _fastest(size: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the largest value of (H,W) in each tile of reach x reach pixels."""
    rows, cols = size.shape
    h, w = -(-rows // reach), -(-cols // reach)
    tiles = np.pad(size, ((0, h * reach - rows), (0, w * reach - cols))).reshape(h, reach, w, reach)
    best = tiles.transpose(0, 2, 1, 3).reshape(h, w, -1).argmax(2)
    y = np.minimum(np.arange(h)[:, None] * reach + best // reach, rows - 1)
    return y, np.minimum(np.arange(w)[None] * reach + best % reach, cols - 1)


def _longest(flow: np.ndarray, reach: int) -> np.ndarray:
    """Per pixel the flow of largest magnitude within reach pixels (a tile maximum, spread)."""
    rows, cols = flow.shape[1:]
    size = np.hypot(flow[0], flow[1])
    coarse = flow[(slice(None), *_fastest(size, reach))]
    spread = np.empty_like(flow)
    for here, there in zip(coarse, spread, strict=True):
        cv2.resize(here, (cols, rows), there, interpolation=cv2.INTER_LINEAR)
    size += 1.0
    np.copyto(spread, flow, where=np.hypot(spread[0], spread[1]) <= size)
    return spread


def smearing(flow: np.ndarray, strength: float) -> tuple[np.ndarray, float] | None:
    """What motion blur reads: flow (2,H,W) px a frame, the longest nearby, and the share of a frame the shutter is open.

    At full strength it is open for a third of a frame. None when nothing moves far enough to be smeared.
    """
    shutter = 0.33 * strength
    if max(flow.max(), -flow.min()) * shutter < 0.6:
        return None
    return _longest(flow, max(4, flow.shape[2] // 64)), shutter


def rain_streaks(size: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """How much light slanted streaks and a few drops on the windscreen put over each pixel: float32 (H,W,1), about 0..0.1."""
    rows, cols = size
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
    return layer[..., None]


def exposure_curve(strength: float, key: tuple) -> np.ndarray:
    """Gain of each of the 30 frames: slow drift, small steps of the automatic exposure, sometimes one jump."""
    rng = stream("exposure", *key)
    t = np.arange(30)
    drift = 0.05 * np.sin(2 * np.pi * t / rng.uniform(20, 60) + rng.uniform(0, 6.28))
    steps = np.cumsum(rng.normal(0, 0.008, 30))
    jump = (rng.uniform(-0.14, 0.14) if rng.random() < 0.35 else 0.0) * (t >= rng.integers(4, 26))
    return np.exp(strength * (drift + steps - steps.mean() + jump))


def glare_veil(size: tuple[int, int], strength: float, sun: tuple[float, float]) -> np.ndarray:
    """Veil and halo about the sun's pixel: float32 (H,W,1), about 0..1."""
    rows, cols = size
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    r = np.hypot(x - sun[0], (y - sun[1]) * 1.2) / cols
    veil = strength * (0.42 * np.exp(-r * 4.5) + 0.5 * np.exp(-r * 22))
    return veil[..., None].astype(np.float32)


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
    size = image.shape[:2]
    smear = smearing(flow, chosen["blur"]) if "blur" in chosen and flow is not None else None
    rain = rain_streaks(size, chosen["rain"], stream("rain", *key, t)) if "rain" in chosen else None
    veil = glare_veil(size, chosen["glare"], sun) if "glare" in chosen and sun is not None else None
    gain = np.float32(exposure_curve(chosen["exposure"], key)[t]) if "exposure" in chosen else None
    rng = stream("noise", *key, t)  # one stream from the first row to the last, whatever the height of a strip
    out = np.empty(image.shape, np.uint8)
    for top in range(0, size[0], STRIP):
        rows = slice(top, top + STRIP)
        light = image[rows]
        if smear is not None:
            light = np.empty_like(light)
            _smear(image, *smear, top, light)
        if rain is not None:
            light = light + rain[rows] * (0.9 - light)
        if veil is not None:
            light = light + veil[rows] * GLARE_TINT
        if gain is not None:
            light = light * gain
        out[rows] = _develop(light, chosen, rng)
    return _jpeg(out, chosen["jpeg"]) if "jpeg" in chosen else out


def _develop(light: np.ndarray, chosen: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Light that reaches the sensor, float (h,W,3) -> uint8: shoulder of the film curve, grain, rounding."""
    light = np.maximum(light, 0)
    light = np.where(light > 0.75, 0.75 + 0.25 * np.tanh((light - 0.75) / 0.25), light)
    if "noise" in chosen:
        grain = rng.standard_normal(light.shape, dtype=np.float32)
        dark = 2.2 if "dusk" in chosen else 1.0
        light = light + chosen["noise"] * dark * (0.006 + 0.014 * np.sqrt(light)) * grain
    return np.clip(light * 255 + 0.5, 0, 255).astype(np.uint8)
