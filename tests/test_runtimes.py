"""The steps that a GPU does in another way than the CPU must give the same labels."""

from __future__ import annotations

import torch

from tcseg.runtimes import _finish, _finish_on_device


def test_label_map_on_the_device_equals_the_fused_one() -> None:
    logits = torch.randn(1, 19, 16, 24, generator=torch.Generator().manual_seed(0))
    ours, theirs = _finish(4, logits, (93, 61)), _finish_on_device(4, logits, (93, 61))
    assert ours.shape == theirs.shape == (61, 93) and (ours == theirs).mean() > 0.999
