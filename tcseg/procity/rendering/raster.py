"""Visibility in numba: placing, projecting and rasterising polygons, texture lookups, shadow maps.

Everything is sampled on a half-pixel grid (2H+1, 2W+1): sample (j,i) lies at image coordinates (i/2, j/2), so pixel
centres are the odd samples and carry the truth; the 3x3 samples around one give its antialiased colour.
With A = inv(K R [U V P0-C]), A (x,y,1) = (u,v,1)/z: edges, 1/z and texture coordinates are linear in the image.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SKY, BONNET = -1, -2
"""Values in the id buffer that are not polygons."""
NEAR = 0.12
CRACK = 0.002
"""Every edge is moved out by this many metres, so that adjacent strips leave no cracks in float arithmetic."""


@njit(cache=True, nogil=True)
def place(basis, normal, obj, poses, world):
    """Object frame -> world: world (N,12) = origin, U, V, normal."""
    for i in range(basis.shape[0]):
        m = poses[obj[i]]
        for r in range(3):
            for k in range(3):
                value = m[r, 0] * basis[i, k, 0] + m[r, 1] * basis[i, k, 1] + m[r, 2] * basis[i, k, 2]
                world[i, 3 * k + r] = value + (m[r, 3] if k == 0 else 0.0)
            world[i, 9 + r] = m[r, 0] * normal[i, 0] + m[r, 1] * normal[i, 1] + m[r, 2] * normal[i, 2]


@njit(cache=True, nogil=True)
def project(world, kr, centre, flags, forward, inverse, key):
    """Homographies plane -> image (N,9) and back (N,9); key (N,) sorts front to back, negative = not to be drawn."""
    for i in range(world.shape[0]):
        px, py, pz = world[i, 0] - centre[0], world[i, 1] - centre[1], world[i, 2] - centre[2]
        for r in range(3):
            a, b, c = kr[r, 0], kr[r, 1], kr[r, 2]
            forward[i, 3 * r] = a * world[i, 3] + b * world[i, 4] + c * world[i, 5]
            forward[i, 3 * r + 1] = a * world[i, 6] + b * world[i, 7] + c * world[i, 8]
            forward[i, 3 * r + 2] = a * px + b * py + c * pz
        h = forward[i]
        c0 = h[4] * h[8] - h[5] * h[7]
        c1 = h[5] * h[6] - h[3] * h[8]
        c2 = h[3] * h[7] - h[4] * h[6]
        det = h[0] * c0 + h[1] * c1 + h[2] * c2
        scale = abs(h[0]) + abs(h[1]) + abs(h[2]) + abs(h[4]) + abs(h[5]) + 1e-9
        # kr has a positive determinant, so det has the sign of (U x V) . (P0 - C): negative = we see its front
        if (det > 0 and not flags[i] & 2) or abs(det) < 1e-9 * scale:
            key[i] = -1.0
            continue
        d = 1.0 / det
        g = inverse[i]
        g[0], g[3], g[6] = c0 * d, c1 * d, c2 * d
        g[1], g[4], g[7] = (
            (h[2] * h[7] - h[1] * h[8]) * d,
            (h[0] * h[8] - h[2] * h[6]) * d,
            (h[1] * h[6] - h[0] * h[7]) * d,
        )
        g[2], g[5], g[8] = (
            (h[1] * h[5] - h[2] * h[4]) * d,
            (h[2] * h[3] - h[0] * h[5]) * d,
            (h[0] * h[4] - h[1] * h[3]) * d,
        )
        key[i] = px * px + py * py + pz * pz


@njit(cache=True, nogil=True)
def alpha_at(texels, start, log_size, texture, tu, tv, level):
    """Alpha (0..255) of the nearest texel at a whole mip level."""
    level = min(max(level, 0), log_size[texture])
    size = 1 << (log_size[texture] - level)
    x = int(np.floor(tu * size)) & (size - 1)
    y = int(np.floor((1.0 - tv) * size)) & (size - 1)
    return texels[start[texture, level] + y * size + x, 3]


@njit(cache=True, nogil=True)
def cut_out(g, uv, x, y, iz, texture, texels, start, log_size):
    """Whether the cut-out texture is solid at image point (x,y); the mip level follows the footprint."""
    u = (g[0] * x + g[1] * y + g[2]) / iz
    v = (g[3] * x + g[4] * y + g[5]) / iz
    side = 1 << log_size[texture]
    ux, uy = (g[0] - u * g[6]) / iz * uv[0] * side, (g[1] - u * g[7]) / iz * uv[0] * side
    vx, vy = (g[3] - v * g[6]) / iz * uv[1] * side, (g[4] - v * g[7]) / iz * uv[1] * side
    area = abs(ux * vy - uy * vx) * 0.25
    level = int(0.5 * np.log2(area + 1e-9) + 0.5) if area > 1.0 else 0
    return alpha_at(texels, start, log_size, texture, u * uv[0] + uv[2], v * uv[1] + uv[3], level) >= 128


@njit(cache=True, nogil=True)
def inside(corners, count, u, v, slack):
    """Whether (u,v) lies in the convex polygon widened by slack metres."""
    for k in range(count):
        m = k + 1 if k + 1 < count else 0
        du, dv = corners[m, 0] - corners[k, 0], corners[m, 1] - corners[k, 1]
        e = du * (v - corners[k, 1]) - dv * (u - corners[k, 0])
        if e < -slack * np.sqrt(du * du + dv * dv):
            return False
    return True


@njit(cache=True, nogil=True)
def bounds(h, corners, count, box):
    """Image box (x0,y0,x1,y1) of a polygon after clipping at the near plane; False when it is behind the camera."""
    box[0], box[1], box[2], box[3] = 1e30, 1e30, -1e30, -1e30
    seen = False
    m = count - 1
    mz = h[6] * corners[m, 0] + h[7] * corners[m, 1] + h[8]
    for k in range(count):
        kz = h[6] * corners[k, 0] + h[7] * corners[k, 1] + h[8]
        for end in range(2):
            if end == 0:
                if kz < NEAR:
                    continue
                u, v, z = corners[k, 0], corners[k, 1], kz
            else:
                if (kz < NEAR) == (mz < NEAR):
                    continue
                f = (NEAR - mz) / (kz - mz)
                u = corners[m, 0] + f * (corners[k, 0] - corners[m, 0])
                v = corners[m, 1] + f * (corners[k, 1] - corners[m, 1])
                z = NEAR
            x = (h[0] * u + h[1] * v + h[2]) / z
            y = (h[3] * u + h[4] * v + h[5]) / z
            box[0], box[1] = min(box[0], x), min(box[1], y)
            box[2], box[3] = max(box[2], x), max(box[3], y)
            seen = True
        m, mz = k, kz
    return seen


@njit(cache=True, nogil=True)
def span(g, corners, n, y, left, right):
    """Columns (left, right) of the half-pixel grid that a polygon covers in image row y; left > right when none."""
    for k in range(n + 1):
        if k == n:  # in front of the near plane
            a, c = g[6], g[7] * y + g[8] - 1e-4
        else:
            m = k + 1 if k + 1 < n else 0
            du, dv = corners[m, 0] - corners[k, 0], corners[m, 1] - corners[k, 1]
            e = dv * corners[k, 0] - du * corners[k, 1] + CRACK * np.sqrt(du * du + dv * dv)
            a = du * g[3] - dv * g[0] + e * g[6]
            c = (du * g[4] - dv * g[1] + e * g[7]) * y + du * g[5] - dv * g[2] + e * g[8]
        if a > 1e-12:
            left = max(left, -2 * c / a)
        elif a < -1e-12:
            right = min(right, -2 * c / a)
        elif c < 0:
            return 1.0, 0.0
    return left, right


@njit(cache=True, nogil=True)
def raster(order, forward, inverse, corners, count, uv, bias, ids, texels, start, log_size, id_buffer, depth):
    """Fill id_buffer (int16) and depth (float32, 1/z, 0 = nothing) on the half-pixel grid; order runs front to back."""
    rows, cols = id_buffer.shape
    box = np.empty(4)
    for index in range(order.shape[0]):
        i = order[index]
        h, g, n = forward[i], inverse[i], count[i]
        if not bounds(h, corners[i], n, box):
            continue
        y0, y1 = max(int(np.ceil(2 * box[1])) - 1, 0), min(int(np.floor(2 * box[3])) + 1, rows - 1)
        if box[2] < 0 or 2 * box[0] > cols - 1 or y0 > y1:
            continue
        texture, test = ids[i, 3], ids[i, 4] & 1
        gain = 1.0 + bias[i]
        for row in range(y0, y1 + 1):
            y = 0.5 * row
            left, right = max(2 * box[0] - 1.0, 0.0), min(2 * box[2] + 1.0, cols - 1.0)
            left, right = span(g, corners[i], n, y, left, right)
            for col in range(int(np.ceil(left)), int(np.floor(right)) + 1):
                x = 0.5 * col
                iz = g[6] * x + g[7] * y + g[8]
                if iz * gain > depth[row, col]:
                    if test and not cut_out(g, uv[i], x, y, iz, texture, texels, start, log_size):
                        continue
                    depth[row, col] = iz * gain
                    id_buffer[row, col] = i


@njit(cache=True, nogil=True)
def light_axes(w, frame, f0, fu, fv):
    """A polygon's origin and axes in a shadow map: (column, row, height) and their change a metre along U and V."""
    for r in range(3):
        f0[r], fu[r], fv[r] = frame[r, 3], 0.0, 0.0
        for d in range(3):
            f0[r] += frame[r, d] * w[d]
            fu[r] += frame[r, d] * w[3 + d]
            fv[r] += frame[r, d] * w[6 + d]


@njit(cache=True, nogil=True)
def shadow_raster(chosen, world, corners, count, uv, ids, frame, texels, start, log_size, height):
    """Parallel projection along the light: height (S,S) keeps the largest value of the light axis.

    frame (3,4): world -> (column, row, height along the light) in map pixels, pixels, metres.
    """
    size = height.shape[0]
    p, f0, fu, fv = np.empty((8, 3)), np.empty(3), np.empty(3), np.empty(3)
    for index in range(chosen.shape[0]):
        i = chosen[index]
        w, n = world[i], count[i]
        x0, x1, y0, y1 = 1e30, -1e30, 1e30, -1e30
        for k in range(n):
            for r in range(3):
                a = frame[r, 3]
                for d in range(3):
                    a += frame[r, d] * (w[d] + corners[i, k, 0] * w[3 + d] + corners[i, k, 1] * w[6 + d])
                p[k, r] = a
            x0, x1 = min(x0, p[k, 0]), max(x1, p[k, 0])
            y0, y1 = min(y0, p[k, 1]), max(y1, p[k, 1])
        if x1 < 0 or y1 < 0 or x0 > size - 1 or y0 > size - 1:
            continue
        light_axes(w, frame, f0, fu, fv)
        det = fu[0] * fv[1] - fu[1] * fv[0]
        if abs(det) < 1e-3:
            continue
        texture, test = ids[i, 3], ids[i, 4] & 1
        for row in range(max(int(y0), 0), min(int(y1) + 1, size - 1) + 1):
            for col in range(max(int(x0), 0), min(int(x1) + 1, size - 1) + 1):
                dx, dy = col - f0[0], row - f0[1]
                u, v = (dx * fv[1] - dy * fv[0]) / det, (dy * fu[0] - dx * fu[1]) / det
                z = f0[2] + u * fu[2] + v * fv[2]
                if z > height[row, col] and inside(corners[i], n, u, v, 0.02):
                    if test:
                        a = alpha_at(
                            texels, start, log_size, texture, u * uv[i, 0] + uv[i, 2], v * uv[i, 1] + uv[i, 3], 2
                        )
                        if a < 128:
                            continue
                    height[row, col] = z
