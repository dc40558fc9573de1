"""Light and mixed classes: what they change, what they never change, and that answers stay with their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tcseg.adaptation.learning.augmentation import MILD, change_light, mix_classes
from tcseg.adaptation.options import AdaptOptions
from tcseg.data.augmentation import Clip, View, change_colors
from tcseg.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (8, 2, 3, 32, 48), dtype=torch.uint8, generator=generator(1))


def test_no_strength_is_the_mild_change_of_colours_alone(frames: torch.Tensor) -> None:
    mild = change_colors(frames, View(color=MILD), generator())
    torch.testing.assert_close(change_light(frames, 0.0, generator()), mild)


def test_light_stays_in_range_and_is_one_light_a_clip(frames: torch.Tensor) -> None:
    frames[:, 1] = frames[:, 0]
    changed = change_light(frames, 1.0, generator())
    assert changed.shape == frames.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 255
    torch.testing.assert_close(changed[:, 0], changed[:, 1], msg="neighbours have the same light")
    moved = (changed - frames).abs().mean((1, 2, 3, 4))
    assert (moved > 1).all() and moved.std() > 1, "clips differ"
    torch.testing.assert_close(change_light(frames, 1.0, generator()), changed)


def test_brighter_stays_brighter() -> None:
    ramp = torch.linspace(0, 255, 64).round().to(torch.uint8).expand(16, 1, 3, 8, 64)
    rows = change_light(ramp, 1.0, generator())[:, 0, :, 4]
    assert (rows.diff(dim=-1) >= -1e-3).all()


def clips() -> Clip:
    """Four frames of one colour each, with two classes in two halves; the class is told by the pixels."""
    labels = torch.zeros(4, 8, 12, dtype=torch.long)
    for i in range(4):
        labels[i, :, 6:] = i + 1
    targets = torch.nn.functional.one_hot(labels, 6).permute(0, 3, 1, 2).float()[:, None]
    pixels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None, None].expand(-1, -1, 3, -1, -1).float()
    return Clip(pixels.contiguous(), targets=targets, taught=torch.ones(4, 1, 8, 12))


def test_pasted_pixels_bring_what_the_teacher_said_of_them() -> None:
    before = clips()
    mixed = mix_classes(before, 1.0, np.random.default_rng(0))
    told = mixed.targets[:, 0].argmax(1)
    assert (mixed.frames[:, 0, 0, ::4, ::4].long() == told).all()
    assert any(not torch.equal(a, b) for a, b in zip(mixed.frames, before.frames, strict=True))
    torch.testing.assert_close(before.frames, clips().frames, msg="the clips that were given are left alone")


def test_what_the_teacher_is_not_sure_of_is_not_pasted() -> None:
    unsure = clips()
    unsure.taught = torch.full_like(unsure.taught, 0.1)
    mixed = mix_classes(unsure, 1.0, np.random.default_rng(0))
    torch.testing.assert_close(mixed.frames, unsure.frames)


def test_none_are_mixed_where_none_are_asked_for() -> None:
    torch.testing.assert_close(mix_classes(clips(), 0.0, np.random.default_rng(0)).frames, clips().frames)


def test_white_balance_colours_what_was_grey() -> None:
    grey = torch.full((16, 1, 3, 8, 8), 120, dtype=torch.uint8)
    mean = change_light(grey, 1.0, generator()).mean((1, 3, 4))
    spread = (mean.max(1).values - mean.min(1).values) / mean.mean(1)
    assert spread.median() > 0.05 and spread.max() < 0.6


def test_what_is_asked_for_reaches_the_training() -> None:
    usual, asked = AdaptOptions().settings, AdaptOptions(light=1.0, mixing=0.5, zoom=(0.6, 2.0), temporal=0.0).settings
    assert (usual.light, usual.mixing, usual.zoom, usual.pairs) == (0.0, 0.0, (0.9, 1.6), 3)
    assert (asked.light, asked.mixing, asked.zoom, asked.pairs) == (1.0, 0.5, (0.6, 2.0), 0)


IMPOSSIBLE = [{"light": 1.5}, {"light": float("nan")}, {"mixing": -0.1}, {"zoom": (2.0, 0.6)}, {"zoom": (0.0, 1.0)}]


@pytest.mark.parametrize("bad", IMPOSSIBLE)
def test_an_option_that_cannot_be_is_named(bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        AdaptOptions(**bad)
