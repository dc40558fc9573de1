"""The steps that a GPU does in another way than the CPU must give the same labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tcseg.models import build
from tcseg.postprocess import upsample_argmax
from tcseg.runtimes import _finish, _finish_on_device, open_network, open_networks, seeing


def test_label_map_on_the_device_equals_the_fused_one() -> None:
    logits = torch.randn(1, 19, 16, 24, generator=torch.Generator().manual_seed(0))
    ours, theirs = _finish(4, logits, (93, 61)), _finish_on_device(4, logits, (93, 61))
    assert ours.shape == theirs.shape == (61, 93) and (ours == theirs).mean() > 0.999


@pytest.mark.parametrize(
    ("runtimes", "precision", "text"),
    [
        (("openvino",), "int4", "precision is 'int4'"),
        (("openvino",), "int8", "int8 needs real frames"),
        (("pytorch", "openvino"), "int8", "pytorch does not run int8 networks; onnxruntime and openvino do"),
    ],
)
def test_precisions_that_cannot_be_opened(runtimes: tuple[str, ...], precision: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        open_networks(build("student", 19, False), runtimes, (64, 64), precision=precision)


def test_a_network_that_sees_less_still_answers_for_every_pixel() -> None:
    model = build("student", 19, False).eval()
    frame = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    labels = seeing(open_network(model, size=(64, 32)), (64, 32))(frame)
    small = cv2.resize(frame, (64, 32), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        logits = model(torch.from_numpy(small).permute(2, 0, 1)[None])
    assert labels.shape == (64, 128) and (labels == upsample_argmax(logits, (128, 64))[0]).all()
    for size in ((60, 32), (0, 0)):
        with pytest.raises(ValueError, match=f"size is {size[0]}x{size[1]}; both must be positive multiples of 32"):
            seeing(open_network(model, size=(64, 32)), size)
