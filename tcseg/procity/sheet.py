"""A frame and its truth as pictures: labels, depth, flow and visibility."""

from __future__ import annotations

import cv2
import numpy as np

from tcseg.labels import CITYSCAPES_ROWS

from .sequence import Frame

_PALETTE = np.array([row.color for row in CITYSCAPES_ROWS if row.id >= 0], np.uint8)


def flow_colors(flow: np.ndarray, maximum: float | None = None) -> np.ndarray:
    """Flow (2,H,W) in pixels as uint8 (H,W,3) RGB: hue is its direction, strength its length; `maximum` px is full colour.

    Without `maximum`, all but the longest 2 % are below full colour; what is shorter than a pixel is never at full colour.
    """
    length, angle = cv2.cartToPolar(np.float32(flow[0]), np.float32(flow[1]), angleInDegrees=True)
    top = float(maximum or max(1.0, np.quantile(length, 0.98)))
    hsv = np.stack((angle, np.clip(length / top, 0, 1), np.ones_like(length)), -1)
    return (cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def panels(frame: Frame) -> dict[str, np.ndarray]:
    """A frame and its truth as pictures, uint8 (H,W,3) RGB: image, labels, depth (near = red), flow and visibility forward."""
    near = np.clip(3.0 / np.maximum(frame.depth, 3.0), 0, 1) ** 0.5
    depth = cv2.applyColorMap((near * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    covered = np.repeat((frame.visible_forward.astype(np.uint8) * 255)[..., None], 3, 2)
    return {
        "image": frame.image,
        "labels": _PALETTE[frame.label_ids],
        "depth": depth,
        "flow": flow_colors(frame.flow_forward),
        "visible": covered,
    }
