"""A network's steps in every runtime: the ones that a GPU does in another way must give the same labels, here and on one."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tcseg.deploy.label_map import upsample_argmax
from tcseg.deploy.runtimes import open_network, open_networks, with_smaller_frames
from tcseg.deploy.torch_fusing import OfBytes, fold_batch_norms, fold_normalisation
from tcseg.deploy.torch_runtimes import TORCH_RUNTIMES, _kernel, ready, steps
from tcseg.models.peers import PEERS
from tcseg.models.registry import build, shipped
from tcseg.models.students import CANDIDATES

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def _frames(count: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth pictures, uint8 (N,H,W,3): noise has borders everywhere, where the smallest rounding decides."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), np.uint8)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in noise])


def test_label_map_on_the_device_equals_the_fused_one() -> None:
    model, frame = shipped("student"), _frames(1, (93, 61))[0]
    prepare, run, finish = steps(ready(model, "fp32"), "pytorch")
    ours, theirs = open_network(model, size=(93, 61))(frame), finish(run(prepare(frame)), (93, 61))
    assert ours.shape == theirs.shape == (61, 93) and len(np.unique(ours)) > 2
    assert (ours == theirs).mean() > 0.999


@pytest.mark.parametrize("name", [*CANDIDATES, *PEERS])
def test_a_network_with_its_batch_norms_folded_answers_the_same(name: str) -> None:
    if name == "segformer-b0":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = build(name, 19, False).eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:  # as a training would leave them: fresh ones change nothing
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.2)
    frames = torch.from_numpy(_frames(1, (96, 64))).permute(0, 3, 1, 2)
    with torch.no_grad():
        before, folded = model(frames), ready(model, "fp32")
        after, still = folded(frames), model(frames)
    left = sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert torch.equal(before, still) and (before - after).abs().max() < 1e-4 * before.abs().max()
    assert left == {"ddrnet-23-slim": 12, "pidnet-s": 9}.get(name, 0)  # theirs stand before a convolution, too


class _Trap(nn.Module):
    """A convolution and two norms, put together in a way that must not be folded."""

    stride = 1

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.conv = way, nn.Conv2d(3, 3, 1)
        self.first, self.second = (nn.BatchNorm2d(3, track_running_stats=way != "no statistics") for _ in range(2))
        for norm in (self.first, self.second):
            norm.weight.data.uniform_(1.5, 2)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames.float() / 255
        seen = self.conv(x)
        return {
            "convolution used twice": lambda: self.second(self.conv(self.first(seen))),
            "two norms read it": lambda: self.first(seen) - 2 * self.second(seen),
            "a skip reads it": lambda: self.first(seen) + seen,
            "changed in place": lambda: self.first(seen.relu_()),
            "no statistics": lambda: self.first(seen),
            "one size alone": lambda: self.first(seen) if x.shape[-1] == 96 else x.reshape(7, -1),
        }[self.way]()


@pytest.mark.parametrize(("name", "fourth"), [("student-cpu", False), ("student", True), ("lraspp-mv3-large", True)])
def test_the_first_convolution_takes_the_normalisation_over(name: str, fourth: bool) -> None:
    torch.manual_seed(0)
    model, frame = build(name, 19, False).eval(), _frames(1, (96, 64))[0]
    network = ready(model, "fp32")
    assert isinstance(network, OfBytes) and network.fourth == fourth
    prepare, run, _ = steps(network, "pytorch")
    with torch.no_grad():
        before = model(torch.from_numpy(frame).permute(2, 0, 1)[None])
    prepared = prepare(frame)
    assert prepared.dtype == torch.uint8 and prepared.shape == (1, 3 + fourth, 64, 96)
    assert (run(prepared) - before).abs().max() < 1e-5 * before.abs().max(), "at the borders, too"
    assert fold_normalisation(nn.Conv2d(3, 3, 1)).kernel_size == (1, 1), "what has no normalisation stays"


def test_a_network_is_opened_where_nothing_needs_a_gradient() -> None:
    frame = _frames(1, (64, 64))[0]
    with torch.inference_mode():
        inside = open_network(build("student-cpu", 19, False), size=(64, 64))(frame)
    assert inside.shape == (64, 64)


@pytest.mark.parametrize(
    "way",
    [
        "convolution used twice",
        "two norms read it",
        "a skip reads it",
        "changed in place",
        "no statistics",
        "one size alone",
    ],
)
def test_what_folding_would_change_stays_as_it_is(way: str) -> None:
    torch.manual_seed(0)
    model, frames = _Trap(way).eval(), torch.from_numpy(_frames(1, (96, 64))).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.allclose(model(frames), ready(model, "fp32")(frames), atol=1e-6)
    straight = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    assert fold_batch_norms(straight, frames.float()) == 1 and isinstance(straight[1], nn.Identity)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("runtime", [runtime for runtime in TORCH_RUNTIMES if runtime != "tensorrt"])
def test_on_a_gpu_every_way_gives_the_labels_of_the_cpu(runtime: str, precision: str) -> None:
    model, frames = shipped("student"), _frames(3, (190, 120))
    ours = open_network(model, size=(190, 120))
    theirs = open_networks(model.cuda(), (runtime,), (190, 120), precision=precision)[runtime]
    for frame in (*frames, frames[0]):  # a graph that is replayed must see the new frame
        assert (ours(frame) == theirs(frame)).mean() > (0.999 if precision == "fp32" else 0.97)


KERNEL = """
import sys, torch, torch.nn.functional as F
from tcseg.deploy.label_map_gpu import labels_of
device = sys.argv[1]
torch.manual_seed(0)
for shape, stride, layout in (
    ((1, 19, 6, 12), 4, torch.channels_last), ((1, 11, 5, 40), 8, torch.contiguous_format), ((1, 2, 1, 1), 32, torch.channels_last)
):
    logits = torch.randn(shape, device=device).contiguous(memory_format=layout)
    full = F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False).argmax(1)
    assert torch.equal(labels_of(logits, stride).long(), full), (shape, stride)
assert not labels_of(torch.zeros(1, 5, 4, 4, device=device), 8).any()  # of equals the lowest
"""


@pytest.mark.slow
def test_the_kernel_of_label_maps_gives_interpolated_labels() -> None:
    pytest.importorskip("triton")
    on_gpu = torch.cuda.is_available()
    environment = dict(os.environ) if on_gpu else {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, "cuda" if on_gpu else "cpu"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_the_kernel_it_is_said_why(caplog: pytest.LogCaptureFixture) -> None:
    _kernel.cache_clear()
    with caplog.at_level("INFO"):
        assert _kernel(torch.device("cuda")) is None
    assert "label maps without their kernel, which is slower: " in caplog.text


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
    labels = with_smaller_frames(open_network(model, size=(64, 32)), (64, 32))(frame)
    small = cv2.resize(frame, (64, 32), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        logits = model(torch.from_numpy(small).permute(2, 0, 1)[None])
    assert labels.shape == (64, 128) and (labels == upsample_argmax(logits, (128, 64))[0]).all()
    for size in ((60, 32), (0, 0)):
        with pytest.raises(ValueError, match=f"size is {size[0]}x{size[1]}; both must be positive multiples of 32"):
            with_smaller_frames(open_network(model, size=(64, 32)), size)
