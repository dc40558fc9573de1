"""The temporal losses: gradients, limits, masks, and what each option changes."""

import math

import pytest
import torch
from oracles import warp_labels
from torch.autograd import gradcheck

from tcseg.training import temporal_losses
from tcseg.training.temporal_losses import DISTANCES, STOPS, etc_compat, photometric_mask, soft_tc, temporal_consistency

GENERATOR = torch.Generator().manual_seed(0)
STILL, SEEN = torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)


def logits(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.double).requires_grad_()


def certain(labels, classes):
    """One-hot probabilities (B,K,H,W) of labels (B,H,W)."""
    return torch.nn.functional.one_hot(labels.long(), classes).permute(0, 3, 1, 2).double()


def frames(*shape):
    return torch.randint(0, 256, shape, generator=GENERATOR).to(torch.uint8)


def test_temporal_losses_pass_gradcheck():
    a, b = logits(1, 3, 4, 5), logits(1, 3, 4, 5)
    field = torch.rand(1, 2, 4, 5, generator=GENERATOR) * 1.2
    seen = torch.rand(1, 4, 5, generator=GENERATOR) > 0.3
    for distance in DISTANCES:
        assert gradcheck(
            lambda p, q, d=distance: temporal_consistency(p.softmax(1), q.softmax(1), field, seen, d), (a, b), atol=1e-4
        )
    assert gradcheck(lambda p, q: soft_tc(p.softmax(1), q.softmax(1), field, seen), (a, b), atol=1e-4)
    assert gradcheck(lambda p, q: etc_compat(p, q, field, seen.double()), (a, b), atol=1e-4)


def test_temporal_loss_limits():
    probs = logits(2, 4, 6, 6).softmax(1).float().detach()
    still, all_seen = torch.zeros(2, 2, 6, 6), torch.ones(2, 6, 6, dtype=torch.bool)
    assert temporal_consistency(probs, probs, still, all_seen) < 1e-10
    a, b = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    a[:, 0], b[:, 1] = 1, 1  # certain, and certain of another class: the most that two frames can differ
    assert temporal_consistency(a, b, still[:1, :, :4, :4], all_seen[:1, :4, :4]).item() == pytest.approx(2.0)
    assert temporal_consistency(a, b, still[:1, :, :4, :4], ~all_seen[:1, :4, :4]).item() == 0


def test_temporal_loss_does_not_depend_on_how_much_is_masked():
    a, b = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    a[:, 0], b[:, 0], b[:, 1] = 1, 0.5, 0.5
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    half = mask.clone()
    half[:, :4] = False
    still = torch.zeros(1, 2, 8, 8)
    torch.testing.assert_close(temporal_consistency(a, b, still, mask), temporal_consistency(a, b, still, half))


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_zero_at_agreement_and_know_their_maximum(distance):
    probs = logits(1, 3, 4, 4).softmax(1).detach()
    assert abs(temporal_consistency(probs, probs, STILL, SEEN, distance).item()) < 1e-9
    a, b = certain(torch.zeros(1, 4, 4), 3), certain(torch.ones(1, 4, 4), 3)
    most = {"l2": 2.0, "js": math.log(2), "kl": math.log(1e6)}[distance]  # KL is cut where a probability is below 1e-6
    assert temporal_consistency(a, b, STILL, SEEN, distance).item() == pytest.approx(most, rel=1e-4)


@pytest.mark.parametrize("distance", ("l2", "js"))
def test_symmetric_distances_do_not_know_which_frame_came_first(distance):
    a, b = logits(1, 3, 4, 4).softmax(1).detach(), logits(1, 3, 4, 4).softmax(1).detach()
    one = temporal_consistency(a, b, STILL, SEEN, distance)
    torch.testing.assert_close(temporal_consistency(b, a, STILL, SEEN, distance), one)


def test_kl_is_that_of_torch_distributions_oracle():
    a, b = logits(1, 3, 4, 4).softmax(1).detach(), logits(1, 3, 4, 4).softmax(1).detach()
    p, q = (torch.distributions.Categorical(probs=x.movedim(1, -1)) for x in (a, b))
    to_a, to_b = torch.distributions.kl_divergence(q, p).mean(), torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(temporal_consistency(a, b, STILL, SEEN, "kl", stop="b"), to_a)
    torch.testing.assert_close(temporal_consistency(a, b, STILL, SEEN, "kl", stop="a"), to_b)
    torch.testing.assert_close(temporal_consistency(a, b, STILL, SEEN, "kl"), (to_a + to_b) / 2)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_stopped_frame_learns_nothing(distance):
    for stop in STOPS:
        a, b = logits(1, 3, 4, 4), logits(1, 3, 4, 4)
        temporal_consistency(a.softmax(1), b.softmax(1), STILL, SEEN, distance, stop).backward()
        learns = {
            "a": a.grad is not None and a.grad.abs().sum() > 0,
            "b": b.grad is not None and b.grad.abs().sum() > 0,
        }
        assert learns == {"a": stop != "a", "b": stop != "b"}


def test_class_weights_make_a_rare_class_count():
    labels = torch.zeros(1, 4, 4)
    labels[0, 0, 0] = 1
    a, b = certain(labels, 2), certain(labels, 2).clone()
    b[0, :, 0, 0] = torch.tensor([0.5, 0.5])  # only the one pixel of class 1 wavers
    plain = temporal_consistency(a, b, STILL, SEEN)
    even = torch.tensor([3.0, 3.0], dtype=torch.double)
    torch.testing.assert_close(temporal_consistency(a, b, STILL, SEEN, class_weights=even), plain)
    rare = temporal_consistency(a, b, STILL, SEEN, class_weights=torch.tensor([1.0, 9.0], dtype=torch.double))
    weight = 0.25 * 1 + 0.75 * 9  # the expected class of the mean of both frames
    assert rare.item() == pytest.approx(0.5 * weight / (15 + weight))
    assert rare > 4 * plain


def test_class_weights_carry_no_gradient():
    a, b = logits(1, 2, 4, 4), logits(1, 2, 4, 4)
    weights = torch.tensor([1.0, 9.0], dtype=torch.double)
    loss = temporal_consistency(a.softmax(1), b.softmax(1), STILL, SEEN, class_weights=weights)
    p, q = a.softmax(1), b.softmax(1)
    weight = torch.einsum("bkhw,k->bhw", ((p + q) / 2).detach(), weights)
    expected = ((p - q).square().sum(1) * weight).sum() / weight.sum()
    torch.testing.assert_close(torch.autograd.grad(loss, a)[0], torch.autograd.grad(expected, a)[0])


def test_nothing_visible_is_zero_with_zero_gradient():
    a, b = logits(1, 3, 4, 4), logits(1, 3, 4, 4)
    gone = torch.full((1, 2, 4, 4), 9.0)
    cases = [(STILL, ~SEEN), (gone, SEEN)]
    for field, seen in cases:
        for distance in DISTANCES:
            loss = temporal_consistency(a.softmax(1), b.softmax(1), field, seen, distance)
            assert loss.item() == 0 and torch.autograd.grad(loss, a)[0].abs().max() == 0
        loss = soft_tc(a.softmax(1), b.softmax(1), field, seen)
        assert loss.item() == 0 and torch.autograd.grad(loss, a)[0].abs().max() == 0


@pytest.mark.parametrize("loss", [*DISTANCES, "soft_tc", "etc"])
@pytest.mark.parametrize("hide", ["mask", "flow"])
def test_hidden_pixels_get_no_gradient_and_the_others_do(loss, hide):
    """Neither a pixel that is masked nor one whose flow leaves the picture (ETC's own code compares that with the border)."""
    functions = {"soft_tc": soft_tc, "etc": etc_compat}
    a, b = logits(2, 3, 5, 6), logits(2, 3, 5, 6)
    field, seen = torch.zeros(2, 2, 5, 6), torch.ones(2, 5, 6)
    hidden = torch.rand(2, 5, 6, generator=GENERATOR) > 0.6
    if hide == "mask" or loss == "etc":
        seen[hidden] = 0
    else:
        field[:, 0][hidden] = 99
    p, q = a.softmax(1), b.softmax(1)
    value = functions[loss](p, q, field, seen) if loss in functions else temporal_consistency(p, q, field, seen, loss)
    for grad in torch.autograd.grad(value, (a, b)):
        size = grad.abs().sum(1)
        assert size[hidden].max() < 1e-7 < size[~hidden].min()  # a warp by nothing moves 1e-9 of a pixel


def test_soft_tc_of_certain_answers_is_tc():
    labels_a, labels_b = (torch.randint(0, 4, (2, 6, 8), generator=GENERATOR) for _ in range(2))
    labels_a[labels_a == 3], labels_b[labels_b == 3] = 0, 0  # class 3 is nobody's answer: it is left out, not 0
    field = torch.zeros(2, 2, 6, 8)
    field[:, 0], field[:, 1] = 2, -1
    seen = torch.rand(2, 6, 8, generator=GENERATOR) > 0.2
    warped = warp_labels(labels_b, field)
    counted = seen & (warped < 255)
    ious = []
    for k in range(3):
        a, b = (labels_a == k) & counted, (warped == k) & counted
        ious.append((a & b).sum() / (a | b).sum())
    loss = soft_tc(certain(labels_a, 4), certain(labels_b, 4), field, seen, small=0)
    assert loss.item() == pytest.approx(1 - torch.stack(ious).mean().item(), abs=1e-6)


def test_a_class_that_is_nobodys_answer_is_still_held_steady():
    """Else a student learns to stop answering what flickers: the classes of the probe's collapse (mIoU 28 for 41)."""
    a, b = torch.full((1, 2, 4, 4), 0.6, dtype=torch.double), torch.full((1, 2, 4, 4), 0.6, dtype=torch.double)
    a[:, 1], b[:, 1] = 0.4, 0.4
    b[0, :, :2] = torch.tensor([0.9, 0.1]).view(2, 1, 1)  # class 1 is never the answer, but wavers
    rate = soft_tc(a, b, STILL, SEEN, small=0).item()
    assert rate == pytest.approx(((1 - 9.6 / 12.0) + (1 - 4.0 / 6.4)) / 2)
    assert soft_tc(a, b, STILL, SEEN, small=1e3).item() == pytest.approx(rate, abs=0.1)


def test_small_is_the_share_at_which_a_class_counts_half():
    a, b = certain(torch.zeros(1, 4, 4), 2), certain(torch.zeros(1, 4, 4), 2).clone()
    b[0, :, 0, 0] = torch.tensor([0.0, 1.0])  # class 1: half a pixel on average, of 16
    counts = [(15.5 / 16) / (15.5 / 16 + 1 / 32), 0.5]
    expected = (counts[0] * (1 - 15 / 16) + counts[1] * 1.0) / sum(counts)
    assert soft_tc(a, b, STILL, SEEN, small=1 / 32).item() == pytest.approx(expected)


def test_soft_tc_limits():
    probs = logits(1, 3, 4, 4).softmax(1).detach()
    assert soft_tc(probs, probs, STILL, SEEN).item() == pytest.approx(0, abs=1e-12)
    a, b = certain(torch.zeros(1, 4, 4), 3), certain(torch.ones(1, 4, 4), 3)
    assert soft_tc(a, b, STILL, SEEN).item() == pytest.approx(1)
    order = torch.tensor([2, 0, 1])
    other = logits(1, 3, 4, 4).softmax(1).detach()
    permuted = soft_tc(probs[:, order], other[:, order], STILL, SEEN)
    torch.testing.assert_close(permuted, soft_tc(probs, other, STILL, SEEN))


def test_soft_tc_does_not_count_a_class_by_its_size():
    for size in (1, 4):
        labels = torch.zeros(1, 8, 8)
        labels[0, 0, :size] = 1
        a, b = certain(labels, 2), certain(labels, 2).clone()
        b[0, :, 0, :size] = 0.5
        loss = soft_tc(a, b, torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8), small=0)
        # Class 1 keeps half of its overlap whatever its size; class 0 gains size/2 of its union.
        expected = 1 - (0.5 + (64 - size) / (64 - size / 2)) / 2
        assert loss.item() == pytest.approx(expected)


def test_etc_compat_squares_the_mask_and_can_be_won_by_small_logits():
    a, b = logits(2, 3, 4, 6), logits(2, 3, 4, 6)
    still, all_of_it = torch.zeros(2, 2, 4, 6), torch.ones(2, 4, 6)
    full = etc_compat(a, b, still, all_of_it)
    torch.testing.assert_close(full, (a - b).square().mean())
    torch.testing.assert_close(etc_compat(a, b, still, 0.5 * all_of_it), full / 4)
    torch.testing.assert_close(etc_compat(a / 2, b / 2, still, all_of_it), full / 4)
    half = temporal_consistency((a / 2).softmax(1), (b / 2).softmax(1), still, all_of_it)
    assert etc_compat(a, b, still, 0 * all_of_it).item() == 0 and half > 0


@pytest.mark.parametrize("axis", [0, 1], ids=["to the side", "up and down"])
@pytest.mark.parametrize(
    "by, columns", [(2, [3, 4, 4, 4]), (-2, [1, 1, 1, 2]), (-9, [1, 1, 1, 1]), (0.5, [1.5, 2.5, 3.5, 4])]
)
def test_etc_compat_reads_the_border_where_the_flow_leaves(axis, by, columns):
    """No column is zero, as what is outside would be without it."""
    b, read = (torch.tensor(x, dtype=torch.float).repeat(1, 1, 4, 1) for x in ([1, 2, 3, 4], columns))
    shift = torch.zeros(1, 2, 4, 4)
    shift[:, axis] = by
    if axis:
        b, read = b.mT, read.mT
    assert etc_compat(read, b, shift, torch.ones(1, 4, 4)).item() == pytest.approx(0, abs=1e-9)
    assert etc_compat(torch.zeros_like(read), b, shift, torch.ones(1, 4, 4)).item() == pytest.approx(
        sum(column**2 for column in columns) / 4
    )


@pytest.mark.parametrize("form", ("published", "released"))
def test_photometric_mask_is_one_where_nothing_changed(form):
    frame = frames(2, 3, 6, 8)
    shift = torch.zeros(2, 2, 6, 8)
    assert photometric_mask(frame, frame, shift, form).min() > 0.999
    shift[:, 0] = 3
    moved = frame.roll(3, -1)
    assert photometric_mask(frame, moved, shift, form)[..., :5].min() > 0.999
    assert photometric_mask(frame, moved, 0 * shift, form).mean() < 0.5


def test_photometric_mask_takes_light_for_occlusion():
    frame = torch.full((1, 3, 4, 4), 100.0)
    for form in ("published", "released"):
        brighter = photometric_mask(frame, frame + 10, STILL, form)
        assert brighter.mean().item() == pytest.approx(
            math.exp(-10 / 255 * (1 / 0.229 + 1 / 0.224 + 1 / 0.225)), rel=1e-5
        )


def test_released_photometric_mask_misses_a_change_of_colour():
    frame = torch.full((1, 3, 4, 4), 100.0)
    other = frame.clone()
    other[:, 0] += 50 * 0.229
    other[:, 1] -= 50 * 0.224
    assert photometric_mask(frame, other, STILL, "released").min() > 0.999
    assert photometric_mask(frame, other, STILL, "published").max() < 0.7


def test_unknown_choices_are_named():
    probs = torch.full((1, 2, 4, 4), 0.5)
    with pytest.raises(ValueError, match="distance is 'l1'; it must be one of l2, kl, js"):
        temporal_consistency(probs, probs, STILL, SEEN, "l1")
    with pytest.raises(ValueError, match="stop is 'both'"):
        temporal_consistency(probs, probs, STILL, SEEN, stop="both")
    with pytest.raises(ValueError, match="form is 'lai'"):
        photometric_mask(frames(1, 3, 4, 4), frames(1, 3, 4, 4), STILL, "lai")
    with pytest.raises(ValueError, match="batch, height and width must agree"):
        temporal_losses.soft_tc(probs, probs, torch.zeros(1, 2, 4, 5), SEEN)


@pytest.mark.parametrize("loss", [*DISTANCES, "soft_tc"])
def test_a_faint_visibility_is_the_same_loss(loss):
    """Its own sum is the denominator, however small that is."""
    p, q = logits(2, 3, 4, 5).softmax(1).detach(), logits(2, 3, 4, 5).softmax(1).detach()
    still, seen = torch.zeros(2, 2, 4, 5), 0.2 + 0.8 * torch.rand(2, 4, 5, generator=GENERATOR)

    def cost(visible):
        if loss == "soft_tc":
            return soft_tc(p, q, still, visible)
        return temporal_consistency(p, q, still, visible, loss)

    torch.testing.assert_close(cost(seen / 200), cost(seen), rtol=1e-4, atol=1e-6)


def test_soft_tc_of_a_single_pixel_oracle():
    a, b = (
        torch.tensor(x, dtype=torch.double).view(1, 3, 1, 1).expand(1, 3, 4, 4)
        for x in ([0.7, 0.2, 0.1], [0.5, 0.1, 0.4])
    )
    seen = torch.zeros(1, 4, 4)
    seen[0, 2, 1] = 1
    expected = 1 - (0.5 / 0.7 + 0.1 / 0.2 + 0.1 / 0.4) / 3
    assert soft_tc(a, b, STILL, seen, small=0).item() == pytest.approx(expected, abs=1e-5)
