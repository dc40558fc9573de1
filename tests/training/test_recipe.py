"""What a step minimises: who is taught by what, and what hidden pixels may say (nothing)."""

import json
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tcseg.data.augmentation import Clip
from tcseg.training import losses
from tcseg.training import recipe as objective
from tcseg.training.recipe import Recipe
from tcseg.training.temporal_losses import DISTANCES, soft_tc, temporal_consistency

TOY = Recipe("toy", "student", steps=6, batch=2, pairs=2)
DEVICE = torch.device("cpu")
STRIDE, SIZE = 4, (32, 48)  # of the logits; (H,W) of the frames


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair_clip(batch=2, classes=5, size=SIZE, shift=0.0):
    """A pair whose second frame is the first, all of it visible, with the teacher's targets and features."""
    height, width = size
    frame = (128 + 40 * random(batch, 1, 3, height, width)).clamp(0, 255)
    flow = torch.zeros(batch, 2, height, width)
    flow[:, 0] = shift
    targets = (2 * random(batch, 2, classes, height // STRIDE, width // STRIDE, seed=3)).softmax(2)
    features = random(batch, 2, 6, height // 8, width // 8, seed=4)
    visible = torch.ones(batch, height, width, dtype=torch.bool)
    taught = torch.ones_like(targets[:, :, 0], dtype=torch.bool)
    return Clip(frame.repeat(1, 2, 1, 1, 1), None, flow, visible, targets, features, taught)


def logits_of(clip, seed=1):
    batch, height, width = clip.visible.shape
    classes = clip.targets.shape[2]
    return random(2 * batch, classes, height // STRIDE, width // STRIDE, seed=seed).requires_grad_()


def gradients(loss, logits):
    """Size of the gradient at each cell of the first and of the second frames, (B,h,w) each."""
    (grad,) = torch.autograd.grad(loss, logits)
    return grad.abs().sum(1).unflatten(0, (-1, 2)).unbind(1)


# ------------------------------------------------------------------------------------------------ hidden pixels


@pytest.mark.parametrize(
    "form", [form for form in objective.FORMS if form != "etc"]
)  # ETC's own mask is of looks alone
@pytest.mark.parametrize(
    "options", [{}, {"mask": "photometric"}, {"balanced": True}, {"stop": "a"}, {"stop": "b"}], ids=str
)
def test_hidden_pixels_get_no_gradient(form, options):
    clip = pair_clip()
    clip.visible[0, :, :16] = False  # four columns of cells
    clip.visible[1, 9, 21] = False  # a single pixel: a cell of which a part is hidden is hidden
    logits = logits_of(clip)
    recipe = replace(TOY, temporal=1.0, form=form, **options)
    hidden = torch.zeros(2, SIZE[0] // STRIDE, SIZE[1] // STRIDE, dtype=torch.bool)
    hidden[0, :, :4], hidden[1, 2, 5] = True, True
    first, second = gradients(objective.consistent(logits, clip, recipe, torch.ones(5)), logits)
    stopped = options.get("stop") if form in DISTANCES else None
    for name, found in (("a", first), ("b", second)):
        assert found[hidden].max() == 0
        assert (found[~hidden].max() == 0) if name == stopped else (found[~hidden].min() > 0)


@pytest.mark.parametrize("form", [form for form in objective.FORMS if form != "etc"])
def test_hidden_pixels_change_no_loss(form):
    clip = pair_clip()
    clip.visible[:, :16] = False
    logits, recipe = logits_of(clip).detach(), replace(TOY, temporal=1.0, form=form)
    other = logits.clone()
    other[:, :, :4] = random(*other[:, :, :4].shape, seed=9)
    one, two = (objective.consistent(x, clip, recipe, torch.ones(5)) for x in (logits, other))
    assert one > 0
    torch.testing.assert_close(one, two)
    seen = objective.consistent(other, replace(clip, visible=torch.ones_like(clip.visible)), recipe, torch.ones(5))
    assert (seen - one).abs() > 1e-4


def test_nothing_visible_teaches_nothing():
    clip = pair_clip()
    clip.visible[:] = False
    logits = logits_of(clip)
    for form in ("soft_tc", *DISTANCES):
        loss = objective.consistent(logits, clip, replace(TOY, temporal=1.0, form=form), torch.ones(5))
        assert loss.item() == 0 and max(g.max() for g in gradients(loss, logits)) == 0


# ------------------------------------------------------------------------------------------------ the temporal loss


@pytest.mark.parametrize("form", objective.FORMS)
def test_a_steady_answer_along_the_flow_costs_nothing(form):
    """Eight pixels to the right are two cells; the answer that goes with them is steady, the one that stays is not."""
    clip = pair_clip(shift=8.0)
    clip.frames = torch.stack((clip.frames[:, 0], clip.frames[:, 0].roll(8, -1)), 1)
    first = 3 * random(2, 5, 8, 12)
    recipe = replace(TOY, temporal=1.0, form=form)

    def cost(second):
        # What the flow takes outside is not in the picture; ETC compares it with the border, so that border is made steady.
        logits = torch.stack((first, second), 1).flatten(0, 1)
        return objective.consistent(logits, clip, recipe, torch.ones(5)).item()

    first[..., -2:] = first[..., -3:-2]
    moved = first.roll(2, -1)
    moved[..., -1:] = first[..., -3:-2]
    assert cost(moved) < 1e-5 < 0.01 < cost(first)
    assert cost(moved.roll(-4, -1)) > 0.01


def test_the_photometric_mask_hides_what_looks_otherwise():
    clip, recipe = pair_clip(), replace(TOY, temporal=1.0, form="l2")
    clip.frames[:, 1, :, :, :24] = 255 - clip.frames[:, 1, :, :, :24]
    logits = logits_of(clip)
    plain, _ = gradients(objective.consistent(logits, clip, recipe, torch.ones(5)), logits)
    masked, _ = gradients(
        objective.consistent(logits, clip, replace(recipe, mask="photometric"), torch.ones(5)), logits
    )
    share = (masked[..., :6].sum() / masked.sum()) / (plain[..., :6].sum() / plain.sum())
    assert share < 0.7


def test_etcs_own_mask_is_of_looks_alone():
    """It was released so: what is hidden counts as long as it looks the same."""
    clip, recipe = pair_clip(), replace(TOY, temporal=1.0, form="etc")
    logits = logits_of(clip).detach()
    seen = objective.consistent(logits, clip, recipe, torch.ones(5))
    clip.visible[:] = False
    assert objective.consistent(logits, clip, recipe, torch.ones(5)) == seen > 0
    first = clip.frames[:, 0]
    clip.frames[:, 1] = first + 60 * torch.tensor([0.229, -0.224, 0.0]).view(3, 1, 1)  # as it was released, this is no change
    torch.testing.assert_close(objective.consistent(logits, clip, recipe, torch.ones(5)), seen, rtol=1e-3, atol=0)
    clip.frames[:, 1] = 255 - first
    assert objective.consistent(logits, clip, recipe, torch.ones(5)) < 0.5 * seen


def test_forms_are_what_their_names_say_oracle():
    """On the logits' grid, of softmax answers; nothing moves, all is seen."""
    clip = pair_clip()
    logits = logits_of(clip).detach()
    a, b = (x.softmax(1) for x in logits.unflatten(0, (-1, 2)).unbind(1))
    still, seen, weights = torch.zeros(2, 2, 8, 12), torch.ones(2, 8, 12), torch.tensor([1.0, 2, 3, 4, 5])
    found = {
        form: objective.consistent(
            logits, clip, replace(TOY, temporal=1.0, form=form, balanced=True, stop="b"), weights
        )
        for form in objective.FORMS
    }
    expected = {form: temporal_consistency(a, b, still, seen, form, "b", weights) for form in DISTANCES}
    expected["soft_tc"] = soft_tc(a, b, still, seen)
    first, second = logits.unflatten(0, (-1, 2)).unbind(1)
    expected["etc"] = (first - second).square().mean()
    assert found.keys() == expected.keys()
    for form, value in expected.items():
        torch.testing.assert_close(found[form], value, msg=form)
    plain = objective.consistent(logits, clip, replace(TOY, temporal=1.0, form="l2"), weights)
    torch.testing.assert_close(plain, (a - b).square().sum(1).mean())


# ------------------------------------------------------------------------------------------------ the teacher


@pytest.mark.parametrize("method", objective.METHODS)
def test_distillation_is_what_its_name_says_oracle(method):
    clip, weights = pair_clip(), torch.tensor([1.0, 2, 3, 4, 5])
    logits, features = logits_of(clip).detach(), random(4, 6, 4, 6, seed=7)
    recipe = replace(TOY, teacher="plain", method=method, temperature=2.0)
    flat, mine = clip.targets.flatten(0, 1), features.unflatten(0, (-1, 2))
    kl = losses.kl_distillation(logits, flat, 2.0, class_weights=weights)
    expected = {
        "kl": kl,
        "kl_unbalanced": losses.kl_distillation(logits, flat, 2.0),
        "cwd": losses.channel_wise_distillation(logits, flat, 2.0),
        "dist": losses.dist_distillation(logits, flat, temperature=2.0),
        "feature": losses.feature_distillation(features, clip.features.flatten(0, 1), torch.nn.Identity()),
        "pf": kl + losses.pairwise_frame_dependency(mine[:, 0], mine[:, 1], clip.features[:, 0], clip.features[:, 1]),
    }
    assert len({round(value.item(), 6) for value in expected.values()}) == 6
    torch.testing.assert_close(objective.distilled(logits, features, clip, recipe, weights), expected[method])


@pytest.mark.parametrize("method", objective.METHODS)
def test_what_is_not_taught_decides_nothing_and_gets_no_gradient(method):
    """Neither the student's answer there nor the teacher's, and the rest weighs as if there were no more."""
    clip, weights = pair_clip(), torch.tensor([1.0, 2, 3, 4, 5])
    clip.taught[0, 1, :4] = False  # the upper half of a second frame: whole cells of the features' grid and of `pf`'s nodes
    recipe = replace(TOY, teacher="plain", method=method)

    def value(logits, features, targets=None, taught_features=None):
        changed = replace(
            clip,
            targets=clip.targets if targets is None else targets,
            features=clip.features if taught_features is None else taught_features,
        )
        return objective.distilled(logits, features, changed, recipe, weights)

    logits = logits_of(clip)
    features = random(4, 6, 4, 6, seed=7).requires_grad_()
    loss = value(logits, features)
    gradient = torch.autograd.grad(loss, [logits, features], allow_unused=True)
    for grad, rows in zip(gradient, (4, 2), strict=True):
        if grad is not None and grad.abs().sum() > 0:  # frame 1 is the second of the first pair
            assert grad[1, :, :rows].abs().max() == 0 < grad[1, :, rows:].abs().max()
            assert all(grad[i, :, :rows].abs().max() > 0 for i in (0, 2, 3))
    other = clip.targets.clone()
    other[0, 1, :, :4] = other[0, 1, :, :4].flip(0)
    foreign = clip.features.clone()
    foreign[0, 1, :, :2] = 100.0
    torch.testing.assert_close(value(logits, features, other, foreign), loss)
    elsewhere = value(logits, features, other.flip(1), foreign.flip(1))
    assert not torch.allclose(elsewhere, loss), "where it is taught, the teacher counts"


@pytest.mark.parametrize("method", objective.METHODS)
def test_nothing_taught_is_no_loss(method):
    clip = pair_clip()
    clip.taught[:] = False
    if method == "pf":  # of two frames, the second alone can be without
        clip.taught[:, 0] = True
    logits, features = logits_of(clip), random(4, 6, 4, 6, seed=7).requires_grad_()
    loss = objective.distilled(logits, features, clip, replace(TOY, teacher="plain", method=method), torch.ones(5))
    if method != "pf":
        assert loss.item() == 0
    (loss + 0 * logits.sum() + 0 * features.sum()).backward()
    assert torch.isfinite(logits.grad).all() and torch.isfinite(features.grad).all()


@pytest.mark.parametrize("grid", [(4, 6), (16, 24), (8, 6), (4, 12)])
def test_the_student_is_taught_on_the_teachers_grid(grid):
    clip = pair_clip()
    logits = random(4, 5, *grid)
    resized = F.interpolate(logits, (8, 12), mode="bilinear", align_corners=False)
    recipe, ones = replace(TOY, teacher="plain"), torch.ones(5)
    torch.testing.assert_close(
        objective.distilled(logits, None, clip, recipe, ones), objective.distilled(resized, None, clip, recipe, ones)
    )


def test_the_answer_of_the_teacher_is_the_least_loss():
    """Frame by frame: a student who gives frame b's answer for frame a, and the other way round, pays."""
    clip, ones = pair_clip(), torch.ones(5)
    same = clip.targets.flatten(0, 1).log()
    swapped = clip.targets.flip(1).flatten(0, 1).log()
    for method in ("kl", "kl_unbalanced", "cwd", "dist"):
        recipe = replace(TOY, teacher="plain", method=method)
        costs = [objective.distilled(x, None, clip, recipe, ones).item() for x in (same, swapped)]
        assert abs(costs[0]) < 1e-5 < 1e-3 < costs[1], method


# ------------------------------------------------------------------------------------------------ the sum


class Answers(torch.nn.Module):
    """Gives each frame the logits that its first pixel points at, and features."""

    def __init__(self, logits, features):
        super().__init__()
        self.logits, self.features = torch.nn.Parameter(logits), features

    def forward(self, frames, features=False):
        index = frames[:, 0, 0, 0].long()
        return (self.logits[index], self.features[index]) if features else self.logits[index]


def step_of(recipe, done=1.0):
    """A step of 3 labelled frames and 3 pairs: its parts, the model, and the clips; frame i of all nine has answer i."""
    pair, labelled = pair_clip(3), Clip(torch.zeros(3, 1, 3, *SIZE))
    labelled.labels = torch.randint(0, 5, (3, *SIZE), generator=torch.Generator().manual_seed(5))
    labelled.frames[:, 0, 0, 0, 0] = torch.arange(3.0)
    pair.frames[:, :, 0, 0, 0] = torch.arange(3.0, 9).view(3, 2)
    model = Answers(random(9, 5, 8, 12, seed=6), random(9, 6, 4, 6, seed=8))
    weights = torch.tensor([1.0, 2, 3, 4, 5])
    batch = [labelled, pair] if recipe.needs_pairs else [labelled]
    return objective.compute_losses(model, batch, recipe, weights, DEVICE, (1, 0), done), model, labelled, pair, weights


def test_every_loss_gets_the_frames_that_are_its_own():
    recipe = replace(TOY, teacher="plain", method="pf", temporal=0.5, distillation=3.0)
    parts, model, labelled, pair, weights = step_of(recipe)
    logits = model.logits
    expected = {
        "ce": objective.supervised(logits[:3], labelled.labels, recipe, weights, (1, 0)),
        "kd": objective.distilled(logits[3:], model.features[3:], pair, recipe, weights),
        "temporal": objective.consistent(logits[3:], pair, recipe, weights),
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, msg=name)
    torch.testing.assert_close(parts["loss"], expected["ce"] + 3 * expected["kd"] + 0.5 * expected["temporal"])


@pytest.mark.parametrize(
    "change, parts",
    [({}, {"ce"}), ({"temporal": 1.0}, {"ce", "temporal"}), ({"teacher": "plain"}, {"ce", "kd"}),
     ({"teacher": "trajectory", "temporal": 1.0}, {"ce", "kd", "temporal"}), ({"method": "pf"}, {"ce"})],
)  # fmt: skip
def test_a_recipe_has_the_losses_that_it_asks_for(change, parts):
    found, *_ = step_of(recipe := replace(TOY, **change))
    assert set(found) == parts | {"loss"}
    weight = {"ce": 1.0, "kd": recipe.distillation, "temporal": recipe.temporal}
    torch.testing.assert_close(found["loss"], sum(weight[name] * found[name] for name in parts))


@pytest.mark.parametrize("done, share", [(0.0, 0.0), (0.1, 0.4), (0.25, 1.0), (1.0, 1.0)])
def test_the_ramp_is_of_the_temporal_loss_alone(done, share):
    recipe = replace(TOY, teacher="plain", temporal=2.0, ramp=0.25)
    parts, *_ = step_of(recipe, done)
    torch.testing.assert_close(parts["loss"], parts["ce"] + 2 * parts["kd"] + 2 * share * parts["temporal"])
    _, model, *batch, weights = step_of(recipe)
    at_its_end = objective.compute_losses(model, batch, recipe, weights, DEVICE, (1, 0))
    torch.testing.assert_close(at_its_end["loss"], parts["ce"] + 2 * parts["kd"] + 2 * parts["temporal"])
    at_once, *_ = step_of(replace(recipe, ramp=0.0), done)
    torch.testing.assert_close(at_once["loss"], parts["ce"] + 2 * parts["kd"] + 2 * parts["temporal"])


@pytest.mark.parametrize("offset, stride", [((0, 0), 1), ((1, 0), 2), ((0, 1), 2), ((2, 1), 3)])
def test_cross_entropy_is_that_of_the_lattice_oracle(offset, stride):
    """Of every so many-th pixel of the upsampled answer, from the offset on; other labels decide nothing."""
    logits, weights = random(2, 5, 8, 12), torch.tensor([1.0, 2, 3, 4, 5])
    labels = torch.randint(0, 5, (2, *SIZE), generator=torch.Generator().manual_seed(5))
    labels[:, :5, :9] = 255
    recipe = replace(TOY, label_stride=stride)
    whole = F.interpolate(logits, SIZE, mode="bilinear", align_corners=False)
    lattice = (..., slice(offset[0], None, stride), slice(offset[1], None, stride))
    expected = F.cross_entropy(whole[lattice], labels[lattice], weights, ignore_index=255)
    found = objective.supervised(logits, labels, recipe, weights, offset)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temporal": -0.5}, "temporal is -0.5; it must be at least 0"),
        ({"distillation": -1}, "distillation is -1; it must be at least 0"),
        ({"ramp": -0.1}, "ramp is -0.1; it must be at least 0"),
        ({"ramp": 1.5}, "ramp is 1.5; it is a share, at most 1"),
        ({"synthetic": -1}, "synthetic is -1; it must be at least 0"),
        ({"labelled_share": 1.1}, "labelled_share is 1.1; it is a share, at most 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"gap": 0}, "gap is 0; it must be at least 1"),
        ({"label_stride": 0}, "label_stride is 0; it must be at least 1"),
        ({"method": "mse"}, "method is 'mse'; it must be one of kl, "),
        ({"stop": "c"}, "stop is 'c'; it must be one of none, a, b"),
        ({"mask": "all"}, "mask is 'all'; it must be one of visible, photometric"),
        ({"flow": "deep"}, "flow is 'deep'; it must be one of best, "),
    ],
)
def test_a_recipe_says_what_is_wrong_with_it(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TOY, **change)


@pytest.mark.parametrize(
    "change, pairs, features",
    [({}, False, False), ({"temporal": 0.1}, True, False), ({"teacher": "plain"}, True, False), ({"method": "pf"}, False, False),
     ({"teacher": "plain", "method": "pf"}, True, True), ({"teacher": "plain", "method": "feature"}, True, True)],
)  # fmt: skip
def test_a_recipe_knows_what_it_needs(change, pairs, features):
    recipe = replace(TOY, **change)
    assert (recipe.needs_pairs, recipe.needs_features) == (pairs, features)


def test_what_a_recipe_does_not_say_is_as_in_the_committed_runs():
    """Else the same words would train another network. How long, of how many frames and on which pixels, the study says itself."""
    rows = list((Path(__file__).parents[2] / "figures" / "runs").glob("student-s0-*.json"))
    plain, own = asdict(Recipe("student", "student", 1000)), {"steps", "batch", "labelled_share", "synthetic", "label_stride"}
    assert rows and plain["labelled_share"] == 1 and plain["synthetic"] == 0, "all labels, and true motion"
    for committed in (json.loads(path.read_text())["recipe"] for path in rows):
        assert {name for name in plain if plain[name] != committed[name]} <= own


def test_a_recipe_is_a_value():
    with pytest.raises(FrozenInstanceError):
        TOY.steps = 7


def test_limits_of_a_recipe_are_allowed():
    for change in (
        {"steps": 1},
        {"synthetic": 1, "ramp": 1, "labelled_share": 1.0},
        {"distillation": 0, "temporal": 0},
    ):
        assert replace(TOY, **change).steps >= 1
