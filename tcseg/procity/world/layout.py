"""The layout of one snippet: street, junction, lots, furniture, all from random streams seeded by (city, seed).

`traffic` puts what moves on it. Rare classes are stratified: in every block of eight consecutive seeds each of them is
wished for in three, and a wish is fulfilled within sight of the annotated frame.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from . import props
from .geometry import Mesh, Skin
from .scene import Scene
from .street import Street
from .style import CityStyle

ROAD, SIDEWALK, TERRAIN = 7, 8, 22
RARE = ("truck", "bus", "train", "rider", "motorcycle", "wall", "fence", "traffic light", "bicycle")
BLOCK, WISHED = 8, 3
ANNOTATED = 19
LANE = 3.3


def stream(*key: int | str) -> np.random.Generator:
    """An independent random stream for a subsystem: one draw more in one of them changes no other."""
    words = [zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in key]
    return np.random.default_rng(np.random.SeedSequence(words))


def wishes(seed: int) -> frozenset[str]:
    """Rare classes that the snippet must show; every block of `BLOCK` seeds has each of them `WISHED` times."""
    block, slot = divmod(seed, BLOCK)
    return frozenset(name for name in RARE if slot in stream("wish", name, block).permutation(BLOCK)[:WISHED])


@dataclass
class Plan:
    """The measures of a snippet's street.

    Attributes:
        street: the main street. lanes: a direction. parking: on each side. half: kerb's |d|, metres.
        side: sidewalk's width. verge: grass strip's width (0: none).
        sight: s of the ego car at the annotated frame. junction: s of its middle or None. cross: its half width.
        crossing: s of a pedestrian crossing or None. lights: whether signals stand there. state: their colour.
    """

    street: Street
    lanes: int
    parking: bool
    half: float
    side: float
    verge: float
    sight: float
    junction: float | None
    cross: float
    crossing: float | None
    lights: bool
    state: str
    wish: frozenset[str]
    dusk: bool = False


def plan(city: str, seed: int, style: CityStyle, sight: float, standing: bool) -> Plan:
    """Draw the measures. sight: s of the ego car at the annotated frame; standing: it waits before a crossing."""
    rng = stream("plan", city, seed)
    wish = wishes(seed)
    lanes = 1 + int(rng.random() < style.lanes)
    parking = bool(rng.random() < (0.5 if lanes == 1 else 0.3))
    half = lanes * LANE + (2.2 if parking else 0.35)
    lights = "traffic light" in wish or rng.random() < 0.25
    has_junction, has_bend = rng.random() < 0.4, rng.random() < 0.4
    ahead = rng.uniform(17, 32) if lights or standing else rng.uniform(25, 60)
    cross = rng.uniform(4.0, 6.5)
    junction = sight + ahead + cross + 6 if has_junction else None
    crossing = sight + ahead if lights or standing or has_junction else None
    bend = None
    if has_bend:
        first = junction + 18 if junction else sight + rng.uniform(-15, 18)
        bend = (first, first + rng.uniform(40, 120), rng.choice([-1, 1]) / rng.uniform(45, 130))
    verge = rng.uniform(0.7, 1.6) if rng.random() < 0.22 else 0.0
    state = "red" if standing else str(rng.choice(["green", "green", "yellow"]))
    return Plan(
        Street(0, 0, 0, bend),
        lanes,
        parking,
        half,
        rng.uniform(3.3, 6.0),
        verge,
        sight,
        junction,
        cross,
        crossing,
        lights,
        state,
        wish,
    )


def build(scene: Scene, p: Plan, city: str, seed: int, style: CityStyle) -> None:
    """Everything that stands."""
    start, end = -25.0, p.sight + 190.0
    _ground(scene, p, style, start, end, stream("ground", city, seed))
    for side in (-1, 1):
        rng = stream("side", city, seed, side + 1)
        gap = (p.junction - p.cross, p.junction + p.cross) if p.junction else (end, end)
        fringe = p.side + p.verge
        for s0, s1 in ((start, gap[0]), (gap[1], end)):
            if s1 - s0 > 1:
                _sidewalk(scene, p, p.street, style, side, s0, s1, p.half)
        for s0, s1 in ((start, gap[0] - fringe), (gap[1] + fringe, end)):
            if s1 - s0 > 4:
                _lots(scene, p, p.street, style, side, s0, s1, p.half + fringe, rng, side)
                _furniture(scene, p, p.street, style, side, s0, s1, rng)
        if p.junction:
            _side_street(scene, p, style, side, rng)
    if p.crossing and p.lights:
        _signals(scene, p, stream("signals", city, seed))
    _backdrop(scene, p, style, end, stream("backdrop", city, seed))


def _ground(scene: Scene, p: Plan, style: CityStyle, start: float, end: float, rng: np.random.Generator) -> None:
    """Asphalt, markings and the land around."""
    mesh, street = scene.mesh.at(0), p.street
    land = Skin(TERRAIN, "grass", np.array((0.33, 0.36, 0.2)) * rng.uniform(0.85, 1.1), 9.0)
    Street(-40, 0, 0).strip(mesh, 0, 420, -300, 300, -0.06, land)
    road = Skin(ROAD, "asphalt", style.road, 8.0)
    street.strip(mesh, start, end, -p.half, p.half, 0.0, road)
    _markings(scene, p, start, end, rng)
    if "train" in p.wish:
        steel = Skin(ROAD, tint=(0.38, 0.38, 0.4), layer=1)
        for d in (-LANE / 2, LANE / 2):
            for rail in (-0.72, 0.72):
                street.strip(mesh, start, end, d + rail - 0.05, d + rail + 0.05, 0.0, steel)
    for _ in range(int(rng.integers(2, 7))):  # manholes and patches
        s, d = p.sight + rng.uniform(5, 50), rng.uniform(-p.half + 1, p.half - 1.2)
        patch = Skin(ROAD, "asphalt", np.array(style.road) * rng.uniform(0.76, 0.92), 3.0, layer=2)
        street.strip(mesh, s, s + rng.uniform(0.6, 4), d, d + rng.uniform(0.6, 1.2), 0.0, patch)


def _markings(scene: Scene, p: Plan, start: float, end: float, rng: np.random.Generator) -> None:
    """White paint: middle line, lanes, parking, crossing and stop line."""
    mesh, street = scene.mesh, p.street
    white = np.array((0.78, 0.78, 0.76)) * rng.uniform(0.8, 1.05)
    line = Skin(ROAD, "detail", white, 2.0, layer=1)
    stop = p.crossing - 2.5 if p.crossing else end
    free = (
        [(start, stop), ((p.junction + p.cross + 4 if p.junction else stop + 6.5), end)]
        if p.crossing
        else [(start, end)]
    )
    for s0, s1 in free:
        if p.lanes == 2 or rng.random() < 0.3:
            street.strip(mesh, s0, s1, -0.16, -0.04, 0.0, line)
            street.strip(mesh, s0, s1, 0.04, 0.16, 0.0, line)
        else:
            for s in np.arange(s0, s1 - 3, 9.0):
                street.strip(mesh, s, s + 3, -0.07, 0.07, 0.0, line)
        for d in (-LANE, LANE) if p.lanes == 2 else ():
            for s in np.arange(s0, s1 - 3, 9.0):
                street.strip(mesh, s, s + 3, d - 0.07, d + 0.07, 0.0, line)
        if p.parking:
            for d in (-p.lanes * LANE, p.lanes * LANE):
                street.strip(mesh, s0, s1, d - 0.06, d + 0.06, 0.0, line)
    if p.crossing:
        for d in np.arange(-p.half + 0.5, p.half - 0.5, 1.0):
            street.strip(mesh, p.crossing, p.crossing + 3.2, d, d + 0.5, 0.0, line)
        street.strip(mesh, p.crossing - 2.0, p.crossing - 1.6, 0.1, p.half, 0.0, line)


def _sidewalk(
    scene: Scene, p: Plan, street: Street, style: CityStyle, side: int, s0: float, s1: float, half: float
) -> None:
    """Kerb, grass verge and paving on one side."""
    mesh = scene.mesh.at(0)
    stone = Skin(SIDEWALK, "concrete", (0.62, 0.62, 0.6), 4.0)
    street.kerb(mesh, s0, s1, side * half, 0.0, 0.13, stone, side)
    bands = [(half, half + 0.18, stone)]
    inner = half + 0.18
    if p.verge:
        bands.append((inner, half + p.verge, Skin(TERRAIN, "grass", (0.36, 0.43, 0.2), 5.0)))
        inner = half + p.verge
    tone = 0.62 if style.paving == "concrete" else 0.9
    bands.append(
        (inner, half + p.verge + p.side + 0.3, Skin(SIDEWALK, style.paving, (tone, tone * 0.98, tone * 0.95), 2.4))
    )
    for d0, d1, skin in bands:
        street.strip(mesh, s0, s1, min(side * d0, side * d1), max(side * d0, side * d1), 0.13, skin)


def _frame(scene: Scene, street: Street, side: int, s: float, length: float, d: float) -> int:
    """Side frame of a lot from s on: x along the street, y towards it, origin at the lot's first corner on offset d."""
    pose = street.pose(s + length / 2, side * d, 0.1, 0.0 if side > 0 else np.pi)
    origin = pose[:, 3] - pose[:, 0] * length / 2
    return scene.static(origin[0], origin[1], origin[2], np.arctan2(pose[1, 0], pose[0, 0]))


def _kind(p: Plan, style: CityStyle, near: bool, side: int, rng: np.random.Generator, done: set) -> str:
    """What stands on the next lot; wishes for walls and fences come true near the annotated frame."""
    if near:
        for name, where in (("wall", 1), ("fence", -1)):
            both = {"wall", "fence"} <= p.wish
            if name in p.wish and (not both or side == where) and (name, side) not in done:
                done.add((name, side))
                return name
    u = rng.random()
    if u < style.gardens:
        return "garden"
    return "house" if u < 0.92 else ("park" if u < 0.97 else "fence")


def _lots(
    scene: Scene, p: Plan, street: Street, style: CityStyle, side: int, s0: float, s1: float, d: float,
    rng: np.random.Generator, key: int,
) -> None:  # fmt: skip
    """Houses, gardens, parks, walls and fences side by side from s0 to s1 behind the offset d."""
    s, done = s0, set()
    mesh = scene.mesh
    while s < s1 - 5:
        near = p.sight + 2 < s + 8 and s < p.sight + 40
        kind = _kind(p, style, near, key, rng, done)
        width = min(float(rng.integers(3, 7)) * 3.0 if kind in ("house", "garden") else rng.uniform(14, 24), s1 - s)
        mesh.at(_frame(scene, street, side, s, width, d))
        floors = int(rng.integers(style.floors[0], style.floors[1] + 1))
        if kind == "house":
            props.house(mesh, rng, style, width, rng.uniform(9, 13), floors, bool(rng.random() < style.shops))
        else:
            depth = _green(scene, p, street, side, s, width, d, kind, rng)
            if kind == "garden":
                mesh.at(_frame(scene, street, side, s + 1, width - 2, d + depth))
                props.house(mesh, rng, style, width - 2, rng.uniform(8, 11), max(2, min(floors, 4)), False)
            else:
                mesh.at(_frame(scene, street, side, s, width, d + depth + 6))
                props.house(mesh, rng, style, width, 10, floors, False)
        s += width + (rng.uniform(0, 4) if rng.random() < 0.15 else 0.0)


def _green(
    scene: Scene, p: Plan, street: Street, side: int, s: float, width: float, d: float, kind: str,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Lawn, border, bushes and trees of a lot whose side frame is set; returns the lawn's depth in metres."""
    mesh = scene.mesh
    depth = rng.uniform(3, 6) if kind == "garden" else rng.uniform(9, 14)
    mesh.polygon(
        ((width, 0, 0.04), (width, -depth, 0.04), (0, -depth, 0.04), (0, 0, 0.04))[::-1],
        Skin(TERRAIN, "grass", np.array((0.36, 0.43, 0.2)) * rng.uniform(0.85, 1.1), 5.0),
    )
    _border(mesh, rng, kind, width)
    for _ in range(int(rng.integers(1, 4))):
        props.bush(mesh, rng, rng.uniform(1, width - 1), rng.uniform(-depth + 1, -1.2), rng.uniform(0.8, 1.8))
    trees = int(rng.integers(1, 4)) if kind != "garden" else int(rng.random() < 0.4)
    for _ in range(trees):
        _plant(scene, p, street, side, s + rng.uniform(1, width - 1), d + rng.uniform(2.5, depth), rng)
    return depth


def _border(mesh: Mesh, rng: np.random.Generator, kind: str, width: float) -> None:
    """What separates a garden or park from the sidewalk."""
    if kind == "wall":
        props.wall(mesh, rng, width, -0.2, rng.uniform(1.3, 2.1))
    elif kind == "fence":
        props.fence(mesh, rng, width, -0.1, rng.uniform(1.5, 2.3))
    else:
        u = rng.random()
        if u < 0.45:
            props.hedge(mesh, rng, width, -0.4, rng.uniform(0.9, 1.7))
        elif u < 0.62:
            props.fence(mesh, rng, width, -0.1, rng.uniform(0.9, 1.5))
        elif u < 0.75:
            props.wall(mesh, rng, width, -0.2, rng.uniform(0.6, 1.3))


def _plant(scene: Scene, p: Plan, street: Street, side: int, s: float, d: float, rng: np.random.Generator) -> None:
    """A tree; fewer leaves far away."""
    far = abs(s - p.sight)
    x, y, z = street.point(s, side * d, 0.1)
    scene.mesh.at(scene.static(x, y, z, 0.0))
    props.tree(scene.mesh, rng, rng.uniform(6.5, 11.0), 76 if far < 30 else (30 if far < 70 else 12))


def _furniture(
    scene: Scene, p: Plan, street: Street, style: CityStyle, side: int, s0: float, s1: float, rng: np.random.Generator
) -> None:
    """Street trees, lamps, signs and bollards between kerb and sidewalk."""
    row = p.half + (0.5 * p.verge if p.verge else 0.8)
    turn = 0.0 if side > 0 else np.pi
    if rng.random() < 0.85:
        step = style.trees * rng.uniform(0.8, 1.2)
        for s in np.arange(s0 + rng.uniform(2, 8), s1 - 3, step):
            if rng.random() < 0.85 and not (p.crossing and abs(s - p.crossing) < 6):
                _plant(scene, p, street, side, s, row, rng)
    for s in np.arange(s0 + rng.uniform(2, 20), s1, rng.uniform(28, 42)):
        scene.mesh.at(scene.static(*street.point(s, side * (p.half + 0.45), 0.1), street.angle(s) + turn))
        props.lamp_post(scene.mesh, rng, rng.uniform(1.2, 2.4), p.dusk)
    for s in np.arange(s0 + rng.uniform(2, 14), s1, rng.uniform(20, 40)):
        if s < p.sight + 90:
            scene.mesh.at(scene.static(*street.point(s, side * (p.half + 0.5), 0.1), street.angle(s) + turn))
            props.sign_post(scene.mesh, rng, -1 if side > 0 else (1 if rng.random() < 0.6 else -1))
    if rng.random() < 0.14:
        for s in np.arange(max(s0, p.sight - 5), min(s1, p.sight + 40), 2.2):
            scene.mesh.at(scene.static(*street.point(s, side * (p.half + 0.35), 0.1), street.angle(s)))
            props.bollard(scene.mesh, 0, 0)


def _side_street(scene: Scene, p: Plan, style: CityStyle, side: int, rng: np.random.Generator) -> None:
    """The arm of the junction on one side: asphalt, sidewalks, lots."""
    x, y, _ = p.street.point(p.junction, 0)
    arm = Street(x, y, p.street.angle(p.junction) - side * np.pi / 2)
    first, last = p.half, 95.0
    arm.strip(scene.mesh.at(0), first - 0.02, last, -p.cross, p.cross, -0.004, Skin(ROAD, "asphalt", style.road, 8.0))
    fringe = p.side + p.verge
    for flank in (-1, 1):
        _sidewalk(scene, p, arm, style, flank, first + fringe, last, p.cross)
        _lots(scene, p, arm, style, flank, first + fringe + 14, last, p.cross + fringe, rng, 0)
        for s in np.arange(first + fringe + 4, 60, 13):
            if rng.random() < 0.6:
                _plant(scene, Plan(**{**p.__dict__, "sight": -40.0}), arm, flank, s, p.cross + 0.8, rng)


def _signals(scene: Scene, p: Plan, rng: np.random.Generator) -> None:
    """Signals on both sides of the crossing and, at a junction, beyond it."""
    stops = [(p.crossing - 0.6, 1, -1, p.state), (p.crossing + 3.8, -1, 1, p.state)]
    if p.junction:
        stops += [(p.junction + p.cross + 1.5, 1, -1, p.state), (p.junction + p.cross + 1.5, -1, -1, p.state)]
    arm = rng.uniform(2.4, 3.6) if rng.random() < 0.6 else 0.0
    for s, side, facing, state in stops:
        turn = 0.0 if side > 0 else np.pi
        scene.mesh.at(scene.static(*p.street.point(s, side * (p.half + 0.4), 0.1), p.street.angle(s) + turn))
        props.traffic_light(scene.mesh, facing * side, state, arm + (p.half - p.lanes * LANE) if arm else 0.0)


def _backdrop(scene: Scene, p: Plan, style: CityStyle, end: float, rng: np.random.Generator) -> None:
    """Houses and trees across the end of the street, so that the view closes."""
    for k in range(-5, 6):
        angle = p.street.angle(end)
        x, y, _ = p.street.point(end + 6, k * 16.0)
        scene.mesh.at(scene.static(x, y, 0.0, angle + np.pi / 2))
        props.house(scene.mesh, rng, style, 16.0, 10.0, int(rng.integers(style.floors[0], style.floors[1] + 1)), False)
