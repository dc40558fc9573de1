"""Colour in numba: deferred shading of the id buffer with mip-mapped textures, light, shadow maps and haze.

A pixel whose 3x3 samples agree is shaded once; at an edge each surface is shaded once, at the mean of its samples, and
weighted by the tent filter 1-2-1 (multisampling).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .raster import BONNET, SKY

DETAIL, GLASS, CLOUD = 2, 22, 29
"""Rows of `textures.NAMES`; a test holds them."""


@njit(cache=True, nogil=True)
def texel(texels, start, log_size, texture, tu, tv, level, out):
    """Trilinear RGB in 0..255 of a wrapping texture."""
    level = min(max(level, 0.0), float(log_size[texture]))
    low = int(level)
    part = level - low
    out[0] = out[1] = out[2] = 0.0
    for step in range(2):
        weight = part if step else 1.0 - part
        if weight < 1e-3:
            continue
        mip = min(low + step, log_size[texture])
        size = 1 << (log_size[texture] - mip)
        x, y = tu * size - 0.5, (1.0 - tv) * size - 0.5
        xf, yf = np.floor(x), np.floor(y)
        fx, fy = x - xf, y - yf
        x0, y0 = int(xf) & (size - 1), int(yf) & (size - 1)
        x1, y1 = (x0 + 1) & (size - 1), (y0 + 1) & (size - 1)
        base = start[texture, mip]
        a, b, c, d = base + y0 * size + x0, base + y0 * size + x1, base + y1 * size + x0, base + y1 * size + x1
        wa, wb, wc, wd = (1 - fx) * (1 - fy) * weight, fx * (1 - fy) * weight, (1 - fx) * fy * weight, fx * fy * weight
        for k in range(3):
            out[k] += wa * texels[a, k] + wb * texels[b, k] + wc * texels[c, k] + wd * texels[d, k]


@njit(cache=True, nogil=True)
def penumbra(soft):
    """Offsets (12,2) in map pixels at which an overcast sky's wide shadows are sampled: a sunflower of radius `soft`."""
    ring = np.empty((12, 2))
    for k in range(12):
        r = soft * np.sqrt((k + 0.5) / 12)
        ring[k, 0], ring[k, 1] = r * np.cos(2.4 * k), r * np.sin(2.4 * k)
    return ring


@njit(cache=True, nogil=True)
def lit(height, frame, x, y, z, soft, ring):
    """Share of the light (0..1) that reaches a world point, from one shadow map; outside the map all of it."""
    size = height.shape[0]
    cx = frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z + frame[0, 3]
    cy = frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z + frame[1, 3]
    cz = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z + frame[2, 3]
    if soft > 1.5:  # wide penumbra of an overcast sky: a ring of taps
        total = 0.0
        for k in range(12):
            ix, iy = int(cx + ring[k, 0] + 0.5), int(cy + ring[k, 1] + 0.5)
            if ix < 0 or iy < 0 or ix >= size or iy >= size:
                total += 1.0
            else:
                gap = height[iy, ix] - cz
                total += 1.0 if gap < 0.05 else max(0.0, 1.0 - 0.6 * min(1.0, 3.0 / (gap + 1.0) + 0.1))
        return total / 12
    if not (cx >= 1 and cy >= 1 and cx < size - 2 and cy < size - 2):
        return 1.0
    ix, iy = int(cx), int(cy)
    fx, fy = cx - ix, cy - iy
    total = 0.0
    for j in range(2):
        for i in range(2):
            if height[iy + j, ix + i] <= cz + 0.07:
                total += (fx if i else 1 - fx) * (fy if j else 1 - fy)
    return total


@njit(cache=True, nogil=True)
def sky_colour(dx, dy, dz, light, texels, start, log_size, out):
    """Sky in direction d (world): gradient from horizon to zenith, clouds on a plane, glow about the sun."""
    up = dz / np.sqrt(dx * dx + dy * dy + dz * dz)
    ramp = min(1.0, max(0.0, up) * 1.7) ** 0.6
    cloud = 0.0
    if up > 0.01:
        texel(texels, start, log_size, CLOUD, dx / dz * 0.045, dy / dz * 0.045, 0.3 / (up + 0.02) * 0.25, out)
        cloud = min(1.0, max(0.0, (out[0] / 255.0 - 1.0 + light[18]) * 3.0)) * min(1.0, up * 8.0)
    sun = (dx * light[0] + dy * light[1] + dz * light[2]) / np.sqrt(dx * dx + dy * dy + dz * dz)
    glow = light[19] * max(0.0, sun) ** 24
    for k in range(3):
        base = light[9 + k] * (1 - ramp) + light[12 + k] * ramp
        base += cloud * (light[15 + k] - base)
        out[k] = base + glow * light[3 + k] * 0.8


@njit(cache=True, nogil=True, forceinline=True)
def albedo(i, u, v, slope, point, uv, tint, ids, atlas, out, scratch):
    """Texture times tint at (u,v); slope = du/dx, du/dy, dv/dx, dv/dy in metres a pixel."""
    texels, start, log_size = atlas
    texture, flags = ids[i, 3], ids[i, 4]
    ux, uy, vx, vy = slope
    if texture == 0:
        out[0] = out[1] = out[2] = 255.0
    else:
        side = float(1 << log_size[texture])
        ax = np.sqrt((ux * uv[i, 0]) ** 2 + (vx * uv[i, 1]) ** 2) * side
        ay = np.sqrt((uy * uv[i, 0]) ** 2 + (vy * uv[i, 1]) ** 2) * side
        big, small = max(ax, ay, 1e-6), max(min(ax, ay), 1e-6)
        level = 0.6 * np.log2(big) + 0.4 * np.log2(small)
        if flags & 8:  # the ground's texture runs on over its pieces
            texel(texels, start, log_size, texture, point[0] * uv[i, 0], point[1] * uv[i, 1], level, out)
        else:
            texel(texels, start, log_size, texture, u * uv[i, 0] + uv[i, 2], v * uv[i, 1] + uv[i, 3], level, out)
    if flags & 8:  # ground: grain that fades out with distance
        footprint = max(np.sqrt(ux * ux + vx * vx), np.sqrt(uy * uy + vy * vy))
        detail = np.log2(max(footprint / 1.7 * 256.0, 1e-6))
        if detail < 6.0:
            texel(texels, start, log_size, DETAIL, point[0] / 1.7, point[1] / 1.7, detail, scratch)
            for k in range(3):
                out[k] *= scratch[0] / 204.0
    for k in range(3):
        out[k] *= tint[i, k] / 255.0


@njit(cache=True, nogil=True, forceinline=True)
def illuminate(texture, flags, normal, point, way, distance, light, maps, frames, ring, out):
    """Sun and sky on a surface, and the sky's reflection on paint and glass; way = point - camera."""
    nx, ny, nz = normal
    away = nx * way[0] + ny * way[1] + nz * way[2] > 0
    if away and flags & 2 and not flags & 1:
        nx, ny, nz = -nx, -ny, -nz
    facing = nx * light[0] + ny * light[1] + nz * light[2]
    if flags & 1 and not flags & 16:  # leaves and grilles let light through
        facing = 0.35 + 0.65 * facing
    sun = 0.0
    if facing > 0.0:
        x, y, z = point[0] + 0.09 * nx, point[1] + 0.09 * ny, point[2] + 0.09 * nz
        standing = lit(maps[0], frames[0], x, y, z, light[22], ring)
        sun = facing * min(standing, lit(maps[1], frames[1], x, y, z, light[22], ring))
    dome = 0.78 + 0.22 * nz
    for k in range(3):
        out[k] *= light[6 + k] * dome + light[3 + k] * sun
    if flags & 32:
        back = 2.0 * (nx * way[0] + ny * way[1] + nz * way[2])
        rz = (way[2] - back * nz) / distance
        grazing = 1.0 - abs(back) * 0.5 / distance
        mirror = (0.04 + 0.5 * grazing**4) * light[24] if texture != GLASS else 0.10 + 0.5 * grazing**3
        sky = min(1.0, max(0.0, rz * 2.2 + 0.25))
        for k in range(3):
            out[k] += mirror * (light[9 + k] * sky + 0.16 * light[6 + k] * (1 - sky) - out[k])


@njit(cache=True, nogil=True)
def shade_point(i, x, y, world, inverse, uv, tint, ids, centre, light, maps, frames, ring, atlas, out, scratch):
    """Linear-ish RGB (about 0..1) of polygon i at image point (x,y).

    light (25,): sun direction 3, sun colour 3, ambient 3, horizon 3, zenith 3, cloud 3, cloud cover, glow, haze per
    metre, wetness, softness of shadows, lamp gain, gloss.
    """
    g, w, flags = inverse[i], world[i], ids[i, 4]
    iz = g[6] * x + g[7] * y + g[8]
    z = 1.0 / max(iz, 1e-6)
    u, v = (g[0] * x + g[1] * y + g[2]) * z, (g[3] * x + g[4] * y + g[5]) * z
    slope = ((g[0] - u * g[6]) * z, (g[1] - u * g[7]) * z, (g[3] - v * g[6]) * z, (g[4] - v * g[7]) * z)
    point = (w[0] + u * w[3] + v * w[6], w[1] + u * w[4] + v * w[7], w[2] + u * w[5] + v * w[8])
    albedo(i, u, v, slope, point, uv, tint, ids, atlas, out, scratch)
    way = (point[0] - centre[0], point[1] - centre[1], point[2] - centre[2])
    distance = np.sqrt(way[0] * way[0] + way[1] * way[1] + way[2] * way[2])
    if flags & 4:
        for k in range(3):
            out[k] *= light[23]
    else:
        illuminate(ids[i, 3], flags, (w[9], w[10], w[11]), point, way, distance, light, maps, frames, ring, out)
    if light[21] > 0.0 and flags & 8:  # wet ground is darker and mirrors the sky at grazing angles
        grazing = 1.0 - abs(way[2]) / distance
        mirror = light[21] * (0.06 + 0.7 * grazing**5)
        for k in range(3):
            dark = out[k] * (1.0 - 0.4 * light[21])
            out[k] = dark + mirror * (light[9 + k] * 0.85 - dark)
    haze = 1.0 - np.exp(-light[20] * distance)
    for k in range(3):
        out[k] += haze * (light[9 + k] - out[k])


@njit(cache=True, nogil=True)
def shade(id_buffer, world, inverse, uv, tint, ids, ray, centre, light, maps, frames, atlas, bonnet, image):
    """Colour image (H,W,3) float32, about 0..1, from the id buffer; ray (3,3) maps (x,y,1) to a world direction.

    bonnet (rows,W,3) holds the lowest rows only.
    """
    bonnet_top = image.shape[0] - bonnet.shape[0]
    ring = penumbra(light[22])
    out, scratch = np.zeros(3), np.zeros(3)
    seen, weights = np.empty(9, np.int64), np.empty(9)
    sx, sy = np.empty(9), np.empty(9)
    for py in range(image.shape[0]):
        for px in range(image.shape[1]):
            row, col = 2 * py + 1, 2 * px + 1
            n = 0
            for j in range(-1, 2):
                for i in range(-1, 2):
                    poly = id_buffer[row + j, col + i]
                    weight = (2 - abs(j)) * (2 - abs(i)) / 16.0
                    k = 0
                    while k < n and seen[k] != poly:
                        k += 1
                    if k == n:
                        seen[n], weights[n], sx[n], sy[n] = poly, 0.0, 0.0, 0.0
                        n += 1
                    weights[k] += weight
                    sx[k] += weight * 0.5 * (col + i)
                    sy[k] += weight * 0.5 * (row + j)
            r = g = b = 0.0
            for k in range(n):
                x, y = sx[k] / weights[k], sy[k] / weights[k]
                if seen[k] == SKY:
                    dx = ray[0, 0] * x + ray[0, 1] * y + ray[0, 2]
                    dy = ray[1, 0] * x + ray[1, 1] * y + ray[1, 2]
                    dz = ray[2, 0] * x + ray[2, 1] * y + ray[2, 2]
                    sky_colour(dx, dy, dz, light, atlas[0], atlas[1], atlas[2], out)
                elif seen[k] == BONNET:
                    colour = bonnet[py - bonnet_top, px]
                    out[0], out[1], out[2] = colour[0], colour[1], colour[2]
                else:
                    shade_point(
                        seen[k],
                        x,
                        y,
                        world,
                        inverse,
                        uv,
                        tint,
                        ids,
                        centre,
                        light,
                        maps,
                        frames,
                        ring,
                        atlas,
                        out,
                        scratch,
                    )
                r += weights[k] * out[0]
                g += weights[k] * out[1]
                b += weights[k] * out[2]
            image[py, px, 0], image[py, px, 1], image[py, px, 2] = r, g, b
