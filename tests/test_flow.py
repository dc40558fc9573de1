"""Warping, visibility, estimators, KITTI files."""

import numpy as np
import pytest
import torch
from oracles import write_kitti
from torch.autograd import gradcheck

from tcseg import flow


def smooth_image(height=64, width=96, seed=0):
    noise = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", align_corners=False)


def shift(u, v, size=(96, 64)):
    return torch.tensor([u, v], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, size[1], size[0]).contiguous()


def test_zero_flow_is_the_identity():
    x = smooth_image()
    warped, inside = flow.warp(x, shift(0, 0))
    assert inside.all()
    torch.testing.assert_close(warped, x, atol=1e-5, rtol=0)


def test_warp_of_a_known_shift():
    x = smooth_image()
    moved = torch.roll(x, (2, 5), dims=(2, 3))  # content of a at p lies in b at p + (5,2)
    warped, inside = flow.warp(moved, shift(5, 2))
    torch.testing.assert_close(warped[..., :-2, :-5], x[..., :-2, :-5], atol=1e-5, rtol=0)
    assert not inside[:, -2:].any() and not inside[..., -5:].any() and inside[:, :-2, :-5].all()
    assert (warped[..., -5:] == 0).all()


def test_half_a_pixel_is_the_mean_of_two():
    x = torch.arange(8.0).expand(1, 1, 4, 8).contiguous()
    warped, inside = flow.warp(x, shift(0.5, 0, (8, 4)))
    torch.testing.assert_close(warped[..., :-1], x[..., :-1] + 0.5)
    assert not inside[..., -1].any()


def test_warp_passes_gradcheck():
    x = torch.rand(1, 2, 5, 6, dtype=torch.double, requires_grad=True)
    field = torch.rand(1, 2, 5, 6) * 1.3
    assert gradcheck(lambda x: flow.warp(x, field)[0], (x,), atol=1e-4)


@pytest.mark.parametrize("bad", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 5), torch.zeros(2, 2, 4, 4)])
def test_warp_refuses_disagreeing_shapes(bad):
    with pytest.raises(ValueError, match="flow_ab"):
        flow.warp(torch.zeros(1, 1, 4, 4), bad)


def test_visibility_of_consistent_and_of_contradicting_flow():
    assert flow.visibility(shift(3, 0), shift(-3, 0))[..., :-3].all()
    assert not flow.visibility(shift(3, 0), shift(3, 0)).any()
    assert not flow.visibility(shift(3, 0), shift(-3, 0))[..., -3:].any()


def test_resize_scales_the_values():
    small = flow.resize_flow(shift(8, 4), (48, 16))
    assert small.shape == (1, 2, 16, 48)
    torch.testing.assert_close(small[0, :, 0, 0], torch.tensor([4.0, 1.0]))


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_estimators_find_a_shift(method):
    x = (smooth_image(96, 128, seed=3)[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy().copy()
    moved = np.roll(x, (1, 3), axis=(0, 1))
    estimated = flow.estimate(method, x, moved)
    middle = estimated[:, 24:-24, 24:-24]
    assert np.abs(np.median(middle, axis=(1, 2)) - [3, 1]).max() < 0.35
    assert estimated.dtype == np.float32


def test_estimate_refuses_what_it_cannot_do():
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="'flownet'; it must be one of dis"):
        flow.estimate("flownet", frame, frame)
    with pytest.raises(ValueError, match="differ in size"):
        flow.estimate("dis", frame, frame[:16])
    with pytest.raises(ValueError, match="multiples of 8 and at least 128"):
        flow.estimate("raft", frame, frame)
    assert not flow.estimate("zero", frame, frame).any()


def test_homography_flow_is_exact_and_has_an_inverse():
    there = flow.synthetic_motion(3, (96, 64), torch.Generator().manual_seed(1))
    forward, backward = (flow.homography_flow(h, (96, 64)) for h in (there, torch.linalg.inv(there)))
    back, inside = flow.warp(backward, forward)
    assert inside.any()
    # The inverse's flow is projective, not linear, between pixels: bilinear look-up costs a little.
    assert (forward + back).abs().amax(1)[inside].max() < 2e-2


def test_kitti_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    field, valid = rng.uniform(-60, 60, (2, 6, 9)).astype(np.float32), rng.random((6, 9)) < 0.5
    write_kitti(tmp_path / "f.png", field, valid)
    back, back_valid = flow.read_kitti(tmp_path / "f.png")
    assert np.abs(back - field).max() <= 1 / 128 + 1e-6
    assert (back_valid == valid).all()
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


def test_unreadable_flow_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a png")
    with pytest.raises(ValueError, match="broken.png is not a readable KITTI flow file"):
        flow.read_kitti(tmp_path / "broken.png")
