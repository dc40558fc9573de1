"""Builders of pedestrians and riders: closed, jointed prisms with moving legs and arms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .geometry import Mesh, Skin
from .scene import Scene

PERSON, RIDER = 24, 25
SKINS = ((0.85, 0.64, 0.52), (0.74, 0.53, 0.40), (0.50, 0.34, 0.24), (0.34, 0.23, 0.17), (0.88, 0.70, 0.58))
CLOTHES = (
    (0.10, 0.11, 0.14), (0.16, 0.19, 0.28), (0.34, 0.35, 0.37), (0.55, 0.53, 0.50), (0.42, 0.34, 0.26),
    (0.24, 0.30, 0.24), (0.48, 0.13, 0.13), (0.66, 0.64, 0.60), (0.22, 0.32, 0.46), (0.62, 0.50, 0.20),
    (0.75, 0.75, 0.76), (0.38, 0.20, 0.30),
)  # fmt: skip
TROUSERS = ((0.12, 0.14, 0.22), (0.09, 0.09, 0.10), (0.22, 0.26, 0.36), (0.36, 0.32, 0.27), (0.28, 0.29, 0.30))


def _torso(
    mesh: Mesh, rng: np.random.Generator, hip: np.ndarray, neck: np.ndarray, label: int, cloth: Skin, size: float
) -> None:
    """Trunk from hip to neck, head, hair or helmet."""
    chest = hip + 0.72 * (neck - hip)
    mesh.tube(hip, chest, (0.12 * size, 0.17 * size), (0.135 * size, 0.215 * size), cloth, 8, False)
    mesh.tube(chest, neck, (0.135 * size, 0.215 * size), (0.07 * size, 0.09 * size), cloth, 8)
    skin = Skin(label, tint=SKINS[rng.integers(len(SKINS))])
    hair = Skin(
        label, tint=((0.08, 0.06, 0.05), (0.25, 0.17, 0.1), (0.5, 0.42, 0.3), (0.45, 0.44, 0.43))[rng.integers(4)]
    )
    up = np.array((0.02, 0.0, 1.0)) * size
    base = neck + 0.02 * up
    mesh.tube(base, base + 0.06 * up, 0.05 * size, 0.085 * size, skin, 6, False)
    mesh.tube(
        base + 0.06 * up, base + 0.17 * up, (0.10 * size, 0.085 * size), (0.105 * size, 0.09 * size), skin, 6, False
    )
    back = np.array((-0.015, 0, 0))
    mesh.tube(
        base + 0.15 * up + back,
        base + 0.27 * up + back,
        (0.12 * size, 0.10 * size),
        (0.06 * size, 0.055 * size),
        hair,
        6,
    )
    if rng.random() < 0.5:  # long hair or a hood hides the nape
        mesh.tube(
            base - 0.03 * up + 3 * back,
            base + 0.2 * up + 3 * back,
            (0.06 * size, 0.09 * size),
            (0.08 * size, 0.095 * size),
            hair,
            6,
            False,
        )


def _leg(
    scene: Scene, obj: int, hip: tuple, thigh: Callable, knee: Callable, label: int, cloth: Skin, size: float
) -> None:
    """Thigh and shin as two limbs, and a shoe."""
    upper, lower = 0.44 * size, 0.45 * size
    part = scene.limb(obj, hip, thigh)
    scene.mesh.at(part).tube((0, 0, -upper), (0, 0, 0), 0.068 * size, 0.095 * size, cloth, 6, False)
    shin = scene.limb(part, (0, 0, -upper), knee)
    scene.mesh.at(shin).tube((0, 0, -lower + 0.03), (0, 0, 0.02), 0.05 * size, 0.068 * size, cloth, 6, False)
    scene.mesh.box((-0.07, -0.05, -lower), (0.17, 0.05, -lower + 0.08), Skin(label, tint=(0.07, 0.06, 0.06)))


def pedestrian(scene: Scene, rng: np.random.Generator, obj: int, walk: Callable | None) -> None:
    """A standing or walking person; walk: t -> metres walked, or None."""
    mesh = scene.mesh.at(obj)
    mesh.thing()
    size = float(rng.uniform(0.9, 1.06)) if rng.random() > 0.08 else float(rng.uniform(0.62, 0.78))
    shirt, legs = np.array(CLOTHES[rng.integers(len(CLOTHES))]), TROUSERS[rng.integers(len(TROUSERS))]
    cloth, trousers = Skin(PERSON, "cloth", shirt, 0.5), Skin(PERSON, "cloth", legs, 0.5)
    hip, neck = np.array((0, 0, 0.86 * size)), np.array((0.01, 0, 1.48 * size))
    _torso(mesh, rng, hip, neck, PERSON, cloth, size)
    if rng.random() < 0.3:  # coat or skirt
        wide, narrow = (0.19 * size, 0.23 * size), (0.125 * size, 0.17 * size)
        mesh.tube((0, 0, 0.5 * size), (0, 0, 0.9 * size), wide, narrow, cloth, 8, False)
    if rng.random() < 0.3:  # rucksack
        mesh.box(
            (-0.3 * size, -0.15, 1.0 * size),
            (-0.11 * size, 0.15, 1.42 * size),
            Skin(PERSON, tint=CLOTHES[rng.integers(len(CLOTHES))]),
        )
    phase, idle = rng.uniform(0, 6.28), float(rng.uniform(0.0, 0.12))

    def gait(t: float, shift: float) -> float:
        return phase + shift + (0.0 if walk is None else walk(t) * 2 * np.pi / (1.45 * size))

    reach = idle if walk is None else 0.48
    for side in (-1, 1):
        shift = 0.0 if side > 0 else np.pi
        thigh = lambda t, s=shift: -reach * np.sin(gait(t, s))  # noqa: E731
        knee = lambda t, s=shift: 1.1 * reach * max(0.0, np.cos(gait(t, s)))  # noqa: E731
        _leg(scene, obj, (0, side * 0.095 * size, 0.89 * size), thigh, knee, PERSON, trousers, size)
        skin = Skin(PERSON, tint=SKINS[rng.integers(len(SKINS))])
        _arm(scene, obj, side, lambda t, s=shift: 0.9 * reach * np.sin(gait(t, s)), cloth, skin, size)
    mesh.at(obj)


def _arm(scene: Scene, obj: int, side: int, swing: Callable, cloth: Skin, skin: Skin, size: float) -> None:
    """Upper arm, bent forearm and hand."""
    arm = scene.limb(obj, (0, side * 0.222 * size, 1.365 * size), swing)
    scene.mesh.at(arm).tube((0.03, 0, -0.28 * size), (0, -side * 0.02, 0.04), 0.045 * size, 0.055 * size, cloth, 6)
    fore = scene.limb(arm, (0.02, 0, -0.3 * size), lambda t: -0.35)
    scene.mesh.at(fore).tube((0, 0, -0.26 * size), (0, 0, 0.02), 0.035 * size, 0.045 * size, cloth, 6, False)
    scene.mesh.tube((0, 0, -0.36 * size), (0, 0, -0.26 * size), 0.035 * size, 0.04 * size, skin, 4)


def rider(scene: Scene, rng: np.random.Generator, obj: int, way: Callable, motor: bool) -> None:
    """A person seated on the bicycle or motorcycle of the same object; the legs pedal with the way ridden."""
    mesh = scene.mesh.at(obj)
    size = float(rng.uniform(0.94, 1.04))
    shirt = np.array(CLOTHES[rng.integers(len(CLOTHES))] if not motor else CLOTHES[rng.integers(4)])
    cloth, trousers = Skin(RIDER, "cloth", shirt, 0.5), Skin(RIDER, "cloth", TROUSERS[rng.integers(len(TROUSERS))], 0.5)
    hip = np.array((-0.3 if motor else -0.24, 0, 0.86 if motor else 0.96))
    neck = hip + np.array((0.22 if motor else 0.26, 0, 0.56)) * size
    _torso(mesh, rng, hip, neck, RIDER, cloth, size)
    if motor or rng.random() < 0.5:  # helmet
        tint = np.array(((0.08, 0.08, 0.08), (0.8, 0.8, 0.8), (0.6, 0.1, 0.1))[rng.integers(3)])
        top = neck + np.array((0.02, 0, 0.1 * size))
        mesh.tube(top, top + np.array((0, 0, 0.1)), 0.13, 0.155, Skin(RIDER, tint=tint), 8, False)
        mesh.tube(top + np.array((0, 0, 0.1)), top + np.array((0, 0, 0.22)), 0.155, 0.07, Skin(RIDER, tint=tint), 8)
    grip = np.array((0.36 if motor else 0.33, 0, 1.08 if motor else 1.05))
    for side in (-1, 1):
        mesh.at(obj).tube(grip + (0, side * 0.3, 0), neck + np.array((0, side * 0.19, -0.1)), 0.045, 0.06, cloth, 6)
        shift = 0.0 if side > 0 else np.pi
        turn = (lambda t, s=shift: s) if motor else (lambda t, s=shift: s + way(t) / 0.35 * 0.45)
        lift = (lambda t: -1.0) if motor else (lambda t, f=turn: -0.95 - 0.42 * np.sin(f(t)))
        bend = (lambda t: 1.35) if motor else (lambda t, f=turn: 1.05 + 0.42 * np.cos(f(t) + 0.5))
        _leg(scene, obj, (hip[0], side * 0.12, hip[2]), lift, bend, RIDER, trousers, size * 0.95)
    mesh.at(obj)
