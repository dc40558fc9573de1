"""The losses: gradients, limits, masks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from tcseg.labels import IGNORE
from tcseg.training import losses

GENERATOR = torch.Generator().manual_seed(0)


DISTILLATIONS = (losses.kl_distillation, losses.channel_wise_distillation, losses.dist_distillation)


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


@pytest.mark.parametrize(
    "answer, truth", [((2, 3, 4, 4), (1, 4, 4)), ((1, 3, 4, 4), (2, 4, 4)), ((1, 3, 4, 4), (4, 4)), ((1, 3, 4, 4), (1, 3, 4, 4)),
                      ((3, 4, 4), (3, 4, 4)), ((1, 3, 4, 4, 4), (1, 4, 4))]
)  # fmt: skip
def test_cross_entropy_names_shapes_that_do_not_belong_together(answer, truth):
    with pytest.raises(ValueError, match=r"need \(B,K,h,w\) and \(B,H,W\)"):
        losses.cross_entropy(logits(*answer), torch.zeros(truth, dtype=torch.long))


def test_kl_is_zero_at_the_teacher_and_positive_elsewhere():
    z = logits(2, 5, 3, 3)
    for temperature in (1.0, 4.0):
        assert abs(losses.kl_distillation(z, z.softmax(1), temperature).item()) < 1e-5
        assert losses.kl_distillation(z + torch.randn_like(z), z.softmax(1), temperature) > 0.01


@pytest.mark.parametrize("temperature", [0.8, 1.0, 3.0])
def test_kl_temperature_equals_softened_logits(temperature):
    student, teacher = logits(1, 5, 2, 2), logits(1, 5, 2, 2)
    soft = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    expected = F.kl_div(*soft, reduction="none").sum(1).mean() * temperature**2
    found = losses.kl_distillation(student, teacher.softmax(1), temperature)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


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
    z, teacher = logits(2, 3, 4, 5), logits(2, 3, 4, 5).softmax(1).detach()
    labels = torch.randint(0, 3, (2, 8, 10), generator=GENERATOR)
    mask = torch.rand(2, 4, 5, generator=GENERATOR) > 0.3
    assert gradcheck(lambda z: losses.cross_entropy(z, labels), (z,))
    for distil in DISTILLATIONS:
        assert gradcheck(lambda z, distil=distil: distil(z, teacher, temperature=2.0, mask=mask), (z,)), distil.__name__
    adapter = torch.nn.Conv2d(3, 4, 1).double()
    coarse = logits(2, 4, 6, 6).detach()
    assert gradcheck(lambda f: losses.feature_distillation(f, coarse, adapter), (z,))
    pair = (logits(2, 5, 8, 8).detach(), logits(2, 5, 8, 8).detach())
    assert gradcheck(lambda f, g: losses.pairwise_frame_dependency(f, g, *pair, nodes=(2, 3)), (z, logits(2, 3, 4, 5)))


@pytest.mark.parametrize("distil", DISTILLATIONS)
def test_distillation_is_zero_at_the_teacher_and_pulls_towards_it(distil):
    z = logits(2, 5, 6, 7)
    assert abs(distil(z, z.softmax(1).detach(), temperature=3.0).item()) < 1e-4
    teacher, student = (3 * logits(2, 5, 6, 7)).softmax(1).detach(), logits(2, 5, 6, 7)
    loss = distil(student, teacher)
    (slope,) = torch.autograd.grad(loss, student)
    assert loss > 0.1
    assert distil(student - 0.1 * slope / slope.norm(), teacher) < loss


@pytest.mark.parametrize("distil", DISTILLATIONS)
def test_distillation_does_not_know_the_order_of_classes_or_places(distil):
    student, teacher = logits(2, 5, 4, 6), logits(2, 5, 4, 6).softmax(1).detach()
    classes = torch.randperm(5, generator=GENERATOR)
    places = torch.randperm(24, generator=GENERATOR)

    def moved(x):
        return x.flatten(2)[:, classes][..., places].view_as(x)

    torch.testing.assert_close(distil(moved(student), moved(teacher)), distil(student, teacher))


@pytest.mark.parametrize("distil", DISTILLATIONS)
def test_distillation_looks_at_masked_pixels_only(distil):
    student, teacher = logits(2, 4, 4, 6), logits(2, 4, 4, 6).softmax(1).detach()
    mask = torch.zeros(2, 4, 6, dtype=torch.bool)
    mask[:, :, :3] = True
    shown = distil(student[..., :3], teacher[..., :3])
    torch.testing.assert_close(distil(student, teacher, mask=mask), shown)
    none = distil(student, teacher, mask=~mask & mask)
    (slope,) = torch.autograd.grad(none, student)
    assert none.item() == 0 and slope.abs().max() == 0
    for pair in ((student, teacher[..., :1]), (student[..., :1], teacher)):
        with pytest.raises(ValueError, match="resize one"):
            distil(*pair)


def test_a_frame_without_mask_is_no_half_loss_of_the_channel_wise_kind():
    student, teacher = logits(2, 4, 4, 6), logits(2, 4, 4, 6).softmax(1).detach()
    mask = torch.ones(2, 4, 6, dtype=torch.bool)
    mask[1] = False
    first = losses.channel_wise_distillation(student[:1], teacher[:1])
    torch.testing.assert_close(losses.channel_wise_distillation(student, teacher, mask=mask), first)


def test_channel_wise_equals_its_formula():
    student, teacher = logits(1, 3, 4, 4), logits(1, 3, 4, 4).softmax(1).detach()
    a, b = (student.log_softmax(1) / 4).flatten(2).softmax(-1), (teacher.log() / 4).flatten(2).softmax(-1)
    expected = 16 * (b * (b / a).log()).sum(-1).mean()
    torch.testing.assert_close(losses.channel_wise_distillation(student, teacher, floor=1e-9), expected)
    maps = teacher.flatten(2) / teacher.flatten(2).sum(-1, keepdim=True)  # T = 1: a probability map over its sum
    own = student.softmax(1).flatten(2)
    expected = (maps * (maps / (own / own.sum(-1, keepdim=True))).log()).sum(-1).mean()
    torch.testing.assert_close(losses.channel_wise_distillation(student, teacher, 1.0, floor=1e-9), expected)


def test_channel_wise_looks_at_where_a_class_is_and_not_at_how_much():
    student, teacher = logits(1, 3, 4, 6), logits(1, 3, 4, 6).softmax(1).detach()
    fewer = teacher * torch.tensor([1.0, 0.2, 1.0]).view(1, 3, 1, 1)  # class 1 is everywhere less likely
    one = losses.channel_wise_distillation(student, teacher, floor=1e-9)
    torch.testing.assert_close(losses.channel_wise_distillation(student, fewer, floor=1e-9), one)


def test_a_stored_zero_asks_for_no_more_than_the_floor():
    teacher = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2).double()
    for sure in (8.0, 20.0):  # both say less than 0.001 of class 1; the stored 0 cannot tell which is right
        student = torch.tensor([sure, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 2, 2).double()
        student[:, 1, 0, 0] -= 3
        assert losses.channel_wise_distillation(student, teacher).item() < 1e-6
    student = torch.zeros(1, 2, 2, 2, dtype=torch.double)
    student[:, 1, 0, 0] = -3
    assert losses.channel_wise_distillation(student, teacher).item() > 0.1


def test_dist_asks_for_the_ranking_and_not_for_the_values():
    student, teacher = logits(2, 4, 4, 6), logits(2, 4, 4, 6).softmax(1).detach()
    less_sure = 0.3 * teacher + 0.7 * torch.full_like(teacher, 0.25)  # an affine map of every pixel and of every class
    for beta, gamma in ((1.0, 0.0), (0.0, 1.0)):
        one = losses.dist_distillation(student, teacher, beta, gamma)
        torch.testing.assert_close(losses.dist_distillation(student, less_sure, beta, gamma), one, atol=1e-4, rtol=0)
    assert losses.kl_distillation(student, less_sure) != losses.kl_distillation(student, teacher)


def test_dist_equals_corrcoef_oracle():
    student, teacher = logits(2, 4, 3, 5), logits(2, 4, 3, 5).softmax(1).detach()
    p, q = (x.movedim(1, -1).reshape(-1, 4).detach().numpy() for x in (student.softmax(1), teacher))
    inter = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    intra = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    for beta, gamma in ((1.0, 1.0), (2.0, 0.5)):
        expected = beta * (1 - inter) + gamma * (1 - intra)
        assert losses.dist_distillation(student, teacher, beta, gamma).item() == pytest.approx(expected, abs=1e-5)
    as_in_the_paper = losses.dist_distillation(student, teacher, 1.0, 1.0)
    torch.testing.assert_close(losses.dist_distillation(student, teacher), as_in_the_paper)


def test_dist_leaves_out_classes_that_the_teacher_never_sees():
    student, teacher = logits(1, 3, 4, 6), logits(1, 3, 4, 6).softmax(1).detach()
    absent = torch.cat((teacher, torch.zeros_like(teacher[:, :1])), 1)
    more = torch.cat((student, torch.full_like(student[:, :1], -30.0)), 1)
    torch.testing.assert_close(
        losses.dist_distillation(more, absent, beta=0), losses.dist_distillation(student, teacher, beta=0)
    )


def test_features_of_any_channels_and_strides():
    teacher = 5 + 3 * logits(2, 6, 8, 12).detach()
    nothing = torch.nn.Conv2d(4, 6, 1).double()
    for parameter in nothing.parameters():
        torch.nn.init.zeros_(parameter)
    for size in ((4, 6), (8, 12), (3, 5), (16, 24)):
        features = logits(2, 4, *size)
        assert losses.feature_distillation(features, teacher, nothing).item() == pytest.approx(1, abs=1e-4)
    mean, spread = teacher.mean((0, 2, 3), keepdim=True), teacher.std((0, 2, 3), keepdim=True, unbiased=False)
    copied = (teacher - mean) / spread
    assert losses.feature_distillation(copied, teacher, torch.nn.Identity()).item() < 1e-10
    loud = teacher * torch.tensor([1.0, 100, 1, 1, 0.01, 1]).view(1, 6, 1, 1)
    adapter = torch.nn.Conv2d(4, 6, 1).double()
    torch.testing.assert_close(
        losses.feature_distillation(features, loud, adapter), losses.feature_distillation(features, teacher, adapter),
        atol=1e-3, rtol=0,
    )  # fmt: skip
    for channels in (5, 7):
        with pytest.raises(ValueError, match="6 output channels"):
            losses.feature_distillation(features, teacher, torch.nn.Conv2d(4, channels, 1).double())
    for batch in (1, 3):
        with pytest.raises(ValueError, match="batch and channels must agree"):
            losses.feature_distillation(logits(batch, 4, 4, 6), teacher, adapter)


@pytest.mark.parametrize("size", [(2, 3), (8, 12), (5, 20)])
def test_features_are_compared_on_the_teachers_grid_oracle(size):
    features, teacher, adapter = logits(2, 4, *size), 5 + 3 * logits(2, 6, 8, 12), torch.nn.Conv2d(4, 6, 1).double()
    adapted = F.interpolate(adapter(features), (8, 12), mode="bilinear", align_corners=False)
    wanted = (teacher - teacher.mean((0, 2, 3), keepdim=True)) / teacher.std((0, 2, 3), keepdim=True, unbiased=False)
    found = losses.feature_distillation(features, teacher, adapter)
    torch.testing.assert_close(found, (adapted - wanted).square().mean(), rtol=1e-5, atol=0)


def test_features_that_do_not_count_are_as_if_they_were_not_there():
    features, teacher = logits(2, 6, 8, 12), 5 + 3 * logits(2, 6, 8, 12)
    mask = torch.zeros(2, 8, 12, dtype=torch.bool)
    mask[..., 3:10] = True
    found = losses.feature_distillation(features, teacher, torch.nn.Identity(), mask)
    there = losses.feature_distillation(features[..., 3:10], teacher[..., 3:10], torch.nn.Identity())
    torch.testing.assert_close(found, there)
    nothing = losses.feature_distillation(features, teacher, torch.nn.Identity(), ~mask & mask)
    assert nothing.item() == 0


def test_one_place_that_counts_is_a_whole_loss():
    """Its features are their own mean, so that the student is asked for zeros there."""
    features, teacher, mask = logits(1, 6, 3, 4), logits(1, 6, 3, 4), torch.zeros(1, 3, 4, dtype=torch.bool)
    mask[0, 1, 2] = True
    found = losses.feature_distillation(features, teacher, torch.nn.Identity(), mask)
    torch.testing.assert_close(found, features[0, :, 1, 2].square().mean())


def test_a_teacher_that_is_certain_is_a_label():
    student, labels = logits(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5), generator=GENERATOR)
    certain = F.one_hot(labels, 4).movedim(-1, 1).double()
    found = losses.kl_distillation(student, certain)
    torch.testing.assert_close(found, F.cross_entropy(student, labels), rtol=1e-4, atol=1e-4)
    assert all(torch.isfinite(distil(student, certain)) for distil in DISTILLATIONS)


def test_dist_at_a_temperature_is_that_of_softened_answers():
    student, teacher = logits(2, 4, 3, 5), logits(2, 4, 3, 5).detach()
    softened = losses.dist_distillation(student / 3, (teacher / 3).softmax(1))
    found = losses.dist_distillation(student, teacher.softmax(1), temperature=3.0)
    torch.testing.assert_close(found, 9 * softened, rtol=1e-3, atol=1e-4)


def test_pairs_are_compared_on_a_grid_of_eight_by_sixteen_unless_it_is_said():
    a, b, g, h = (logits(1, 3, 16, 32).detach() for _ in range(4))
    found = losses.pairwise_frame_dependency(a, b, g, h)
    torch.testing.assert_close(found, losses.pairwise_frame_dependency(a, b, g, h, (8, 16)))


def test_places_of_the_second_frame_that_do_not_count_are_as_if_they_were_not_there():
    a, b, g, h = (logits(2, 4, 2, 3).detach() for _ in range(4))
    mask = torch.tensor([[[1, 1, 0], [0, 1, 1]], [[1, 1, 1], [1, 1, 1]]], dtype=torch.bool)
    unit = [F.normalize(x.flatten(2), dim=1) for x in (a, b, g, h)]
    error = (unit[0].mT @ unit[1] - unit[2].mT @ unit[3]).square().mean(1)  # (2,6), over the places of a
    found = losses.pairwise_frame_dependency(a, b, g, h, (2, 3), mask)
    torch.testing.assert_close(found, error[mask.flatten(1)].mean())
    finer = mask.repeat_interleave(2, 1).repeat_interleave(2, 2)
    finer[0, 0, 0] = False  # a node of which one place does not count
    less = mask.clone()
    less[0, 0, 0] = False
    larger = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (a, b, g, h)]
    found = losses.pairwise_frame_dependency(*larger, (2, 3), finer)
    torch.testing.assert_close(found, error[less.flatten(1)].mean())
    assert losses.pairwise_frame_dependency(a, b, g, h, (2, 3), mask & ~mask).item() == 0


def test_features_teach_the_adapter_and_the_student_but_not_the_teacher():
    features, teacher, adapter = logits(1, 2, 4, 4), logits(1, 3, 4, 4), torch.nn.Conv2d(2, 3, 1).double()
    losses.feature_distillation(features, teacher, adapter).backward()
    assert features.grad.abs().sum() > 0 and adapter.weight.grad.abs().sum() > 0 and teacher.grad is None


def test_pair_dependency_needs_no_adapter_and_no_scale():
    a, b, other = logits(2, 3, 4, 6), logits(2, 3, 4, 6), logits(2, 7, 8, 8).detach()
    assert losses.pairwise_frame_dependency(a, b, a, b, (4, 6)).item() < 1e-12
    one = losses.pairwise_frame_dependency(a, b, other, other.flip(-1), (2, 3))
    torch.testing.assert_close(
        losses.pairwise_frame_dependency(10 * a, 0.1 * b, other, 5 * other.flip(-1), (2, 3)), one
    )
    turned = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR, dtype=torch.double))[0]
    rotated = [torch.einsum("ck,bkhw->bchw", turned, x) for x in (a, b)]
    assert losses.pairwise_frame_dependency(*rotated, a, b, (4, 6)).item() < 1e-12
    with pytest.raises(ValueError, match="the batch, must agree"):
        losses.pairwise_frame_dependency(a, b[:1], other, other)


def test_pair_dependency_is_a_mean_of_cosines_oracle():
    a, b, g, h = (logits(1, 4, 2, 2).detach() for _ in range(4))

    def cosines(x, y):
        x, y = x[0].flatten(1).T, y[0].flatten(1).T
        return torch.stack([F.cosine_similarity(x[i][None], y) for i in range(4)])

    expected = (cosines(a, b) - cosines(g, h)).square().mean()
    torch.testing.assert_close(losses.pairwise_frame_dependency(a, b, g, h, (2, 2)), expected)


def test_class_weights():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2] + [IGNORE] * 50, dtype=torch.uint8)
    weights = losses.class_weights(labels, 4)
    assert weights[0] < weights[1] < weights[2] <= weights[3]
    assert weights.max() / weights.min() <= 10.001
    assert (weights[:3] * torch.tensor([0.9, 0.09, 0.01])).sum().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(losses.class_weights(labels, 3, power=0.0), torch.ones(3))


def test_class_weights_are_a_power_of_the_share_oracle():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10 + [IGNORE] * 50, dtype=torch.uint8)
    share = torch.tensor([0.6, 0.3, 0.1])
    for power in (0.25, 0.5, 1.0):
        expected = share**-power / (share ** (1 - power)).sum()
        torch.testing.assert_close(losses.class_weights(labels.view(10, 15), 3, power), expected)
        absent = losses.class_weights(labels, 5, power)
        assert absent[3] == absent[4] == pytest.approx(10 * absent[0].item()), "as large as weights may be"
        torch.testing.assert_close(absent[:3], expected, rtol=1e-4, atol=0)  # the absent count 1e-6 each


@pytest.mark.parametrize("distil", [losses.kl_distillation, losses.dist_distillation])
def test_a_faint_mask_is_the_same_loss(distil):
    """The mask's own sum is the denominator, however small that is: what is doubted everywhere is not half a loss."""
    student, teacher = logits(2, 4, 3, 5), logits(2, 4, 3, 5).softmax(1).detach()
    mask = 0.2 + 0.8 * torch.rand(2, 3, 5, generator=GENERATOR)
    torch.testing.assert_close(distil(student, teacher, mask=mask / 50), distil(student, teacher, mask=mask))


def test_few_pixels_of_small_weight_are_a_whole_cross_entropy():
    z, labels = logits(1, 3, 4, 4), torch.full((1, 4, 4), IGNORE)
    labels[0, 1, 2] = 1
    expected = -z.log_softmax(1)[0, 1, 1, 2]
    for weight in (0.01, 1.0, 7.0):
        weights = torch.tensor([5.0, weight, 5.0], dtype=torch.double)
        torch.testing.assert_close(losses.cross_entropy(z, labels, weights), expected)
    torch.testing.assert_close(losses.cross_entropy(z, labels), expected)


def test_kl_weighs_a_pixel_by_the_teachers_expected_class_oracle():
    student, teacher = logits(1, 3, 2, 3), logits(1, 3, 2, 3).softmax(1).detach()
    weights = torch.tensor([1.0, 2.0, 8.0], dtype=torch.double)
    p, q = (x[0].flatten(1).T for x in (teacher, student.softmax(1)))
    pixel = (p * (p.log() - q.log())).sum(1)
    expected = (pixel * (p @ weights)).sum() / (p @ weights).sum()
    torch.testing.assert_close(losses.kl_distillation(student, teacher, class_weights=weights), expected)
    torch.testing.assert_close(losses.kl_distillation(student, teacher), pixel.mean())


@pytest.mark.parametrize("beta, gamma", [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_the_parts_of_dist_are_weighed(beta, gamma):
    student, teacher = logits(1, 3, 2, 3), logits(1, 3, 2, 3).softmax(1).detach()
    inter, intra = (losses.dist_distillation(student, teacher, *part) for part in ((1.0, 0.0), (0.0, 1.0)))
    assert inter > 0.01 and intra > 0.01 and (inter - intra).abs() > 1e-3
    torch.testing.assert_close(losses.dist_distillation(student, teacher, beta, gamma), beta * inter + gamma * intra)


@pytest.mark.parametrize(
    "size, offset, stride", [((8, 12), (0, 0), 1), ((9, 13), (1, 0), 2), ((16, 6), (2, 1), 3), ((1, 5), (0, 4), 5)]
)
@pytest.mark.parametrize("grid", [(4, 6), (1, 3), (2, 1), (1, 1)])
def test_the_lattice_is_some_pixels_of_the_upsampling_oracle(size, offset, stride, grid):
    z = logits(2, 3, *grid).float().detach()
    whole = F.interpolate(z, size, mode="bilinear", align_corners=False)
    found = losses.upsample_lattice(z, size, offset, stride)
    torch.testing.assert_close(found, whole[..., offset[0] :: stride, offset[1] :: stride])


# ------------------------------------------------------------------------------------------------ what mutants have shown


def test_cross_entropy_upsamples_as_evaluation_does():
    z, labels = logits(2, 3, 4, 6), torch.randint(0, 3, (2, 16, 24), generator=torch.Generator().manual_seed(1))
    upsampled = F.interpolate(z, (16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(losses.cross_entropy(z, labels), F.cross_entropy(upsampled, labels))
    with pytest.raises(ValueError, match="labels"):
        losses.cross_entropy(z, labels[0])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_a_temperature_softens_student_and_teacher_alike(temperature):
    """Probabilities to the power 1/T, made to sum to 1, are softmax(z/T)."""
    z, teacher = logits(2, 4, 3, 5), logits(2, 4, 3, 5).detach().flip(0)
    soft = (teacher / temperature).softmax(1)
    wanted = temperature**2 * (soft * (soft.log() - (z / temperature).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(losses.kl_distillation(z, teacher.softmax(1), temperature), wanted, atol=1e-4, rtol=1e-4)


def test_channel_wise_is_the_mean_over_the_frames_that_count():
    z, teacher = logits(3, 4, 3, 5), logits(3, 4, 3, 5).detach().flip(0).softmax(1)
    each = [losses.channel_wise_distillation(z[i : i + 1], teacher[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(losses.channel_wise_distillation(z, teacher), sum(each) / 3)
    mask = torch.ones(3, 3, 5, dtype=torch.bool)
    mask[1] = False
    torch.testing.assert_close(losses.channel_wise_distillation(z, teacher, mask=mask), (each[0] + each[2]) / 2)


def test_one_node_or_one_class_that_counts_is_a_whole_loss():
    """Not half of one: what is divided by is what counts, be it one class or one place."""
    a, b, g, h = (torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(4))
    mask = torch.tensor([[[True, False], [False, False]]])
    mine, wanted = (losses._similarities(*pair, (2, 2))[:, :, 0] for pair in ((a, b), (g, h)))
    torch.testing.assert_close(
        losses.pairwise_frame_dependency(a, b, g, h, (2, 2), mask), (mine - wanted).square().mean()
    )
    share = torch.linspace(0.1, 0.5, 6).view(1, 1, 2, 3)
    teacher = torch.cat((share, torch.full_like(share, 0.3), 0.7 - share), 1)  # two classes are ranked, the middle one is not
    one = losses.dist_distillation(teacher.log(), teacher, beta=0)
    torch.testing.assert_close(one, torch.zeros(()), atol=1e-5, rtol=0)
    against = losses.dist_distillation(teacher.flip(-1, -2).log(), teacher, beta=0)
    torch.testing.assert_close(against, torch.tensor(2.0), atol=1e-3, rtol=0)
