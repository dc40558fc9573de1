"""Street coordinates: s metres along the street, d metres to the right of its centre line, straight or with one bend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .geometry import GROUND, Mesh, Skin, pose_matrix

_BEFORE, _AFTER = 80, 420


class Street:
    """A middle line of constant or zero curvature, tabulated every metre.

    Args:
        x, y, heading: world pose of s = 0, metres and radians.
        bend: (first s, last s, curvature in 1/m) or None.
    """

    def __init__(self, x: float, y: float, heading: float, bend: tuple[float, float, float] | None = None) -> None:
        self.s = np.arange(-_BEFORE, _AFTER + 1, dtype=np.float64)
        curve = np.zeros_like(self.s)
        self.bend = bend
        if bend:
            curve = bend[2] * np.clip((self.s - bend[0]) / 12, 0, 1) * np.clip((bend[1] - self.s) / 12, 0, 1)
        turn = np.concatenate([[0], np.cumsum((curve[1:] + curve[:-1]) / 2)])
        self.heading = heading + turn - turn[_BEFORE]
        middle = (self.heading[1:] + self.heading[:-1]) / 2
        self.x = np.concatenate([[0], np.cumsum(np.cos(middle))])
        self.y = np.concatenate([[0], np.cumsum(np.sin(middle))])
        self.x += x - self.x[_BEFORE]
        self.y += y - self.y[_BEFORE]

    def angle(self, s: float) -> float:
        """Heading at s, radians."""
        return float(np.interp(s, self.s, self.heading))

    def point(self, s: float, d: float, z: float = 0.0) -> tuple[float, float, float]:
        """World point at (s, d, z)."""
        a = self.angle(s)
        x, y = np.interp(s, self.s, self.x), np.interp(s, self.s, self.y)
        return float(x + np.sin(a) * d), float(y - np.cos(a) * d), z

    def pose(self, s: float, d: float, z: float = 0.0, turn: float = 0.0) -> np.ndarray:
        """(3,4) pose heading along the street (plus turn, radians)."""
        return pose_matrix(*self.point(s, d, z), self.angle(s) + turn)

    def path(
        self, way: Callable[[float], float], d: float, z: float = 0.0, forth: int = 1
    ) -> Callable[[float], np.ndarray]:
        """Path of a mover at lateral offset d whose s is way(t); forth = -1 faces against s."""
        turn = 0.0 if forth > 0 else np.pi
        return lambda t: self.pose(way(t), d, z, turn)

    def cuts(self, s0: float, s1: float) -> np.ndarray:
        """Where to cut [s0, s1] so that every piece is straight enough: 30 m on straights, 4 m in the bend."""
        if not self.bend or s1 < self.bend[0] or s0 > self.bend[1]:
            n = max(1, int(np.ceil((s1 - s0) / 30)))
            return np.linspace(s0, s1, n + 1)
        n = max(1, int(np.ceil((s1 - s0) / 4)))
        return np.linspace(s0, s1, n + 1)

    def strip(self, mesh: Mesh, s0: float, s1: float, d0: float, d1: float, z: float, skin: Skin) -> None:
        """Horizontal ribbon between offsets d0 < d1; its texture runs on in world coordinates."""
        if s1 <= s0:
            return
        cuts = self.cuts(s0, s1)
        for a, b in zip(cuts, cuts[1:], strict=False):
            corners = (self.point(a, d1, z), self.point(b, d1, z), self.point(b, d0, z), self.point(a, d0, z))
            mesh.polygon(
                corners, Skin(skin.label, skin.texture, skin.tint, skin.scale, skin.flags | GROUND, skin.layer)
            )

    def kerb(self, mesh: Mesh, s0: float, s1: float, d: float, z0: float, z1: float, skin: Skin, side: int) -> None:
        """Upright ribbon at offset d that faces the middle line of the street (side = +1: it lies on the right)."""
        cuts = self.cuts(s0, s1)
        for a, b in zip(cuts, cuts[1:], strict=False):
            a, b = (a, b) if side < 0 else (b, a)
            # seen from the middle of the street, the bottom edge runs from left to right
            mesh.polygon((self.point(b, d, z0), self.point(a, d, z0), self.point(a, d, z1), self.point(b, d, z1)), skin)
