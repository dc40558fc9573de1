"""The losses: gradients, limits, masks."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from tcseg import losses
from tcseg.labels import IGNORE

GENERATOR = torch.Generator().manual_seed(0)


def logits(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.double).requires_grad_()


def test_cross_entropy_equals_torch_on_labelled_pixels():
    z, y = logits(2, 4, 6, 6), torch.randint(0, 4, (2, 6, 6), generator=GENERATOR)
    y[:, :2] = IGNORE
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.double)
    expected = F.cross_entropy(z, y, weights, ignore_index=IGNORE)
    torch.testing.assert_close(losses.cross_entropy(z, y, weights), expected)
    torch.testing.assert_close(losses.cross_entropy(z, y), F.cross_entropy(z, y, ignore_index=IGNORE))


def test_cross_entropy_of_nothing_labelled_is_zero_not_nan():
    loss = losses.cross_entropy(logits(1, 3, 4, 4), torch.full((1, 8, 8), IGNORE))
    assert loss.item() == 0
    with pytest.raises(ValueError, match="logits are"):
        losses.cross_entropy(logits(2, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


def test_kl_is_zero_at_the_teacher_and_positive_elsewhere():
    z = logits(2, 5, 3, 3)
    for temperature in (1.0, 4.0):
        assert abs(losses.kl_distillation(z, z.softmax(1), temperature).item()) < 1e-5
        assert losses.kl_distillation(z + torch.randn_like(z), z.softmax(1), temperature) > 0.01


def test_kl_temperature_equals_softened_logits():
    student, teacher = logits(1, 5, 2, 2), logits(1, 5, 2, 2)
    expected = F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="none").sum(1).mean() * 9
    torch.testing.assert_close(losses.kl_distillation(student, teacher.softmax(1), 3.0), expected, rtol=1e-4, atol=1e-6)


def test_kl_mask_and_balance():
    student, teacher = logits(1, 3, 2, 2), logits(1, 3, 2, 2).softmax(1).detach()
    mask = torch.tensor([[[True, False], [False, False]]])
    one = losses.kl_distillation(student[..., :1, :1], teacher[..., :1, :1])
    torch.testing.assert_close(losses.kl_distillation(student, teacher, mask=mask), one)
    even = torch.full((3,), 2.0, dtype=torch.double)
    plain = losses.kl_distillation(student, teacher)
    torch.testing.assert_close(losses.kl_distillation(student, teacher, class_weights=even), plain)
    with pytest.raises(ValueError, match="resize one"):
        losses.kl_distillation(student, teacher[..., :1])


def test_losses_pass_gradcheck():
    a, b, teacher = logits(1, 3, 4, 5), logits(1, 3, 4, 5), logits(1, 3, 4, 5).softmax(1).detach()
    field = torch.rand(1, 2, 4, 5, generator=GENERATOR) * 1.2
    seen = torch.rand(1, 4, 5, generator=GENERATOR) > 0.3
    labels = torch.randint(0, 3, (1, 8, 10), generator=GENERATOR)
    assert gradcheck(lambda z: losses.cross_entropy(z, labels), (a,))
    assert gradcheck(lambda z: losses.kl_distillation(z, teacher, 2.0), (a,), atol=1e-4)
    assert gradcheck(
        lambda p, q: losses.temporal_consistency(p.softmax(1), q.softmax(1), field, seen), (a, b), atol=1e-4
    )


def test_temporal_loss_limits():
    probs = logits(2, 4, 6, 6).softmax(1).float().detach()
    still, all_seen = torch.zeros(2, 2, 6, 6), torch.ones(2, 6, 6, dtype=torch.bool)
    assert losses.temporal_consistency(probs, probs, still, all_seen) < 1e-10
    a, b = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    a[:, 0], b[:, 1] = 1, 1  # certain, and certain of another class: the most that two frames can differ
    assert losses.temporal_consistency(a, b, still[:1, :, :4, :4], all_seen[:1, :4, :4]).item() == pytest.approx(2.0)
    assert losses.temporal_consistency(a, b, still[:1, :, :4, :4], ~all_seen[:1, :4, :4]).item() == 0


def test_temporal_loss_does_not_depend_on_how_much_is_masked():
    a, b = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    a[:, 0], b[:, 0], b[:, 1] = 1, 0.5, 0.5
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    half = mask.clone()
    half[:, :4] = False
    still = torch.zeros(1, 2, 8, 8)
    torch.testing.assert_close(
        losses.temporal_consistency(a, b, still, mask), losses.temporal_consistency(a, b, still, half)
    )


def test_class_weights():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2] + [IGNORE] * 50, dtype=torch.uint8)
    weights = losses.class_weights(labels, 4)
    assert weights[0] < weights[1] < weights[2] <= weights[3]
    assert weights.max() / weights.min() <= 10.001
    assert (weights[:3] * torch.tensor([0.9, 0.09, 0.01])).sum().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(losses.class_weights(labels, 3, power=0.0), torch.ones(3))
