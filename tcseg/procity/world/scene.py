"""A scene under construction: polygons, rigid parts and their paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .geometry import Mesh, Part, pose_matrix


@dataclass
class Scene:
    """Mesh and parts that the builders fill; object 0 is the world itself.

    Attributes:
        coach_tints: RGB paint of the city's buses and of its trams.
    """

    mesh: Mesh = field(default_factory=Mesh)
    parts: list[Part] = field(default_factory=lambda: [Part(pose=pose_matrix(0, 0, 0, 0))])
    coach_tints: tuple = ((0.9, 0.9, 0.9), (0.8, 0.2, 0.2))

    def static(self, x: float, y: float, z: float, heading: float, scale: float = 1.0) -> int:
        """A part that never moves."""
        self.parts.append(Part(pose=pose_matrix(x, y, z, heading, scale)))
        return len(self.parts) - 1

    def mover(self, path: Callable[[float], np.ndarray]) -> int:
        """A part whose pose (3,4) is a function of the frame."""
        self.parts.append(Part(path=path))
        return len(self.parts) - 1

    def limb(self, parent: int, pivot: tuple[float, float, float], swing: Callable[[float], float]) -> int:
        """A part that turns about its parent's y axis through the pivot."""
        self.parts.append(Part(parent=parent, pivot=tuple(pivot), swing=swing))
        return len(self.parts) - 1
