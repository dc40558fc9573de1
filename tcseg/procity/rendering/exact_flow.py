"""Exact flow and visibility between two views of the scene, from the polygons' own homographies.

A pixel's surface point (u,v) on its rigid polygon is projected into the other view. It is hidden there when another
surface lies in front: the four samples about the landing point name the candidates, and a candidate's plane AND polygon
(AND cut-out) are evaluated at the exact landing point, for the plane alone marks false occlusions along kerbs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .raster import BONNET, SKY, cut_out, inside


class View(NamedTuple):
    """One rendered frame's visibility: everything that shading, flow and visibility read.

    Attributes:
        id_buffer: int16 (2H+1,2W+1) polygon, `SKY` or `BONNET`.
        world: float64 (N,12). forward, inverse: float64 (N,9) homographies.
        drawn: bool (N,) whether `inverse` is valid.
        kr: float64 (3,3) K R. centre: float64 (3,) camera in the world.
    """

    id_buffer: np.ndarray
    world: np.ndarray
    forward: np.ndarray
    inverse: np.ndarray
    drawn: np.ndarray
    kr: np.ndarray
    centre: np.ndarray


@njit(cache=True, nogil=True)
def hidden(j, x, y, iz, inverse, drawn, corners, count, uv, ids, atlas):
    """Whether polygon j covers the point that lands at image point (x,y) with inverse depth iz."""
    if not drawn[j]:
        return False
    g = inverse[j]
    jz = g[6] * x + g[7] * y + g[8]
    if jz <= iz * 1.0005 + 1e-7:
        return False
    u, v = (g[0] * x + g[1] * y + g[2]) / jz, (g[3] * x + g[4] * y + g[5]) / jz
    if not inside(corners[j], count[j], u, v, 0.002):
        return False
    if ids[j, 4] & 1:
        return cut_out(g, uv[j], x, y, jz, ids[j, 3], atlas[0], atlas[1], atlas[2])
    return True


@njit(cache=True, nogil=True)
def trace(
    buffer_a, inverse_a, buffer_b, forward_b, inverse_b, drawn_b, turn, corners, count, uv, ids, atlas, flow, visible
):
    """Fill flow (2,H,W) from view a to view b and visible (H,W); turn (3,3) maps directions' image points a -> b."""
    rows, cols = visible.shape
    for py in range(rows):
        for px in range(cols):
            i = buffer_a[2 * py + 1, 2 * px + 1]
            x, y = px + 0.5, py + 0.5
            if i == BONNET:
                flow[0, py, px] = flow[1, py, px] = 0.0
                visible[py, px] = True
                continue
            if i == SKY:
                a = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2]
                b = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2]
                w = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2]
                iz = 0.0
            else:
                g, h = inverse_a[i], forward_b[i]
                s = g[6] * x + g[7] * y + g[8]
                u, v = (g[0] * x + g[1] * y + g[2]) / s, (g[3] * x + g[4] * y + g[5]) / s
                a, b, w = h[0] * u + h[1] * v + h[2], h[3] * u + h[4] * v + h[5], h[6] * u + h[7] * v + h[8]
                iz = 1.0 / max(w, 1e-6)
            if w <= 1e-6:
                flow[0, py, px] = flow[1, py, px] = 0.0
                visible[py, px] = False
                continue
            qx, qy = a / w, b / w
            flow[0, py, px], flow[1, py, px] = qx - x, qy - y
            if not (qx >= 0 and qy >= 0 and qx < cols and qy < rows):
                visible[py, px] = False
                continue
            visible[py, px] = True
            row, col = int(2 * qy), int(2 * qx)
            for k in range(4):  # the four samples about the landing point name the candidates
                j = buffer_b[row + k // 2, col + k % 2]
                if j == BONNET:
                    visible[py, px] = False
                    break
                if j == SKY or j == i:  # noqa: SIM109  (numba knows no `in` here)
                    continue
                if hidden(j, qx, qy, iz, inverse_b, drawn_b, corners, count, uv, ids, atlas):
                    visible[py, px] = False
                    break


def flow_and_visibility(a: View, b: View, polygons: tuple, atlas: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of view a lies in view b.

    Returns:
        flow float32 (2,H,W) in pixels, x first; visible bool (H,W), False where the point leaves the
        image or is covered.
    """
    rows, cols = a.id_buffer.shape[0] // 2, a.id_buffer.shape[1] // 2
    flow, visible = np.empty((2, rows, cols), np.float32), np.empty((rows, cols), np.bool_)
    turn = b.kr @ np.linalg.inv(a.kr)
    trace(
        a.id_buffer, a.inverse, b.id_buffer, b.forward, b.inverse, b.drawn, turn,
        polygons.corners, polygons.count, polygons.uv, polygons.ids, atlas, flow, visible,
    )  # fmt: skip
    return flow, visible
