"""Render a procity clip in memory, without a data set on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from tcseg import procity
from tcseg.data.clips import Clips
from tcseg.labels import ids_to_train_ids


def draw_clip(city: str, seed: int, size: tuple[int, int]) -> Clips:
    """Render a clip with labels and exact flow for every frame, without reading or writing files.

    Args:
        city: a name from `procity.CITIES`; no network of this repository was trained in the cities of "val".
        seed: 0 or more; the street depends only on city and seed.
        size: (W,H), multiples of 32, W = 2 H.

    Returns:
        A split named "drawn" with one clip of `procity.FRAMES` frames.

    Raises:
        ValueError: the city is unknown, or the size is not supported.
    """
    street = procity.Sequence(city, seed, size)
    views = [street.render(t) for t in range(procity.FRAMES)]
    flow = np.stack([view.flow_forward for view in views[:-1]]).astype(np.float16)
    visible = np.stack([view.visible_forward for view in views[:-1]])
    return Clips(
        dataset="procity",
        split="drawn",
        frames=np.ascontiguousarray(np.stack([view.image for view in views]).transpose(0, 3, 1, 2))[None],
        labels=ids_to_train_ids(np.stack([view.label_ids for view in views]))[None],
        annotated=np.ones((1, len(views)), bool),
        flows={"exact": (flow[None], visible[None])},
        names=[f"{city}_{seed}"],
        key=f"procity {procity.VERSION} {city} {seed} {size[0]}x{size[1]}",
    )


def draw_frames(count: int, size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Render one labelled frame from each of N streets of the training cities.

    Args:
        count: N.
        size: (W,H), multiples of 32, W = 2 H.
        seed: seed of the first street.

    Returns:
        Frames uint8 (N,3,H,W) RGB, and labels uint8 (N,H,W) trainIds.

    Raises:
        ValueError: the size is not supported.
    """
    cities = procity.CITIES["train"]
    order = sorted(range(count), key=lambda i: i % len(cities))  # city by city: its textures are painted once
    drawn = {
        i: procity.Sequence(cities[i % len(cities)], seed + i, size).render(7 * i % procity.FRAMES, flow=(False, False))
        for i in order
    }
    views = [drawn[i] for i in range(count)]
    frames = np.ascontiguousarray(np.stack([view.image for view in views]).transpose(0, 3, 1, 2))
    return frames, ids_to_train_ids(np.stack([view.label_ids for view in views]))


def write_drive(
    folder: Path, city: str, seeds: Iterable[int], size: tuple[int, int] = (512, 256), camera: procity.Camera | None = None
) -> Path:
    """Write snippets of a city, one after the other, as a video: a folder of pictures, with label maps in a folder beside it.

    Args:
        folder: gets `<seed>_<frame>.png`; `<folder>_labels` gets the trainIds of each frame under the same name.
        city: a name from `procity.CITIES`.
        seeds: of the snippets; between two of them there is a cut.
        size: (W,H), multiples of 32, W = 2 H.
        camera: another camera than the city's cars have.

    Returns:
        The folder of label maps.

    Raises:
        ValueError: the city is unknown, or the size is not supported.
    """
    labels = folder.with_name(f"{folder.name}_labels")
    for place in (folder, labels):
        place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        street = procity.Sequence(city, seed, size, camera=camera or procity.Camera())
        for t in range(procity.FRAMES):
            view = street.render(t, flow=(False, False))
            name = f"{seed:06}_{t:02}.png"
            cv2.imwrite(str(folder / name), view.image[..., ::-1])
            cv2.imwrite(str(labels / name), ids_to_train_ids(view.label_ids))
    return labels
