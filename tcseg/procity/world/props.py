"""Builders of static objects: houses, trees, hedges, walls, fences, poles, lamps, signs, traffic lights.

Side frame (from `Scene.static`): x along the street, y towards the street, z up.
"""

from __future__ import annotations

import numpy as np

from .geometry import CUTOUT, EMISSIVE, SOLID, TWO_SIDED, Mesh, Skin, cross
from .style import CityStyle

BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN = 11, 12, 13, 17, 19, 20, 21, 22
METAL = (0.36, 0.37, 0.38)


def house(
    mesh: Mesh, rng: np.random.Generator, style: CityStyle, width: float, depth: float, floors: int, shop: bool
) -> None:
    """A house whose street front is the plane y = 0: ground floor, facade, pitched or flat roof, chimney."""
    tint = np.clip(np.array(style.walls[rng.integers(len(style.walls))]) * rng.uniform(0.88, 1.1), 0, 1)
    texture = f"facade{int(rng.choice(4, p=(0.4, 0.25, 0.2, 0.15)))}"
    kind = style.facades[int(texture[-1]) % len(style.facades)]
    if kind == "glass":
        tint = 0.5 + 0.5 * tint
    base, top = 3.6, 3.6 + 3.0 * (floors - 1)
    bays = max(1, round(width / 3.0)) * 3.0
    skin = Skin(BUILDING, texture, tint, (12.0 * width / bays, 12.0))
    mesh.box((0, -depth, base), (width, 0, top), skin, "fblr")
    _ground_floor(mesh, rng, style, width, depth, base, skin, shop)
    if rng.random() < style.roofs:
        _pitched(mesh, rng, style, width, depth, top, tint)
    else:
        trim, lead = Skin(BUILDING, "concrete", tint * 0.9, 4.0), Skin(BUILDING, tint=(0.35, 0.35, 0.35))
        mesh.box((-0.1, -depth - 0.1, top), (width + 0.1, 0.25, top + 0.5), trim, "fblru", lead)
        if rng.random() < 0.5:
            mesh.box((0.3 * width, -0.7 * depth, top + 0.5), (0.55 * width, -0.4 * depth, top + 2.6), trim)


def _ground_floor(
    mesh: Mesh, rng: np.random.Generator, style: CityStyle, width: float, depth: float, base: float, skin: Skin,
    shop: bool,
) -> None:  # fmt: skip
    """A shop with an awning, or a plinth, windows and a door."""
    tint = skin.tint
    if shop:
        front = Skin(BUILDING, f"shop{rng.integers(2)}", (1, 1, 1), (12.0, base))
        mesh.box((0, -depth, 0), (width, 0, base), front, "l")
        mesh.box((0, -depth, 0), (width, 0, base), Skin(BUILDING, "concrete", tint, 4.0), "fbr")
        if rng.random() < 0.5:  # awning
            colour = style.accents[rng.integers(len(style.accents))]
            a, b = sorted(rng.uniform(0.05, 0.95, 2) * width)
            mesh.polygon(
                ((b, 1.2, 2.5), (a, 1.2, 2.5), (a, 0, 3.0), (b, 0, 3.0)),
                Skin(BUILDING, "cloth", colour, flags=TWO_SIDED),
            )
    else:
        mesh.box((0, -depth, 0), (width, 0, 0.7), Skin(BUILDING, "concrete", tint * 0.75, 4.0), "fblr")
        mesh.box((0, -depth, 0.7), (width, 0, base), skin, "fblr")
        x = rng.uniform(0.15, 0.75) * width
        mesh.polygon(
            ((x + 1.1, 0, 0), (x, 0, 0), (x, 0, 2.3), (x + 1.1, 0, 2.3)),
            Skin(BUILDING, tint=(0.25, 0.2, 0.16), layer=1),
        )


def _pitched(
    mesh: Mesh, rng: np.random.Generator, style: CityStyle, width: float, depth: float, top: float, tint: np.ndarray
) -> None:
    """Gable roof with its ridge along the street, eaves, dormers and chimneys."""
    ridge = top + rng.uniform(0.32, 0.5) * depth
    over = 0.35
    tiles = Skin(BUILDING, "roof", np.array(style.roof) * rng.uniform(0.85, 1.15), 5.0)
    eaves, middle = top - 0.1, -depth / 2
    mesh.polygon(((width, over, eaves), (0, over, eaves), (0, middle, ridge), (width, middle, ridge)), tiles)
    back = -depth - over
    mesh.polygon(((0, back, eaves), (width, back, eaves), (width, middle, ridge), (0, middle, ridge)), tiles)
    gable = Skin(BUILDING, "concrete", tint, 4.0)
    mesh.polygon(((0, -depth, top), (0, 0, top), (0, -depth / 2, ridge)), gable)
    mesh.polygon(((width, 0, top), (width, -depth, top), (width, -depth / 2, ridge)), gable)
    mesh.polygon(
        ((0, over, top - 0.1), (width, over, top - 0.1), (width, 0, top - 0.1), (0, 0, top - 0.1)),
        Skin(BUILDING, tint=tint * 0.6),
    )
    pane, cheek = Skin(BUILDING, "glass", (0.3, 0.32, 0.35)), Skin(BUILDING, tint=tint * 0.8)
    for x in np.arange(1.6, width - 2.0, 3.6):
        if rng.random() < 0.35:  # dormer
            mesh.box((x, -0.28 * depth, top), (x + 1.5, -0.6, top + 1.7), pane, "l")
            mesh.box((x - 0.15, -0.3 * depth, top), (x + 1.65, -0.65, top + 1.9), cheek, "flrt", tiles)
    x = rng.uniform(0.2, 0.8) * width
    mesh.box(
        (x, -depth * 0.6, ridge - 1.2),
        (x + 0.9, -depth * 0.6 + 0.6, ridge + 0.9),
        Skin(BUILDING, "brick", (0.5, 0.3, 0.25), 2.0),
    )


def tree(mesh: Mesh, rng: np.random.Generator, size: float, cards: int) -> None:
    """A tree: trunk, branches, and a crown of leaf clumps in all directions, lit as one round body."""
    high = size * rng.uniform(0.32, 0.42)
    bark = Skin(VEGETATION, "bark", (0.62, 0.58, 0.55), 1.2)
    radius = 0.022 * size
    lean = rng.normal(0, 0.02 * size, 2)
    fork = np.array((lean[0], lean[1], high + 0.12 * size))
    mesh.tube((0, 0, 0), fork, radius * 1.2, radius * 0.8, bark, 6, False)
    centre = np.array((lean[0], lean[1], high + 0.34 * size))
    spread = np.array((0.30, 0.30, 0.32)) * size * rng.uniform(0.85, 1.12, 3)
    for _ in range(3 if cards > 20 else 0):
        tip = centre + spread * rng.normal(0, 0.45, 3)
        mesh.tube(fork, tip, radius * 0.6, radius * 0.2, bark, 4, False)
    tone = rng.uniform(0.85, 1.15) * np.array((rng.uniform(0.92, 1.1), 1.0, rng.uniform(0.9, 1.1)))
    for k in range(cards):
        z = 1 - 2 * (k + 0.5) / cards
        a = 2.399963 * k + rng.normal(0, 0.3)
        out = np.array((np.sqrt(1 - z * z) * np.cos(a), np.sqrt(1 - z * z) * np.sin(a), z))
        radial = rng.uniform(0.45, 0.95)
        place = centre + spread * out * radial
        facing = out + rng.normal(0, 0.6, 3)
        facing /= np.linalg.norm(facing)
        right = cross((0, 0, 1), facing) + 1e-3
        right /= np.linalg.norm(right)
        up = cross(facing, right)
        roll = rng.uniform(0, 2 * np.pi)
        right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
        half = size * (0.135 if cards > 50 else (0.18 if cards > 20 else 0.24)) * rng.uniform(0.8, 1.2)
        shade = (0.62 + 0.38 * radial) * (0.85 + 0.2 * (z + 1) / 2) * rng.uniform(0.92, 1.08)
        soft = out * 0.8 + np.array((0, 0, 0.35))
        skin = Skin(VEGETATION, f"leaf{k % 2}", 1.25 * tone * shade, flags=CUTOUT | TWO_SIDED)
        mesh.card(place, right * half, up * half, skin, soft / np.linalg.norm(soft))


def bush(mesh: Mesh, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A shrub of leaf clumps on the ground."""
    for k in range(9):
        a = 2.4 * k
        out = np.array((np.cos(a), np.sin(a), rng.uniform(0.1, 1.0)))
        facing = out / np.linalg.norm(out)
        right = cross((0, 0, 1), facing)
        right /= np.linalg.norm(right)
        centre = np.array((x, y, 0.42 * size)) + 0.35 * size * out * (1, 1, 0.5)
        skin = Skin(VEGETATION, f"leaf{k % 2}", np.full(3, rng.uniform(0.85, 1.15)), flags=CUTOUT | TWO_SIDED)
        mesh.card(
            centre, right * 0.5 * size, cross(facing, right) * 0.5 * size, skin, facing * 0.7 + np.array((0, 0, 0.5))
        )


def hedge(mesh: Mesh, rng: np.random.Generator, length: float, y: float, height: float) -> None:
    """A clipped hedge with a ragged top."""
    mesh.box((0, y - 0.35, 0), (length, y + 0.35, height), Skin(VEGETATION, "hedge", (1, 1, 1), 1.6))
    for x in np.arange(0.5, length, 1.1):
        skin = Skin(VEGETATION, f"leaf{int(rng.integers(2))}", (1, 1, 1), flags=CUTOUT | TWO_SIDED)
        mesh.card((x, y + rng.normal(0, 0.1), height), (0.75, 0, 0), (0, 0, 0.3), skin, (0, 0.5, 0.8))


def wall(mesh: Mesh, rng: np.random.Generator, length: float, y: float, height: float) -> None:
    """A free-standing wall of brick or concrete with a coping."""
    brick = rng.random() < 0.6
    tint = np.array((0.56, 0.33, 0.27) if brick else (0.62, 0.61, 0.58)) * rng.uniform(0.85, 1.1)
    mesh.box((0, y - 0.15, 0), (length, y + 0.15, height), Skin(WALL, "brick" if brick else "concrete", tint, 2.2))
    mesh.box((0, y - 0.22, height), (length, y + 0.22, height + 0.12), Skin(WALL, "concrete", (0.6, 0.6, 0.58), 3.0))


def fence(mesh: Mesh, rng: np.random.Generator, length: float, y: float, height: float) -> None:
    """A board or bar fence, cut out, between posts."""
    boards = rng.random() < 0.6
    tint = np.array(
        ((0.45, 0.33, 0.22), (0.55, 0.52, 0.46), (0.75, 0.75, 0.72))[rng.integers(3)]
        if boards
        else ((0.12, 0.14, 0.13), (0.3, 0.32, 0.33), (0.16, 0.3, 0.22))[rng.integers(3)]
    )
    skin = Skin(FENCE, "planks" if boards else "bars", tint, (1.5, height), CUTOUT | TWO_SIDED | SOLID)
    mesh.polygon(((length, y, 0), (0, y, 0), (0, y, height), (length, y, height)), skin)
    for x in np.arange(0, length + 0.1, 2.5):
        mesh.box((x - 0.05, y - 0.05, 0), (x + 0.05, y + 0.05, height + 0.1), Skin(FENCE, tint=tint * 0.9))


def lamp_post(mesh: Mesh, rng: np.random.Generator, arm: float, dusk: bool) -> None:
    """A street lamp whose arm reaches over the street (+y)."""
    skin = Skin(POLE, tint=METAL)
    high = rng.uniform(6.5, 8.5)
    mesh.tube((0, 0, 0), (0, 0, high), 0.075, 0.045, skin, 6)
    mesh.tube((0, 0, high - 0.1), (0, arm, high + 0.25), 0.05, 0.05, skin, 4)
    mesh.box((-0.15, arm - 0.4, high + 0.15), (0.15, arm + 0.3, high + 0.3), skin, "fblrt")
    mesh.box(
        (-0.12, arm - 0.35, high + 0.14),
        (0.12, arm + 0.25, high + 0.2),
        Skin(POLE, tint=(1, 0.9, 0.7) if dusk else (0.7, 0.7, 0.68), flags=EMISSIVE if dusk else 0),
        "u",
    )


def sign_post(mesh: Mesh, rng: np.random.Generator, facing: int) -> None:
    """One or two traffic signs on a post; facing = +1 looks along +x, -1 along -x."""
    high = rng.uniform(2.3, 2.9)
    mesh.tube((0, 0, 0), (0, 0, high + 0.4), 0.038, 0.038, Skin(POLE, tint=(0.5, 0.51, 0.52)), 6)
    z = high
    for _ in range(1 + int(rng.random() < 0.4)):
        kind, half = int(rng.integers(4)), rng.uniform(0.32, 0.42)
        x = 0.07 * facing
        mesh.card(
            (x, 0, z), (0, half * facing, 0), (0, 0, half), Skin(SIGN, f"sign{kind}", (1, 1, 1), flags=CUTOUT | SOLID)
        )
        mesh.card(
            (x * 0.9, 0, z),
            (0, -half * facing, 0),
            (0, 0, half),
            Skin(SIGN, f"sign{kind}", (0.4, 0.4, 0.42), flags=CUTOUT | SOLID),
        )
        z -= 0.95


def traffic_light(mesh: Mesh, facing: int, state: str, arm: float = 0.0) -> None:
    """A signal on a post, and a second one over the street when arm > 0 (metres towards +y)."""
    skin = Skin(POLE, tint=METAL)
    mesh.tube((0, 0, 0), (0, 0, 3.5 if not arm else 5.9), 0.07, 0.06, skin, 6)
    heads = [(0.0, 2.75, 0.15)]
    if arm:
        mesh.tube((0, 0, 5.7), (0, arm, 5.9), 0.05, 0.04, skin, 4)
        heads.append((arm, 5.5, 0.0))
    for y, z, ahead in heads:
        x = facing * ahead
        mesh.box(
            (x - 0.16, y - 0.2, z - 0.55), (x + 0.16, y + 0.2, z + 0.55), Skin(LIGHT, tint=(0.06, 0.07, 0.06)), "fblrtu"
        )
        for k, (name, on) in enumerate(
            (("red", (1.0, 0.12, 0.08)), ("yellow", (1.0, 0.7, 0.1)), ("green", (0.15, 0.95, 0.4)))
        ):
            tint = on if name == state else np.array(on) * 0.13
            a = np.arange(8) * np.pi / 4
            face = np.stack(
                [np.full(8, x + facing * 0.163), y + facing * 0.14 * np.cos(a), z + 0.34 - 0.34 * k + 0.14 * np.sin(a)],
                1,
            )
            mesh.polygon(face, Skin(LIGHT, tint=tint, flags=EMISSIVE if name == state else 0, layer=1))


def bollard(mesh: Mesh, x: float, y: float) -> None:
    """A low post at the kerb."""
    mesh.tube((x, y, 0), (x, y, 0.95), 0.06, 0.05, Skin(POLE, tint=(0.25, 0.26, 0.27)), 6)
