"""Builders of vehicles: cars of five bodies, trucks, buses, trams, bicycles and motorcycles.

Object frame: x forward, y left, z up, origin on the ground below the middle. Wheels are limbs that spin with the
way driven.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .geometry import CUTOUT, EMISSIVE, GLOSS, SOLID, TWO_SIDED, Mesh, Skin
from .scene import Scene

CAR, TRUCK, BUS, TRAM, MOTORCYCLE, BICYCLE = 26, 27, 28, 31, 32, 33
PAINTS = (
    (0.86, 0.86, 0.87), (0.62, 0.64, 0.66), (0.42, 0.44, 0.47), (0.12, 0.12, 0.13), (0.10, 0.15, 0.32),
    (0.48, 0.08, 0.08),    (0.19, 0.21, 0.24), (0.66, 0.62, 0.52), (0.12, 0.26, 0.22), (0.60, 0.14, 0.10),
    (0.20, 0.33, 0.50), (0.74, 0.75, 0.77),
)  # fmt: skip
# length, width, height, belt, bonnet, cabin: rear base, rear roof, front roof, front base as fractions of the length
BODIES = {
    "hatch": (3.95, 1.72, 1.48, 0.92, 0.80, (0.02, 0.10, 0.56, 0.74)),
    "sedan": (4.65, 1.80, 1.44, 0.93, 0.80, (0.16, 0.29, 0.58, 0.75)),
    "estate": (4.65, 1.80, 1.48, 0.93, 0.80, (0.02, 0.09, 0.58, 0.75)),
    "suv": (4.55, 1.86, 1.70, 1.05, 0.95, (0.02, 0.08, 0.58, 0.73)),
    "van": (5.05, 1.94, 2.05, 1.12, 1.00, (0.01, 0.03, 0.70, 0.86)),
}
LORRIES = ((0.85, 0.85, 0.85), (0.7, 0.12, 0.1), (0.12, 0.3, 0.6), (0.85, 0.6, 0.1), (0.15, 0.4, 0.25))
CARGO = ((0.85, 0.86, 0.86), (0.3, 0.38, 0.55), (0.6, 0.58, 0.5), (0.45, 0.2, 0.18))
_DARK = (0.05, 0.05, 0.055)


def _wheels(
    scene: Scene, obj: int, label: int, radius: float, axles: tuple[float, ...], half: float, way: Callable
) -> None:
    """Wheel discs as spinning limbs on both sides, with dark tyres and arches behind them."""
    mesh = scene.mesh
    for x in axles:
        for side in (-1, 1):
            mesh.at(obj)
            angle = np.arange(8) * np.pi / 4 * side
            arch = np.stack(
                [
                    x + 1.18 * radius * np.sin(angle + 0.39 * side),
                    np.full(8, side * (half + 0.004)),
                    radius - 1.18 * radius * np.cos(angle + 0.39 * side),
                ],
                1,
            )
            arch[:, 2] = np.maximum(arch[:, 2], 0.2)
            mesh.polygon(arch, Skin(label, tint=_DARK, layer=1))
            y = side * (half - 0.11)
            mesh.box(
                (x - 0.72 * radius, y - 0.1, 0.0), (x + 0.72 * radius, y + 0.1, radius), Skin(label, tint=_DARK), "fb"
            )
            wheel = scene.limb(obj, (x, side * (half + 0.012), radius), lambda t, r=radius: way(t) / r)
            mesh.at(wheel)
            mesh.card(
                (0, 0, 0),
                (-side * radius, 0, 0),
                (0, 0, radius),
                Skin(label, "wheel", (0.9, 0.9, 0.92), flags=CUTOUT | SOLID),
            )
    mesh.at(obj)


def _cabin(mesh: Mesh, x: np.ndarray, belt: float, top: float, half: float, paint: Skin, glass: Skin) -> None:
    """Greenhouse with slanted glass on all sides and painted pillars and roof; x (4,) as in `BODIES`, metres."""
    h = half - 0.17
    for side in (1, -1):
        quad = [(x[3], half, belt), (x[0], half, belt), (x[1], h, top), (x[2], h, top)]
        if side < 0:
            quad = [(a, -b, c) for a, b, c in (quad[1], quad[0], quad[3], quad[2])]
        _pane(mesh, quad, paint, glass, ((0.0, 0.07), (0.38, 0.05), (0.68, 0.05), (0.93, 0.07)))
    ends = ((0.0, 0.06), (0.94, 0.06))
    _pane(mesh, [(x[3], -half, belt), (x[3], half, belt), (x[2], h, top), (x[2], -h, top)], paint, glass, ends)
    _pane(mesh, [(x[0], half, belt), (x[0], -half, belt), (x[1], -h, top), (x[1], h, top)], paint, glass, ends)
    mesh.polygon(((x[1], -h, top), (x[2], -h, top), (x[2], h, top), (x[1], h, top)), paint)


def _pane(mesh: Mesh, quad: list, paint: Skin, glass: Skin, pillars: tuple[tuple[float, float], ...]) -> None:
    """A window: glass, pillars (start, width as fractions of its length) and the roof's edge painted on its plane."""
    mesh.polygon(quad, glass)
    q = np.array(quad)
    bottom, upper = q[1] - q[0], q[2] - q[3]
    over = Skin(paint.label, paint.texture, paint.tint, paint.scale, paint.flags, 1)
    for f, w in pillars:
        mesh.polygon((q[0] + f * bottom, q[0] + (f + w) * bottom, q[3] + (f + w) * upper, q[3] + f * upper), over)
    mesh.polygon((q[3] + 0.12 * (q[0] - q[3]), q[2] + 0.12 * (q[1] - q[2]), q[2], q[3]), over)


def _lamps(mesh: Mesh, label: int, front: float, rear: float, half: float, z: float, braking: bool) -> None:
    """Head lamps, tail lamps, plates and a grille on the end faces."""
    white, red = (0.95, 0.95, 0.9), (0.95, 0.1, 0.08) if braking else (0.5, 0.05, 0.05)
    for side in (-1, 1):
        y = side * (half - 0.26)
        lamp, tail = (
            Skin(label, tint=white, flags=EMISSIVE, layer=2),
            Skin(label, tint=red, flags=EMISSIVE if braking else 0, layer=2),
        )
        mesh.polygon(
            (
                (front, y - 0.2, z - 0.09),
                (front, y + 0.2, z - 0.09),
                (front, y + 0.2, z + 0.08),
                (front, y - 0.2, z + 0.08),
            ),
            lamp,
        )
        mesh.polygon(
            (
                (rear, y + 0.17, z - 0.1),
                (rear, y - 0.17, z - 0.1),
                (rear, y - 0.17, z + 0.13),
                (rear, y + 0.17, z + 0.13),
            ),
            tail,
        )
    plate, dark = Skin(label, tint=(0.9, 0.9, 0.85), layer=2), Skin(label, tint=_DARK, layer=1)
    mesh.polygon(((front, -0.5, z - 0.28), (front, 0.5, z - 0.28), (front, 0.5, z - 0.1), (front, -0.5, z - 0.1)), dark)
    for x, s in ((front, 1), (rear, -1)):
        mesh.polygon(
            ((x, -0.26 * s, z - 0.3), (x, 0.26 * s, z - 0.3), (x, 0.26 * s, z - 0.18), (x, -0.26 * s, z - 0.18)), plate
        )
        mesh.polygon(((x, -half * s, 0.2), (x, half * s, 0.2), (x, half * s, 0.36), (x, -half * s, 0.36)), dark)


def car(
    scene: Scene, rng: np.random.Generator, obj: int, way: Callable, braking: bool = False, body: str | None = None
) -> None:
    """A car; way: t -> metres driven (spins the wheels)."""
    body = body or str(rng.choice(list(BODIES), p=(0.3, 0.25, 0.2, 0.16, 0.09)))
    length, width, height, belt, bonnet, cabin = BODIES[body]
    length, half = length * rng.uniform(0.96, 1.04), width / 2
    tint = np.clip(np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.9, 1.1), 0.1, 0.9)
    paint, glass = Skin(CAR, tint=tint, flags=GLOSS), Skin(CAR, "glass", (0.17, 0.19, 0.22), flags=GLOSS)
    mesh = scene.mesh.at(obj)
    mesh.thing()
    rear, front = -length / 2, length / 2
    x = rear + np.array(cabin) * length
    boot = belt - (0.04 if body == "sedan" else 0.0)
    stations = [
        (rear, boot - 0.12),
        (rear + 0.1, boot),
        (x[0], belt),
        (x[3], belt),
        (front - 0.25, bonnet),
        (front, bonnet - 0.16),
    ]
    _hull(mesh, stations, half, 0.2, paint)
    _seams(mesh, half, belt, x)
    _cabin(mesh, x, belt, height, half - 0.03, paint, glass)
    _lamps(mesh, CAR, front, rear, half, bonnet - 0.22, braking)
    for side in (-1, 1):  # mirrors
        mesh.box(
            (x[3] - 0.35, side * (half + 0.07) - 0.07, belt),
            (x[3] - 0.2, side * (half + 0.07) + 0.07, belt + 0.15),
            paint,
        )
    radius = 0.32 if body != "suv" else 0.37
    _wheels(scene, obj, CAR, radius, (rear + 0.17 * length + 0.1, front - 0.2 * length), half, way)


def _seams(mesh: Mesh, half: float, belt: float, x: np.ndarray) -> None:
    """Door gaps, handles and sills on both flanks."""
    dark = Skin(CAR, tint=(0.08, 0.08, 0.085), layer=1)
    for s in (1, -1):
        y = s * half
        for a, z0, z1, w in (
            (x[3] - 0.5, 0.3, belt, 0.03),
            (0.5 * (x[0] + x[3]), 0.3, belt, 0.03),
            (0.25 * x[0] + 0.75 * x[3] - 0.2, belt - 0.16, belt - 0.12, 0.18),
            (x[0] + 0.6, 0.2, 0.3, x[3] - x[0] - 0.6),
        ):
            low, high = (a + w, a) if s > 0 else (a, a + w)
            mesh.polygon(((low, y, z0), (high, y, z0), (high, y, z1), (low, y, z1)), dark)


def _hull(mesh: Mesh, stations: list[tuple[float, float]], half: float, bottom: float, skin: Skin) -> None:
    """An extruded profile: stations (x, top) from rear to front; sides, top and both ends."""
    for (x0, z0), (x1, z1) in zip(stations, stations[1:], strict=False):
        if x1 - x0 < 1e-3:
            continue
        mesh.polygon(((x0, -half, bottom), (x1, -half, bottom), (x1, -half, z1), (x0, -half, z0)), skin)
        mesh.polygon(((x1, half, bottom), (x0, half, bottom), (x0, half, z0), (x1, half, z1)), skin)
        mesh.polygon(((x0, -half, z0), (x1, -half, z1), (x1, half, z1), (x0, half, z0)), skin)
    x, z = stations[-1]
    mesh.polygon(((x, -half, bottom), (x, half, bottom), (x, half, z), (x, -half, z)), skin)
    x, z = stations[0]
    mesh.polygon(((x, half, bottom), (x, -half, bottom), (x, -half, z), (x, half, z)), skin)


def truck(scene: Scene, rng: np.random.Generator, obj: int, way: Callable) -> None:
    """A rigid lorry: cab with a windscreen, a gap, and a box, tank-less tarpaulin or flat bed behind."""
    mesh = scene.mesh.at(obj)
    mesh.thing()
    tint, dark = np.array(LORRIES[rng.integers(5)]), Skin(TRUCK, tint=_DARK)
    length, half = rng.uniform(6.5, 9.0), 1.2
    front, rear = length / 2, -length / 2
    high = rng.uniform(2.9, 3.5)
    back = front - 1.9
    _cab(mesh, front, half, tint)
    cargo = tint if rng.random() < 0.3 else np.array(CARGO[rng.integers(4)])
    load = Skin(TRUCK, "concrete" if rng.random() < 0.6 else "white", cargo, (3.0, 3.0))
    mesh.box((rear, -1.25, 1.0), (back - 0.25, 1.25, high), load, "fblrtu")
    mesh.box((rear + 0.1, -0.9, 0.5), (back, 0.9, 1.0), dark)
    for s in (-1, 1):
        mesh.polygon(
            [(rear - 0.003, s * 1.0 + d, z) for d, z in ((0.2, 0.75), (-0.2, 0.75), (-0.2, 0.98), (0.2, 0.98))],
            Skin(TRUCK, tint=(0.6, 0.06, 0.05), layer=1),
        )
    _lamps(mesh, TRUCK, front, rear - 0.01, half, 0.85, False)
    _wheels(scene, obj, TRUCK, 0.5, (front - 1.2, rear + 1.5, rear + 2.6), 1.2, way)


def _cab(mesh: Mesh, front: float, half: float, tint: np.ndarray) -> None:
    """The cab of a lorry: slanted windscreen, side windows, mirrors."""
    paint = Skin(TRUCK, tint=tint, flags=GLOSS)
    glass = Skin(TRUCK, "glass", (0.17, 0.19, 0.22), flags=GLOSS, layer=1)
    back = front - 1.9
    _hull(mesh, [(back, 2.5), (back + 0.5, 2.75), (front - 0.35, 2.7), (front, 1.5)], half, 0.45, paint)
    x, z0, z1 = front - 0.33, 1.52, 2.62
    mesh.polygon(((front, -1.1, z0), (front, 1.1, z0), (x, 1.1, z1), (x, -1.1, z1)), glass)
    for s in (1, -1):
        ends = (front - 0.45, front - 1.3) if s > 0 else (front - 1.3, front - 0.45)
        mesh.polygon([(ends[k in (1, 2)], s * half, 1.5 if k < 2 else 2.45) for k in range(4)], glass)
        mesh.box((front - 0.25, s * 1.32 - 0.1, 1.7), (front - 0.12, s * 1.32 + 0.1, 2.3), Skin(TRUCK, tint=_DARK))


def coach(
    scene: Scene, rng: np.random.Generator, obj: int, way: Callable, label: int, length: float, height: float,
    ends: str = "fb", new: bool = True,
) -> None:  # fmt: skip
    """A bus (label 28) or one section of a tram (31): window bands, windscreens at `ends`, destination board."""
    mesh = scene.mesh.at(obj)
    if new:
        mesh.thing()
    rail = label == TRAM
    tint = np.array(scene.coach_tints[label == TRAM])
    half, bottom = 1.27, 0.25 if rail else 0.32
    front, rear = length / 2, -length / 2
    skin = Skin(label, "tramside" if rail else "busside", tint, (2.6 if rail else 3.2, height - bottom))
    mesh.box((rear, -half, bottom), (front, half, height), skin, "lr")
    mesh.box((rear, -half, bottom), (front, half, height), Skin(label, tint=tint), "fbt")
    for end, x, s in (("f", front, 1), ("b", rear, -1)):
        if end not in ends:
            continue
        glass = Skin(label, "glass", (0.2, 0.22, 0.25), flags=GLOSS, layer=1)
        low = 1.0 if s > 0 or rail else 1.5
        mesh.polygon(
            ((x, -1.15 * s, low), (x, 1.15 * s, low), (x, 1.15 * s, height - 0.5), (x, -1.15 * s, height - 0.5)), glass
        )
        y, z0, z1 = 0.8 * s, height - 0.42, height - 0.14
        board = Skin(label, tint=(0.95, 0.65, 0.1), flags=EMISSIVE, layer=1)
        mesh.polygon(((x, -y, z0), (x, y, z0), (x, y, z1), (x, -y, z1)), board)
    if not rail:
        _lamps(mesh, label, front, rear, half, 0.75, False)
        _wheels(scene, obj, label, 0.48, (front - 2.4, rear + 3.0), half, way)
        mesh.box((rear + 2, -0.9, height), (front - 3, 0.9, height + 0.22), Skin(label, tint=tint * 0.8))
    else:
        mesh.box((rear + 0.6, -1.1, 0.05), (front - 0.6, 1.1, bottom), Skin(label, tint=_DARK))
        mesh.box((rear + 1, -0.9, height), (front - 1, 0.9, height + 0.3), Skin(label, tint=(0.4, 0.4, 0.42)))


def bicycle(scene: Scene, rng: np.random.Generator, obj: int, way: Callable) -> None:
    """A bicycle: two spinning wheels, frame, fork, handlebar, saddle."""
    mesh = scene.mesh.at(obj)
    mesh.thing()
    tint = np.clip(
        np.array(
            ((0.1, 0.1, 0.1), (0.5, 0.08, 0.08), (0.1, 0.2, 0.45), (0.15, 0.35, 0.2), (0.6, 0.6, 0.6))[rng.integers(5)]
        ),
        0,
        1,
    )
    frame = Skin(BICYCLE, tint=tint)
    points = {
        "hub": (-0.52, 0, 0.35),
        "seat": (-0.22, 0, 0.82),
        "crank": (-0.1, 0, 0.3),
        "head": (0.36, 0, 0.84),
        "axle": (0.52, 0, 0.35),
    }
    for a, b in (
        ("hub", "seat"),
        ("hub", "crank"),
        ("crank", "seat"),
        ("crank", "head"),
        ("seat", "head"),
        ("head", "axle"),
    ):
        mesh.tube(points[a], points[b], 0.03, 0.03, frame, 4, False)
    mesh.tube((0.36, 0, 0.84), (0.34, 0, 1.02), 0.025, 0.025, frame, 4, False)
    mesh.tube((0.34, -0.28, 1.02), (0.34, 0.28, 1.02), 0.025, 0.025, Skin(BICYCLE, tint=_DARK), 4)
    mesh.box((-0.36, -0.08, 0.9), (-0.1, 0.08, 0.97), Skin(BICYCLE, tint=_DARK))
    for x in (-0.52, 0.52):
        mesh.at(obj).tube((x, 0, 0.01), (x, 0, 0.69), (0.05, 0.025), (0.05, 0.025), Skin(BICYCLE, tint=_DARK), 4)
        mesh.at(scene.limb(obj, (x, 0, 0.35), lambda t: way(t) / 0.35))
        mesh.card((0, 0, 0), (0.35, 0, 0), (0, 0, 0.35), Skin(BICYCLE, "bikewheel", flags=CUTOUT | TWO_SIDED | SOLID))
    mesh.at(obj)


def motorcycle(scene: Scene, rng: np.random.Generator, obj: int, way: Callable) -> None:
    """A motorcycle: fat wheels, engine, tank, seat, fairing, lamps."""
    mesh = scene.mesh.at(obj)
    mesh.thing()
    tint = np.array(PAINTS[rng.integers(len(PAINTS))])
    paint, dark, metal = (
        Skin(MOTORCYCLE, tint=tint, flags=GLOSS),
        Skin(MOTORCYCLE, tint=_DARK),
        Skin(MOTORCYCLE, tint=(0.3, 0.3, 0.31)),
    )
    mesh.box((-0.35, -0.2, 0.28), (0.35, 0.2, 0.6), metal, "fblrt")
    mesh.tube((0.42, 0, 0.72), (-0.15, 0, 0.76), 0.21, 0.19, paint, 6)
    mesh.box((-0.85, -0.15, 0.7), (-0.1, 0.15, 0.84), dark)
    mesh.box((-0.98, -0.1, 0.55), (-0.75, 0.1, 0.82), paint)
    mesh.box((0.45, -0.16, 0.72), (0.68, 0.16, 1.08), paint)
    mesh.tube((0.5, 0, 0.95), (0.76, 0, 0.32), 0.06, 0.06, metal, 4, False)
    mesh.tube((0.42, -0.36, 1.04), (0.42, 0.36, 1.04), 0.03, 0.03, dark, 4)
    mesh.box((0.67, -0.1, 0.82), (0.69, 0.1, 0.98), Skin(MOTORCYCLE, tint=(0.95, 0.95, 0.85), flags=EMISSIVE))
    mesh.box((-1.0, -0.08, 0.68), (-0.97, 0.08, 0.78), Skin(MOTORCYCLE, tint=(0.7, 0.08, 0.06), flags=EMISSIVE))
    for x in (-0.72, 0.76):
        mesh.at(obj).tube((x, 0, 0.01), (x, 0, 0.63), (0.1, 0.075), (0.1, 0.075), dark, 4)
        for s in (-1, 1):
            mesh.at(scene.limb(obj, (x, s * 0.08, 0.32), lambda t: way(t) / 0.32))
            mesh.card((0, 0, 0), (-s * 0.32, 0, 0), (0, 0, 0.32), Skin(MOTORCYCLE, "wheel", flags=CUTOUT | SOLID))
    mesh.at(obj)
