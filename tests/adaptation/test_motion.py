"""Answers fused along the motion: errors of one frame are outvoted, what is hidden has no vote."""

import numpy as np
import pytest
import torch
from test_frames import drive

from tcseg.adaptation.motion import motion, moves, prepare
from tcseg.adaptation.store import Stored

GRID = (40, 24)


def still(count=3):
    return np.repeat(drive(1, 1)[0][None], count, 0)


def answers(*maps):
    """Certain answers of two classes from maps (h,w) of 0 and 1."""
    maps = np.stack(maps)
    return np.stack((255 * (maps == 0), 255 * (maps == 1)), 1).astype(np.uint8)


def test_where_nothing_moves_fusing_is_the_weighted_mean():
    rng = np.random.default_rng(0)
    probs = rng.integers(0, 128, (3, 2, *GRID[::-1]), dtype=np.uint8)
    fused = prepare(Stored(still(), probs)).probs.float()
    near, far, p = 0.7, 0.49, torch.from_numpy(probs).float()
    wanted = [
        (p[0] + near * p[1] + far * p[2]) / (1 + near + far),
        (near * p[0] + p[1] + near * p[2]) / (1 + 2 * near),
        (far * p[0] + near * p[1] + p[2]) / (1 + near + far),
    ]
    assert (fused - torch.stack(wanted)).abs().max() <= 0.51


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_mistake_of_one_frame_is_outvoted(at):
    right = np.zeros(GRID[::-1], int)
    maps = [right.copy() for _ in range(3)]
    maps[at][8:16, 10:20] = 1
    prepared = prepare(Stored(still(), answers(*maps)))
    assert (prepared.probs.argmax(1) == 0).all()
    assert (prepare(Stored(still(), answers(*maps)), fusing=False).probs.argmax(1)[at] == 1).sum() == 80


def test_votes_follow_the_motion():
    """A camera that pans by four pixels a frame: what is one cell on is the same place, and votes; the frame's edge has none."""
    frames = np.stack(drive(3, 3, step=4))
    place = np.zeros((24, 43), int)
    place[:, ::2] = 1  # a comb in the world, one cell wide
    maps = [place[:, t : t + 40] for t in range(3)]
    fused = prepare(Stored(frames, answers(*maps))).probs
    for t in range(3):
        assert (fused[t].argmax(0).numpy()[2:-2, 4:-4] == maps[t][2:-2, 4:-4]).mean() > 0.98
    still_fused = prepare(Stored(still(), answers(*maps))).probs  # without motion the comb is blurred away
    assert (still_fused[1].argmax(0).numpy() == maps[1]).mean() < 0.2


def test_what_is_hidden_next_has_no_vote():
    frames = still(2)
    frames = frames.copy()
    rng = np.random.default_rng(5)
    frames[1, 32:64, 48:96] = rng.integers(0, 255, (32, 48, 3))  # something else stands there in the second frame
    maps = np.zeros(GRID[::-1], int), np.ones(GRID[::-1], int)
    steps = motion(frames, GRID)
    hidden = ~steps[+1][1][0]
    prepared = prepare(Stored(frames, answers(*maps)))
    assert hidden[10:14, 14:22].float().mean() > 0.5 and hidden.float().mean() < 0.5
    assert (prepared.probs[0][:, hidden] == torch.tensor([[255], [0]])).all()
    seen = prepared.visible[0]
    assert (prepared.probs[0, 1][seen] > 90).float().mean() > 0.95  # elsewhere the second frame is heard


def test_a_frame_alone_stays_as_it_is():
    probs = answers(np.eye(24, 40, dtype=int))
    prepared = prepare(Stored(still(1), probs))
    assert np.array_equal(prepared.probs.numpy(), probs) and prepared.flow.shape == (0, 2, 24, 40)
    assert not moves(prepared)


def test_flow_is_in_cells_and_a_pan_moves():
    steps = motion(np.stack(drive(3, 2, step=4)), GRID)
    flow, seen = steps[+1]
    assert torch.median(flow[0, 0][seen[0]]) == pytest.approx(-1, abs=0.1)
    assert torch.median(steps[-1][0][0, 0][steps[-1][1][0]]) == pytest.approx(1, abs=0.1)
    assert moves(prepare(Stored(np.stack(drive(3, 2, step=4)), answers(*[np.zeros((24, 40), int)] * 2))))
    assert not moves(prepare(Stored(still(), answers(*[np.zeros((24, 40), int)] * 3))))
