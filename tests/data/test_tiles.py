"""Tiles: every pixel once, with its label."""

import numpy as np
import pytest

from tcseg.data import tiles
from tcseg.data.clips import Clips


def stills(count=2, length=1, height=64, width=128):
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (count, length, 3, height, width), np.uint8)
    labels = draw.integers(0, 19, (count, length, height, width), np.uint8)
    names = [f"clip{i}" for i in range(count)]
    return Clips("procity", "train", frames, labels, np.ones((count, length), bool), {}, names, "key")


def test_tiles_are_the_frame_in_pieces():
    clips = stills()
    cut = tiles.cut(clips, (32, 32))
    assert cut.frames.shape == (2 * 2 * 4, 1, 3, 32, 32) and cut.labels.shape == (16, 1, 32, 32)
    for index, name in enumerate(cut.names):
        clip, (y, x) = int(name[4]), map(int, name.split("+")[1].split("."))
        piece = np.s_[..., 32 * y : 32 * (y + 1), 32 * x : 32 * (x + 1)]
        assert (cut.frames[index] == clips.frames[clip][piece]).all()
        assert (cut.labels[index] == clips.labels[clip][piece]).all()
    assert len(set(cut.names)) == len(cut) == len(cut.annotated) and cut.key != clips.key and cut.size == (32, 32)


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="clips have 3 frames; only single frames can be cut"):
        tiles.cut(stills(length=3), (32, 32))
    with pytest.raises(ValueError, match="tile size is 48x32; it must divide the frame size 128x64"):
        tiles.cut(stills(), (48, 32))
