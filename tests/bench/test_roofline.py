"""The machine's roof and a network's work."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

from tcseg.bench import roofline
from tcseg.deploy.runtimes import torch_threads
from tcseg.models import registry


class Plain(nn.Module):
    """A convolution, a depthwise one and a linear layer, whose work is known by hand."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.linear = nn.Linear(8, 4, bias=False)

    def forward(self, frames):
        maps = self.depthwise(self.dense(frames.float()))
        return self.linear(maps.mean((2, 3)))


def test_work_by_hand():
    found = roofline.work(Plain(), (64, 32))
    dense, depthwise, linear = 8 * 16 * 32 * 27, 8 * 16 * 32 * 9, 4 * 8
    assert np.isclose(found.gflop, 2e-9 * (dense + depthwise + linear))
    assert np.isclose(found.params_m, 1e-6 * (216 + 72 + 32))
    maps = 3 * 32 * 64 + 3 * 8 * 16 * 32 + 8 + 4
    assert np.isclose(found.mbytes, 4e-6 * (maps + 216 + 72 + 32))


def test_work_agrees_with_torchs_flop_counter():
    model = registry.build("student", 19).eval()
    assert np.isclose(roofline.work(model, (128, 64)).gflop, 2 * registry.count_gmacs(model, (128, 64)), rtol=0.01)
    assert not any(layer._forward_hooks for layer in model.modules())


class Attention(nn.Module):
    """Scores of 8 places with 8 others, and their sums: two products of 8x8x3 multiply-adds."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, frames):
        places = frames.float()[:, :, 0, :8].transpose(1, 2)
        return places @ places.transpose(1, 2) @ places


def test_attention_is_work():
    assert np.isclose(roofline.work(Attention(), (32, 32)).gflop, 2e-9 * 2 * 8 * 8 * 3)


def test_a_roof_has_as_many_threads_as_the_networks(monkeypatch):
    seen = []
    monkeypatch.setattr(roofline, "_best", lambda step, repeats: seen.append(blas_threads()) or 1.0)

    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with torch_threads(1):
        roofline.measure_cpu(1)
    assert seen[1] == {1} or not seen[1], "numpy's product ran on all cores"


def test_a_roof_is_positive_and_a_frame_is_bound_by_the_slower_of_both():
    roof = roofline.measure_cpu(repeats=2)
    assert roof.gflops > 0.1 and roof.gbytes > 0.1
    roof = roofline.Roof(gflops=100.0, gbytes=10.0)
    assert roofline.roof_ms(roof, roofline.Work(1, gflop=1.0, mbytes=1.0)) == 10.0
    assert roofline.roof_ms(roof, roofline.Work(1, gflop=0.1, mbytes=100.0)) == 10.0


def test_hooks_go_when_the_network_fails():
    model = registry.build("student", 19).eval()
    with pytest.raises(ValueError, match="multiples of 32"):
        roofline.work(model, (100, 50))
    assert not any(layer._forward_hooks for layer in model.modules())
    assert torch.is_tensor(model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)))
