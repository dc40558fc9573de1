"""The fused upsample + argmax against torch, the independent oracle; and a frame's preparation."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tcseg.deploy.label_map import pad_to_multiple, padded_size, to_planes, upsample_argmax

TIE = 1e-4  # scores this close (times their magnitude) are a tie: source coordinates are float32, here and in torch


def assert_exact(logits: torch.Tensor, size: tuple[int, int]) -> None:
    """Equal to interpolate + argmax, except where torch's own winner and ours score the same."""
    got = upsample_argmax(logits, size)
    scores = functional.interpolate(logits.double(), size=size[::-1], mode="bilinear", align_corners=False)
    reference = functional.interpolate(logits, size=size[::-1], mode="bilinear", align_corners=False).argmax(1)
    assert got.dtype == np.uint8 and got.shape == (len(logits), size[1], size[0])
    ours = scores.gather(1, torch.from_numpy(got).long()[:, None])[:, 0]
    gap = scores.amax(1) - ours
    differs = torch.from_numpy(got).long() != reference
    assert float(gap[differs].max() if differs.any() else 0) <= TIE * float(logits.abs().max())
    assert float(differs.double().mean()) < 1e-3


def smooth(batch: int, classes: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Logits with large one-class regions, as a network gives."""
    coarse = torch.randn(batch, classes, 4, 5, generator=torch.Generator().manual_seed(seed)) * 4
    return functional.interpolate(coarse, size=(height, width), mode="bicubic")


RATIOS = [
    ((32, 16), (128, 64)), ((32, 16), (256, 128)), ((16, 8), (512, 256)),  # integer strides
    ((32, 16), (101, 37)), ((13, 7), (100, 99)), ((33, 17), (132, 70)),  # odd and unequal
    ((32, 16), (32, 16)), ((64, 32), (31, 17)),  # no change, and down
    ((1, 1), (9, 5)), ((1, 6), (8, 24)), ((6, 1), (24, 8)), ((5, 4), (1, 1)),  # degenerate sides
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), RATIOS)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_equals_interpolate_and_argmax(source: tuple[int, int], target: tuple[int, int], kind: str) -> None:
    width, height = source
    noise = torch.randn(2, 19, height, width, generator=torch.Generator().manual_seed(1))
    assert_exact(noise if kind == "noise" else smooth(2, 19, height, width), target)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    classes=st.integers(1, 24),
    seed=st.integers(0, 2**31),
    levels=st.sampled_from([0, 2, 5]),
)
def test_any_size_any_logits(source, target, classes, seed, levels) -> None:
    """Also with few distinct values (many ties among corners), where only the score of the choice can be compared."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, classes, source[1], source[0])
    if not levels:
        assert_exact(torch.randn(shape, generator=generator), target)
        return
    logits = torch.randint(levels, shape, generator=generator).float()
    scores = functional.interpolate(logits, size=target[::-1], mode="bilinear", align_corners=False)
    ours = scores.gather(1, torch.from_numpy(upsample_argmax(logits, target)).long()[:, None])[:, 0]
    assert float((scores.amax(1) - ours).max()) <= TIE * levels


def test_constant_logits_give_the_first_class_everywhere() -> None:
    assert not upsample_argmax(np.zeros((19, 8, 16), np.float32), (64, 32)).any()
    one = np.zeros((19, 8, 16), np.float32)
    one[7] = 1
    assert (upsample_argmax(one, (64, 32)) == 7).all()


def test_one_class_and_the_most_classes() -> None:
    assert not upsample_argmax(torch.randn(3, 1, 4, 4), (16, 16)).any()
    assert_exact(torch.randn(1, 255, 4, 4), (16, 16))
    with pytest.raises(ValueError, match="256 classes"):
        upsample_argmax(np.zeros((256, 2, 2), np.float32), (4, 4))


def test_layouts_and_types_agree() -> None:
    logits = smooth(2, 19, 16, 32)
    expected = upsample_argmax(logits, (128, 64))
    assert (upsample_argmax(logits.to(memory_format=torch.channels_last), (128, 64)) == expected).all()
    assert (upsample_argmax(logits.numpy(), (128, 64)) == expected).all()
    assert (upsample_argmax(logits[1].numpy(), (128, 64)) == expected[1]).all()
    assert (upsample_argmax(logits.double().requires_grad_(), (128, 64)) == expected).all()
    assert (upsample_argmax(logits.half(), (128, 64)) == expected).mean() > 0.99


def test_extreme_logits_stay_in_range() -> None:
    logits = torch.randn(1, 5, 6, 6)
    logits[0, 2, 3] = -torch.inf
    logits[0, 3, 2, 2] = torch.nan
    assert upsample_argmax(logits, (24, 24)).max() < 5


def test_two_threads_at_once() -> None:
    """Numba's fallback threading layer ends the process on concurrent entry; the lock must prevent it."""
    logits = smooth(1, 19, 32, 64).numpy()
    expected = upsample_argmax(logits, (256, 128))
    results: list[np.ndarray] = []
    work = [threading.Thread(target=lambda: results.append(upsample_argmax(logits, (256, 128)))) for _ in range(6)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(results) == 6 and all((result == expected).all() for result in results)


@pytest.mark.parametrize("shape", [(4, 4), (1, 2, 3, 4, 5), (0, 4, 4), (2, 0, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits have shape"):
        upsample_argmax(np.zeros(shape, np.float32), (8, 8))
    with pytest.raises(ValueError, match="size is 0x8"):
        upsample_argmax(np.zeros((2, 4, 4), np.float32), (0, 8))


def test_padding_repeats_the_edge_and_is_free_when_not_needed() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    padded, (height, width) = pad_to_multiple(frame)
    assert padded.shape == (64, 64, 3) and (height, width) == (33, 50)
    assert (
        (padded[:33, :50] == frame).all()
        and (padded[40, :50] == frame[-1]).all()
        and (padded[:33, 60] == frame[:, -1]).all()
    )
    assert padded_size((50, 33)) == (64, 64) and padded_size((64, 32)) == (64, 32)
    same, _ = pad_to_multiple(padded)
    assert same is padded


@given(height=st.integers(1, 70), width=st.integers(1, 70), multiple=st.sampled_from([1, 16, 32]))
@settings(max_examples=30, deadline=None)
def test_planes_are_the_padded_frame_transposed(height: int, width: int, multiple: int) -> None:
    frame = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3), np.uint8)
    padded, _ = pad_to_multiple(frame, multiple)
    assert (to_planes(frame, multiple)[0] == padded.transpose(2, 0, 1)).all()
    assert (to_planes(frame[:, ::-1], multiple)[0, :, :height, :width] == frame[:, ::-1].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_a_frame_of_another_kind_is_refused(frame: np.ndarray) -> None:
    for prepare in (pad_to_multiple, to_planes):
        with pytest.raises(ValueError, match="must be uint8"):
            prepare(frame)
