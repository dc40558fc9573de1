"""Filters at inference: what each does to answers that are known."""

import numpy as np
import pytest
import torch
from toys import toy_clips

from tcseg.evaluation import split_scores
from tcseg.models import registry
from tcseg.video import temporal_filters

FRAME = np.zeros((32, 64, 3), np.uint8)


def answers(count=6, seed=0):
    return torch.rand(count, 4, 8, 16, generator=torch.Generator().manual_seed(seed)).softmax(1)


def run(new_filter, probs, frames=None):
    frames = [FRAME] * len(probs) if frames is None else frames
    return torch.stack([new_filter.step(frame, lambda p=p: p) for frame, p in zip(frames, probs, strict=True)])


@pytest.mark.parametrize("name", list(temporal_filters.FILTERS))
def test_a_steady_answer_passes_unchanged(name):
    probs = answers(1).expand(6, -1, -1, -1)
    torch.testing.assert_close(run(temporal_filters.FILTERS[name](), probs), probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(temporal_filters.FILTERS))
def test_the_first_frame_is_the_networks_own_and_probabilities_sum_to_one(name):
    probs = answers()
    found = run(temporal_filters.FILTERS[name](), probs)
    torch.testing.assert_close(found[0], probs[0])
    if "median" not in name:
        torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]), atol=1e-4, rtol=0)


def test_the_running_mean_by_hand_and_its_age():
    probs = answers(3)
    found = run(temporal_filters.Exponential(0.25), probs)
    torch.testing.assert_close(found[1], 0.25 * probs[0] + 0.75 * probs[1])
    torch.testing.assert_close(found[2], 0.25 * found[1] + 0.75 * probs[2])
    weights = [0.75 * 0.25**age for age in range(50)]
    assert temporal_filters.Exponential(0.25).lag == pytest.approx(sum(age * weight for age, weight in enumerate(weights)))


def test_the_median_does_not_see_one_bad_frame():
    probs = answers(1).repeat(7, 1, 1, 1)
    probs[3] = answers(1, seed=9)[0]
    torch.testing.assert_close(run(temporal_filters.Median(), probs)[4:], probs[4:])
    torch.testing.assert_close(run(temporal_filters.Median(), probs)[3], probs[2])


def moving(shift, count=4):
    """Frames (H,W,3) of a texture that moves right, and answers whose content moves with it (stride 4)."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (16, 60, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = [np.ascontiguousarray(texture[:, 60 - t * shift : 60 - t * shift + 128]) for t in range(count)]
    wide = torch.zeros(4, 16, 60)
    wide[:, :, :] = torch.rand(4, 1, 60, generator=torch.Generator().manual_seed(1)).softmax(0)
    return frames, torch.stack([wide[:, :, 15 - t * shift // 4 : 15 - t * shift // 4 + 32] for t in range(count)])


def test_flow_carries_what_a_plain_mean_smears():
    frames, probs = moving(4)
    along = (run(temporal_filters.FlowAveraged(0.5), probs, frames) - probs).abs()[1:, :, 4:-4, 4:-4].mean()
    plain = (run(temporal_filters.Exponential(0.5), probs, frames) - probs).abs()[1:, :, 4:-4, 4:-4].mean()
    assert along < 0.35 * plain


def test_keyframes_ask_the_network_every_nth_time_and_follow_the_picture_in_between():
    frames, probs = moving(4)
    asked = []
    keyframes = temporal_filters.Keyframes(2)
    shown = [keyframes.step(frame, lambda t=t: asked.append(t) or probs[t]) for t, frame in enumerate(frames)]
    assert asked == [0, 2]
    carried = (shown[1] - probs[1]).abs()[:, 4:-4, 4:-4].mean()
    assert carried < 0.35 * (probs[0] - probs[1]).abs()[:, 4:-4, 4:-4].mean()


def test_what_enters_the_frame_between_keyframes_is_not_the_first_class():
    frames, answers_there = moving(16, count=2)
    probs = torch.zeros_like(answers_there)
    probs[:, 2] = 1
    keyframes = temporal_filters.Keyframes(2)
    shown = [keyframes.step(frame, lambda t=t: probs[t]) for t, frame in enumerate(frames)]
    assert (shown[1].argmax(0) == 2).all(), "the picture moved: what came in at its border is still answered"


def test_a_cut_is_not_averaged_along_flow():
    probs = answers(2)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 90, (32, 64, 3), np.uint8), rng.integers(170, 255, (32, 64, 3), np.uint8)]
    torch.testing.assert_close(run(temporal_filters.FlowAveraged(0.7), probs, frames)[1], probs[1], atol=1e-2, rtol=0)


def test_wide_frames_are_narrowed_for_flow():
    frame = np.zeros((512, 1024, 3), np.uint8)
    probs = torch.full((2, 4, 128, 256), 0.25)
    torch.testing.assert_close(run(temporal_filters.FlowAveraged(0.5), probs, [frame, frame]), probs)


def test_a_filter_over_a_split():
    clips = toy_clips(count=2)
    model = registry.build("student", 19).eval()
    own = split_scores.predict(model, clips.frames[0])
    assert (temporal_filters.filtered(model, clips, temporal_filters.Nothing)(0) == own).mean() > 0.9999  # ties apart
    slow = temporal_filters.filtered(model, clips, lambda: temporal_filters.Exponential(0.9))(0)
    assert (slow[0] == own[0]).mean() > 0.9999 and slow.shape == own.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: temporal_filters.Exponential(1.0), "memory is 1.0"),
        (lambda: temporal_filters.FlowAveraged(-0.1), "memory is -0.1"),
        (lambda: temporal_filters.Keyframes(0), "every is 0"),
    ],
)
def test_bad_filters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
