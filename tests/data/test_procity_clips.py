"""A drive that is drawn on the spot is the clip that a data set would hold."""

import numpy as np
import pytest

from tcseg import procity
from tcseg.data.procity_clips import draw_clip
from tcseg.metrics.temporal import warp_map


@pytest.mark.slow
def test_a_drawn_drive_is_whole():
    clip = draw_clip("nordhaven", seed=8007, size=(64, 32))
    assert clip.frames.shape == (1, procity.FRAMES, 3, 32, 64) and clip.size == (64, 32)
    assert clip.annotated.all() and clip.flow_source == "exact" and clip.flow.shape == (1, 29, 2, 32, 64)
    view = procity.Sequence("nordhaven", 8007, (64, 32)).render(3)
    assert (clip.frames[0, 3].transpose(1, 2, 0) == view.image).all()
    there = warp_map(clip.labels[0, 4], clip.flow[0, 3].astype(np.float32))
    assert (there == clip.labels[0, 3])[clip.visible[0, 3]].mean() > 0.85, "labels follow the flow"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="atlantis"):
        draw_clip("atlantis", 0, (64, 32))
    with pytest.raises(ValueError, match="65"):
        draw_clip("nordhaven", 0, (65, 32))
