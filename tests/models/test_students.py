"""The candidates: what they are named is what they are."""

import pytest
import timm
import torch

from tcseg.bench.roofline import work
from tcseg.models import students

SIZE = (128, 64)


@pytest.fixture(params=list(students.CANDIDATES))
def student(request):
    torch.manual_seed(0)
    return students.Student(request.param, students.CANDIDATES[request.param], 19)


def test_logits_have_the_stride_of_the_name(student):
    stride = int(student.arch.rsplit("o", 1)[1])
    logits = student.eval()(torch.zeros(2, 3, SIZE[1], SIZE[0], dtype=torch.uint8))
    assert student.stride == stride and logits.shape == (2, 19, SIZE[1] // stride, SIZE[0] // stride)
    assert student.head.in_channels == int(student.arch.split("-")[1])


def test_every_parameter_learns_and_the_gradient_is_right_without_onednn(student):
    """oneDNN's weight gradient of a strided 1x1 convolution with few channels is wrong on some AVX2 machines."""
    frames = torch.randint(
        0, 256, (2, 3, SIZE[1], SIZE[0]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    student = student.to(memory_format=torch.channels_last).train()
    gradients = []
    for enabled in (True, False):
        student.zero_grad()
        with torch.backends.mkldnn.flags(enabled=enabled, allow_tf32=None):
            student(frames).logsumexp(1).mean().backward()
        gradients.append([p.grad.clone() for p in student.parameters()])
    for name, ours, plain in zip(dict(student.named_parameters()), *gradients, strict=True):
        scale = plain.abs().max()
        assert scale > 0 or "norm" in name or name.endswith("bias"), f"{name} gets no gradient"
        assert (ours - plain).abs().max() <= 2e-3 * scale + 1e-7, name


@pytest.mark.parametrize("name", ("tcseg_plain16", "tcseg_patch16"))
def test_plain_means_convolutions_norms_and_relu(name):
    net = timm.create_model(name, features_only=True)
    kinds = {type(layer).__name__ for layer in net.modules() if not list(layer.children())}
    assert kinds == {"Conv2d", "BatchNorm2d"}
    assert [layer.kernel_size for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)][1:] == [(3, 3)] * 7 + (
        [(3, 3)] if name == "tcseg_plain16" else []
    )
    assert net(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 128, 2, 2)


def test_a_patch_stem_overlaps_nothing_and_pads_nothing():
    stem = timm.create_model("tcseg_patch16", features_only=True).stem.conv
    assert (stem.kernel_size, stem.stride, stem.padding) == ((4, 4), (4, 4), (0, 0))


def test_stride_eight_is_less_work():
    fine, coarse = (
        work(students.Student(name, students.CANDIDATES[name], 19), (256, 128))
        for name in ("plain16-32-o4", "plain16-32-o8")
    )
    assert coarse.gflop < fine.gflop and coarse.mbytes < fine.mbytes
