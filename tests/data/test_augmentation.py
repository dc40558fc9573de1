"""Joint augmentation, tested by warping: what the flow says after the view must be true of the frames after the view."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tcseg.data import augmentation
from tcseg.data.augmentation import Clip, View
from tcseg.data.clips import Clips
from tcseg.flow import homography_flow, resize_flow, synthetic_motion, warp
from tcseg.labels import IGNORE


def moving_clip(batch=4, size=(96, 64), seed=0):
    """Two frames related by a known homography, with targets."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, 3, 8, 12, generator=generator) * 255
    first = torch.nn.functional.interpolate(noise, size[::-1], mode="bilinear", align_corners=False)
    there = synthetic_motion(batch, size, generator)
    forward, backward = homography_flow(there, size), homography_flow(torch.linalg.inv(there), size)
    second, inside = warp(first, backward)
    seen, _ = warp(inside[:, None].float(), forward)
    probs = torch.rand(batch, 2, 5, size[1] // 4, size[0] // 4, generator=generator).softmax(2)
    taught = torch.stack((torch.ones_like(probs[:, 0, 0]), probs[:, 1, 0]), 1) > 0.2
    return Clip(torch.stack((first, second), 1), None, forward, seen[:, 0] > 0.99, probs, probs * 3, taught)


def labelled_clip(batch=4, size=(96, 64)):
    """Blocks of grey whose label is their brightness."""
    blocks = torch.randint(0, 4, (batch, 8, 12), generator=torch.Generator().manual_seed(0))
    labels = blocks.repeat_interleave(size[1] // 8, 1).repeat_interleave(size[0] // 12, 2)
    frames = (labels * 60 + 20).to(torch.uint8)[:, None, None].repeat(1, 1, 3, 1, 1)
    return Clip(frames, labels)


def warp_error(clip):
    warped, inside = warp(clip.frames[:, 1], clip.flow)
    use = clip.visible & inside
    return (warped - clip.frames[:, 0]).abs().mean(1)[use].mean().item()


def test_a_flip_is_exact_for_all_that_belongs_to_a_pair():
    clip = moving_clip()
    shown = augmentation.augment(clip, View(flip=1.0), torch.Generator().manual_seed(0))
    for name in ("frames", "visible", "targets", "features", "taught"):
        torch.testing.assert_close(getattr(shown, name), getattr(clip, name).flip(-1), msg=name)
    torch.testing.assert_close(shown.flow[:, 0], -clip.flow[:, 0].flip(-1))
    torch.testing.assert_close(shown.flow[:, 1], clip.flow[:, 1].flip(-1))


def test_flow_stays_true_where_some_pairs_are_flipped():
    clip = moving_clip(8)
    shown = augmentation.augment(clip, View(flip=0.5), torch.Generator().manual_seed(3))
    flipped = (shown.visible != clip.visible).flatten(1).any(1)
    assert 0 < flipped.sum() < 8
    still = Clip(shown.frames, flow=torch.zeros_like(shown.flow), visible=shown.visible)
    assert warp_error(shown) < 2.0 < warp_error(still) / 2


@pytest.mark.parametrize(
    "view", [View(), View(zoom=(1.5, 1.5)), View(zoom=(0.7, 0.7)), View(zoom=(0.8, 2.0), flip=1.0)]
)
def test_labels_follow_their_pixels_under_any_view(view):
    shown = augmentation.augment(labelled_clip(), view, torch.Generator().manual_seed(3))
    inside = shown.labels != IGNORE
    wanted = (shown.frames[:, 0, 0] - 20) / 60
    off = (wanted - shown.labels).abs()[inside]
    # Near a corner a pixel is blended of four brightnesses, a quarter of it or more its label's: off by 3/4 of 3 at most.
    assert off.max() <= 2.35 and (off < 0.05).float().mean() > 0.7


def test_zooming_out_ignores_what_the_picture_does_not_have():
    shown = augmentation.augment(labelled_clip(), View(zoom=(0.5, 0.5), flip=0), torch.Generator().manual_seed(0))
    assert 0.2 < (shown.labels != IGNORE).float().mean() < 0.3


def test_no_zoom_and_no_flip_is_the_identity():
    clip = labelled_clip()
    shown = augmentation.augment(clip, View(flip=0), torch.Generator().manual_seed(0))
    assert torch.equal(shown.frames, clip.frames.float()) and torch.equal(shown.labels, clip.labels)


def test_a_zoom_shows_the_middle_of_what_it_is_moved_to():
    x = torch.arange(96, dtype=torch.uint8).expand(1, 1, 3, 64, 96).clone()
    clip = Clip(x, torch.zeros(1, 64, 96, dtype=torch.int64))
    shown = (
        augmentation._zoom(clip, View(zoom=(2.0, 2.0), flip=0), torch.Generator().manual_seed(1)).frames[0, 0, 0, 0].float()
    )
    steps = shown[1:] - shown[:-1]
    assert abs(steps.mean().item() - 0.5) < 0.02, "twice as close: half a pixel a pixel"
    assert shown.min() >= 0 and shown.max() <= 95
    upright = Clip(torch.arange(64, dtype=torch.uint8)[:, None].expand(1, 1, 3, 64, 96).clone(), clip.labels)
    view = View(zoom=(2.0, 2.0), flip=0)
    shown = augmentation._zoom(upright, view, torch.Generator().manual_seed(1)).frames[0, 0, 0, :, 0].float()
    assert abs((shown[1:] - shown[:-1]).mean().item() - 0.5) < 0.02, "up and down as well"


def test_colors_change_alike_in_all_frames_of_a_clip_and_jitter_does_not():
    frames = torch.full((2, 2, 3, 4, 4), 100, dtype=torch.uint8)
    frames[..., 0] = 50
    changed = augmentation.change_colors(frames, View(color=0.5), torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed[:, 0], changed[:, 1])
    assert (changed[0] - changed[1]).abs().max() > 1
    jittered = augmentation.change_colors(frames, View(jitter=0.2), torch.Generator().manual_seed(0))
    assert (jittered[:, 0] - jittered[:, 1]).abs().max() > 1
    noisy = augmentation.change_colors(frames, View(noise=9.0), torch.Generator().manual_seed(0))
    assert 0 < (noisy - frames).std() < 9
    torch.testing.assert_close(augmentation.change_colors(frames, View(), torch.Generator()), frames.float())


def test_saturation_leaves_grey_alone():
    grey = torch.full((1, 1, 3, 2, 2), 90.0)
    grey[..., 1, 1] = 30
    colored = grey.clone()
    colored[:, :, 0] += 30
    view = View(color=0.3)
    one, two = (augmentation.change_colors(x, view, torch.Generator().manual_seed(0)) for x in (grey, colored))
    assert (one.amax(2) - one.amin(2)).max() < 1e-3 < (two.amax(2) - two.amin(2)).min()


def ranges(values):
    """Least and greatest of many draws, a little rounded."""
    return round(values.min().item(), 1), round(values.max().item(), 1)


def test_how_far_colours_may_go_oracle():
    """Of many clips: contrast is the slope of the greys, brightness the factor of their mean, saturation the spread of a colour."""
    ramp = torch.arange(80.0, 144).view(1, 1, 1, 8, 8).repeat(400, 2, 3, 1, 1)
    ramp[:, :, 0, 0, 0] += 6  # one pixel that is not grey, and as bright as before
    ramp[:, :, 2, 0, 0] -= 6
    for view, rest in ((View(color=0.4), 0.4), (View(jitter=0.4), 0.4), (View(), 0.0)):
        shown = augmentation.change_colors(ramp, view, torch.Generator().manual_seed(0))
        grey = shown.mean(2)
        contrast = (grey[..., 7, 7] - grey[..., 0, 0]) / 63
        brightness = grey.mean((2, 3)) / ramp[0, 0].mean()
        saturation = (shown[:, :, 0, 0, 0] - shown[:, :, 2, 0, 0]) / 12 / contrast
        for factor in (contrast, brightness, saturation):
            assert ranges(factor) == (round(1 - rest, 1), round(1 + rest, 1))
            assert factor.mean().item() == pytest.approx(1, abs=0.03)
        if rest:
            factors = torch.stack((contrast[:, 0], brightness[:, 0], saturation[:, 0]))
            assert (torch.corrcoef(factors) - torch.eye(3)).abs().max() < 0.15, "each is drawn by itself"


def test_noise_is_drawn_for_each_frame_and_has_its_greatest_strength():
    frames = torch.full((200, 2, 3, 8, 8), 128.0)
    shown = augmentation.change_colors(frames, View(noise=12.0), torch.Generator().manual_seed(0)) - 128
    strength = shown.flatten(2).std(2)
    assert 0 <= strength.min() < 1 and 11 < strength.max() < 14 and strength.mean().item() == pytest.approx(6, abs=0.7)
    assert (strength[:, 0] - strength[:, 1]).abs().max() > 8, "a frame's own"
    assert (shown[:, 0] - shown[:, 1]).abs().mean() > 1 and shown.mean().abs() < 0.2
    faint = augmentation.change_colors(frames, View(noise=0.5), torch.Generator().manual_seed(0)) - 128
    torch.testing.assert_close(faint, shown * (0.5 / 12), atol=1e-4, rtol=0)


def test_light_stays_within_eight_bits():
    frames = torch.tensor([0.0, 255.0]).view(1, 1, 1, 1, 2).repeat(50, 1, 3, 4, 4)
    shown = augmentation.change_colors(frames, View(color=0.5, noise=30.0), torch.Generator().manual_seed(0))
    assert shown.min() == 0 and shown.max() == 255


def test_the_views_of_training_are_within_their_ranges_and_show_both_frames_of_a_pair_alike():
    for view in (augmentation.LABELLED_VIEW, augmentation.PAIR_VIEW, augmentation.SYNTHETIC_VIEW):
        assert all(0 <= strength <= 1 for strength in (view.flip, view.color, view.jitter)) and view.color > 0
    frames = torch.rand(8, 1, 3, 16, 24, generator=torch.Generator().manual_seed(0)).mul(255).repeat(1, 2, 1, 1, 1)
    shown = augmentation.augment(Clip(frames), augmentation.PAIR_VIEW, torch.Generator().manual_seed(0)).frames
    assert torch.equal(shown[:, 0], shown[:, 1]) and (shown - frames).abs().mean() > 1
    assert augmentation.PAIR_VIEW.zoom == augmentation.SYNTHETIC_VIEW.zoom == (1, 1), "flow and targets are not resampled"


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_so_many_are_mirrored(share):
    x = torch.arange(24, dtype=torch.uint8).expand(300, 1, 3, 16, 24).clone()
    labels = torch.arange(24).expand(300, 16, 24).clone()
    pairs = Clip(x.repeat(1, 2, 1, 1, 1), flow=torch.zeros(300, 2, 16, 24), visible=torch.ones(300, 16, 24) > 0)
    view = View(flip=share)
    for clip in (Clip(x, labels), pairs):
        shown = augmentation.augment(clip, view, torch.Generator().manual_seed(0)).frames[:, 0, 0, 0].float()
        mirrored = shown[:, 0] > shown[:, -1]
        assert mirrored.float().mean().item() == pytest.approx(share, abs=0.07)
        assert torch.equal(shown, torch.where(mirrored[:, None], x[:, 0, 0, 0].flip(-1), x[:, 0, 0, 0]).float())


def looked_at(zoom, count=300, size=(64, 32)):
    """Zoom, and where the view's centre is (x, y as shares of the frame), of many views of a picture that tells its places."""
    width, height = size
    y, x = torch.meshgrid(4 * torch.arange(height), 2 * torch.arange(width), indexing="ij")
    frames = torch.stack((x, y, x)).to(torch.uint8).expand(count, 1, 3, height, width).clone()
    labels = torch.zeros(count, height, width, dtype=torch.int64)
    shown = augmentation._zoom(Clip(frames, labels), View(zoom=zoom, flip=0.0), torch.Generator().manual_seed(0))
    seen = shown.frames[:, 0, :2].float()
    middle = seen[..., height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].mean((2, 3))
    center = (middle / torch.tensor([2.0, 4.0]) + 0.5) / torch.tensor([width, height])
    pixel = (seen[:, 0, :, width // 2 + 8] - seen[:, 0, :, width // 2 - 8]).mean(1) / 32
    return 1 / pixel, center, (shown.labels != IGNORE).float().mean((1, 2))


def test_zooms_are_even_on_a_logarithmic_scale():
    zoom, *_ = looked_at((1.0, 4.0))
    assert 1 <= zoom.min() + 0.02 < 1.1 and 3.7 < zoom.max() < 4.3
    assert zoom.log2().mean().item() == pytest.approx(1, abs=0.12), "drawn evenly themselves, 1.22"
    zoom, *_ = looked_at((0.8, 3.0))
    assert 0.78 < zoom.min() < 0.85 and 2.8 < zoom.max() < 3.3


@pytest.mark.parametrize("zoom", [1.25, 2.0])
def test_a_view_that_comes_closer_stays_in_the_picture_and_goes_all_over_it(zoom):
    _, center, known = looked_at((zoom, zoom))
    assert known.min() == 1
    room = (1 - 1 / zoom) / 2
    assert (center - 0.5).abs().max() < room + 0.02
    assert (center.amin(0) < 0.5 - 0.9 * room).all() and (center.amax(0) > 0.5 + 0.9 * room).all()
    assert torch.corrcoef(center.T)[0, 1].abs() < 0.15


def test_a_view_from_further_away_has_the_whole_picture():
    _, _, known = looked_at((0.5, 0.5))
    assert known.min().item() == pytest.approx(0.25, abs=0.03) and known.max().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("zoom", [(2.0, 1.0), (0.0, 1.0), (-0.5, 1.0)])
def test_bad_zoom(zoom):
    with pytest.raises(ValueError, match="zoom is"):
        View(zoom=zoom)


def test_a_view_is_a_value():
    with pytest.raises(FrozenInstanceError):
        augmentation.PAIR_VIEW.flip = 0.0


def stills(count=5):
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 255, (count, 1, 3, 8, 12), np.uint8), 8, -1), 8, -2)
    labels = np.zeros((count, 1, 64, 96), np.uint8)
    return Clips("camvid", "train", frames, labels, np.ones((count, 1), bool), {}, [str(i) for i in range(count)], "k")


def test_stills_get_true_synthetic_motion():
    clip = augmentation.sample_pairs(stills(), 4, torch.Generator().manual_seed(0))
    assert clip.frames.shape == (4, 2, 3, 64, 96)
    assert clip.flow.abs().max() > 1
    zero = Clip(clip.frames, flow=torch.zeros_like(clip.flow), visible=clip.visible)
    assert warp_error(clip) < warp_error(zero) / 2


def test_nothing_is_taught_where_a_moved_still_shows_nothing():
    """Its border was taught the first frame's class once: on CamVid in every pair."""
    clips = stills(6)
    column = 10 * torch.arange(24).expand(16, 24)
    code = torch.stack((column, 230 - column))
    targets = code.expand(6, 1, 2, 16, 24).to(torch.uint8)
    features = (targets[..., ::2, ::2].float() / 10).half()
    clip = augmentation.sample_pairs(clips, 6, torch.Generator().manual_seed(0), targets, features)
    assert clip.taught.shape == (6, 2, 16, 24) and clip.taught[:, 0].all()
    # What the moved still shows, from its pixels: where all of a cell is black, nothing is.
    black = F.max_pool2d(clip.frames[:, 1].amax(1)[:, None], 4)[:, 0] == 0
    bare = ~clip.taught[:, 1]
    assert black.float().mean() > 0.01 and (bare | ~black).all() and bare.float().mean() < 0.35
    shown = F.interpolate((clip.frames[:, 1].amax(1)[:, None] > 0).float(), (16, 24), mode="area")[:, 0]
    assert (shown[clip.taught[:, 1]] > 0.4).all()
    # And where it is taught, it is what belongs there: the column of the first frame that the cell came from.
    there = resize_flow(clip.flow, (24, 16))
    returned, inside = warp(clip.targets[:, 1], there)
    sure = inside & (warp(clip.taught[:, 1, None].float(), there)[0][:, 0] > 0.999)
    assert sure.float().mean() > 0.6
    assert (returned - clip.targets[:, 0]).abs().amax(1)[sure].max() < 0.05


def test_all_of_a_video_frame_is_taught_and_pairs_of_both_kinds_join():
    clips, targets, features = numbered()
    pairs = augmentation.sample_pairs(clips, 3, torch.Generator().manual_seed(0), targets, features)
    assert pairs.taught.all() and pairs.taught.shape == pairs.targets[:, :, 0].shape
    clips.flows = {}
    moved = augmentation.sample_pairs(clips, 3, torch.Generator().manual_seed(1), targets, features)
    both = augmentation.join(pairs, moved)
    assert torch.equal(both.taught, torch.cat((pairs.taught, moved.taught))) and not both.taught.all()


def test_more_clips_than_there_are_repeat():
    clip = augmentation.sample_labelled(stills(2), [0, 1], 5, torch.Generator().manual_seed(0))
    assert clip.frames.shape[0] == 5 and clip.labels.dtype == torch.int64 and clip.frames.dtype == torch.uint8


# ------------------------------------------------------------------------------------------------ what belongs together


def numbered(count=3, length=4, gap=1, size=(16, 8)):
    """Clips in which frame, flow, visibility, targets and features each say which clip and which frame they are of."""
    width, height = size
    name = 10 * np.arange(count)[:, None] + np.arange(length)  # 10 i + t
    ones = np.ones((count, length, 1, height, width))
    frames = (name[..., None, None, None] * ones.repeat(3, 2)).astype(np.uint8)
    pairs = length - gap
    flow = (name[:, :pairs, None, None, None] * ones[:, :pairs].repeat(2, 2)).astype(np.float16)
    visible = np.zeros((count, pairs, height, width), bool)
    for i, t in np.ndindex(count, pairs):
        visible[i, t].reshape(-1)[: name[i, t]] = True  # as many pixels as the name says
    clips = Clips(
        "procity", "train", frames, np.zeros((count, length, height, width), np.uint8), np.ones((count, length), bool),
        {"exact": (flow, visible)}, [str(i) for i in range(count)], "k",
    )  # fmt: skip
    targets = torch.zeros(count, length, 2, 2, 4, dtype=torch.uint8)
    targets[:, :, 0], targets[:, :, 1] = (
        torch.from_numpy(name)[..., None, None],
        100 - torch.from_numpy(name)[..., None, None],
    )
    features = torch.from_numpy(name).half()[..., None, None, None].expand(-1, -1, 5, 1, 2)
    return clips, targets, features


@pytest.mark.parametrize("gap", [1, 2])
def test_all_that_belongs_to_a_pair_is_of_one_pair(gap):
    clips, targets, features = numbered(length=6, gap=gap)
    clip = augmentation.sample_pairs(clips, 30, torch.Generator().manual_seed(0), targets, features)
    first, second = clip.frames[:, :, 0, 0, 0].long().unbind(1)
    assert torch.equal(second, first + gap), "of the same clip, as far apart as the flow says"
    assert torch.equal(clip.flow[:, 0, 0, 0].long(), first) and torch.equal(clip.visible.flatten(1).sum(1), first)
    for part, name in ((clip.targets[:, :, 0] * 100, "targets"), (clip.features[:, :, 0], "features")):
        torch.testing.assert_close(part[..., 0, 0], torch.stack((first, second), 1).float(), msg=name)
    torch.testing.assert_close(clip.targets.sum(2), torch.ones(30, 2, 2, 4))


@pytest.mark.parametrize("gap", [1, 2])
def test_every_pair_of_every_clip_is_drawn(gap):
    """Not the first one of each clip alone."""
    clips, *_ = numbered(gap=gap)
    generator = torch.Generator().manual_seed(0)
    firsts = torch.cat([augmentation.sample_pairs(clips, 3, generator).frames[:, 0, 0, 0, 0] for _ in range(100)]).tolist()
    wanted = [10 * i + t for i in range(3) for t in range(4 - gap)]
    share = {name: firsts.count(name) / len(firsts) * len(wanted) for name in wanted}
    assert set(firsts) == set(wanted) and all(0.5 < times < 1.6 for times in share.values()), share


def test_stills_are_moved_from_every_frame_of_a_clip():
    clips, targets, _ = numbered()
    clips.flows = {}
    generator = torch.Generator().manual_seed(0)
    drawn = [augmentation.sample_pairs(clips, 3, generator, targets) for _ in range(60)]
    firsts = [round(name) for clip in drawn for name in clip.frames[:, 0, 0, 0, 0].tolist()]
    taught = [round(100 * share) for clip in drawn for share in clip.targets[:, 0, 0, 0, 0].tolist()]
    assert set(firsts) == {10 * i + t for i in range(3) for t in range(4)} and taught == firsts
    assert all(0.6 < 4 * np.mean([name % 10 == t for name in firsts]) < 1.4 for t in range(4)), "each as often as the others"


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("by", [3.0, 2.5, -3.0, -2.5])
def test_of_a_moved_still_is_visible_what_both_pictures_show_whole(by, axis, monkeypatch):
    """Where it goes is in the second picture, and all of the four pixels there are of the first one."""
    moved = torch.eye(3).repeat(3, 1, 1)
    moved[:, axis, 2] = by
    monkeypatch.setattr(augmentation, "synthetic_motion", lambda count, size, generator: moved[:count])
    clip = augmentation.sample_pairs(stills(), 3, torch.Generator().manual_seed(0))
    place = torch.arange(96.0 if axis == 0 else 64.0)
    there = place + by
    last = place[-1]
    whole = (there >= 0) & (there <= last) & (there.floor() - by >= 0) & (there.ceil() - by <= last)
    expected = whole.expand(64, 96) if axis == 0 else whole[:, None].expand(64, 96)
    assert (clip.visible == expected).all()


def test_a_target_of_nothing_is_nothing_and_not_nan():
    clips, targets, _ = numbered()
    clip = augmentation.sample_pairs(clips, 3, torch.Generator().manual_seed(0), torch.zeros_like(targets))
    assert (clip.targets == 0).all()


def test_a_batch_repeats_no_clip_while_there_are_others():
    clips, *_ = numbered(count=5)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        pairs = augmentation.sample_pairs(clips, 8, generator).frames[:, 0, 0, 0, 0].long() // 10
        assert pairs[:5].sort().values.tolist() == [0, 1, 2, 3, 4] and len(set(pairs[5:].tolist())) == 3


def test_labelled_frames_are_the_annotated_ones_with_their_labels():
    clips, *_ = numbered(count=4, length=3)
    clips.annotated[:] = [False, True, False]
    clips.labels[:] = clips.frames[:, :, 0]
    clip = augmentation.sample_labelled(clips, [1, 3], 2, torch.Generator().manual_seed(0))
    assert sorted(clip.labels[:, 0, 0].tolist()) == [11, 31]
    assert torch.equal(clip.frames[:, 0, 0].long(), clip.labels)
