"""Styles of the cities (facades, palette, trees, streets, weather), and the light of a scene.

Cities of val and test share no style with those of train: other facade kinds, palettes, trees and weather mixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcseg.errors import InputError

WEATHERS = ("sunny", "overcast", "haze", "dusk", "rain", "glare")


@dataclass(frozen=True)
class CityStyle:
    """One city.

    Attributes:
        facades: kinds of `textures.facade`, most frequent first.
        walls: RGB tints of the walls.
        accents: RGB of shop signs and coaches.
        leaf: RGB of the leaves.
        roofs: share of pitched roofs, 0..1. roof: RGB of the tiles.
        floors: (fewest, most).
        gardens: share of lots with a front garden, 0..1. shops: share of lots with a shop.
        trees: mean distance of street trees in metres (large: few).
        lanes: share of streets with two lanes a direction.
        weather: probabilities in the order of `WEATHERS`.
        road: tint of the asphalt. paving: texture of the sidewalks.
        crowd: people per 100 m of sidewalk.
    """

    facades: tuple[str, ...]
    walls: tuple[tuple[float, float, float], ...]
    accents: tuple[tuple[float, float, float], ...]
    leaf: tuple[float, float, float]
    roofs: float
    roof: tuple[float, float, float]
    floors: tuple[int, int]
    gardens: float
    shops: float
    trees: float
    lanes: float
    weather: tuple[float, ...]
    road: tuple[float, float, float]
    paving: str
    crowd: float


_CREAM, _SAND, _OCHRE, _ROSE = (0.82, 0.78, 0.68), (0.74, 0.67, 0.55), (0.76, 0.62, 0.42), (0.72, 0.52, 0.46)
_GREY, _DARK, _WHITE, _BRICK = (0.62, 0.63, 0.64), (0.42, 0.42, 0.44), (0.88, 0.88, 0.86), (0.60, 0.34, 0.27)
_BROWN, _BLUE, _GREEN, _RUST = (0.48, 0.38, 0.30), (0.56, 0.63, 0.70), (0.58, 0.64, 0.52), (0.66, 0.42, 0.28)
_RED, _NAVY, _TEAL = (0.7, 0.15, 0.13), (0.15, 0.22, 0.5), (0.1, 0.45, 0.45)
_GOLD, _PLUM, _PINE = (0.8, 0.6, 0.15), (0.45, 0.2, 0.4), (0.15, 0.4, 0.2)
_SUN, _MIX, _NORTH, _WET = (
    (0.6, 0.25, 0.03, 0.04, 0.02, 0.06),
    (0.36, 0.36, 0.09, 0.07, 0.07, 0.05),
    (0.2, 0.5, 0.14, 0.06, 0.08, 0.02),
    (0.14, 0.4, 0.12, 0.1, 0.22, 0.02),
)

_STYLES: dict[str, CityStyle] = {
    # train
    "aldersund": CityStyle(
        ("plaster", "stone"), (_CREAM, _SAND, _GREY), (_RED, _NAVY), (0.30, 0.38, 0.16), 0.7, (0.55, 0.27, 0.2),
        (3, 5), 0.2, 0.5, 14, 0.3, _MIX, (1, 1, 1), "paving", 9,
    ),
    "brackwater": CityStyle(
        ("brick", "plaster"), (_BRICK, _BROWN, _RUST), (_TEAL, _GOLD), (0.26, 0.35, 0.15), 0.5, (0.32, 0.3, 0.32),
        (2, 4), 0.45, 0.35, 16, 0.1, _NORTH, (0.95, 0.96, 1.0), "paving", 6,
    ),
    "calverra": CityStyle(
        ("stone", "plaster"), (_SAND, _OCHRE, _ROSE), (_NAVY, _RED), (0.36, 0.40, 0.20), 0.3, (0.62, 0.36, 0.24),
        (3, 6), 0.1, 0.7, 18, 0.4, _SUN, (1.1, 1.08, 1.03), "cobble", 13,
    ),
    "dornhelm": CityStyle(
        ("panel", "stone"), (_GREY, _WHITE, _BLUE), (_RED, _PINE), (0.28, 0.38, 0.17), 0.1, (0.35, 0.3, 0.3), (4, 7),
        0.35, 0.25, 12, 0.6, _MIX, (0.9, 0.92, 0.96), "concrete", 6,
    ),
    "elmstadt": CityStyle(
        ("plaster", "brick"), (_WHITE, _CREAM, _GREEN), (_GOLD, _NAVY), (0.25, 0.37, 0.14), 0.9, (0.48, 0.22, 0.17),
        (2, 3), 0.7, 0.15, 10, 0.0, _MIX, (1, 1, 1), "paving", 5,
    ),
    "farrowby": CityStyle(
        ("stone", "panel"), (_GREY, _DARK, _SAND), (_PLUM, _TEAL), (0.32, 0.37, 0.2), 0.4, (0.3, 0.3, 0.34), (4, 6),
        0.1, 0.6, 20, 0.5, _WET, (0.92, 0.94, 1.0), "paving", 12,
    ),
    "gildern": CityStyle(
        ("glass", "stone"), (_BLUE, _GREY, _WHITE), (_NAVY, _TEAL), (0.29, 0.4, 0.19), 0.0, (0.4, 0.4, 0.4), (5, 8),
        0.1, 0.4, 16, 0.8, _MIX, (0.96, 0.98, 1.02), "concrete", 8,
    ),
    "havenmoor": CityStyle(
        ("brick", "stone"), (_BRICK, _ROSE, _SAND), (_RED, _GOLD), (0.27, 0.33, 0.13), 0.8, (0.4, 0.26, 0.22),
        (3, 4), 0.3, 0.5, 13, 0.2, _NORTH, (0.98, 0.96, 0.94), "cobble", 10,
    ),
    "ironvale": CityStyle(
        ("panel", "brick"), (_BROWN, _GREY, _BRICK), (_PINE, _RED), (0.31, 0.36, 0.17), 0.3, (0.36, 0.33, 0.32),
        (3, 5), 0.4, 0.3, 15, 0.4, _WET, (0.9, 0.9, 0.92), "concrete", 6,
    ),
    "juniper": CityStyle(
        ("plaster", "plaster"), (_GREEN, _OCHRE, _CREAM), (_TEAL, _PLUM), (0.33, 0.42, 0.18), 0.6, (0.6, 0.32, 0.22),
        (2, 5), 0.4, 0.4, 9, 0.2, _SUN, (1.05, 1.04, 1.02), "paving", 8,
    ),
    # val
    "korvin": CityStyle(
        ("timber", "plaster"), (_WHITE, _OCHRE, _ROSE), (_PINE, _GOLD), (0.38, 0.42, 0.16), 1.0, (0.42, 0.2, 0.15),
        (2, 4), 0.3, 0.5, 13, 0.1, _MIX, (1.02, 1.0, 0.97), "cobble", 10,
    ),
    "lystra": CityStyle(
        ("glass", "panel"), (_DARK, _BLUE, _GREY), (_TEAL, _RED), (0.24, 0.36, 0.2), 0.0, (0.4, 0.4, 0.4), (5, 9),
        0.1, 0.5, 17, 0.7, _WET, (0.88, 0.9, 0.95), "concrete", 11,
    ),
    "mirefeld": CityStyle(
        ("brick", "timber"), ((0.45, 0.25, 0.22), _RUST, _DARK), (_NAVY, _GOLD), (0.36, 0.34, 0.14), 0.7,
        (0.28, 0.27, 0.3), (2, 4), 0.6, 0.25, 12, 0.2, _NORTH, (1.0, 0.98, 0.95), "paving", 6,
    ),
    "nordhaven": CityStyle(
        ("plaster", "stone"), ((0.7, 0.42, 0.34), (0.5, 0.58, 0.66), (0.85, 0.75, 0.5)), (_PLUM, _NAVY),
        (0.28, 0.42, 0.22), 0.6, (0.3, 0.3, 0.33), (3, 5), 0.2, 0.5, 15, 0.4, (0.3, 0.2, 0.12, 0.2, 0.08, 0.1),
        (1.08, 1.08, 1.1), "paving", 9,
    ),
    # test
    "ostbruck": CityStyle(
        ("timber", "brick"), (_CREAM, _RUST, _GREEN), (_RED, _PINE), (0.34, 0.36, 0.15), 0.9, (0.5, 0.25, 0.18),
        (2, 4), 0.4, 0.4, 12, 0.1, _NORTH, (0.96, 0.95, 0.93), "cobble", 8,
    ),
    "perlach": CityStyle(
        ("panel", "glass"), (_WHITE, _DARK, (0.6, 0.5, 0.45)), (_PLUM, _TEAL), (0.26, 0.4, 0.2), 0.1,
        (0.4, 0.4, 0.42), (4, 8), 0.2, 0.4, 16, 0.6, _MIX, (0.93, 0.95, 1.0), "concrete", 9,
    ),
    "quillon": CityStyle(
        ("stone", "timber"), (_OCHRE, (0.68, 0.6, 0.62), _SAND), (_GOLD, _NAVY), (0.4, 0.42, 0.2), 0.5,
        (0.58, 0.34, 0.24), (3, 6), 0.2, 0.6, 15, 0.3, _SUN, (1.1, 1.06, 1.0), "cobble", 11,
    ),
}  # fmt: skip

_NAMES = tuple(_STYLES)
CITIES: dict[str, tuple[str, ...]] = {"train": _NAMES[:10], "val": _NAMES[10:14], "test": _NAMES[14:]}
"""Split -> its cities; no city is in two splits."""


def style_of(city: str) -> CityStyle:
    """The style of a city.

    Raises:
        ValueError: unknown city.
    """
    if city not in _STYLES:
        raise InputError(f"city is {city!r}; it must be one of {', '.join(_STYLES)}")
    return _STYLES[city]


def light_vector(rng: np.random.Generator, weather: dict[str, float], heading: float) -> np.ndarray:
    """The light of a scene, (25,) float64 as `shading.shade_point` reads it.

    Args:
        rng: the scene's stream for light.
        weather: strength 0..1 of "overcast", "haze", "dusk", "rain" and "glare"; absent is 0.
        heading: of the ego car, radians; glare puts the sun in front of it.
    """
    wet, dusk, haze, glare = (weather.get(k, 0.0) for k in ("rain", "dusk", "haze", "glare"))
    grey = max(weather.get("overcast", 0.0), 0.9 * min(1.0, 2 * wet), 0.85 * min(1.0, 1.4 * haze))
    azimuth, elevation = heading + rng.uniform(0.5, 2 * np.pi - 0.5), rng.uniform(0.5, 0.95)
    if glare or dusk:
        azimuth, elevation = (
            heading + rng.uniform(-0.35, 0.35) + (0 if glare else rng.uniform(0.5, 2.5)),
            rng.uniform(0.13, 0.26),
        )
    direction = np.array((np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)))
    soft = 0.0
    if grey > 0.5:  # the whole sky is the lamp: light from above with wide shadows
        direction = np.array((0.15, 0.1, 1.0))
        direction /= np.linalg.norm(direction)
        soft = 7.0
    warm = np.array((1.0, 0.93, 0.82)) * (1 - dusk) + np.array((1.0, 0.55, 0.3)) * dusk
    sun = warm * (1.25 * (1 - 0.55 * grey)) * (1 - 0.45 * dusk) * (1 - 0.3 * wet)
    ambient = (
        (np.array((0.58, 0.63, 0.70)) * (1 - grey) + np.array((0.78, 0.79, 0.80)) * grey)
        * (1 - 0.38 * dusk)
        * (1 - 0.25 * wet)
    )
    horizon = np.array((0.80, 0.87, 0.93)) * (1 - grey) + np.array((0.82, 0.83, 0.85)) * grey
    zenith = np.array((0.28, 0.48, 0.78)) * (1 - grey) + np.array((0.66, 0.68, 0.72)) * grey
    horizon = (horizon * (1 - dusk) + np.array((0.85, 0.55, 0.42)) * dusk) * (1 - 0.25 * wet)
    zenith = (zenith * (1 - dusk) + np.array((0.25, 0.28, 0.42)) * dusk) * (1 - 0.3 * wet)
    cloud = (np.array((0.97, 0.97, 0.97)) * (1 - 0.25 * grey)) * (1 - 0.35 * dusk) * (1 - 0.25 * wet)
    cover = rng.uniform(0.25, 0.6)
    fog = 0.0009 + 0.018 * haze + 0.003 * wet
    glow = (0.25 + 1.3 * glare) * (1 - grey)
    tail = (cover, glow, fog, wet, soft, 1.0 + 0.5 * dusk, 1.0 - 0.4 * dusk)
    return np.array((*direction, *sun, *ambient, *horizon, *zenith, *cloud, *tail), np.float64)
