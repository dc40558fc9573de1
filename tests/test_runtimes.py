"""The steps that a GPU does in another way than the CPU must give the same labels."""

from __future__ import annotations

import pytest
import torch

from tcseg.models import build
from tcseg.runtimes import _finish, _finish_on_device, open_networks


def test_label_map_on_the_device_equals_the_fused_one() -> None:
    logits = torch.randn(1, 19, 16, 24, generator=torch.Generator().manual_seed(0))
    ours, theirs = _finish(4, logits, (93, 61)), _finish_on_device(4, logits, (93, 61))
    assert ours.shape == theirs.shape == (61, 93) and (ours == theirs).mean() > 0.999


@pytest.mark.parametrize(
    ("runtimes", "precision", "text"),
    [
        (("openvino",), "int4", "precision is 'int4'"),
        (("openvino",), "int8", "int8 needs real frames"),
        (("pytorch", "openvino"), "int8", "int8 networks are for onnxruntime and openvino"),
    ],
)
def test_precisions_that_cannot_be_opened(runtimes: tuple[str, ...], precision: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        open_networks(build("student", 19, False), runtimes, (64, 64), precision=precision)
