"""A snippet of 30 frames at 17 Hz: random access to pictures, labels, instances, depth, flow, visibility and camera.

Convention: image coordinates of pixel (row, column) are (column + 0.5, row + 0.5); flow is in pixels, x first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tcseg.errors import InputError
from tcseg.procity.world.geometry import poses_at
from tcseg.procity.world.scene import Scene
from tcseg.procity.world.style import light_vector, style_of
from tcseg.procity.world.traffic import Traffic, ego_way

from .rendering import effects as fx
from .rendering import exact_flow, raster, shading
from .world import layout, textures

FRAMES, ANNOTATED, FPS = 30, layout.ANNOTATED, 17.0
SHADOW_STATIC, SHADOW_MOVING = 1024, 512


@dataclass(frozen=True)
class Camera:
    """Another camera than the cities' own.

    Attributes:
        height: metres above the road; None = as the city's cars have it, 1.2 to 1.55.
        pitch: downwards, radians; None = 0.02 to 0.05.
        focal: focal length, in widths of the picture: 1.105 is the cities' (49 degrees wide), 0.6 sees 80 degrees.
    """

    height: float | None = None
    pitch: float | None = None
    focal: float = 1.105

    def __post_init__(self) -> None:
        if not 0.3 <= self.focal <= 5:
            raise InputError(f"focal is {self.focal}; it must be 0.3 to 5 widths of the picture, as 1.105")
        if self.height is not None and not 0.3 <= self.height <= 4:
            raise InputError(f"height is {self.height}; it must be 0.3 to 4 metres, as 1.4")
        if self.pitch is not None and abs(self.pitch) > 0.5:
            raise InputError(f"pitch is {self.pitch}; it must be -0.5 to 0.5 radians, as 0.03")


OWN = Camera()


@dataclass
class Frame:
    """One frame and its truth; everything but the picture is None when rendered with truth=False.

    Attributes:
        image: uint8 (H,W,3) RGB.
        label_ids: uint8 (H,W) Cityscapes ids 0..33.
        instance_ids: int32 (H,W) label id, or label id * 1000 + k.
        depth: float32 (H,W) metres along the optical axis, inf in the sky.
        flow_forward, flow_backward: float32 (2,H,W) px, where a pixel of t lies in t+1 / t-1; None beyond 0..29.
        visible_forward, visible_backward: bool (H,W) its point is in the other view and not covered.
        camera: intrinsics and pose.
    """

    image: np.ndarray
    label_ids: np.ndarray | None
    instance_ids: np.ndarray | None
    depth: np.ndarray | None
    flow_forward: np.ndarray | None
    flow_backward: np.ndarray | None
    visible_forward: np.ndarray | None
    visible_backward: np.ndarray | None
    camera: dict


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """(W, H) when both are multiples of 32 and W = 2 H, as networks and the camera need.

    Raises:
        ValueError: with the nearest size that works.
    """
    w, h = (int(v) for v in size)
    if w < 64 or h < 32 or w % 32 or h % 32 or w != 2 * h:
        near = max(32, 32 * round((w / 2 + h) / 64))
        raise InputError(f"size is {w}x{h}; both sides must be multiples of 32 and W = 2 H: use size=({2 * near}, {near})")
    return w, h


@lru_cache(maxsize=1)
def city_atlas(city: str) -> textures.Atlas:
    """The textures of a city; those of the last one are kept, as snippets are written city by city (16 MB each)."""
    style = style_of(city)
    table = {"leaf": style.leaf, "facades": style.facades, "accents": style.accents}
    return textures.build_atlas(textures.paint_all(layout.stream("textures", city), table))


class Sequence:
    """One snippet of a city.

    Args:
        city: a name of `CITIES`.
        seed: >= 0; the content depends on nothing but (city, seed).
        size: (W, H), multiples of 32 with W = 2 H.
        effects: True: weather and camera of the city; False: clear day, perfect camera; dict: single switches.
        camera: another camera than the city's cars have.
    """

    def __init__(
        self,
        city: str,
        seed: int,
        size: tuple[int, int] = (512, 256),
        effects: bool | dict = True,
        camera: Camera = OWN,
    ) -> None:
        style = style_of(city)
        if int(seed) < 0:
            raise InputError(f"seed is {seed}; it must be 0 or more")
        self.city, self.seed, self.size = city, int(seed), check_size(size)
        self.effects = fx.choose(effects, style, city, self.seed)
        self.way, standing = ego_way(city, self.seed)
        self.plan = layout.plan(city, self.seed, style, self.way(ANNOTATED), standing)
        self.plan.dusk = "dusk" in self.effects
        accents = np.array(style.accents)
        paint = layout.stream("coach", city).permutation(2)
        scene = Scene(coach_tints=(0.35 + 0.6 * accents[paint[0]], 0.15 + 0.8 * accents[paint[1]]))
        layout.build(scene, self.plan, city, self.seed, style)
        self._traffic = Traffic(scene, self.plan, city, self.seed, style.crowd)
        self._traffic.populate()
        self.parts, self.polygons = scene.parts, scene.mesh.finish()
        self.atlas = tuple(city_atlas(city))
        self.light = light_vector(layout.stream("light", city, self.seed), self.effects, 0.0)
        self._camera_stream(camera)
        self._bonnet()
        self._views: OrderedDict[int, tuple] = OrderedDict()
        self._shadow()

    def _camera_stream(self, camera: Camera) -> None:
        """Mounting and sway of the camera."""
        rng = layout.stream("camera", self.city, self.seed)
        w, h = self.size
        focal = camera.focal * w
        self.k = np.array(((focal, 0, 0.5 * w), (0, focal, 0.5 * h), (0, 0, 1.0)))
        self.mount = (rng.uniform(1.2, 1.55), rng.uniform(0.02, 0.05), rng.normal(0, 0.01))
        asked = (camera.height, camera.pitch, None)
        self.mount = tuple(own if one is None else one for one, own in zip(asked, self.mount, strict=True))
        self.sway = rng.uniform(0, 6.28, 4), rng.uniform(0.6, 2.2, 4)

    def _bonnet(self) -> None:
        """Mask (2H+1,2W+1) of the ego car's bonnet and colour (rows,W,3) of the lowest rows, which hold it: fixed in the image."""
        rng = layout.stream("bonnet", self.city)
        w, h = self.size
        top, curve = rng.uniform(0.89, 0.95), rng.uniform(0.03, 0.08)
        x = np.linspace(-1, 1, 2 * w + 1)
        edge = (top + curve * x**2) * h
        self.bonnet_mask = np.arange(2 * h + 1)[:, None] * 0.5 > edge[None]
        y = (np.arange(int(edge.min()), h)[:, None] + 0.5 - edge[None, 1::2]) / h
        shine = 0.10 + 0.22 * np.exp(-np.maximum(y, 0) * 60) + 0.05 * np.cos(3 * x[None, 1::2])
        tone = 0.35 + 0.65 * float(self.light[6:9].mean())
        self.bonnet = (shine[..., None] * np.array(rng.uniform(0.8, 1.1, 3)) * tone).astype(np.float32)

    def camera_at(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Rotation world -> camera (3,3) (x right, y down, z forward) and centre (3,) of the camera at frame t."""
        s = self.way(t)
        speed = min(1.0, abs(self.way(t + 0.5) - self.way(t - 0.5)) * FPS / 8)
        phase, rate = self.sway
        sway = np.sin(phase + 2 * np.pi * rate * t / FPS) * speed
        high, pitch, offset = self.mount
        x, y, _ = self.plan.street.point(s, self._traffic.ego_d + 0.05 * sway[0])
        heading = self.plan.street.angle(s) + offset + 0.004 * sway[1]
        pitch, roll = pitch + 0.004 * sway[2], 0.004 * sway[3]
        ahead = np.array((np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), -np.sin(pitch)))
        right = np.array((np.sin(heading), -np.cos(heading), 0.0))
        down = np.cross(ahead, right)
        c, r = np.cos(roll), np.sin(roll)
        return np.stack([c * right + r * down, c * down - r * right, ahead]), np.array((x, y, high + 0.015 * sway[2]))

    def _world(self, t: float) -> np.ndarray:
        """Polygons in the world at frame t, (N,12)."""
        world = np.empty((len(self.polygons.count), 12))
        raster.place(
            self.polygons.basis, self.polygons.normal, self.polygons.ids[:, 0].copy(), poses_at(self.parts, t), world
        )
        return world

    def _shadow_frame(self, size: int, metres: float, ahead: float) -> np.ndarray:
        """(3,4) map world -> (column, row, height along the light) of a shadow map about a stretch of the street."""
        d = self.light[:3]
        e1 = np.array((0.0, 1.0, 0.0)) - d * d[1]
        e1 /= np.linalg.norm(e1)
        e2 = np.cross(d, e1)
        centre = np.array(self.plan.street.point(self.plan.sight + ahead, 0.0))
        m = np.stack([e1 * size / metres, e2 * size / metres, d])
        shift = np.array((size / 2, size / 2, 0.0)) - m @ centre
        return np.concatenate([m, shift[:, None]], 1)

    def _shadow(self) -> None:
        """Shadow map of what never moves, and which polygons go into the map of what does."""
        moving = np.zeros(len(self.parts), bool)
        for i, part in enumerate(self.parts):
            moving[i] = part.path is not None or (part.parent >= 0 and moving[part.parent])
        of_mover = moving[self.polygons.ids[:, 0]]
        caster = (self.polygons.ids[:, 4] & 8) == 0
        world = self._world(ANNOTATED)
        near = np.abs(world[:, 0] - self.plan.sight) < 90
        self._movers = np.flatnonzero(of_mover & caster)
        self._frames = (self._shadow_frame(SHADOW_STATIC, 84.0, 22.0), self._shadow_frame(SHADOW_MOVING, 56.0, 22.0))
        self._static_map = np.full((SHADOW_STATIC, SHADOW_STATIC), -1e9, np.float32)
        self._cast(np.flatnonzero(~of_mover & caster & near), world, self._frames[0], self._static_map)

    def _cast(self, chosen: np.ndarray, world: np.ndarray, frame: np.ndarray, height: np.ndarray) -> None:
        p = self.polygons
        raster.shadow_raster(chosen, world, p.corners, p.count, p.uv, p.ids, frame, *self.atlas, height)

    def view(self, t: int) -> tuple[exact_flow.View, np.ndarray]:
        """Visibility of frame t and its inverse depth (H,W) at the pixel centres; the last three are kept."""
        if t in self._views:
            self._views.move_to_end(t)
            return self._views[t]
        p = self.polygons
        n = len(p.count)
        rotation, centre = self.camera_at(t)
        kr = self.k @ rotation
        world = self._world(t)
        forward, inverse, key = np.empty((n, 9)), np.zeros((n, 9)), np.empty(n)
        raster.project(world, kr, centre, p.ids[:, 4].copy(), forward, inverse, key)
        drawn = key >= 0
        order = np.argsort(key, kind="stable")[np.count_nonzero(~drawn) :]
        while len(self._views) > 2:  # room first: two and the one in work are all that is ever in memory
            self._views.popitem(last=False)
        w, h = self.size
        buffer = np.full((2 * h + 1, 2 * w + 1), raster.SKY, np.int16)
        depth = np.zeros((2 * h + 1, 2 * w + 1), np.float32)
        depth[self.bonnet_mask] = 1e9
        raster.raster(order, forward, inverse, p.corners, p.count, p.uv, p.bias, p.ids, *self.atlas, buffer, depth)
        buffer[self.bonnet_mask] = raster.BONNET
        self._views[t] = (exact_flow.View(buffer, world, forward, inverse, drawn, kr, centre), depth[1::2, 1::2].copy())
        return self._views[t]

    def _colour(self, view: exact_flow.View) -> np.ndarray:
        """Scene colours, float32 (H,W,3)."""
        w, h = self.size
        p = self.polygons
        moving = np.full((SHADOW_MOVING, SHADOW_MOVING), -1e9, np.float32)
        self._cast(self._movers, view.world, self._frames[1], moving)
        image = np.empty((h, w, 3), np.float32)
        shading.shade(
            view.id_buffer, view.world, view.inverse, p.uv, p.tint, p.ids, np.linalg.inv(view.kr), view.centre,
            self.light,
            (self._static_map, moving), self._frames, self.atlas, self.bonnet, image,
        )  # fmt: skip
        return image

    def _flow(self, view: exact_flow.View, other: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        if not 0 <= other < FRAMES:
            return None, None
        return exact_flow.flow_and_visibility(view, self.view(other)[0], self.polygons, self.atlas)

    def render(self, t: int, truth: bool = True, flow: tuple[bool, bool] = (True, True)) -> Frame:
        """Frame t in 0..29 with its truth.

        Args:
            t: frame, any order.
            truth: False skips labels, depth and flow.
            flow: whether to make the forward and the backward flow (with truth).

        Raises:
            ValueError: t outside 0..29.
        """
        if not 0 <= t < FRAMES:
            raise InputError(f"t is {t}; it must be in 0..{FRAMES - 1}, the frames of a snippet")
        view, inverse_depth = self.view(t)
        ahead = behind = blur = (None, None)
        if truth and flow[1]:  # first, so that walking forwards finds two of three views kept
            behind = self._flow(view, t - 1)
        if truth and flow[0] or "blur" in self.effects:
            step = t + 1 if t + 1 < FRAMES else t - 1
            blur = self._flow(view, step)
            ahead = blur if truth and flow[0] and step > t else (None, None)
        picture = fx.apply(self._colour(view), self.effects, t, blur[0], self._sun(view), (self.city, self.seed))
        if not truth:
            return Frame(picture, None, None, None, None, None, None, None, self.camera(t))
        return Frame(
            picture, *self._labels(view, inverse_depth), ahead[0], behind[0], ahead[1], behind[1], self.camera(t)
        )

    def _labels(self, view: exact_flow.View, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Label ids, instance ids and depth at the pixel centres."""
        ids = view.id_buffer[1::2, 1::2]
        table = np.concatenate([self.polygons.ids[:, 1], (1, 23)]).astype(np.uint8)  # ..., BONNET, SKY
        instances = np.concatenate([self.polygons.ids[:, 2], (1, 23)]).astype(np.int32)
        nearer = np.concatenate([1.0 + self.polygons.bias, (1.0, 1.0)]).astype(np.float32)  # undo the bias of decals
        with np.errstate(divide="ignore"):
            depth = nearer[ids] / inverse_depth
        depth[ids == raster.BONNET] = 1.5
        return table[ids], instances[ids], depth

    def _sun(self, view: exact_flow.View) -> tuple[float, float] | None:
        x, y, z = view.kr @ self.light[:3]
        return (x / z, y / z) if z > 0.05 else None

    def camera(self, t: int) -> dict:
        """Camera of frame t in the manner of Cityscapes' camera files, with its pose in the world."""
        rotation, centre = self.camera_at(t)
        high, pitch, _ = self.mount
        return {
            "extrinsic": {"baseline": 0.0, "pitch": pitch, "roll": 0.0, "x": 1.7, "y": 0.0, "yaw": 0.0, "z": high},
            "intrinsic": {"fx": self.k[0, 0], "fy": self.k[1, 1], "u0": self.k[0, 2], "v0": self.k[1, 2]},
            "pose": {"rotation": rotation.tolist(), "centre": centre.tolist()},
            "time": t / FPS,
        }
