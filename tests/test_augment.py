"""Joint augmentation, tested by warping: what the flow says after the view must be true of the frames after the view."""

import numpy as np
import pytest
import torch

from tcseg import augment
from tcseg.augment import Clip, View
from tcseg.data import Clips
from tcseg.flow import homography_flow, synthetic_motion, warp
from tcseg.labels import IGNORE


def moving_clip(batch=4, size=(96, 64), seed=0):
    """Two frames related by a known homography, with labels = quantised brightness and targets to match."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, 3, 8, 12, generator=generator) * 255
    first = torch.nn.functional.interpolate(noise, size[::-1], mode="bicubic", align_corners=False)
    there = synthetic_motion(batch, size, generator)
    forward, backward = homography_flow(there, size), homography_flow(torch.linalg.inv(there), size)
    second, inside = warp(first, backward)
    seen, _ = warp(inside[:, None].float(), forward)
    probs = torch.rand(batch, 2, 5, size[1] // 4, size[0] // 4, generator=generator).softmax(2)
    labels = (first.mean(1) / 64).long().clamp(0, 3)
    return Clip(torch.stack((first, second), 1), labels, forward[:, None], (seen > 0.99), probs)


def warp_error(clip):
    warped, inside = warp(clip.frames[:, 1], clip.flow[:, 0])
    use = clip.visible[:, 0] & inside
    return (warped - clip.frames[:, 0]).abs().mean(1)[use].mean().item()


@pytest.mark.parametrize(
    "view", [View(), View(zoom=(1.5, 1.5)), View(zoom=(0.7, 0.7)), View(zoom=(0.8, 2.0), flip=1.0)]
)
def test_flow_stays_true_under_any_view(view):
    clip = moving_clip()
    generator = torch.Generator().manual_seed(3)
    shown = augment.augment(clip, view, generator)
    still = Clip(shown.frames, flow=torch.zeros_like(shown.flow), visible=shown.visible)
    assert warp_error(shown) < 2.0 < warp_error(still) / 2
    assert shown.visible.float().mean() > 0.3


def test_flip_of_a_shift_changes_its_sign():
    flow = torch.zeros(1, 1, 2, 32, 32)
    flow[:, :, 0], flow[:, :, 1] = 3, 1
    clip = Clip(torch.zeros(1, 2, 3, 32, 32), flow=flow, visible=torch.ones(1, 1, 32, 32, dtype=torch.bool))
    shown = augment.augment(clip, View(zoom=(2.0, 2.0), flip=1.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(shown.flow[0, 0, :, 16, 16], torch.tensor([-6.0, 2.0]))


def test_flip_is_exact_for_frames_labels_and_targets():
    clip = moving_clip()
    shown = augment.augment(clip, View(flip=1.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(shown.frames, clip.frames.flip(-1), atol=2e-2, rtol=0)
    assert (shown.labels == clip.labels.flip(-1)).all()
    torch.testing.assert_close(shown.targets, clip.targets.flip(-1), atol=1e-4, rtol=0)
    assert shown.valid.all()


def test_zooming_out_ignores_what_the_picture_does_not_have():
    shown = augment.augment(moving_clip(), View(zoom=(0.5, 0.5), flip=0), torch.Generator().manual_seed(0))
    assert (shown.labels[~shown.valid] == IGNORE).all() and (shown.labels[shown.valid] != IGNORE).all()
    assert 0.2 < shown.valid.float().mean() < 0.3
    assert not (shown.visible[:, 0] & ~shown.valid).any()


def test_colors_change_alike_in_all_frames_of_a_clip():
    frames = torch.full((2, 2, 3, 4, 4), 100.0)
    frames[..., 0] = 50
    changed = augment.change_colors(frames, 0.5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed[:, 0], changed[:, 1])
    assert (changed[0] - changed[1]).abs().max() > 1
    assert augment.change_colors(frames, 0.0, torch.Generator()) is frames


def test_same_generator_same_view_and_bad_zoom():
    one, two = (augment.random_views(3, View(zoom=(0.5, 2)), torch.Generator().manual_seed(7)) for _ in range(2))
    assert (one == two).all()
    with pytest.raises(ValueError, match="zoom is"):
        View(zoom=(2.0, 1.0))


def stills(count=5):
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 255, (count, 1, 3, 8, 12), np.uint8), 8, -1), 8, -2)
    labels = np.zeros((count, 1, 64, 96), np.uint8)
    return Clips("camvid", "train", frames, labels, np.ones((count, 1), bool), {}, [str(i) for i in range(count)], "k")


def test_stills_get_true_synthetic_motion():
    clip = augment.sample_pairs(stills(), 4, torch.Generator().manual_seed(0))
    assert clip.frames.shape == (4, 2, 3, 64, 96)
    assert clip.flow.abs().max() > 1
    zero = Clip(clip.frames, flow=torch.zeros_like(clip.flow), visible=clip.visible)
    assert warp_error(clip) < warp_error(zero) / 2


def test_more_clips_than_there_are_repeat():
    clip = augment.sample_labelled(stills(2), [0, 1], 5, torch.Generator().manual_seed(0))
    assert clip.frames.shape[0] == 5 and clip.labels.dtype == torch.int64
