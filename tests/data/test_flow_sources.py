"""Where motion comes from: the source that is named, and longer ways made of single steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_clips

from tcseg.data.flow_sources import FLOW_SOURCES, with_flow
from tcseg.flow import estimated_flow


def drifting(count=2, length=5, size=(64, 32)):
    """Clips in which everything moves by (t + 1, 0) pixels from frame t to t + 1: each step has its own length."""
    clips = toy_clips(count, length, size)
    flow, visible = (part.copy() for part in clips.flows["exact"])
    for t in range(length - 1):
        flow[:, t, 0], flow[:, t, 1] = t + 1, 0
        visible[:, t] = True
        visible[:, t, :, size[0] - t - 1 :] = False
    return replace(clips, flows={"exact": (flow, visible)})


@pytest.mark.parametrize("gap", [1, 2, 3, 4])
def test_a_longer_way_is_the_sum_of_its_steps(gap):
    clips = with_flow(drifting(), gap=gap)
    assert list(clips.flows) == ["exact"] and clips.flow.shape == (2, 5 - gap, 2, 32, 64)
    assert clips.visible.shape == (2, 5 - gap, 32, 64)
    for t in range(5 - gap):
        way = sum(step + 1 for step in range(t, t + gap))
        seen = clips.visible[:, t]
        assert (seen == (np.arange(64) < 64 - way)).all(), "what leaves the picture on the way is not seen at its end"
        assert (clips.flow[:, t, 0][seen] == way).all() and (clips.flow[:, t, 1] == 0).all()


def test_what_is_hidden_on_the_way_is_hidden():
    clips = drifting()
    clips.visible[0, 1, 10, 30] = False  # seen from frame 1 at column 30: from frame 0 one pixel to the left
    two = with_flow(clips, gap=2)
    assert not two.visible[0, 0, 10, 29] and two.visible[0, 0, 10, 28] and two.visible[0, 0, 10, 30]
    assert not two.visible[0, 1, 10, 30] and two.visible[1, 0, 10, 29], "of its own clip and pair alone"


def test_each_pair_and_each_clip_keeps_its_own_flow():
    clips = drifting()
    assert (with_flow(clips).flow == clips.flow).all()
    clips.flows["exact"][0][1] *= 2
    two = with_flow(clips, gap=2).flow[:, :, 0, 0, 0]
    assert two.tolist() == [[3, 5, 7], [6, 10, 14]]


def test_still_flow_sees_all_and_moves_nothing():
    for gap in (1, 3):
        clips = with_flow(drifting(), "zero", gap)
        assert clips.flow_source == "zero" and clips.flow.shape == (2, 5 - gap, 2, 32, 64)
        assert clips.visible.shape == (2, 5 - gap, 32, 64)
        assert (clips.flow == 0).all() and clips.visible.all() and clips.visible.dtype == bool


@pytest.mark.parametrize("source", ["dis", "farneback"])
def test_an_estimator_is_asked_clip_by_clip(source):
    clips = replace(drifting(3, 3), flows={})  # true flow is not needed
    found = with_flow(clips, source)
    assert list(found.flows) == [source]
    for index, frames in enumerate(clips.frames):
        (flow, visible), _ = estimated_flow(frames, source)
        assert (found.flow[index] == flow).all() and (found.visible[index] == visible).all()


def test_flow_that_the_clips_have_is_not_estimated_again():
    clips = drifting()
    own = (clips.flow + 7, clips.visible)
    both = replace(clips, flows={"exact": clips.flows["exact"], "dis": own})
    assert with_flow(both, "dis").flows["dis"] is own and list(with_flow(both, "dis").flows) == ["dis"]
    assert with_flow(both).flow_source == with_flow(both, "exact").flow_source == "exact"
    assert with_flow(replace(both, flows={"dis": own})).flow_source == "dis", "the best that there is"


def test_synthetic_motion_and_stills_have_no_flow():
    moved = with_flow(drifting(), "synthetic", gap=99)
    assert moved.flow is None and moved.visible is None and moved.backward is None and len(moved.frames) == 2
    for source in ("best", *FLOW_SOURCES):
        assert with_flow(toy_clips(2, 1), source).flow is None


@pytest.mark.parametrize("gap", [-1, 0, 5, 6])
def test_no_clip_is_long_enough_for_any_gap(gap):
    with pytest.raises(ValueError, match=f"gap is {gap}; clips of 5 frames have pairs with gaps of 1 to 4"):
        with_flow(drifting(), gap=gap)


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"flow source is 'deep'; it must be best or one of exact, dis, "):
        with_flow(drifting(), "deep")
    with pytest.raises(ValueError, match="flow source is 'deep'"):
        with_flow(toy_clips(2, 1), "deep")
    estimated = with_flow(drifting(), "zero")
    with pytest.raises(
        ValueError, match="flow source is 'exact', but procity has no true flow; use 'dis' or 'synthetic'"
    ):
        with_flow(estimated, "exact")


def test_nothing_is_changed_in_the_clips_that_were_given():
    clips = drifting()
    before = [torch.from_numpy(part.copy()) for part in clips.flows["exact"]]
    for source, gap in (("best", 2), ("zero", 1), ("synthetic", 1)):
        with_flow(clips, source, gap)
    assert list(clips.flows) == ["exact"] and clips.backward is not None
    assert all((torch.from_numpy(now) == then).all() for now, then in zip(clips.flows["exact"], before, strict=True))
