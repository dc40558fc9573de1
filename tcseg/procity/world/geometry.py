"""Geometry: a city is a list of planar convex polygons, each fixed to an object that moves rigidly.

A polygon is (origin, U, V) in metres in its object's frame (x forward, y left, z up) and up to `MAX_VERTICES` corners
in (u, v), so that depth, texture coordinates and edges are all linear in the image. U x V points outwards.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tcseg.labels import CITYSCAPES_ROWS

from .textures import INDEX

MAX_VERTICES = 8
MAX_POLYGONS = 2**15
"""Ids are 16 bits wide in the id buffer; two negative ones are taken (`raster.SKY`, `raster.BONNET`)."""
CUTOUT, TWO_SIDED, EMISSIVE, GROUND, SOLID, GLOSS = 1, 2, 4, 8, 16, 32
"""Flags of a polygon: alpha-tested, seen from behind too, lit by itself, ground (gets micro detail and turns wet),
cut out but opaque to light, mirrors the sky."""
INSTANCED = frozenset(row.id for row in CITYSCAPES_ROWS if row.has_instances)


NO_NORMAL = (0.0, 0.0, 0.0)


def cross(a: Seq[float], b: Seq[float]) -> np.ndarray:
    """Cross product of two 3-vectors (numpy's own costs ten times more on single vectors)."""
    return np.array((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


class Polygons(NamedTuple):
    """All polygons of a scene as arrays (structure of arrays, N rows).

    Attributes:
        basis: float64 (N,3,3) rows origin, U, V in the object's frame, metres.
        normal: float64 (N,3) shading normal in the object's frame.
        corners: float64 (N,8,2) in metres on (U,V), counter-clockwise; the first `count` are valid.
        count: int64 (N,).
        uv: float64 (N,4) texture coordinate = (u,v) * uv[:2] + uv[2:].
        tint: float64 (N,3) multiplies the texture.
        bias: float64 (N,) relative depth bias of decals.
        ids: int64 (N,5) object, label id, instance id, texture, flags.
    """

    basis: np.ndarray
    normal: np.ndarray
    corners: np.ndarray
    count: np.ndarray
    uv: np.ndarray
    tint: np.ndarray
    bias: np.ndarray
    ids: np.ndarray


@dataclass
class Skin:
    """What a polygon looks like and what it is."""

    label: int
    texture: str = "white"
    tint: Seq[float] = (1.0, 1.0, 1.0)
    scale: float | tuple[float, float] | None = None
    """Metres that one repeat of the texture covers; None stretches it over the polygon's box once."""
    flags: int = 0
    layer: int = 0


@dataclass
class Mesh:
    """Collects polygons; `at` chooses the object, `thing` starts a new instance."""

    rows: list[tuple] = field(default_factory=list)
    obj: int = 0
    counters: dict[int, int] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)

    def at(self, obj: int) -> Mesh:
        """Following polygons belong to this object (row of the pose table)."""
        self.obj = obj
        return self

    def thing(self) -> None:
        """Following polygons are a new instance of their class (a rider and the bicycle are one instance each)."""
        self.current = {}

    def _instance(self, label: int) -> int:
        """Cityscapes' instance id: label id * 1000 + k for classes with instances, the label id for the others."""
        if label not in INSTANCED:
            return label
        if label not in self.current:
            self.counters[label] = self.current[label] = self.counters.get(label, -1) + 1
        return label * 1000 + self.current[label]

    def polygon(self, points: Seq[Seq[float]] | np.ndarray, skin: Skin, normal: Seq[float] | None = None) -> None:
        """A planar convex polygon; points (n,3) run counter-clockwise seen from outside, bottom edge first."""
        scale = skin.scale
        if scale is None:
            scale = (0.0, 0.0)
        elif isinstance(scale, (int, float)):
            scale = (scale, scale)
        ids = (self.obj, skin.label, self._instance(skin.label), INDEX[skin.texture], skin.flags)
        self.rows.append((points, NO_NORMAL if normal is None else normal, scale, skin.tint, skin.layer, ids))

    def box(self, low: Seq[float], high: Seq[float], skin: Skin, faces: str = "fblrt", top: Skin | None = None) -> None:
        """An axis-aligned box; faces: f(ront, +x) b(ack) l(eft, +y) r(ight) t(op) u(nder)."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        table = {
            "f": ((x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)),
            "b": ((x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)),
            "l": ((x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)),
            "r": ((x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)),
            "t": ((x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)),
            "u": ((x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)),
        }
        for face in faces:
            self.polygon(table[face], top if top is not None and face == "t" else skin)

    def tube(
        self, a: Seq[float], b: Seq[float], ra: float | tuple[float, float],
        rb: float | tuple[float, float], skin: Skin,        sides: int = 6, cap: bool = True,
    ) -> None:  # fmt: skip
        """A tapered prism from a to b; a radius may be (across 1, across 2), for vertical ones (along x, along y)."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        axis = (b - a) / np.linalg.norm(b - a)
        e1 = np.array((1.0, 0, 0)) if abs(axis[0]) < 0.9 else np.array((0, 0, 1.0))
        e1 = e1 - axis * (e1 @ axis)
        e1 /= np.linalg.norm(e1)
        e2 = cross(axis, e1)
        angle = (np.arange(sides) + 0.5) * 2 * np.pi / sides
        ring = np.cos(angle)[:, None] * e1, np.sin(angle)[:, None] * e2
        ra, rb = (ra, ra) if np.isscalar(ra) else ra, (rb, rb) if np.isscalar(rb) else rb
        low, high = a + ring[0] * ra[0] + ring[1] * ra[1], b + ring[0] * rb[0] + ring[1] * rb[1]
        for i in range(sides):
            j = (i + 1) % sides
            self.polygon((low[i], low[j], high[j], high[i]), skin)
        if cap:
            self.polygon(high, skin)

    def card(
        self, centre: Seq[float], right: Seq[float], up: Seq[float], skin: Skin, normal: Seq[float] | None = None
    ) -> None:
        """A parallelogram of half axes right and up around a centre."""
        c, r, u = (np.asarray(v, float) for v in (centre, right, up))
        self.polygon((c - r - u, c + r - u, c + r + u, c - r + u), skin, normal)

    def finish(self) -> Polygons:
        """The arrays that the kernels read; the mesh lets go of its own.

        Raises:
            OverflowError: more polygons than the id buffer can tell apart.
        """
        if len(self.rows) > MAX_POLYGONS:
            raise OverflowError(
                f"the scene has {len(self.rows)} polygons; at most {MAX_POLYGONS} fit the 16-bit id buffer"
            )
        points, normal, scale, tint, layer, ids = zip(*self.rows, strict=True)
        self.rows.clear()
        count = np.array([len(p) for p in points], np.int64)
        p = np.zeros((len(points), MAX_VERTICES, 3))
        p[np.arange(MAX_VERTICES)[None] < count[:, None]] = np.concatenate([np.asarray(q, np.float64) for q in points])
        u, n = p[:, 1] - p[:, 0], np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
        length, area = np.linalg.norm(u, axis=1), np.linalg.norm(n, axis=1)
        good = (length > 1e-6) & (area > 1e-9)
        u, n = u / np.maximum(length, 1e-12)[:, None], n / np.maximum(area, 1e-12)[:, None]
        v = np.cross(n, u)
        used = np.arange(MAX_VERTICES)[None, :, None] < count[:, None, None]
        flat = np.where(used, (p - p[:, :1]) @ np.stack([u, v], 2), 0.0)
        low = flat.min(1)
        span = np.maximum(flat.max(1) - low, 1e-6)
        size = np.array(scale, np.float64)
        fixed = size > 0
        uv = np.concatenate(
            [np.where(fixed, 1 / np.where(fixed, size, 1), 1 / span), np.where(fixed, 0, -low / span)], 1
        )
        normal = np.array(normal, np.float64)
        normal = np.where(normal.any(1, keepdims=True), normal, n)
        tail = np.array(tint, np.float64), np.array(layer) * 4e-5, np.array(ids, np.int64)
        table = (np.stack([p[:, 0], u, v], 1), normal, flat, count, uv, *tail)
        return Polygons(*(np.ascontiguousarray(a[good]) for a in table))


@dataclass
class Part:
    """One rigid object: static, a mover on a path, or a limb that swings about a pivot of its parent.

    Attributes:
        pose: float64 (3,4) of a static object in the world.
        path: t -> (3,4) pose of a mover, t in frames.
        parent: row of the parent for a limb or wheel (-1: none).
        pivot: metres in the parent's frame.
        swing: t -> angle in radians about the parent's y axis.
    """

    pose: np.ndarray | None = None
    path: object = None
    parent: int = -1
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    swing: object = None


def pose_matrix(x: float, y: float, z: float, heading: float, scale: float = 1.0) -> np.ndarray:
    """(3,4) pose: rotation by heading about z, then translation."""
    c, s = np.cos(heading), np.sin(heading)
    return np.array(((c * scale, -s * scale, 0, x), (s * scale, c * scale, 0, y), (0, 0, scale, z)), np.float64)


def poses_at(parts: Seq[Part], t: float) -> np.ndarray:
    """World poses (O,3,4) of all objects at frame t; a parent stands before its limbs."""
    out = np.empty((len(parts), 3, 4))
    for i, part in enumerate(parts):
        if part.parent >= 0:
            up = out[part.parent]
            a = part.swing(t)
            c, s = np.cos(a), np.sin(a)
            out[i, :, :3] = up[:, :3] @ np.array(((c, 0, s), (0, 1, 0), (-s, 0, c)))
            out[i, :, 3] = up[:, :3] @ np.asarray(part.pivot) + up[:, 3]
        elif part.path is not None:
            out[i] = part.path(t)
        else:
            out[i] = part.pose
    return out
